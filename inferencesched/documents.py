"""A decoded YAML or JSON document that knows where it stands, and a strict reading of it that goes on after a problem.

Configurations and resources are declared as attrs classes whose fields are the keys, in the manner of
`inferencesched.parameters`. `decode` makes such a class of a mapping. It is strict (an unknown key, a string for a
number and a missing key are problems) and does not give up: what is wrong is left at its default or left out, so that
one problem never hides the next. Callers raise at the end, when everything has been looked at.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar, get_args, get_origin

import attrs

from inferencesched.errors import Problem, near_miss
from inferencesched.parameters import parameters_of, reword, structure

__all__ = ["Document", "Part", "decode"]

T = TypeVar("T")


@attrs.frozen
class Document:
    """One document: what it says, and where each part of it stands.

    Attributes:
        content: the decoded document; a mapping, if it is any good.
        file: the file it was read from, or None.
        lines: the 1-based line of each path (``plugins[2].parameters.maxValue``) in that file.
    """

    content: Any
    file: str | None = None
    lines: Mapping[str, int] = attrs.field(factory=dict, eq=False, repr=False)

    @classmethod
    def of(cls, source: Document | Mapping[str, Any]) -> Document:
        """Return `source` itself if it is a document, else a document that came from no file."""
        return source if isinstance(source, Document) else cls(source)

    @property
    def api_version(self) -> str:
        """What ``apiVersion`` says; empty if it says nothing."""
        return self._text("apiVersion")

    @property
    def kind(self) -> str:
        """What ``kind`` says; empty if it says nothing."""
        return self._text("kind")

    def line(self, path: str) -> int | None:
        """Return the line of `path`, or of the innermost part around it that has one."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path)

    def place(self, problems: Iterable[Problem]) -> list[Problem]:
        """Return `problems` with this document's file and their lines."""
        return [attrs.evolve(p, file=self.file, line=self.line(p.path)) for p in problems]

    def _text(self, key: str) -> str:
        value = self.content.get(key) if isinstance(self.content, Mapping) else None
        return value if isinstance(value, str) else ""


@attrs.frozen
class Part:
    """A part of a document; `at` is the path it was decoded from, so that later checks can say where."""

    at: str = attrs.field(init=False, default="", eq=False, repr=False)

    def revised(self, **changes: Any) -> Self:
        """Return a copy with some fields changed that stands at the same place."""
        other = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(other, name, value)
        return other


def decode(cls: type[T], given: Any, path: str, problems: list[Problem]) -> T | None:
    """Return `cls` made of what is right in `given`, or None when something it cannot do without is missing.

    An empty value (``plugins:`` and nothing behind it) is the same as leaving the key out, as it is upstream.
    """
    if not isinstance(given, Mapping):
        problems.append(Problem(path, f"expected a mapping, got {type(given).__name__} {_brief(given)}"))
        return None
    known = {parameter.name: parameter for parameter in parameters_of(cls)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        at = f"{path}.{key}".lstrip(".")
        if key not in known:
            offer = near_miss(str(key), known) or f"; known are {', '.join(known)}"
            problems.append(Problem(at, f"unknown key '{key}'{offer}"))
        elif value is not None:
            values[known[key].field] = _read(known[key].hint, value, at, problems)
    values = {field: value for field, value in values.items() if value is not attrs.NOTHING}
    missing = [p for p in known.values() if p.required and given.get(p.name) is None]
    problems.extend(Problem(f"{path}.{p.name}".lstrip("."), f"required, expected {p.kind}") for p in missing)
    _validate(cls, values, path, problems)
    if any(p.required and p.field not in values for p in known.values()):
        return None
    made = cls(**values)
    return made.revised(at=path) if isinstance(made, Part) else made


def _read(hint: Any, value: Any, at: str, problems: list[Problem]) -> Any:
    """Return `value` as the type `hint`, whole or in what parts of it are right; NOTHING when none is."""
    part = _part(hint)
    if part is None:
        found: list[Problem] = []
        plain = structure(hint, value, at, found)
        problems.extend(found)
        return attrs.NOTHING if found else plain
    if get_origin(hint) is not tuple:
        made = decode(part, value, at, problems)
        return attrs.NOTHING if made is None else made
    if not isinstance(value, list | tuple):
        problems.append(Problem(at, f"expected a list, got {type(value).__name__} {_brief(value)}"))
        return attrs.NOTHING
    items: list[object] = [decode(part, item, f"{at}[{i}]", problems) for i, item in enumerate(value)]
    return tuple(item for item in items if item is not None)


def _part(hint: Any) -> type[Any] | None:
    """Return the attrs class in ``C``, ``C | None`` or ``tuple[C, ...]``; None for a plain type."""
    for candidate in (hint, *get_args(hint)):
        if isinstance(candidate, type) and attrs.has(candidate):
            return candidate
    return None


def _validate(cls: type, values: dict[str, Any], path: str, problems: list[Problem]) -> None:
    """Run the converter and validator of each field that was given; a field that fails is left out."""
    names = {parameter.field: parameter.name for parameter in parameters_of(cls)}
    for field in attrs.fields(cls):
        key = field.alias or field.name
        if key not in values:
            continue
        try:
            value = field.converter(values[key]) if callable(field.converter) else values[key]
            if field.validator is not None:
                field.validator(None, field, value)
        except (TypeError, ValueError) as error:
            problems.append(Problem(f"{path}.{names[key]}".lstrip("."), reword(error, values.pop(key))))


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
