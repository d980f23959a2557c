"""What is over is let go: no body, exchange or call is kept alive by the wire (field bug M11)."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest
from inferencesched_gateway.wire import Call, Exchange, Origin, ResponseHead, UpstreamError, end_to_end
from inferencesched_gateway.wire.connection import Connection
from inferencesched_gateway.wire.upstream import Upstream

if TYPE_CHECKING:
    from tests.wire.conftest import Heard, Lab, Run


class Relay:
    """A proxied request, with the references that a gateway has."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.call: Call | None = None

    def head(self, head: ResponseHead) -> None:
        self.exchange.start(head.status, end_to_end(head.headers))

    def data(self, chunk: bytes) -> None:
        self.exchange.write(chunk)

    def end(self) -> None:
        self.exchange.end()

    def writable(self, now: bool) -> None:
        assert self.call is not None
        (self.call.resume if now else self.call.pause)()

    def failed(self, error: UpstreamError) -> None:
        self.exchange.respond(502, [], error.message.encode())


def living(*kinds: type) -> int:
    return sum(isinstance(each, kinds) for each in gc.get_objects())


@pytest.mark.parametrize("path", ["/answered", "/streamed", "/dead", "/gone"])
def test_m11_nothing_of_an_exchange_stays_when_it_is_over(run: Run, path: str) -> None:
    """Without the garbage collector: an exchange that needs it would keep its body until it comes round."""

    async def main(lab: Lab) -> None:
        relays: list[weakref.ref[Relay]] = []
        waiting: list[Exchange] = []

        def answer(exchange: Exchange) -> None:
            if exchange.path == "/answered":
                exchange.respond(200, [], exchange.body)
            elif exchange.path == "/streamed":
                exchange.start(200, [])
                exchange.write(exchange.body)
                exchange.end()
            elif exchange.path == "/dead":
                exchange.abort()
            else:
                exchange.start(200, [])
                waiting.append(exchange)

        def forward(exchange: Exchange) -> None:
            relay = Relay(exchange)
            relays.append(weakref.ref(relay))
            headers = end_to_end(exchange.headers)
            method = exchange.method.encode()
            relay.call = client.send(origin, method, exchange.target, headers, exchange.body, relay)
            exchange.on_disconnect = relay.call.cancel
            exchange.on_writable = relay.writable

        back, front = await lab.server(answer), await lab.server(forward)
        client, outer = lab.client(), lab.client()
        origin = Origin("127.0.0.1", back.port)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                call, heard = lab.send(
                    outer,
                    Origin("127.0.0.1", front.port),
                    method=b"POST",
                    target=path.encode(),
                    body=b"x" * 100_000,
                )
                if path == "/gone":
                    await lab.until(lambda: waiting)
                    call.cancel()
                    await lab.until(lambda: waiting[0].closed)
                    waiting.clear()
                else:
                    await heard.over
                    assert heard.status == (502 if path == "/dead" else 200)
                await lab.until(lambda: not front.exchanges)
                del call, heard
            assert [each for each in relays if each() is not None] == []
        finally:
            gc.enable()

    run(main)


def test_connections_are_let_go_when_they_close(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, [], b"hello"))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        for _ in range(3):
            heard: list[Heard] = [lab.send(client, origin)[1] for _ in range(20)]
            await asyncio.gather(*(each.over for each in heard))
            client.forget(origin)
            await lab.until(lambda: not server.connections)
            await lab.until(lambda: not client.connections)
        await asyncio.sleep(0.01)
        gc.collect()

        assert living(Connection) == living(Upstream) == 0

    run(main)
