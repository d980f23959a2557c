"""A thousand streams at once in one process: all of them whole, nothing left behind."""

from __future__ import annotations

import asyncio

import aiohttp
import attrs
from inferencesched_enginesim import INSTANT, EngineServer, ServerSpec

STREAMS, TOKENS = 1000, 8


def test_m10_a_thousand_concurrent_streams_are_all_answered() -> None:
    """Every one is open before the first one ends; each brings its role, its tokens, its end."""
    engine = attrs.evolve(INSTANT, step_seconds=0.5)
    peak = 0

    async def stream(server: EngineServer, session: aiohttp.ClientSession, number: int) -> int:
        body = {
            "model": "base",
            "messages": [{"role": "user", "content": f"Number {number}"}],
            "max_tokens": TOKENS,
            "stream": True,
        }
        async with session.post(f"{server.url}/v1/chat/completions", json=body) as answer:
            assert answer.status == 200
            return (await answer.read()).count(b"data: ")

    async def run() -> list[int]:
        nonlocal peak
        spec = ServerSpec(model="base", engine=engine)
        async with EngineServer(spec) as server:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                tasks = [asyncio.create_task(stream(server, session, number)) for number in range(STREAMS)]
                while not all(task.done() for task in tasks):
                    peak = max(peak, server.service.driver.live)
                    await asyncio.sleep(0.05)
                assert server.service.driver.live == 0
                assert server.service.driver.engine.cache.held == 0
                return [task.result() for task in tasks]

    assert asyncio.run(run()) == [TOKENS + 3] * STREAMS
    assert peak == STREAMS
