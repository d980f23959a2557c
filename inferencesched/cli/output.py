"""What commands print: people read tables on stdout, programs one JSON document, and progress goes to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console

__all__ = ["console", "json_option", "print_json", "progress_console", "say"]

F = TypeVar("F", bound=Callable[..., Any])

_LEAST_WIDTH = 100  # of tables in a pipe, where there is no terminal to ask


def json_option(command: F) -> F:
    """Add ``--json`` as the argument `as_json`."""
    flag = click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout, and nothing else.")
    return flag(command)


def print_json(document: Any) -> None:
    """Print one JSON document to stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def console() -> Console:
    """Return what tables are printed on: stdout, in colour on a terminal only, wide enough in a pipe."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=max(out.width, _LEAST_WIDTH), no_color=True)


def say(sentence: str) -> None:
    """Print a sentence to stdout: wrapped at words on a terminal, in one line in a pipe."""
    out = console()
    out.print(sentence, soft_wrap=not out.is_terminal, markup=False)


def progress_console() -> Console:
    """Return what progress is shown on: stderr. Show it only if that is a terminal."""
    return Console(stderr=True)
