"""What a plugin says about itself, read from its docstring.

First paragraphs, then ``Args:`` with an entry per parameter, then paragraphs that begin with a label: ``Formula:``,
``Unknown:`` (what it makes of a fact that nobody has reported), ``Source:``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from textwrap import dedent
from typing import Any

import attrs

from inferencesched.parameters import to_mapping
from inferencesched.registry import PluginType

__all__ = ["LABELS", "Description", "describe", "to_dict"]

_ARGS = re.compile(r"^Args:\n((?: +.*\n?|\n)+)", re.MULTILINE)
_ARG = re.compile(r"^(\w+): (.*(?:\n +.*)*)", re.MULTILINE)
LABELS = ("Formula", "Unknown", "Source")
_ANY_LABEL = f"(?:{'|'.join(LABELS)}): "
_LABEL = re.compile(rf"^({'|'.join(LABELS)}): (.*(?:\n(?!{_ANY_LABEL}).+)*)", re.MULTILINE)


@attrs.frozen
class Description:
    """A plugin type in words.

    Attributes:
        summary: one sentence.
        text: what is said besides, paragraphs.
        parameters: a sentence for each parameter, by its name in a configuration.
        labelled: ``Formula``, ``Unknown`` and ``Source``, as far as there are any.
    """

    summary: str
    text: str
    parameters: Mapping[str, str]
    labelled: Mapping[str, str]


def describe(plugin: PluginType) -> Description:
    """Return what the plugin's docstring says."""
    text = (inspect.getdoc(plugin.factory) or "").replace("``", "`")
    args = _ARGS.search(text)
    said = {name: _line(words) for name, words in _ARG.findall(dedent(args[1]))} if args else {}
    labelled = {label: _line(words) for label, words in _LABEL.findall(text)}
    prose = _LABEL.sub("", _ARGS.sub("", text)).strip()
    summary, _, rest = prose.partition("\n\n")
    return Description(
        _line(summary),
        "\n\n".join(_line(paragraph) for paragraph in rest.split("\n\n") if paragraph.strip()),
        {parameter.name: said.get(parameter.field, "") for parameter in plugin.parameters},
        labelled,
    )


def to_dict(plugin: PluginType) -> dict[str, Any]:
    """Return everything that is known of a plugin type, as plain JSON values."""
    description = describe(plugin)
    return {
        "type": plugin.name,
        "distribution": plugin.distribution,
        "roles": list(plugin.roles),
        "summary": description.summary,
        "text": description.text,
        "consumes": columns(plugin, "consumes"),
        "produces": columns(plugin, "produces"),
        "parameters": [
            {
                "name": parameter.name,
                "kind": parameter.kind,
                "required": parameter.required,
                **({} if parameter.required else {"default": _plain(parameter.default)}),
                "help": description.parameters[parameter.name],
            }
            for parameter in plugin.parameters
        ],
        **{label.lower(): words for label, words in description.labelled.items()},
    }


def columns(plugin: PluginType, attribute: str) -> list[str] | None:
    """Return the columns that the class declares; None where they depend on its parameters."""
    declared = getattr(plugin.factory, attribute, ())
    return list(declared) if isinstance(declared, tuple) else None


def _line(text: str) -> str:
    return " ".join(text.split())


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
