"""The list that wrong plugins are put on, and the ways in which their constructors do too much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

__all__ = ["WRONG", "Wrong", "breaks", "half", "next_block", "one_more", "other_name", "thousandfold"]


@attrs.frozen
class Wrong:
    """A plugin that breaks one clause.

    Attributes:
        role: whose contract.
        clause: the only clause that it breaks.
        plugin: an instance.
    """

    role: str
    clause: str
    plugin: Any


WRONG: list[Wrong] = []
"""All of them, in the order of their modules."""


def breaks(role: str, clause: str) -> Callable[[type], type]:
    """Put an instance of the class on the list."""

    def enlist(cls: type) -> type:
        WRONG.append(Wrong(role, clause, cls()))
        return cls

    return enlist


def thousandfold(seconds: float) -> float:
    """Convert to another unit."""
    return seconds * 1000.0


def one_more(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Add something to what was given."""
    return (*labels, "ready")


def half(most: int) -> int:
    """Keep a share of what was given."""
    return most // 2


def next_block(tokens: int) -> int:
    """Round up, and once more each time."""
    return tokens + 16


def other_name(stage: str) -> str:
    """Change a name."""
    return f"{stage}-stage"
