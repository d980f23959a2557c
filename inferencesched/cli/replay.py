"""``inferencesched replay``: a recorded trace against any policies, with the scheduler that runs in production."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import IO

import click

from inferencesched.cli.comparison import compare, fleet_options, write_report
from inferencesched.cli.output import console, json_option, print_json, say
from inferencesched.cli.policies import PolicyType
from inferencesched.cli.table import comparison_table, headline
from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.policies import Policy
from inferencesched.sim.trace import MOONCAKE_BLOCK_TOKENS, read_mooncake

__all__ = ["command"]


@click.command("replay")
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@fleet_options
@click.option(
    "--policy",
    "policies",
    type=PolicyType(),
    multiple=True,
    default=("random", "round-robin", "least-in-flight", "prefix-only", "default"),
    metavar="NAME|FILE",
    help="A policy by name, or a file with an EndpointPickerConfig; repeat to compare. "
    f"Names: {', '.join(PolicyType.names)}. All but endpoint-picker by default.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Replay only the first so many requests.")
@click.option(
    "--speedup", type=click.FloatRange(min=0.0, min_open=True), default=1.0, help="Let them arrive that much faster."
)
@click.option(
    "--spread", is_flag=True, help="Spread what arrives in one instant evenly until the next one (coarse timestamps)."
)
@click.option(
    "--block-tokens",
    type=click.IntRange(min=1),
    default=MOONCAKE_BLOCK_TOKENS,
    show_default=True,
    help="Tokens for which each of a prompt's hash ids stands.",
)
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every event to this file, as JSON lines. The same replay writes the same bytes.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write plot and report to this folder.")
@json_option
def command(
    *,
    trace: Path,
    endpoints: int,
    engine: str,
    scrape_interval: float,
    seed: int,
    policies: tuple[tuple[str, Policy], ...],
    limit: int | None,
    speedup: float,
    spread: bool,
    block_tokens: int,
    log_file: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Replay TRACE under one or more policies and compare what became of its requests.

    TRACE has Mooncake's format, gzipped or not: JSON lines with timestamp (ms), input_length, output_length (tokens)
    and hash_ids (one for each 512 tokens of the prompt; equal ids are equal prefixes).
    """
    requests = read_mooncake(trace, block_tokens=block_tokens)
    if limit is not None:
        requests = requests.head(limit)
    if spread:
        requests = requests.spread()
    if speedup != 1.0:
        requests = requests.faster(speedup)
    fleet = FleetSpec((ENGINES[engine],) * endpoints, scrape_interval)
    with _written_to(log_file) as log:
        comparison = compare(requests, fleet, dict(policies), seed=seed, log=log)
    again = shlex.join(["inferencesched", *sys.argv[1:]])
    written = [] if out is None else write_report(comparison, out, command=again)
    written += [] if log_file is None else [log_file]
    if as_json:
        print_json({**comparison.to_dict(), "files": [str(path) for path in written]})
        return
    say(f"{comparison.title}\n")
    console().print(comparison_table(comparison.summaries))
    if (sentence := headline(comparison.summaries, comparison.summaries[-1].policy)) is not None:
        say(f"\n{sentence}")
    if written:
        say("\nWritten: " + ", ".join(str(path) for path in written))


def _written_to(path: Path | None) -> contextlib.AbstractContextManager[IO[str] | None]:
    return contextlib.nullcontext() if path is None else path.open("w", encoding="utf-8", newline="\n")
