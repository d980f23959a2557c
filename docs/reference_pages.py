"""Reference pages made from the code: what they say cannot drift from what it does.

A line `<!-- plugins: scorer -->` in a page is replaced by a section for each plugin type that takes that role first,
`<!-- columns: COLUMNS -->` by a table of that part of the vocabulary, and `<!-- clauses -->` by tables of what each
role promises. What is said of a plugin is what
`inferencesched plugins` says: `inferencesched.cli.descriptions` reads both from the class and its docstring.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

from inferencesched import Registry, vocabulary
from inferencesched.cli.descriptions import LABELS, to_dict
from inferencesched.registry import PluginType
from inferencesched.testing import CONTRACTS

LABELLED = ("Formula:", "Unknown:", "Source:")
PLACEHOLDER = re.compile(r"^<!-- (plugins|columns|clauses)(?:: ([\w-]+))? -->$", re.MULTILINE)


def columns(group: str) -> str:
    """Return a table of the columns in that group of the vocabulary."""
    rows = (f"| `{name}` | {meaning} |" for name, meaning in getattr(vocabulary, group).items())
    return "\n".join(["| column | meaning |", "| --- | --- |", *rows])


def clauses(_: str | None) -> str:
    """Return a table for each role of the clauses of its contract."""
    lines: list[str] = []
    for role, contract in CONTRACTS.items():
        lines += [f"### {role}", "", "| clause | promise |", "| --- | --- |"]
        lines += [f"| `{clause.name}` | {clause.promise} |" for clause in contract.clauses.values()]
        lines.append("")
    return "\n".join(lines)


def first_role(plugin: PluginType) -> str:
    """Return the role that a plugin type is listed under; `other` for one that only others read."""
    return next(iter(plugin.roles), "other")


def plugins(role: str) -> str:
    """Return the sections of all plugin types whose first role is `role`."""
    registry = Registry()
    found = (registry.type(name) for name in registry.types)
    return "\n".join("\n".join(section(plugin)) for plugin in found if first_role(plugin) == role)


def section(plugin: PluginType) -> Iterator[str]:
    """Yield the Markdown lines of one plugin type."""
    known = to_dict(plugin)
    yield f"### {plugin.name}\n"
    if plugin.distribution:
        yield f"From the distribution `{plugin.distribution}`.\n"
    yield from (f"{paragraph}\n" for paragraph in (known["summary"], known["text"]) if paragraph)
    if plugin.roles[1:]:
        yield f"Also takes the role of {' and '.join(plugin.roles[1:])}.\n"
    if known["parameters"]:
        yield "| parameter | value | default | |\n| --- | --- | --- | --- |"
        for each in known["parameters"]:
            default = "required" if each["required"] else f"`{json.dumps(each['default'])}`"
            words = each["help"].replace("|", "\\|")
            yield f"| `{each['name']}` | {each['kind']} | {default} | {words} |"
        yield ""
    for label, names in (("Reads", known["consumes"]), ("Makes", known["produces"])):
        if names is None:
            yield f"**{label}:** what its parameters name.\n"
        elif names:
            yield f"**{label}:** {', '.join(f'`{name}`' for name in names)}.\n"
    for label in LABELS:
        if label.lower() in known:
            yield f"**{label}:** {known[label.lower()]}\n"


def fill_in(app: Sphinx, _page: str, source: list[str]) -> None:
    """Put sections and tables where a page asks for them, anew in every build."""
    if PLACEHOLDER.search(source[0]):
        app.env.note_reread()
        make = {"plugins": plugins, "columns": columns, "clauses": clauses}
        source[0] = PLACEHOLDER.sub(lambda match: make[match[1]](match[2]), source[0])


def part(*event: Any) -> None:
    """Make a paragraph of each labelled part of a plugin's docstring: a hanging indent means something else here."""
    lines: list[str] = event[-1]
    parted: list[str] = []
    labelled = False
    for line in lines:
        if line.startswith(LABELLED):
            parted.append("")
        labelled = line.startswith(LABELLED) or (labelled and line.startswith(" "))
        parted.append(line.strip() if labelled else line)
    lines[:] = parted


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill_in)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", part, priority=400)  # before Google sections are read
