"""Reference pages made from the code: what they say cannot drift from what it does.

A line `<!-- plugins: scorer -->` in a page is replaced by a section for each plugin type that takes that role first,
and `<!-- columns: COLUMNS -->` by a table of that part of the vocabulary. A plugin's docstring is its text:
paragraphs, then `Args:` with an entry per parameter, then labelled paragraphs (`Formula:`, `Unknown:`, `Source:`).
"""

import json
import re
from collections.abc import Iterator
from inspect import cleandoc
from textwrap import dedent

from sphinx.application import Sphinx

from inferencesched import Registry, vocabulary
from inferencesched.registry import PluginType

PLACEHOLDER = re.compile(r"^<!-- (plugins|columns): ([\w-]+) -->$", re.MULTILINE)
ARGS = re.compile(r"^Args:\n((?: +.*\n?)+)", re.MULTILINE)
ARG = re.compile(r"^(\w+): (.*(?:\n +.*)*)", re.MULTILINE)
LABEL = re.compile(r"^([A-Z]\w+): (?=\S)", re.MULTILINE)


def columns(group: str) -> str:
    """Return a table of the columns in that group of the vocabulary."""
    rows = (f"| `{name}` | {meaning} |" for name, meaning in getattr(vocabulary, group).items())
    return "\n".join(["| column | meaning |", "| --- | --- |", *rows])


def plugins(role: str) -> str:
    """Return the sections of all plugin types whose first role is `role`."""
    registry = Registry()
    found = (registry.type(name) for name in registry.types)
    return "\n".join("\n".join(section(plugin)) for plugin in found if plugin.roles[0] == role)


def section(plugin: PluginType) -> Iterator[str]:
    """Yield the Markdown lines of one plugin type."""
    text = cleandoc(plugin.doc).replace("``", "`")
    described = dict(ARG.findall(dedent(match[1]))) if (match := ARGS.search(text)) else {}
    yield f"### {plugin.name}\n"
    if plugin.distribution:
        yield f"From the distribution `{plugin.distribution}`.\n"
    prose, *labelled = re.split(r"\n\n(?=[A-Z]\w+: )", ARGS.sub("", text).strip())
    yield f"{prose.strip()}\n"
    if plugin.parameters:
        yield "| parameter | value | default | |\n| --- | --- | --- | --- |"
        for parameter in plugin.parameters:
            default = "required" if parameter.required else f"`{json.dumps(parameter.default)}`"
            words = " ".join(described.get(parameter.field, "").split()).replace("|", "\\|")
            yield f"| `{parameter.name}` | {parameter.kind} | {default} | {words} |"
        yield ""
    for label, attribute in (("Reads", "consumes"), ("Makes", "produces")):
        names = getattr(plugin.factory, attribute, ())
        if isinstance(names, tuple) and names:  # a property: it depends on the parameters
            yield f"{label} {', '.join(f'`{name}`' for name in names)}.\n"
    for paragraph in labelled:
        for line in re.split(r"\n(?=[A-Z]\w+: )", paragraph):
            yield LABEL.sub(r"**\1:** ", " ".join(line.split())) + "\n"


def fill_in(app: Sphinx, _page: str, source: list[str]) -> None:
    """Put sections and tables where a page asks for them, anew in every build."""
    if PLACEHOLDER.search(source[0]):
        app.env.note_reread()
        make = {"plugins": plugins, "columns": columns}
        source[0] = PLACEHOLDER.sub(lambda match: make[match[1]](match[2]), source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill_in)
