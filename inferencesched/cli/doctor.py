"""``inferencesched doctor``: valid, and yet it will hurt."""

from __future__ import annotations

from pathlib import Path

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inferencesched.cli.check import examine
from inferencesched.cli.files import paths_argument
from inferencesched.cli.output import console, json_option, print_json
from inferencesched.config.doctor import Finding, diagnose
from inferencesched.errors import ConfigError

__all__ = ["command"]

_STYLES = {"danger": "bold red", "warning": "yellow", "hint": "cyan"}


@click.command("doctor")
@paths_argument
@click.option("--endpoints", type=click.IntRange(min=1), help="How many there will be, for the estimate of memory.")
@click.option("--strict", "is_strict", is_flag=True, help="End with exit code 1 at warnings too, not at dangers only.")
@json_option
def command(*, paths: tuple[Path, ...], endpoints: int | None, is_strict: bool, as_json: bool) -> None:
    """Say what will hurt in a valid configuration, why, and what to do.

    Takes what `check` takes, and ends with exit code 1 where it found a danger. Without an EndpointPickerConfig among
    the documents, the built-in default is looked at.
    """
    verdict = examine(paths)
    if verdict.problems or verdict.config is None:
        raise ConfigError(verdict.problems)
    findings = diagnose(verdict.config, verdict.manifests, endpoints=endpoints)
    if as_json:
        print_json({"findings": [attrs.asdict(finding) for finding in findings]})
    else:
        _print(findings, console())
    if any(each.severity == "danger" or (is_strict and each.severity == "warning") for each in findings):
        raise SystemExit(1)


def _print(findings: list[Finding], out: Console) -> None:
    for finding in findings:
        style = _STYLES[finding.severity]
        out.print(Text.assemble((finding.severity, style), "  ", (finding.name, "bold"), "  ", finding.where))
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", min_width=len("warning"), style="dim")
        table.add_column(overflow="fold")
        for label, text in (("what", finding.what), ("why", finding.why), ("do", finding.advice)):
            table.add_row(label, Text(text))
        out.print(table)
        out.print()
    counts = [(sum(each.severity == severity for each in findings), severity) for severity in _STYLES]
    said = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for count, severity in counts if count)
    out.print(f"{said}." if said else Text.assemble(("✓", "bold green"), " Nothing to find fault with."))
