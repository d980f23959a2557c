"""The click group: which commands there are, loaded when asked for, and how errors end.

Built-in commands are a table of names. A distribution adds its own through the entry-point group
``inferencesched.commands`` (the value is a `click.Command`); nothing of it is imported before its name is used. A name
that two distributions claim, or that one claims from us, is an error when it is used.

Exit codes are the same for every command: 0, it went well; 1, what was asked about is bad, or was rejected; 2, the
command was called wrongly (click's own).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

import click

from inferencesched.errors import InferenceschedError

__all__ = ["GROUP", "Commands", "main"]

GROUP = "inferencesched.commands"

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "check": "inferencesched.cli.check:command",
        "config": "inferencesched.cli.config:command",
        "demo": "inferencesched.cli.demo:command",
        "doctor": "inferencesched.cli.doctor:command",
        "explain": "inferencesched.cli.explain:command",
        "overload": "inferencesched.cli.overload:command",
        "plugins": "inferencesched.cli.plugins:command",
        "replay": "inferencesched.cli.replay:command",
    }
)

_EXIT_CODES = "Exit codes: 0 done · 1 what was asked about is bad or was rejected · 2 called wrongly."


class Failure(click.ClickException):
    """Ends a command with its message on stderr, no traceback, and exit code 1."""

    exit_code = 1

    def __init__(self, error: InferenceschedError | str) -> None:
        super().__init__(str(error))


class Commands(click.Group):
    """Built-in commands and those of installed distributions, each imported when it is first needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name that can be typed; imports nothing."""
        return sorted({*BUILT_IN, *_installed()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name, with the exit codes at the end of its help."""
        claims = _installed().get(cmd_name, ())
        if cmd_name in BUILT_IN:
            claims = (EntryPoint(cmd_name, BUILT_IN[cmd_name], GROUP), *claims)
        if not claims:
            return None
        if len(claims) > 1:
            raise Failure(f"the command '{cmd_name}' is claimed by {' and by '.join(sorted(map(_origin, claims)))}")
        command = _load(claims[0])
        command.epilog = command.epilog or _EXIT_CODES
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; one of a distribution that does not load is listed with its error."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(80) if command else ""))
            except Failure as failure:
                rows.append((name, f"(broken: {failure.message})"))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the library raises on purpose, or the machine refuses, ends it without a traceback."""
        try:
            return super().invoke(ctx)
        except InferenceschedError as error:
            raise Failure(error) from error
        except BrokenPipeError:  # whoever read our output has enough; click knows what to do
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise Failure(f"{where}{error.strerror or error}") from error


def _installed() -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _origin(point: EntryPoint) -> str:
    return f"distribution '{point.dist.name}'" if point.dist is not None else "inferencesched itself"


def _load(point: EntryPoint) -> click.Command:
    try:
        command = point.load() if point.dist is not None else _attribute(point.value)
    except Exception as error:
        raise Failure(f"the command '{point.name}' of {_origin(point)} cannot be imported: {error}") from error
    if not isinstance(command, click.Command):
        raise Failure(f"'{point.value}' of {_origin(point)} is no click command")
    return command


def _attribute(value: str) -> Any:
    module, _, name = value.partition(":")
    return getattr(importlib.import_module(module), name)


@click.group(
    cls=Commands, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="inferencesched", message="%(package)s %(version)s")
def main() -> None:
    """Decide which model server takes an inference request: see it work, replay traffic, ask why.

    Begin with: inferencesched demo
    """
