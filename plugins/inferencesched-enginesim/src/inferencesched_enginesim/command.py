"""``inferencesched enginesim``: simulated model servers on ports of this machine, until they are interrupted."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import attrs
import click
import orjson

from inferencesched_enginesim.faults import Fault
from inferencesched_enginesim.fleet import EngineFleet
from inferencesched_enginesim.problems import BadRequest
from inferencesched_enginesim.server import EngineServer
from inferencesched_enginesim.spec import HARDWARE, KvEventPorts, ServerSpec

__all__ = ["command"]


def _slowdowns(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[int, float]:
    found = {}
    for value in values:
        number, _, factor = value.partition("=")
        try:
            found[int(number)] = float(factor)
        except ValueError:
            raise click.BadParameter(f"expected I=FACTOR, such as 1=3.0, got '{value}'") from None
        if not found[int(number)] > 0:
            raise click.BadParameter(f"a factor must be more than 0, got '{value}'")
    return found


def _faults(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[Fault]:
    try:
        return [Fault.parse(value) for value in values]
    except BadRequest as problem:
        raise click.BadParameter(problem.message) from None


@click.command("enginesim")
@click.option("--engines", type=click.IntRange(1, 256), default=1, show_default=True, help="How many servers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="To listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the first; the others follow. 0: free ones.")
@click.option(
    "--hardware",
    type=click.Choice(list(HARDWARE), case_sensitive=False),
    default="h100",
    show_default=True,
    help="What each engine is.",
)
@click.option("--model", default="llama-3.1-8b", show_default=True, help="Name of the base model.")
@click.option("--lora", "loras", multiple=True, metavar="NAME", help="An adapter loaded from the start; repeatable.")
@click.option("--max-loras", type=click.IntRange(min=0), help="Adapters in a batch.  [default: the hardware's]")
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, help="× real time."
)
@click.option(
    "--slowdown",
    "slowdowns",
    multiple=True,
    metavar="I=FACTOR",
    callback=_slowdowns,
    help="Makes engine I (from 0) slower; repeatable.",
)
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Sequences in a batch.  [default: the hardware's]")
@click.option("--max-waiting", type=click.IntRange(min=0), help="Requests that may wait; more get 429.  [default: any]")
@click.option("--max-model-len", type=click.IntRange(min=2), default=131_072, show_default=True, help="Tokens.")
@click.option("--block-size", type=click.IntRange(min=1), default=16, show_default=True, help="Tokens per cache block.")
@click.option("--num-gpu-blocks", type=click.IntRange(min=1), help="Blocks in the cache.  [default: the hardware's]")
@click.option("--answer-tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Of a natural answer.")
@click.option("--echo", is_flag=True, help="Answers repeat the last message.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of words, embeddings and the faults' dice.")
@click.option(
    "--metrics-dialect",
    type=click.Choice(["new", "old"]),
    default="new",
    show_default=True,
    help="Metric names of today's vLLM, or of its first engine.",
)
@click.option("--kv-events", is_flag=True, help="Publish cache events over ZeroMQ.")
@click.option("--kv-events-port", type=click.IntRange(1, 65535), help="Of the first engine; implies --kv-events.")
@click.option("--kv-replay-port", type=click.IntRange(1, 65535), help="Likewise, to ask for lost events.")
@click.option("--fault", "faults", multiple=True, metavar="KIND[:K=V,…]", callback=_faults, help="Of each; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Say where they listen as one JSON object.")
def command(*, engines: int, slowdowns: dict[int, float], faults: list[Fault], as_json: bool, **options: Any) -> None:
    """Serve the OpenAI and Anthropic APIs from simulated engines, until interrupted.

    One line for each engine says where it listens, once all do. Faults can be set and reset at POST /sim/faults, and
    GET /sim/requests tells what arrived.
    """
    if unknown := [number for number in slowdowns if not 0 <= number < engines]:
        raise click.BadParameter(f"there is no engine {unknown[0]}; they count from 0", param_hint="--slowdown")
    try:
        specs = [_spec(number, slowdowns.get(number, 1.0), **options) for number in range(engines)]
    except ValueError as error:
        raise click.UsageError(str(error.args[0])) from None
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(specs, faults, as_json=as_json))


def _loop_factory() -> Any:
    try:
        import uvloop  # noqa: PLC0415 -- there is none for Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def _spec(
    number: int,
    slowdown: float,
    *,
    hardware: str,
    max_loras: int | None,
    max_num_seqs: int | None,
    num_gpu_blocks: int | None,
    block_size: int,
    port: int,
    kv_events: bool,
    kv_events_port: int | None,
    kv_replay_port: int | None,
    **same: Any,
) -> ServerSpec:
    engine = HARDWARE[hardware]
    if max_loras is not None:
        engine = attrs.evolve(engine, max_adapters=max_loras)
    if max_num_seqs is not None:
        engine = attrs.evolve(engine, max_running=max_num_seqs, step_tokens=max(engine.step_tokens, max_num_seqs))
    if num_gpu_blocks is not None:
        engine = attrs.evolve(engine, cache_tokens=num_gpu_blocks * block_size)
    ports = None
    if kv_events or kv_events_port is not None or kv_replay_port is not None:
        ports = KvEventPorts(*(base and base + number for base in (kv_events_port or 0, kv_replay_port or 0)))
    return ServerSpec(
        name=f"e{number}",
        engine=engine,
        slowdown=slowdown,
        block_tokens=block_size,
        port=port and port + number,
        kv_events=ports,
        **same,
    )


async def _serve(specs: list[ServerSpec], faults: list[Fault], *, as_json: bool) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with EngineFleet(specs) as fleet:
        for server in fleet:
            for fault in faults:
                server.faults.add(fault)
        engines = [_plain(server) for server in fleet]
        if as_json:
            click.echo(orjson.dumps({"engines": engines}))
        else:
            for server in fleet:
                click.echo(f"{server.spec.name} {server.url} {server.spec.model} on {server.spec.engine.name}")
        sys.stdout.flush()
        await stop.wait()


def _plain(server: EngineServer) -> dict[str, Any]:
    events = server.kv_events
    return {
        "name": server.spec.name,
        "address": server.address,
        "kv_events": None if events is None else events.address,
        "kv_replay": None if events is None else events.replay_address,
    }
