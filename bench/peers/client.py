"""A load generator on asyncio: each connection asks, reads the answer to its end, and asks again.

    python -m bench.peers.client --port 8000 --bodies bodies.jsonl --connections 1000 --seconds 0

With `--seconds 0` every connection asks exactly once, all at the same time. Prints one line of JSON. It costs some
40 µs a request, so it measures routers slower than that; wrk is what the others need.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import attrs
import httptools
import uvloop

OPENED_AT_ONCE = 64
"""Connections opened concurrently, so that a listener's backlog is not what is measured."""

UNANSWERED_AFTER = 60.0


@attrs.define
class Tally:
    """What was seen: milliseconds of every whole answer, and what went wrong."""

    answered: list[float] = attrs.field(factory=list)
    errors: int = 0


class Connection(asyncio.Protocol):
    """One connection and the request that it is waiting for."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._done: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready to ask."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """What was not answered is an error."""
        self._transport = None
        self._settle(ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        """Parse."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._settle(error)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        status = self._parser.get_status_code()
        self._parser = httptools.HttpResponseParser(self)
        self._settle(None if status == 200 else ValueError(status))

    def _settle(self, error: Exception | None) -> None:
        if self._done and not self._done.done():
            self._done.set_result(None) if error is None else self._done.set_exception(error)

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> None:
        """Send a request and count what comes of it."""
        start = time.perf_counter()
        self._done = asyncio.get_running_loop().create_future()
        try:
            if not self._transport:
                raise ConnectionError("closed")
            self._transport.write(request)
            await asyncio.wait_for(self._done, UNANSWERED_AFTER)
        except (OSError, TimeoutError, ValueError, httptools.HttpParserError):
            self._tally.errors += 1
            self.close()
        else:
            self._tally.answered.append((time.perf_counter() - start) * 1000)

    def close(self) -> None:
        """Hang up."""
        if self._transport:
            self._transport.abort()


async def connect(port: int, tally: Tally) -> Connection:
    """Open one connection."""
    _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(tally), "127.0.0.1", port)
    return connection


async def run(port: int, requests: list[bytes], *, connections: int, seconds: float) -> tuple[Tally, float]:
    """Open the connections, ask, and return what was seen with the seconds that it took."""
    tally = Tally()
    turns = itertools.cycle(requests)
    gate = asyncio.Semaphore(OPENED_AT_ONCE)

    async def opened() -> Connection:
        async with gate:
            return await connect(port, tally)

    everyone = await asyncio.gather(*(opened() for _ in range(connections)))
    start = time.perf_counter()

    async def keep_asking(connection: Connection) -> None:
        await connection.ask(next(turns))
        while time.perf_counter() - start < seconds:
            if not connection.is_open:
                connection = await connect(port, tally)
            await connection.ask(next(turns))
        connection.close()

    await asyncio.gather(*(keep_asking(each) for each in everyone))
    return tally, time.perf_counter() - start


def requests_of(path: Path, port: int, key: str) -> Iterator[bytes]:
    """Yield whole requests, one for each line of the file."""
    for line in path.read_bytes().splitlines():
        yield (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b" % (port, key.encode(), len(line), line)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bodies", type=Path, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--key", default="none")
    given = parser.parse_args()
    requests = list(requests_of(given.bodies, given.port, given.key))
    tally, seconds = uvloop.run(run(given.port, requests, connections=given.connections, seconds=given.seconds))
    answered = sorted(tally.answered) or [0.0]
    result = {
        "requests": len(tally.answered) + tally.errors,
        "seconds": seconds,
        "p50_ms": answered[len(answered) // 2],
        "p99_ms": answered[len(answered) * 99 // 100],
        "errors": tally.errors,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
