"""``inferencesched demo``: what this library is good for, in a minute and without a GPU.

Live, over HTTP, where the gateway and the simulated engines are installed; they are distributions of their own, and
nothing is known of them here but the names of their commands. Otherwise, or when asked to, in virtual time.
"""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import click
from click.core import ParameterSource

from inferencesched.cli.comparison import compare, fleet_options, show, write_report
from inferencesched.cli.group import main
from inferencesched.cli.output import json_option
from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.policies import POLICIES
from inferencesched.sim.workload import AGENTS, CHAT, COMPLETIONS, Workload

__all__ = ["command"]

# Chat and single questions as Mooncake and Azure saw them, and a good deal of agents, as bursty as ServeGen's clients.
# Eight H100s are busy with it nearly all the time: the load at which placing well matters most and nothing is lost.
_WORKLOAD = Workload(((CHAT, 5.0), (AGENTS, 1.5), (COMPLETIONS, 5.0)), burstiness=1.24)
_POLICIES = ("random", "round-robin", "least-in-flight", "prefix-only", "default")
_VIRTUAL_SECONDS = 200.0
_LIVE_SECONDS = 20.0

_LIVE = "live"
_NEEDED = {_LIVE: "inferencesched-gateway", "enginesim": "inferencesched-enginesim"}  # command → its distribution
_VIRTUAL_ONLY = ("endpoints", "engine", "scrape_interval")


@click.command("demo")
@click.option("--virtual", "is_virtual", is_flag=True, help="Simulate in virtual time: no process, no port.")
@click.option("--keep", is_flag=True, help="Leave gateway and engines up in the end, until Ctrl-C. Not with --virtual.")
@click.option(
    "--duration",
    type=click.FloatRange(min=1.0),
    help=f"Seconds of traffic.  [default: {_LIVE_SECONDS:g}, or {_VIRTUAL_SECONDS:g} with --virtual]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("inferencesched-demo"),
    show_default=True,
    help="Folder for the plot and the report.",
)
@fleet_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    is_virtual: bool,
    keep: bool,
    endpoints: int,
    engine: str,
    scrape_interval: float,
    seed: int,
    duration: float | None,
    out: Path,
    as_json: bool,
) -> None:
    """Compare policies on made-up traffic, and explain one decision.

    Conversations, agents and single questions arrive at simulated model servers; every policy gets the same requests.
    No GPU, no model. Writes a plot (PNG) and a report (HTML).

    With inferencesched-gateway and inferencesched-enginesim installed, four servers and a gateway run on this machine
    for a minute, and an HTTP client measures. With --virtual, or without these two, everything is simulated in virtual
    time, where --endpoints, --engine and --scrape-interval have a say.
    """
    if is_virtual and keep:
        raise click.UsageError("--keep goes with the live demonstration, not with --virtual")
    missing = [name for each, name in _NEEDED.items() if each not in main.list_commands(ctx)]
    if not is_virtual and not missing:
        live = main.get_command(ctx, _LIVE)
        assert live is not None
        _refuse_virtual_only(ctx)
        ctx.invoke(live, keep=keep, seed=seed, duration=duration or _LIVE_SECONDS, out=out, as_json=as_json)
        return
    if not is_virtual:
        hint = f"pip install {' '.join(_NEEDED.values())}"
        if keep:
            raise click.ClickException(f"there is nothing to keep without the live demonstration: {hint}")
        click.echo(f"In virtual time; for the live demonstration: {hint}", err=True)
    _simulate(
        endpoints=endpoints,
        engine=engine,
        scrape_interval=scrape_interval,
        seed=seed,
        duration=duration or _VIRTUAL_SECONDS,
        out=out,
        as_json=as_json,
    )


def _refuse_virtual_only(ctx: click.Context) -> None:
    given = [name for name in _VIRTUAL_ONLY if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with --virtual")


def _simulate(
    *, endpoints: int, engine: str, scrape_interval: float, seed: int, duration: float, out: Path, as_json: bool
) -> None:
    trace = _WORKLOAD.generate(duration, random.Random(seed), name=f"made-up traffic, seed {seed}")
    fleet = FleetSpec((ENGINES[engine],) * endpoints, scrape_interval)
    comparison = compare(trace, fleet, {name: POLICIES[name] for name in _POLICIES}, seed=seed)
    again = {
        "--endpoints": endpoints,
        "--engine": engine,
        "--scrape-interval": scrape_interval,
        "--seed": seed,
        "--duration": duration,
    }
    options = " ".join(f"{name} {shlex.quote(str(value))}" for name, value in again.items())
    written = write_report(comparison, out, command=f"inferencesched demo --virtual {options}")
    show(comparison, written, as_json=as_json)
