"""``inferencesched check``: is everything in these files right, and does it fit together?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from inferencesched import config, resources
from inferencesched.cli.files import paths_argument, read_all
from inferencesched.cli.output import console, json_option, print_json
from inferencesched.documents import Document
from inferencesched.errors import Problem

__all__ = ["Verdict", "command", "examine", "print_problems"]


@attrs.frozen
class Verdict:
    """What a look at some documents has found."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    config: config.Config | None
    manifests: resources.Manifests

    def to_dict(self, *, is_strict: bool) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "ok": self.is_good(is_strict=is_strict),
            "documents": dict(sorted(_kinds(self.documents).items())),
            "problems": [attrs.asdict(problem) for problem in self.problems],
            "warnings": [attrs.asdict(warning) for warning in self.warnings],
        }

    def is_good(self, *, is_strict: bool) -> bool:
        """Whether there is nothing to complain about; a strict reader complains about warnings."""
        return not self.problems and not (is_strict and self.warnings)


def examine(paths: Iterable[Path]) -> Verdict:
    """Return everything that can be said about the documents in these files and folders."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    documents = read_all(paths, problems)
    found = config.examine(*documents, problems=problems, warnings=warnings)
    manifests = resources.examine(*documents, problems=problems, warnings=warnings)
    if not documents and not problems:
        problems.append(Problem("", "there is nothing in these files"))
    return Verdict(tuple(documents), tuple(problems), tuple(warnings), found, manifests)


@click.command("check")
@paths_argument
@click.option("--strict", "is_strict", is_flag=True, help="Take warnings for problems.")
@json_option
def command(*, paths: tuple[Path, ...], is_strict: bool, as_json: bool) -> None:
    """Check configurations and resources, and whether they fit together.

    FILE is YAML or JSON with any number of documents (EndpointPickerConfig, InferencePool, InferenceObjective,
    InferenceModelRewrite, HTTPRoute, an endpoints file), a folder of such files, or - for standard input. Everything
    that is wrong is reported at once.
    """
    verdict = examine(paths)
    if as_json:
        print_json(verdict.to_dict(is_strict=is_strict))
    else:
        _print(verdict, console())
    if not verdict.is_good(is_strict=is_strict):
        raise SystemExit(1)


def print_problems(out: Console, problems: Sequence[Problem], *, sign: str, style: str) -> None:
    """Print problems under their files, each with line, message and path."""
    by_file: dict[str | None, list[Problem]] = {}
    for problem in problems:
        by_file.setdefault(problem.file, []).append(problem)
    for file, members in by_file.items():
        out.print(Text.assemble((sign, style), " ", (file or "without a file", "bold")))
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", min_width=5, style="cyan")
        table.add_column(overflow="fold")
        for problem in sorted(members, key=lambda each: each.line or 0):
            message = Text(problem.message)
            if problem.path:
                message.append(f"\n{problem.path}", style="dim")
            table.add_row(str(problem.line or ""), message)
        out.print(table)


def _print(verdict: Verdict, out: Console) -> None:
    print_problems(out, verdict.warnings, sign="!", style="yellow")
    print_problems(out, verdict.problems, sign="✗", style="bold red")
    if verdict.problems or verdict.warnings:
        out.print()
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(_kinds(verdict.documents).items()))
    counts = f"{_count(len(verdict.problems), 'problem')}, {_count(len(verdict.warnings), 'warning')}"
    sign = Text("✗", "bold red") if verdict.problems else Text("✓", "bold green")
    out.print(Text.assemble(sign, f" {counts} in ", kinds or "no documents"))


def _kinds(documents: Iterable[Document]) -> Counter[str]:
    named = (each.kind or ("endpoints file" if "endpoints" in (each.content or {}) else "") for each in documents)
    return Counter(kind or "document without kind" for kind in named)


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
