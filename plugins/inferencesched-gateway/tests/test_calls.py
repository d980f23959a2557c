"""What a request costs, in calls: of a client that keeps its connection, in front of an engine that does."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from types import FrameType
from typing import Any, cast

import orjson
from inferencesched_gateway import Service, ServiceSettings, load

REQUEST = b"""POST /v1/chat/completions HTTP/1.1\r
Host: gateway\r
Authorization: Bearer 0\r
Content-Type: application/json\r
Content-Length: %d\r
\r
%b"""
ANSWER = b'{"model":"m","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}'
ENDS = b"\r\n\r\n" + ANSWER
REQUESTS = 50

# Measured: 94 in all of the package (CPython 3.11), 3 of them for a head of another length; reading two takes 19.
CALLS = 100
CALLS_FOR_HEADS = 4


class Engine(asyncio.Protocol):
    """Answers everything that is posted with the same; each of those comes in one piece here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d" % len(ANSWER)
        self.transport.write(
            head + ENDS if data.startswith(b"POST ") else b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"
        )


def test_what_a_connection_repeats_costs_no_second_reading() -> None:
    called: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and "/inferencesched_gateway/" in path:
            called[path.rpartition("/inferencesched_gateway/")[2]] += 1

    async def main() -> None:
        listener = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with Service(lambda: load((), (url,)), ServiceSettings(port=0)) as service:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)

            async def ask(words: int) -> None:
                content = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * words}]})
                writer.write(REQUEST % (len(content), content))
                assert (await reader.readuntil(ENDS)).startswith(b"HTTP/1.1 200 OK\r\n")

            for words in range(10):
                await ask(words)
            sys.setprofile(note)
            try:
                for words in range(REQUESTS):
                    await ask(words)
            finally:
                sys.setprofile(None)
            writer.close()
        listener.close()

    asyncio.run(main())

    assert called.total() / REQUESTS <= CALLS, called
    assert called["wire/heads.py"] / REQUESTS <= CALLS_FOR_HEADS, called
