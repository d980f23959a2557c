"""Comparing policies on one workload: the options, the progress bar, the page and the files that commands share."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import attrs
import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inferencesched.cli.output import console, print_json, progress_console, say
from inferencesched.cli.table import comparison_table, headline
from inferencesched.decision import Decision
from inferencesched.scheduler import Scheduler
from inferencesched.sim.fleet import Event, FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.policies import Policy, build_scheduler
from inferencesched.sim.replay import Result, replay
from inferencesched.sim.report import Summary, summarize
from inferencesched.sim.trace import Trace

__all__ = ["Comparison", "Receipt", "compare", "fleet_options", "progress_bars", "show", "write_report"]

Command = TypeVar("Command", bound=Callable[..., Any])


class Receipt(Protocol):
    """Why one request went where it went: a `Decision`, or what a gateway says of one."""

    def explain(self) -> str:
        """Return it for people."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        ...


@attrs.frozen
class Comparison:
    """The same requests on the same fleet under several policies, and one decision to look at.

    Attributes:
        trace: the requests.
        fleet: the engines.
        seed: of the dice.
        results: one for each policy; the last one is that which the others are there for.
        receipt: of one decision under the last policy, if there was one.
        is_live: measured by a client in real time, not in virtual time.
    """

    trace: Trace
    fleet: FleetSpec
    seed: int
    results: tuple[Result, ...]
    receipt: Receipt | None
    is_live: bool = False
    summaries: tuple[Summary, ...] = attrs.field(init=False)

    @summaries.default
    def _summaries(self) -> tuple[Summary, ...]:
        return tuple(map(summarize, self.results))

    @property
    def title(self) -> str:
        """What was compared on what, in a line."""
        kinds = " and ".join(engine.name for engine in dict.fromkeys(self.fleet.engines))
        how = "simulated in real time, behind the gateway" if self.is_live else "simulated"
        return (
            f"{self.trace.name}: {len(self.trace):,} requests in {self.trace.duration:,.0f} s"
            f" on {len(self.fleet.engines)} × {kinds} ({how})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "trace": {
                "name": self.trace.name,
                "requests": len(self.trace),
                "duration_seconds": round(self.trace.duration, 6),
                "block_tokens": self.trace.block_tokens,
            },
            "fleet": {
                "endpoints": len(self.fleet.engines),
                "engines": sorted({engine.name for engine in self.fleet.engines}),
                "scrape_interval_seconds": self.fleet.scrape_interval,
            },
            "seed": self.seed,
            "policies": [summary.to_dict() for summary in self.summaries],
            "receipt": None if self.receipt is None else self.receipt.to_dict(),
        }


def fleet_options(command: Command) -> Command:
    """Add ``--endpoints``, ``--engine``, ``--scrape-interval`` and ``--seed``."""
    options = [
        click.option("--endpoints", type=click.IntRange(1, 4096), default=8, show_default=True, help="Model servers."),
        click.option(
            "--engine",
            type=click.Choice(list(ENGINES)),
            default="h100",
            show_default=True,
            help="What each one is.",
        ),
        click.option(
            "--scrape-interval",
            type=click.FloatRange(min=0.0),
            default=1.0,
            show_default=True,
            help="Seconds between two readings of their metrics.",
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Of every die that is thrown."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def compare(
    trace: Trace, fleet: FleetSpec, policies: Mapping[str, Policy], *, seed: int, log: IO[str] | None = None
) -> Comparison:
    """Replay `trace` under each policy, with a progress bar on stderr.

    The decision kept for its receipt is the last policy's first one, after half of the trace, that went where more than
    half of the prompt was cached; if there is none, the one at half of the trace.
    """
    results, exhibit = [], _Exhibit(after=0)
    with progress_bars() as progress:
        bars = {name: progress.add_task(name, total=len(trace), start=False) for name in policies}
        for name, policy in policies.items():
            progress.start_task(bars[name])

            exhibit = _Exhibit(after=len(trace) // 2)

            def watch(event: Event, bar: Any = bars[name], exhibit: _Exhibit = exhibit) -> None:
                exhibit.see(event)
                if event.kind in ("finished", "rejected"):
                    progress.advance(bar)

            results.append(
                replay(
                    trace,
                    fleet,
                    functools.partial(_scheduler, policy),
                    policy=name,
                    seed=seed,
                    log=None if log is None else lambda line: log.write(line + "\n"),
                    watch=watch,
                )
            )
    return Comparison(trace, fleet, seed, tuple(results), exhibit.decision)


def progress_bars() -> Progress:
    """Return what shows how many requests have ended: on stderr, if that is a terminal, and gone in the end."""
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("requests"),
        TimeElapsedColumn(),
    )
    screen = progress_console()
    return Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal)


def _scheduler(policy: Policy, rng: random.Random) -> Scheduler:
    return build_scheduler(policy, rng=rng)


class _Exhibit:
    """Chooses one decision to look at among those that go by: see `compare`."""

    def __init__(self, *, after: int) -> None:
        self.decision: Decision | None = None
        self._before = after
        self._is_found = False

    def see(self, event: Event) -> None:
        """Consider the decision in `event`, if there is one."""
        if self._is_found or not isinstance(event.outcome, Decision):
            return
        self._before -= 1
        if self._before < 0:
            chosen = event.outcome.passes[event.outcome.primary]
            matched, total = (chosen.kept[f"prefix_{part}_tokens"][chosen.picked[0]] for part in ("matched", "total"))
            self._is_found = bool(matched > total / 2)  # unknown compares false
            if self._is_found or self.decision is None:
                self.decision = event.outcome


def write_report(comparison: Comparison, out: Path, *, command: str) -> list[Path]:
    """Write the plot and the HTML report to `out`; return what was written."""
    from inferencesched.sim.html import render_report  # noqa: PLC0415 - matplotlib and jinja2 take a second
    from inferencesched.sim.plot import draw_comparison  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    png, page = out / "comparison.png", out / "report.html"
    png.write_bytes(draw_comparison(comparison.results, "png"))
    page.write_text(
        render_report(
            comparison.trace,
            comparison.fleet,
            comparison.results,
            seed=comparison.seed,
            command=command,
            receipt="" if comparison.receipt is None else comparison.receipt.explain(),
            is_live=comparison.is_live,
        ),
        encoding="utf-8",
    )
    return [png, page]


def show(comparison: Comparison, written: Sequence[Path], *, as_json: bool) -> None:
    """Print a comparison for people, with a sentence about its last policy and a receipt; or as one JSON document.

    Args:
        comparison: what to show.
        written: the files in which there is more.
        as_json: whether a program reads it.
    """
    if as_json:
        print_json({**comparison.to_dict(), "files": [str(path) for path in written]})
        return
    ours = comparison.results[-1].policy
    say(f"{comparison.title}\n")
    console().print(comparison_table(comparison.summaries))
    if (sentence := headline(comparison.summaries, ours)) is not None:
        say(f"\n{sentence}")
    if comparison.receipt is not None:
        say(f"\nWhy there? The receipt of one decision under '{ours}':\n")
        click.echo(comparison.receipt.explain())
    say("\nWritten: " + ", ".join(str(path) for path in written))
