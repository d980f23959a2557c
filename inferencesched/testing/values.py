"""What is promised by every plugin as an object: it can be printed, compared, sent to another process and rebuilt.

Policies are compared in parallel processes, shown in receipts and reloaded from files; each needs one of these. A
plugin with memory (an Observer, or one with a snapshot) is itself and nobody else: it need not compare nor travel.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator

import attrs

from inferencesched.errors import Problem
from inferencesched.interfaces import Observer, Stateful
from inferencesched.parameters import construct, to_mapping
from inferencesched.testing.clauses import Contract

__all__ = ["add_value_clauses", "remembers"]


class Itself:
    """The case of these clauses: there is nothing but the plugin."""

    def smaller(self) -> Iterator[Itself]:
        """Yield nothing."""
        return iter(())

    def __str__(self) -> str:
        return ""


def remembers(plugin: object) -> bool:
    """Return whether a plugin has memory."""
    return isinstance(plugin, Observer | Stateful)


def _is_value(plugin: object) -> bool:
    return not remembers(plugin)


def _has_parameters(plugin: object) -> bool:
    """Whether a configuration could spell the plugin: its parameters are plain values."""
    try:
        json.dumps(to_mapping(plugin, names=repr))
    except TypeError:
        return False
    return attrs.has(type(plugin))


def printable(plugin: object, _: Itself) -> str | None:
    """`repr` tells what the plugin is and with which parameters, the same in every process."""
    text = repr(plugin)
    return f"repr is {text}, with an address in it; @attrs.frozen writes a better one" if " at 0x" in text else None


def comparable(plugin: object, _: Itself) -> str | None:
    """Plugins of one type and equal parameters are equal."""
    return None if copy.copy(plugin) == plugin else "a copy is not equal to it; @attrs.frozen compares parameters"


def travels(plugin: object, _: Itself) -> str | None:
    """It can be pickled, and comes out as it went in."""
    try:
        twin = pickle.loads(pickle.dumps(plugin))  # noqa: S301 — our own bytes
    except Exception as error:  # noqa: BLE001 — whatever pickle says
        return f"it cannot be pickled ({error})"
    same = type(twin) is type(plugin) and (twin == plugin or copy.copy(plugin) != plugin)
    return None if same else f"unpickled it is {twin!r}"


def rebuilt(plugin: object, _: Itself) -> str | None:
    """The constructor only validates and stores: rebuilt from its parameters, a plugin has the same ones."""
    others: dict[str, object] = {}

    def name(other: object) -> str:
        label = f"plugin {id(other)}"
        others[label] = other
        return label

    problems: list[Problem] = []
    before = to_mapping(plugin, names=name)
    twin = construct(type(plugin), before, "parameters", problems, references=others)
    if problems:
        return f"its own parameters are refused: {problems[0]}"
    after = to_mapping(twin, names=name)
    changed = next((name for name, value in before.items() if after[name] != value), None)
    return f"{changed}: given {before[changed]!r}, it keeps {after[changed]!r}" if changed else None


def add_value_clauses(contract: Contract, *, with_memory: bool = False) -> None:
    """Append these clauses to the contract of a role; `with_memory` if all who take it have memory."""
    contract.clause([Itself()])(printable)
    if not with_memory:
        contract.clause([Itself()], applies=_is_value)(comparable)
        contract.clause([Itself()], applies=_is_value)(travels)
    contract.clause([Itself()], applies=_has_parameters)(rebuilt)
