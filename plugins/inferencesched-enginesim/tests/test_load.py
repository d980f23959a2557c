"""A thousand streams at once in one process: all of them whole, nothing left behind."""

from __future__ import annotations

import asyncio

import aiohttp
from inferencesched_enginesim import INSTANT, EngineServer, Fault, ServerSpec

STREAMS, TOKENS = 1000, 20


def test_m10_a_thousand_concurrent_streams_are_all_answered() -> None:
    """The engine stands still until every one is open; then each brings its role, its tokens, its end."""

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
        async with EngineServer(ServerSpec(model="base", engine=INSTANT)) as server:
            server.faults.add(Fault("slow", factor=1e12))
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                tasks = [asyncio.create_task(stream(server, session, number)) for number in range(STREAMS)]
                while server.service.driver.live < STREAMS:  # noqa: ASYNC110 -- nobody rings when the last one is in
                    await asyncio.sleep(0.02)
                assert not any(task.done() for task in tasks)
                server.faults.reset()
                answers = await asyncio.gather(*tasks)
            assert server.service.driver.live == 0
            assert server.service.driver.engine.cache.held == 0
            return answers

    assert asyncio.run(run()) == [TOKENS + 3] * STREAMS
