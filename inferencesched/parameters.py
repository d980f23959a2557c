"""A plugin's attrs fields are its parameters: what may be configured, of which type, with which default.

One declaration gives validation, the reference page and ``inferencesched plugins``. In a configuration a parameter goes
by its field's name in camelCase, as the Endpoint Picker spells it, unless the field's metadata gives another spelling
under ``"parameter"``. Everything is strict, as upstream's decoding is: an unknown name is an error with a near miss, a
string is not a number, and all problems of one plugin are reported together.

A field whose value is written as another type than it has (a duration as ``30s``) has a converter, and the written type
in its metadata under ``"written"``; under ``"write"`` is what makes it of the value again.

A field whose metadata has ``"plugin_ref"`` holds another plugin. A configuration names that plugin there, and whoever
assembles one builds it first and hands it over by name (`construct`, `references_in`); the field's type is `Any`. When
``"plugin_ref"`` is a string, it is the name to look for where the configuration gives none (no such plugin, then the
field's default).
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from inferencesched.errors import Problem, near_miss

__all__ = ["Parameter", "construct", "parameters_of", "references_in", "to_mapping"]


@attrs.frozen
class Parameter:
    """One parameter of a plugin type.

    Attributes:
        name: as a configuration spells it.
        field: as Python spells it.
        hint: its type.
        required: whether there is no default.
        default: what holds when it is left out.
        reference: whether it names another plugin of the configuration.
        refers_to: for a reference, the name that holds when none is given; None for none.
    """

    name: str
    field: str
    hint: Any
    required: bool
    default: Any = None
    reference: bool = False
    refers_to: str | None = None

    @property
    def kind(self) -> str:
        """The type in words, for messages and reference pages."""
        return "the name of a plugin" if self.reference else _kind(self.hint)

    @property
    def takes_none(self) -> bool:
        """Whether None is a value of its own; otherwise an empty value is the same as none given."""
        return self.reference or self.hint is Any or type(None) in get_args(self.hint)


def parameters_of(cls: type) -> tuple[Parameter, ...]:
    """Return the parameters of a plugin class; none if it is not an attrs class."""
    if not attrs.has(cls):
        return ()
    hints = get_type_hints(cls)
    return tuple(
        Parameter(
            field.metadata.get("parameter", _camel(field.name)),
            field.alias or field.name,
            field.metadata.get("written", hints[field.name]),
            required=field.default is attrs.NOTHING,
            default=_default(field),
            reference="plugin_ref" in field.metadata,
            refers_to=_name_or_none(field.metadata.get("plugin_ref")),
        )
        for field in attrs.fields(cls)
        if field.init
    )


def references_in(cls: type, given: Any) -> dict[str, str]:
    """Return the plugins that `given` parameters refer to, by the path of the parameter that names each.

    Names that hold by default are among them, whether or not there is a plugin of that name.

    >>> @attrs.frozen
    ... class Handler:
    ...     decider: Any = attrs.field(default=None, metadata={"plugin_ref": True})
    >>> references_in(Handler, {"decider": "always"})
    {'decider': 'always'}
    """
    given = given if isinstance(given, Mapping) else {}
    found: dict[str, str] = {}
    for parameter in parameters_of(cls):
        value = given.get(parameter.name, parameter.refers_to)
        nested = next((hint for hint in (parameter.hint, *get_args(parameter.hint)) if attrs.has(hint)), None)
        if parameter.reference and isinstance(value, str):
            found[parameter.name] = value
        elif nested is not None:
            found |= {f"{parameter.name}.{path}": name for path, name in references_in(nested, value).items()}
    return found


def construct(
    cls: type,
    given: Any,
    path: str,
    problems: list[Problem],
    *,
    references: Mapping[str, object] = MappingProxyType({}),
) -> Any:
    """Return ``cls`` made from a mapping of parameters; None if there were problems, which are then appended.

    Args:
        given: the parameters as configured; None means none.
        path: where they stand, for the problems.
        references: plugins that are already built, by the names that parameters may refer to them by.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        problems.append(Problem(path, f"expected a mapping of parameters, got {_show(given)}"))
        return None
    before = len(problems)
    known = {parameter.name: parameter for parameter in parameters_of(cls)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            offer = near_miss(str(name), known) or (f"; known are {', '.join(known)}" if known else "; it takes none")
            problems.append(Problem(f"{path}.{name}", f"unknown parameter '{name}'{offer}"))
            continue
        if value is None and not known[name].takes_none:
            continue  # an empty value is the same as leaving the key out, as it is upstream
        if known[name].reference:
            values[known[name].field] = _refer(value, f"{path}.{name}", problems, references)
        else:
            values[known[name].field] = structure(known[name].hint, value, f"{path}.{name}", problems, references)
    values |= {
        parameter.field: references[parameter.refers_to]
        for parameter in known.values()
        if parameter.refers_to is not None and parameter.refers_to in references and parameter.name not in given
    }
    problems.extend(
        Problem(f"{path}.{parameter.name}", f"required, expected {parameter.kind}")
        for parameter in known.values()
        if parameter.required and given.get(parameter.name) is None and not parameter.takes_none
    )
    if len(problems) > before:
        return None
    if attrs.has(cls):
        _validate(cls, values, path, problems)
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        problems.append(Problem(path, str(error)))
        return None


def to_mapping(plugin: Any, *, names: Callable[[object], str] = lambda other: other.type) -> dict[str, Any]:  # type: ignore[attr-defined]
    """Return the parameters in force, defaults included, as a configuration would spell them.

    Args:
        names: gives the name of a plugin that a parameter refers to; by default that is its type.
    """
    mapping: dict[str, Any] = {}
    fields = (
        {field.alias or field.name: field for field in attrs.fields(type(plugin))} if attrs.has(type(plugin)) else {}
    )
    for parameter in parameters_of(type(plugin)):
        value = getattr(plugin, parameter.field)
        write = fields[parameter.field].metadata.get("write")
        if parameter.reference:
            mapping[parameter.name] = None if value is None else names(value)
        elif write is not None and value is not None:
            mapping[parameter.name] = write(value)
        else:
            mapping[parameter.name] = _plain(value, names)
    return mapping


def _validate(cls: type, values: dict[str, Any], path: str, problems: list[Problem]) -> None:
    """Run each field's converter and validator by itself, so that one wrong value does not hide the next."""
    complete = {f.name: values.get(f.alias or f.name, _default(f)) for f in attrs.fields(cls) if f.init}
    stub = SimpleNamespace(**complete)
    for field in attrs.fields(cls):
        if not field.init or field.name not in complete:
            continue
        name = field.metadata.get("parameter", _camel(field.name))
        try:
            if callable(field.converter):
                setattr(stub, field.name, field.converter(complete[field.name]))
            if field.validator is not None:
                field.validator(stub, field, getattr(stub, field.name))
        except (TypeError, ValueError) as error:
            problems.append(Problem(f"{path}.{name}", reword(error, complete[field.name])))


def _refer(value: Any, path: str, problems: list[Problem], references: Mapping[str, object]) -> Any:
    """Return the plugin that the name `value` stands for, appending a problem if there is none of that name."""
    if value is None or (isinstance(value, str) and value in references):
        return None if value is None else references[value]
    if isinstance(value, str):
        problems.append(Problem(path, f"no plugin '{value}' is declared{near_miss(value, references)}"))
    else:
        problems.append(Problem(path, f"expected the name of a plugin, got {_show(value)}"))
    return None


def structure(
    hint: Any,
    value: Any,
    path: str,
    problems: list[Problem],
    references: Mapping[str, object] = MappingProxyType({}),
) -> Any:
    """Return `value` as the type `hint`, appending a problem if it is not one."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        if value is None and type(None) in args:
            return None
        return _either([arg for arg in args if arg is not type(None)], value, path, problems, references)
    if origin is Literal:
        if value in args:
            return value
        offer = near_miss(value, map(str, args)) if isinstance(value, str) else ""
    elif origin is tuple and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return tuple(structure(args[0], item, f"{path}[{i}]", problems, references) for i, item in enumerate(value))
    elif origin in {dict, Mapping} and isinstance(value, Mapping):
        return {key: structure(args[1], item, f"{path}.{key}", problems, references) for key, item in value.items()}
    elif attrs.has(hint):
        return construct(hint, value, path, problems, references=references)
    elif hint is Any or (isinstance(hint, type) and _is(hint, value)):
        return value
    offer = offer if origin is Literal else ""
    problems.append(Problem(path, f"expected {_kind(hint)}, got {_show(value)}{offer}"))
    return None


def _either(hints: list[Any], value: Any, path: str, problems: list[Problem], references: Mapping[str, object]) -> Any:
    for hint in hints:
        trial: list[Problem] = []
        structured = structure(hint, value, path, trial, references)
        if not trial:
            return structured
        if len(hints) == 1:
            problems.extend(trial)
            return None
    problems.append(Problem(path, f"expected {' or '.join(map(_kind, hints))}, got {_show(value)}"))
    return None


def _is(kind: type, value: Any) -> bool:
    """Whether a decoded YAML or JSON value is of a plain type; a bool is not a number, and no number is NaN."""
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _default(field: attrs.Attribute[Any]) -> Any:
    default: Any = field.default
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory()
    return None if default is attrs.NOTHING else default


def _name_or_none(given: Any) -> str | None:
    return given if isinstance(given, str) else None


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name.strip("_"))


def _kind(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return " or ".join(_kind(arg) for arg in args if arg is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin is tuple:
        return f"a list of {_kind(args[0])}"
    if origin in {dict, Mapping}:
        return "a mapping"
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false", Any: "anything"}
    return names.get(hint) or "a mapping"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:57]}…"


def _plain(value: Any, names: Callable[[object], str]) -> Any:
    if attrs.has(type(value)):
        return to_mapping(value, names=names)
    if isinstance(value, Mapping):
        return {key: _plain(item, names) for key, item in value.items()}
    return [_plain(item, names) for item in value] if isinstance(value, tuple | list) else value


def reword(error: Exception, value: Any) -> str:
    """Say what attrs' own validators say, without the Python name of the field."""
    found = re.match(r"'\w+' must be (.+): .*", str(error.args[0] if error.args else error))
    if found:
        return f"expected a number {found[1].replace('>=', '≥').replace('<=', '≤')}, got {_show(value)}"
    found = re.match(r"Length of '\w+' must be (.+): .*", str(error.args[0] if error.args else error))
    return f"expected at least {found[1].removeprefix('>= ')} entry" if found else str(error)
