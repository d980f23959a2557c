"""Plugins of a configuration: each entry becomes an object, those that others refer to before those others.

Everything declared is active by being declared. What nothing implements yet stays a name that may be referred to and
does nothing; what is wrong stays a name too, so that one mistake is reported once and not again at every reference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from inferencesched.config.schema import PluginEntry
from inferencesched.errors import ConfigError, PluginError, Problem, near_miss
from inferencesched.interfaces import roles_of
from inferencesched.parameters import references_in
from inferencesched.profile import Named
from inferencesched.registry import COMES_WITH, DEPRECATED, NOT_YET, REFUSED, PluginType, Registry

__all__ = ["Declared", "build_plugins"]


@attrs.define
class Declared:
    """What became of the entries under ``plugins``, by name, in their order.

    Attributes:
        built: the plugins there are.
        types: the type of each of these, an old name replaced by its new one.
        idle: entries of types that nothing implements yet.
        broken: entries with problems.
    """

    built: dict[str, Named] = attrs.field(factory=dict)
    types: dict[str, str] = attrs.field(factory=dict)
    idle: dict[str, PluginEntry] = attrs.field(factory=dict)
    broken: dict[str, PluginEntry] = attrs.field(factory=dict)

    def __contains__(self, name: object) -> bool:
        """Whether an entry has this name, whatever became of it."""
        return name in self.built or name in self.idle or name in self.broken

    @property
    def names(self) -> list[str]:
        """Every name that was declared."""
        return [*self.built, *self.idle, *self.broken]

    def of_role(self, role: str) -> list[Named]:
        """Return the plugins that take a role."""
        return [named for named in self.built.values() if role in roles_of(named.plugin)]

    def add(self, type: str, registry: Registry) -> Named:
        """Build a plugin that no entry asked for, with default parameters, and return it.

        Its name is its type, unless that is the name of something else.

        Raises:
            ConfigError: it cannot do without parameters, or there is no such type.
        """
        problems: list[Problem] = []
        name = f"default-{type}" if type in self.built else type
        named = registry.build(type, None, name=name, path=type, problems=problems)
        if named is None:
            raise ConfigError(problems)
        self.built[name], self.types[name] = named, type
        return named


def build_plugins(
    entries: Sequence[PluginEntry], registry: Registry, problems: list[Problem], warnings: list[Problem]
) -> Declared:
    """Return what the entries declare; append a problem for each that cannot be, a warning for each that should not."""
    declared = Declared()
    found: dict[str, tuple[PluginEntry, PluginType]] = {}
    repeated: list[PluginEntry] = []
    for entry in _distinct(entries, repeated, problems):
        kind = _find(entry, registry, problems, warnings)
        if kind is not None:
            found[entry.label] = entry, kind
        elif (current := DEPRECATED.get(entry.type, entry.type)) in NOT_YET and entry.type not in registry:
            declared.idle[entry.label] = entry.revised(type=current, name=entry.label)
        else:
            declared.broken[entry.label] = entry
    names = [*found, *declared.idle, *declared.broken]
    for name in _in_order(found, problems):
        _build(*found[name], names, declared, registry=registry, problems=problems)
    declared.broken.update({name: entry for name, (entry, _) in found.items() if name not in declared})
    declared.built = {name: declared.built[name] for name in found if name in declared.built}
    for entry in repeated:  # looked at for what else is wrong with them, and dropped
        kind = _find(entry, registry, problems, warnings)
        if kind is not None:
            _build(entry, kind, names, Declared(dict(declared.built)), registry=registry, problems=problems)
    return declared


def _distinct(
    entries: Iterable[PluginEntry], repeated: list[PluginEntry], problems: list[Problem]
) -> Iterable[PluginEntry]:
    """Yield the first entry of each name; those that take one again are reported and put aside."""
    first: dict[str, PluginEntry] = {}
    for entry in entries:
        if entry.label not in first:
            first[entry.label] = entry
            yield entry
            continue
        repeated.append(entry)
        key = "name" if entry.name else "type"
        message = f"the name '{entry.label}' is taken by {first[entry.label].at}; give each plugin a name of its own"
        problems.append(Problem(f"{entry.at}.{key}", message))


def _find(
    entry: PluginEntry, registry: Registry, problems: list[Problem], warnings: list[Problem]
) -> PluginType | None:
    """Return the entry's plugin type, or None after saying why there is none."""
    at, name = f"{entry.at}.type", entry.type
    if name in DEPRECATED:
        warnings.append(Problem(at, f"'{name}' is deprecated; write '{DEPRECATED[name]}'"))
        name = name if name in registry else DEPRECATED[name]
    if name in registry:
        try:
            kind = registry.type(name)
            _ = kind.parameters
        except ConfigError as error:
            problems.extend(Problem(at, problem.message) for problem in error.problems)
        except PluginError as error:
            problems.append(Problem(at, str(error)))
        except Exception as error:  # noqa: BLE001 — annotations that name what is not there raise whatever they like
            problems.append(Problem(at, f"its parameters cannot be read ({type(error).__name__}: {error})"))
        else:
            return kind
    elif name in REFUSED:
        problems.append(Problem(at, f"'{name}' is not supported: {REFUSED[name]}"))
    elif name in NOT_YET:
        warnings.append(Problem(at, f"'{name}' ({NOT_YET[name]}) is declared but has no effect yet{_remedy(name)}"))
    elif name in COMES_WITH:
        problems.append(Problem(at, f"'{name}' comes with '{COMES_WITH[name]}', which is not installed"))
    else:
        problems.append(Problem(at, f"unknown plugin type '{name}'{near_miss(name, [*registry.types, *NOT_YET])}"))
    return None


def _remedy(type: str) -> str:
    return f"; it comes with '{COMES_WITH[type]}'" if type in COMES_WITH else ""


def _in_order(found: Mapping[str, tuple[PluginEntry, PluginType]], problems: list[Problem]) -> Iterable[str]:
    """Yield the names, each after those that its parameters refer to; report a circle instead of its members."""
    needs = {
        name: {to for to in references_in(kind.factory, entry.parameters).values() if to in found}
        for name, (entry, kind) in found.items()
    }
    while needs:
        ready = [name for name, others in needs.items() if not others & needs.keys()]
        if not ready:
            circle = ", ".join(f"'{name}'" for name in needs)
            first = found[next(iter(needs))][0]
            problems.append(Problem(f"{first.at}.parameters", f"{circle} refer to each other in a circle"))
            return
        yield from ready
        for name in ready:
            del needs[name]


def _build(
    entry: PluginEntry,
    kind: PluginType,
    names: Collection[str],
    declared: Declared,
    *,
    registry: Registry,
    problems: list[Problem],
) -> None:
    """Build one plugin whose references, if they are any good, are built already."""
    before = len(problems)
    plugins: dict[str, object] = {name: named.plugin for name, named in declared.built.items()}
    references = references_in(kind.factory, entry.parameters)
    given = {path: name for path, name in references.items() if _is_given(path, entry.parameters)}
    for path, name in given.items():
        at = f"{entry.at}.parameters.{path}"
        if name in declared.idle:
            problems.append(Problem(at, f"'{name}' has no effect yet, so nothing can be built on it"))
        elif name not in names:
            problems.append(Problem(at, f"no plugin '{name}' is declared{near_miss(name, names)}"))
        plugins.setdefault(name, None)  # reported, here or where it stands; the other parameters are still looked at
    try:
        named = registry.build(
            kind.name, entry.parameters, name=entry.label, path=entry.at, problems=problems, references=plugins
        )
    except Exception as error:  # noqa: BLE001 — a constructor may raise anything; it is reported with the rest
        problems.append(Problem(f"{entry.at}.parameters", f"cannot be built ({type(error).__name__}: {error})"))
        named = None
    if named is None or len(problems) > before or any(name in declared.broken for name in given.values()):
        declared.broken[entry.label] = entry
    else:
        declared.built[entry.label], declared.types[entry.label] = named, kind.name


def _is_given(path: str, parameters: Any) -> bool:
    """Whether parameters have a value at a path; the names of references also hold by default."""
    for key in path.split("."):
        parameters = parameters.get(key) if isinstance(parameters, Mapping) else None
    return parameters is not None
