"""The JSON Schema of EndpointPickerConfig, made from the classes that read it: what editors check as one types.

Draft 2020-12. A plugin's parameters depend on its type; each type is an ``if``/``then`` of its own, so that an editor
complains about the parameter and not about forty alternatives. References are not checked: a schema cannot.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from inferencesched.config.schema import PickerConfig, PluginEntry
from inferencesched.parameters import Parameter, parameters_of
from inferencesched.registry import DEPRECATED, NOT_YET, PluginType, Registry

__all__ = ["json_schema"]

_PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean"}


def json_schema(registry: Registry | None = None) -> dict[str, Any]:
    """Return the schema, with the types that `registry` knows; by default the built-ins and what is installed."""
    registry = Registry() if registry is None else registry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "EndpointPickerConfig",
        "description": "Configuration of an inference scheduler.",
        **_object(PickerConfig, {PluginEntry: _plugin(registry)}),
        "required": ["apiVersion", "kind"],
    }


def _plugin(registry: Registry) -> dict[str, Any]:
    found = [kind for kind in map(lambda name: _find(registry, name), registry.types) if kind is not None]  # noqa: C417
    known = sorted({*(kind.name for kind in found), *NOT_YET, *DEPRECATED})
    entry = _object(PluginEntry, {})
    entry["properties"]["type"] = {"enum": known, "description": "The type of the plugin."}
    entry["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind.name}}, "required": ["type"]},
            "then": _consequence(kind),
        }
        for kind in found
    ]
    return entry


def _find(registry: Registry, name: str) -> PluginType | None:
    """Return the type, None for one that does not load: an editor is not the place to say so."""
    try:
        kind = registry.type(name)
        _ = kind.parameters
    except Exception:  # noqa: BLE001 — whatever is wrong with somebody's plugin, the schema of the others is wanted
        return None
    return kind


def _consequence(kind: PluginType) -> dict[str, Any]:
    parameters = _parameters(kind.factory if isinstance(kind.factory, type) else object)
    parameters["type"] = ["object", "null"]
    consequence: dict[str, Any] = {
        "description": kind.doc.partition("\n")[0],
        "properties": {"parameters": parameters},
    }
    if parameters.get("required"):
        consequence["required"] = ["parameters"]
        parameters["type"] = "object"
    return consequence


def _parameters(cls: type) -> dict[str, Any]:
    return _object(cls, {})


def _object(cls: type, known: Mapping[type, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a mapping with the fields of `cls`; `known` has schemas made elsewhere."""
    validators = {field.alias or field.name: field.validator for field in attrs.fields(cls)} if attrs.has(cls) else {}
    described = _argument_docs(cls)
    properties = {}
    parameters = parameters_of(cls)
    for parameter in parameters:
        schema = {"type": "string"} if parameter.reference else _value(parameter.hint, known)
        schema = {**schema, **_limits(validators.get(parameter.field))}
        if not parameter.required:
            schema = {"anyOf": [schema, {"type": "null"}]} if not _takes_null(schema) else schema
            schema |= _default(parameter)
        if parameter.field in described:
            schema["description"] = described[parameter.field]
        properties[parameter.name] = schema
    required = [parameter.name for parameter in parameters if parameter.required]
    return {
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def _value(hint: Any, known: Mapping[type, dict[str, Any]]) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        schemas = [_value(arg, known) for arg in args if arg is not type(None)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _value(args[0], known)}
    if origin in {dict, Mapping}:
        return {"type": "object", "additionalProperties": _value(args[1], known)}
    if hint in known:
        return known[hint]
    if attrs.has(hint):
        return _object(hint, known)
    return {"type": _PLAIN[hint]} if hint in _PLAIN else {}


def _limits(validator: Any) -> dict[str, Any]:
    """Return the bounds that attrs' own validators hold; what others hold, only loading tells."""
    if hasattr(validator, "_validators"):
        return {key: value for each in validator._validators for key, value in _limits(each).items()}
    if type(validator).__name__ == "_OptionalValidator":
        return _limits(validator.validator)
    if type(validator).__name__ == "_NumberValidator":
        keys = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
        return {keys[validator.compare_op]: validator.bound}
    return {"minItems": validator.min_length} if type(validator).__name__ == "_MinLengthValidator" else {}


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return not schema or schema.keys() == {"description"}


def _default(parameter: Parameter) -> dict[str, Any]:
    return {"default": parameter.default} if isinstance(parameter.default, bool | int | float | str) else {}


def _argument_docs(cls: type) -> dict[str, str]:
    """Return what the Args or Attributes section of a Google docstring says of each field."""
    lines = (inspect.getdoc(cls) or "").splitlines()
    starts = [i for i, line in enumerate(lines) if line in {"Args:", "Attributes:"}]
    described: dict[str, str] = {}
    name = ""
    for line in lines[starts[0] + 1 :] if starts else []:
        if line and not line.startswith("    "):
            break
        if line.startswith("     "):
            described[name] = f"{described.get(name, '')} {line.strip()}".strip()
        elif line.strip():
            name, _, text = line.strip().partition(": ")
            described[name] = text
    return described
