"""Over HTTP, in real time, an engine finds in its cache what the simulation says; counted in blocks, not in seconds."""

from __future__ import annotations

import asyncio
import io
import json
import random
from pathlib import Path

import aiohttp
import attrs
import pytest
from inferencesched_enginesim import EngineFleet, EngineServer, ServerSpec

from inferencesched.sim import (
    CHAT,
    ENGINES,
    MOONCAKE_BLOCK_TOKENS,
    POLICIES,
    FleetSpec,
    Result,
    Trace,
    Workload,
    build_scheduler,
    read_mooncake,
    replay,
)

REAL_SLICE = Path(__file__).resolve().parents[4] / "shared/data/mooncake-conversation-0-1500s.jsonl.gz"
# No cache is so full that what goes first depends on the moment; hits then depend on the order of arrival alone.
ROOMY = attrs.evolve(ENGINES["h100"], cache_tokens=float("inf"))


def simulated(trace: Trace, engines: int) -> Result:
    fleet = FleetSpec((ROOMY,) * engines)
    return replay(trace, fleet, lambda rng: build_scheduler(POLICIES["round-robin"], rng=rng))


async def submitted(server: EngineServer, before: int, task: asyncio.Task[int]) -> None:
    """Wait until the engine has one request more, so that it has them in the trace's order; not until it is done."""
    while not task.done():
        if server.log.total > before and server.log.last.prompt_tokens:
            return
        await asyncio.sleep(0.001)
    task.result()


async def real(trace: Trace, where: list[str], *, speed: float) -> tuple[list[int], list[int]]:
    """Blocks hit by each request, and prompt tokens that each engine computed."""
    names = sorted(set(where))
    specs = [
        ServerSpec(name=name, engine=ROOMY, block_tokens=trace.block_tokens, speed=speed, max_model_len=1 << 20)
        for name in names
    ]
    async with EngineFleet(specs) as fleet, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(name: str, prompt: list[int], output_tokens: int) -> int:
            body = {"model": specs[0].model, "prompt": prompt, "max_tokens": output_tokens, "ignore_eos": True}
            content = io.BytesIO(json.dumps(body).encode())  # a large body as bytes would be warned of
            async with session.post(f"{fleet[name].url}/v1/completions", data=content) as answer:
                usage = (await answer.json())["usage"]
            assert usage["completion_tokens"] == output_tokens
            return int(usage["prompt_tokens_details"]["cached_tokens"])

        tasks: list[asyncio.Task[int]] = []
        for request, name in zip(trace.requests, where, strict=True):
            before = fleet[name].log.total
            prompt = trace.prompt(request).tolist()
            tasks.append(asyncio.create_task(ask(name, prompt, request.output_tokens)))
            await submitted(fleet[name], before, tasks[-1])
        cached = await asyncio.gather(*tasks)
        return (
            [tokens // trace.block_tokens for tokens in cached],
            [fleet[name].service.driver.engine.computed_tokens for name in names],
        )


def whole_blocks(trace: Trace) -> Trace:
    """The trace with every prompt cut to whole blocks: a server cannot share less than one."""
    requests = tuple(
        attrs.evolve(r, prompt_tokens=len(r.blocks[:-1]) * trace.block_tokens, blocks=r.blocks[:-1])
        for r in trace.requests
        if len(r.blocks) > 1
    )
    return attrs.evolve(trace, requests=requests)


def agree(trace: Trace, *, engines: int, speed: float) -> None:
    result = simulated(trace, engines)
    where = [run.endpoint for run in result.runs if run.endpoint is not None]
    assert len(where) == len(trace)

    hits, computed = asyncio.run(real(trace, where, speed=speed))

    expected = [run.matched_blocks for run in result.runs]
    assert sum(expected) > 0, "a trace without hits would show nothing"
    assert hits == expected
    assert computed == [work.computed_tokens for work in result.endpoints]


def test_hits_over_http_are_those_of_the_simulation() -> None:
    """Chat with two engines, round robin: every request hits the same number of blocks."""
    trace = whole_blocks(Workload(((CHAT, 8.0),)).generate(15.0, random.Random(2)))

    agree(trace, engines=2, speed=100.0)


def test_hits_of_a_real_trace_over_http_are_those_of_the_simulation() -> None:
    """The first 150 requests of Mooncake's conversation trace."""
    if not REAL_SLICE.exists():
        pytest.skip(f"NOT SHOWN: the real trace is not beside the clone (../shared/data/{REAL_SLICE.name})")
    trace = whole_blocks(read_mooncake(REAL_SLICE, block_tokens=MOONCAKE_BLOCK_TOKENS).head(150))

    agree(trace, engines=3, speed=1000.0)
