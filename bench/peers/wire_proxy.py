"""The gateway's wire with nothing on it, as a measure: round robin, and every byte passed on as it comes.

python -m bench.peers.wire_proxy --port 8000 --endpoint 127.0.0.1:8001 --endpoint …
"""

from __future__ import annotations

import argparse
import asyncio
import itertools

import attrs
import uvloop
from inferencesched_gateway.wire import (
    Client,
    Exchange,
    Limits,
    Origin,
    ResponseHead,
    Server,
    UpstreamError,
    end_to_end,
)


@attrs.frozen
class Relay:
    """What a proxy cannot leave out between an answer and an exchange."""

    exchange: Exchange

    def head(self, head: ResponseHead) -> None:
        """Begin."""
        self.exchange.start(head.status, end_to_end(head.headers))

    def data(self, chunk: bytes) -> None:
        """Pass on."""
        self.exchange.write(chunk)

    def end(self) -> None:
        """End."""
        self.exchange.end()

    def failed(self, error: UpstreamError) -> None:
        """Let the client see that something is missing."""
        self.exchange.abort()


async def serve(port: int, origins: list[Origin]) -> None:
    """Carry requests until the process is ended."""
    client = Client()
    turns = itertools.cycle(origins)

    def forward(exchange: Exchange) -> None:
        headers = end_to_end(exchange.headers)
        call = client.send(
            next(turns), exchange.method.encode(), exchange.target, headers, exchange.body, Relay(exchange)
        )
        exchange.on_disconnect = call.cancel

    await Server(forward, limits=Limits(body_bytes=64 * 1024 * 1024)).start("127.0.0.1", port)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--endpoint", type=Origin.parse, action="append", required=True)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.endpoint))


if __name__ == "__main__":
    main()
