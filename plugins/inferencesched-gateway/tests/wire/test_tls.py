"""TLS on both sides: the same promises, with a certificate."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from inferencesched_gateway.wire import Exchange, Limits, Origin

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def serving(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_both_sides_speak_tls(run: Run, serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            if exchange.path == "/stream":
                exchange.start(200, [])
                for _ in range(10):
                    exchange.write(exchange.body)
                exchange.end()
            else:
                exchange.respond(200, [], exchange.body)

        server = await lab.server(handler, tls=serving)
        client = lab.client(tls=trusting)
        for host in ("127.0.0.1", "localhost"):
            origin = Origin(host, server.port, tls=True)
            for body in (b"", b"hello", b"x" * 300_000):
                heard = await lab.ask(client, origin, method=b"POST", body=body)
                assert (heard.status, heard.body, heard.error) == (200, body, None)
                heard = await lab.ask(client, origin, method=b"POST", body=body, target=b"/stream")
                assert (heard.status, heard.body, heard.error) == (200, body * 10, None)
        assert client.connections == server.connections == 2

    run(main)


def test_a_certificate_that_nobody_vouches_for_is_a_failed_connect(run: Run, serving: ssl.SSLContext) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, []), tls=serving)
        heard = await lab.ask(lab.client(), Origin("127.0.0.1", server.port, tls=True))

        assert heard.error is not None
        assert heard.error.phase == "connect"
        assert "certificate" in heard.error.message
        lab.problems.clear()  # in debug mode, asyncio tells of every handshake that fails

    run(main)


def test_a_certificate_of_somebody_else_is_a_failed_connect(
    run: Run, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    async def main(lab: Lab) -> None:
        other = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("other.example").configure_cert(other)
        server = await lab.server(lambda exchange: exchange.respond(200, []), tls=other)
        heard = await lab.ask(lab.client(tls=trusting), Origin("localhost", server.port, tls=True))

        assert heard.error is not None
        assert heard.error.phase == "connect"
        lab.problems.clear()

    run(main)


def test_a_plain_upstream_is_a_failed_connect(run: Run, trusting: ssl.SSLContext) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, []))
        heard = await lab.ask(lab.client(tls=trusting), Origin("127.0.0.1", server.port, tls=True))

        assert heard.error is not None
        assert heard.error.phase == "connect"

    run(main)


@pytest.mark.parametrize("half_close", [True, False])
def test_a_client_that_goes_is_noticed(
    run: Run, serving: ssl.SSLContext, trusting: ssl.SSLContext, half_close: bool
) -> None:
    async def main(lab: Lab) -> None:
        gone: list[bool] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(True)

        server = await lab.server(handler, tls=serving, half_close=half_close)
        _, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting)
        writer.write(GET)
        await lab.until(lambda: server.exchanges)
        writer.close()
        await lab.until(lambda: gone)
        await lab.until(lambda: not server.connections)
        assert server.exchanges == 0

    run(main)


def test_a_refusal_is_seen(run: Run, serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda _: None, tls=serving, limits=Limits(body_bytes=10))
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 413 ")
        writer.close()

    run(main)


def test_an_aborted_answer_is_seen_as_truncated(run: Run, serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [])
            exchange.write(b"hel")
            lab.loop.call_later(0.01, exchange.abort)

        server = await lab.server(handler, tls=serving)
        heard = await lab.ask(lab.client(tls=trusting), Origin("localhost", server.port, tls=True))

        assert heard.body == b"hel"
        assert heard.error is not None
        assert heard.error.phase == "body"

    run(main)
