"""``inferencesched demo``: what this library is good for, in half a minute and without a GPU."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import click

from inferencesched.cli.comparison import compare, fleet_options, write_report
from inferencesched.cli.output import console, json_option, print_json, say
from inferencesched.cli.table import comparison_table, headline
from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.policies import POLICIES
from inferencesched.sim.workload import AGENTS, CHAT, COMPLETIONS, Workload

__all__ = ["command"]

# Chat and single questions as Mooncake and Azure saw them, and a good deal of agents, as bursty as ServeGen's clients.
# Eight H100s are busy with it nearly all the time: the load at which placing well matters most and nothing is lost.
_WORKLOAD = Workload(((CHAT, 5.0), (AGENTS, 1.5), (COMPLETIONS, 5.0)), burstiness=1.24)
_POLICIES = ("random", "round-robin", "least-in-flight", "prefix-only", "default")


@click.command("demo")
@fleet_options
@click.option(
    "--duration",
    type=click.FloatRange(min=1.0),
    default=200.0,
    show_default=True,
    help="Seconds of traffic.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("inferencesched-demo"),
    show_default=True,
    help="Folder for the plot and the report.",
)
@json_option
def command(
    *, endpoints: int, engine: str, scrape_interval: float, seed: int, duration: float, out: Path, as_json: bool
) -> None:
    """Compare policies on made-up traffic, and explain one decision.

    Conversations, agents and single questions arrive at simulated model servers; every policy gets the same requests.
    No GPU, no network, no model. Writes a plot (PNG) and a report (HTML).
    """
    trace = _WORKLOAD.generate(duration, random.Random(seed), name=f"made-up traffic, seed {seed}")
    fleet = FleetSpec((ENGINES[engine],) * endpoints, scrape_interval)
    comparison = compare(trace, fleet, {name: POLICIES[name] for name in _POLICIES}, seed=seed)
    again = {"--endpoints": endpoints, "--engine": engine, "--scrape-interval": scrape_interval, "--seed": seed}
    options = " ".join(f"{name} {shlex.quote(str(value))}" for name, value in {**again, "--duration": duration}.items())
    written = write_report(comparison, out, command=f"inferencesched demo {options}")
    if as_json:
        print_json({**comparison.to_dict(), "files": [str(path) for path in written]})
        return
    say(f"{comparison.title}\n")
    console().print(comparison_table(comparison.summaries))
    say(f"\n{headline(comparison.summaries, 'default')}")
    if comparison.receipt is not None:
        say("\nWhy there? The receipt of one decision under 'default':\n")
        click.echo(comparison.receipt.explain())
    say("\nWritten: " + ", ".join(str(path) for path in written))
