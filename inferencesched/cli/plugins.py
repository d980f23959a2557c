"""``inferencesched plugins``: what can be configured here, built in and installed, and what each one does."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from inferencesched.cli.descriptions import to_dict
from inferencesched.cli.output import console, json_option, print_json
from inferencesched.errors import ConfigError, InferenceschedError, Problem
from inferencesched.registry import BUILT_IN, COMES_WITH, DEPRECATED, NOT_YET, REFUSED, Registry

__all__ = ["ROLES", "command"]

ROLES = ("annotator", "producer", "filter", "scorer", "picker", "profile-handler", "decider", "responder", "observer")
"""In the order in which a scheduler asks them."""


@click.command("plugins")
@click.argument("type", required=False)
@click.option("--role", metavar="ROLE", help="Only those that take this role: filter, scorer, picker…")
@json_option
def command(*, type: str | None, role: str | None, as_json: bool) -> None:
    """List every plugin type that a configuration can name, or say all about one TYPE.

    A type is built in or comes from an installed distribution; one that cannot be imported is listed with the reason.
    """
    registry = Registry()
    if type is not None:
        _explain_absence(type, registry)
        known = to_dict(registry.type(type))
        if as_json:
            print_json(known)
        else:
            _print_details(console(), known)
        return
    entries = [entry for entry in (_entry(registry, name) for name in registry.types) if _takes(entry, role)]
    if as_json:
        print_json({"plugins": entries})
    else:
        _print_list(console(), entries)


def _explain_absence(name: str, registry: Registry) -> None:
    """Raise what is known of a type that there is not: that it has another name, will not be, or is not yet."""
    if name in registry:
        return
    if name in DEPRECATED:
        raise ConfigError([Problem("", f"'{name}' is an old name; the type is '{DEPRECATED[name]}'")])
    if name in REFUSED:
        raise ConfigError([Problem("", f"'{name}' will not be built: {REFUSED[name]}")])
    if name in COMES_WITH:
        raise ConfigError([Problem("", f"'{name}' comes with '{COMES_WITH[name]}': pip install {COMES_WITH[name]}")])
    if name in NOT_YET:
        raise ConfigError(
            [Problem("", f"'{name}' (a {NOT_YET[name]}) is not implemented yet; declared, it is ignored")]
        )


def _entry(registry: Registry, name: str) -> dict[str, Any]:
    try:
        return to_dict(registry.type(name))
    except InferenceschedError as error:
        return {"type": name, "roles": [], "error": str(error)}


def _takes(entry: dict[str, Any], role: str | None) -> bool:
    return role is None or role in entry["roles"]


def _print_list(out: Console, entries: list[dict[str, Any]]) -> None:
    for role in dict.fromkeys((*ROLES, *(_first_role(entry) for entry in entries))):
        found = [entry for entry in entries if _first_role(entry) == role]
        if not found:
            continue
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        for entry in found:
            grid.add_row(f"  {entry['type']}", _escaped(_about(entry)))
            if more := _more(entry):
                grid.add_row("", f"[dim]{more}[/dim]")
        out.print(f"[bold]{role}[/bold]")
        out.print(grid)


def _first_role(entry: dict[str, Any]) -> str:
    return "broken" if "error" in entry else next(iter(entry["roles"]), "other")


def _about(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return str(entry["error"])
    origin = f" (from {entry['distribution']})" if entry["distribution"] else ""
    return f"{entry['summary']}{origin}"


def _more(entry: dict[str, Any]) -> str:
    parts = [f"also {', '.join(entry['roles'][1:])}"] if entry["roles"][1:] else []
    parts += [f"reads {_columns(entry['consumes'])}"] if entry.get("consumes") != [] and "error" not in entry else []
    return "; ".join(parts)


def _print_details(out: Console, known: dict[str, Any]) -> None:
    origin = "built in" if known["type"] in BUILT_IN else f"from the distribution '{known['distribution']}'"
    out.print(f"[bold]{known['type']}[/bold]  {', '.join(known['roles'])}, {origin}\n")
    for paragraph in filter(None, (known["summary"], known["text"])):
        out.print(_escaped(paragraph) + "\n")
    facts = [("Reads", _columns(known["consumes"])), ("Makes", _columns(known["produces"]))]
    facts += [(label, _escaped(known.get(label.lower(), ""))) for label in ("Formula", "Unknown", "Source")]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for label, words in facts:
        if words not in {"", "–"}:
            grid.add_row(f"[bold]{label}[/bold]", words)
    out.print(grid)
    if known["parameters"]:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("parameter", "value", "default", ""):
            table.add_column(heading, header_style="bold")
        for each in known["parameters"]:
            default = "required" if each["required"] else json.dumps(each["default"], ensure_ascii=False)
            table.add_row(each["name"], each["kind"], _escaped(default), _escaped(each["help"]))
        out.print()
        out.print(table)


def _columns(names: list[str] | None) -> str:
    return "by its parameters" if names is None else ", ".join(names) or "–"


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
