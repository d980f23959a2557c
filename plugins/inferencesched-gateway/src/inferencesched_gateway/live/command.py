"""``inferencesched live``: two policies compared by an HTTP client; what ``inferencesched demo`` does where it can."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from inferencesched.cli.comparison import Comparison, progress_bars, show, write_report
from inferencesched.cli.output import json_option
from inferencesched.sim import ENGINES, POLICIES, FleetSpec, Result, Trace
from inferencesched_gateway.live.run import Stage, fetch_receipt, measure, set_stage
from inferencesched_gateway.live.traffic import WORKLOAD, chat_bodies

__all__ = ["command"]

_MODEL = "llama-3.1-8b"
_HARDWARE = ("a100",) * 4
_SCRAPE_SECONDS = 0.1  # the gateway's own default
_RIVAL, _OURS = "round-robin", "default"
_CONFIGURATIONS: Mapping[str, Mapping[str, Any] | None] = {_RIVAL: POLICIES[_RIVAL], _OURS: None}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command("live")
@click.option(
    "--duration", type=click.FloatRange(min=1.0), default=20.0, show_default=True, help="Seconds of traffic, twice."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the traffic, and of the gateway's dice.")
@click.option("--keep", is_flag=True, help="Leave gateway and engines up in the end, until Ctrl-C.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("inferencesched-demo"),
    show_default=True,
    help="Folder for the plot and the report.",
)
@json_option
def command(*, duration: float, seed: int, keep: bool, out: Path, as_json: bool) -> None:
    """Compare the default policy with round robin, measured by an HTTP client on this machine.

    Starts four simulated engines (inferencesched-enginesim) and a gateway, sends made-up traffic through it in real
    time, and does so again with fresh engines and the other policy. Everything that was started is ended.
    """
    trace = WORKLOAD.generate(duration, random.Random(seed), name=f"made-up traffic, seed {seed}")
    if not trace:
        raise click.UsageError("so short a time has no request in it; give a longer --duration")
    out.mkdir(parents=True, exist_ok=True)  # what cannot be written is known before a minute is over
    try:
        asyncio.run(_demonstrate(trace, duration, seed, out, keep=keep, as_json=as_json))
    except asyncio.CancelledError:
        raise click.Abort from None


async def _demonstrate(trace: Trace, duration: float, seed: int, out: Path, *, keep: bool, as_json: bool) -> None:
    this = asyncio.current_task()
    assert this is not None
    async with contextlib.AsyncExitStack() as stack:
        with _on_signals(this.cancel):
            stage, results = await _compare(trace, seed, stack)
            receipt = await fetch_receipt(stage, results[-1])
            if not keep:
                await stack.aclose()
        fleet = FleetSpec(tuple(ENGINES[name] for name in _HARDWARE), _SCRAPE_SECONDS)
        comparison = Comparison(trace, fleet, seed, tuple(results), receipt, is_live=True)
        again = f"inferencesched demo --seed {seed} --duration {duration:g}"
        show(comparison, write_report(comparison, out, command=again), as_json=as_json)
        if keep:
            await _stay(stage, say_on_stderr=as_json)


async def _compare(trace: Trace, seed: int, stack: contextlib.AsyncExitStack) -> tuple[Stage, list[Result]]:
    """Measure every policy; the last one's engines and gateway are left to `stack`."""
    bodies = chat_bodies(trace, _MODEL)
    with tempfile.TemporaryDirectory() as folder, progress_bars() as progress:
        bars = {name: progress.add_task(name, total=len(trace), start=False) for name in _CONFIGURATIONS}

        async def under(name: str) -> tuple[Stage, Result]:
            await stack.aclose()  # every policy finds empty caches
            stage = await stack.enter_async_context(
                set_stage(
                    _CONFIGURATIONS[name],
                    hardware=_HARDWARE,
                    block_tokens=trace.block_tokens,
                    seed=seed,
                    folder=Path(folder),
                )
            )
            progress.start_task(bars[name])
            advance = functools.partial(progress.advance, bars[name])
            return stage, await measure(stage, trace, bodies, policy=name, seed=seed, ended=advance)

        _, rival = await under(_RIVAL)
        stage, ours = await under(_OURS)
    return stage, [rival, ours]


async def _stay(stage: Stage, *, say_on_stderr: bool) -> None:
    """Let the gateway serve until a signal comes."""
    url = stage.gateway.url
    body = json.dumps({"model": _MODEL, "messages": [{"role": "user", "content": "Hello"}], "stream": True})
    click.echo(f"\nServing on {url} until Ctrl-C. Try:", err=say_on_stderr)
    click.echo(f"curl -N {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'", err=say_on_stderr)
    stop = asyncio.Event()
    with _on_signals(stop.set):
        await stop.wait()


@contextlib.contextmanager
def _on_signals(act: Callable[[], object]) -> Iterator[None]:
    """Do something when we are asked to end, instead of ending on the spot."""
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, act)
    try:
        yield
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)
