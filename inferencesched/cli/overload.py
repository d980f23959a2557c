"""``inferencesched overload``: what flow control is worth when there is twice as much work as the fleet can do."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import attrs
import click
from rich.table import Table

from inferencesched.cli.output import console, json_option, print_json
from inferencesched.dispatcher import Dispatcher
from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.flow_policies import FLOW_POLICIES, build_dispatcher
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.overload import Clients, Overload, Storm, capacity_of, run_overload

__all__ = ["command"]

_ALONE = "nothing else"  # the row that the others are measured by


@click.command("overload")
@click.option("--endpoints", type=click.IntRange(1, 1024), default=8, show_default=True, help="Model servers.")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="a100", show_default=True, help="What each one is.")
@click.option(
    "--duration", type=click.FloatRange(min=1.0), default=120.0, show_default=True, help="Seconds of traffic."
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="How often refused clients come back; official ones do twice.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of every die that is thrown.")
@json_option
def command(*, endpoints: int, engine: str, duration: float, retries: int, seed: int, as_json: bool) -> None:
    """Offer a simulated fleet twice what it can do, in three bands, under several flow controls.

    The same calls under each; the first row is the urgent band with the fleet to itself.
    """
    fleet = FleetSpec((ENGINES[engine],) * endpoints, scrape_interval=0.1)  # half the age at which metrics are stale
    spec = Overload(fleet, duration=duration, clients=Clients(retries=retries))
    capacity = capacity_of(spec)
    alone = attrs.evolve(spec, bands=spec.bands[:1])
    storms = {_ALONE: run_overload(alone, _builder("default"), capacity=capacity, seed=seed)}
    storms |= {name: run_overload(spec, _builder(name), capacity=capacity, seed=seed) for name in FLOW_POLICIES}
    if as_json:
        print_json({"capacity_per_second": round(capacity, 6), "runs": [_plain(*each) for each in storms.items()]})
        return
    load = " + ".join(f"{band.load:g} {band.name}" for band in spec.bands)
    title = f"{endpoints} × {ENGINES[engine].name} (simulated) can serve {capacity:.1f} calls/s, and are offered {load}"
    console().print(f"{title} times that for {duration:g} s.\n", soft_wrap=True)
    console().print(_table(spec, storms))


def _builder(policy: str) -> Callable[[random.Random], Dispatcher]:
    return lambda rng: build_dispatcher(FLOW_POLICIES[policy], rng=rng)


def _plain(name: str, storm: Storm) -> dict[str, Any]:
    bands = [storm.summary(band) for band in dict.fromkeys(call.band.name for call in storm.calls)]
    return {
        "flow_control": name,
        "goodput": round(storm.goodput, 6),
        "refused": round(storm.refused, 6),
        "bands": [
            {
                "band": band.band,
                "calls": band.calls,
                "shed": round(band.shed, 6),
                "attempts_per_call": round(band.attempts, 6),
                "ttft_seconds": band.ttft.to_dict(),
            }
            for band in bands
        ],
    }


def _table(spec: Overload, storms: dict[str, Storm]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    table.add_column("\nflow control")
    for band in spec.bands:
        table.add_column(f"{band.name}\nTTFT p50", justify="right")
        table.add_column("\np99 s", justify="right")
        table.add_column("\nshed", justify="right")
    table.add_column("share of\ncapacity", justify="right")
    for name, storm in storms.items():
        cells = []
        for band in spec.bands:
            summary = storm.summary(band.name)
            known = summary.calls > 0
            served = known and summary.shed < 1.0
            cells += [f"{number:.2f}" if served else "–" for number in (summary.ttft.p50, summary.ttft.p99)]
            cells.append(f"{summary.shed:.0%}" if known else "–")
        table.add_row(name, *cells, f"{storm.goodput:.0%}")
    return table
