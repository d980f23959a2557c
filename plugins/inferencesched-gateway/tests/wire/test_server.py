"""The server, seen from a bare socket."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from inferencesched_gateway.wire import Exchange, Headers, Limits, ServerTimeouts

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def echo(exchange: Exchange) -> None:
    exchange.respond(200, [], exchange.method.encode() + b" " + exchange.target + b" " + exchange.body)


def statuses(answers: bytes) -> list[int]:
    return [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]


def test_a_request_is_complete_and_answered(run: Run) -> None:
    async def main(lab: Lab) -> None:
        seen: list[Exchange] = []

        def handler(exchange: Exchange) -> None:
            seen.append(exchange)
            exchange.respond(201, [(b"x-a", b"b")], b"hello")

        server = await lab.server(handler)
        answer = await lab.raw(
            server,
            b"POST /a%20b?c=d?e HTTP/1.1\r\nHost: h\r\nX-Y: z\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
        )

        [exchange] = seen
        assert (exchange.method, exchange.path, exchange.query) == ("POST", "/a%20b", b"c=d?e")
        assert (exchange.target, exchange.body, exchange.version) == (b"/a%20b?c=d?e", b"body", "1.1")
        assert exchange.header(b"x-y") == b"z"
        assert exchange.peer == "127.0.0.1"
        assert exchange.started
        assert exchange.closed
        assert answer == (b"HTTP/1.1 201 Created\r\nx-a: b\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")

    run(main)


def test_a_connection_carries_many_requests(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(3):
            writer.write(GET)
            assert await reader.readuntil(b"GET / ") == b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nGET / "
        assert (server.connections, server.exchanges) == (1, 0)
        writer.close()

    run(main)


@pytest.mark.parametrize(
    ("head", "kept", "line"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False, b"connection: close\r\n"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, b"connection: keep-alive\r\n"),
        (GET_CLOSE, False, b"connection: close\r\n"),
        (GET, True, b""),
    ],
)
def test_http_1_0_closes_unless_asked_and_1_1_keeps_unless_asked(
    run: Run, head: bytes, kept: bool, line: bytes
) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        answers = await lab.raw(server, head, *[GET_CLOSE] * kept)

        assert len(statuses(answers)) == 1 + kept
        assert answers.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n" + line + b"\r\n")

    run(main)


@pytest.mark.parametrize(
    ("status", "method", "given", "head"),
    [
        (200, b"HEAD", None, b"content-length: 4\r\n"),
        (200, b"HEAD", b"77", b"content-length: 77\r\n"),
        (204, b"GET", None, b""),
        (204, b"GET", b"4", b""),
        (304, b"GET", b"77", b"content-length: 77\r\n"),
        (304, b"GET", None, b""),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_some_answers_end_with_their_head(  # noqa: PLR0917 - a table
    run: Run, status: int, method: bytes, given: bytes | None, head: bytes, whole: bool
) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            headers: Headers = [] if given is None else [(b"content-length", given)]
            if whole:
                exchange.respond(status, headers, b"body")
                return
            exchange.start(status, headers)
            exchange.write(b"body")
            exchange.end()

        server = await lab.server(handler)
        answers = await lab.raw(server, method + GET[3:] + method + GET_CLOSE[3:])
        first, second, body = answers.split(b"\r\n\r\n")

        assert statuses(answers) == [status, status]
        assert body == b""
        unknown_length = not whole and given is None
        assert first.partition(b"\r\n")[2] == (b"" if unknown_length else head[:-2])
        assert second.endswith(b"connection: close")

    run(main)


def test_a_streamed_answer_is_sent_in_chunks_at_once(run: Run) -> None:
    async def main(lab: Lab) -> None:
        open_exchanges: list[Exchange] = []
        server = await lab.server(open_exchanges.append)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await lab.until(lambda: open_exchanges)
        [exchange] = open_exchanges

        exchange.start(200, [(b"content-type", b"text/event-stream")])
        assert await reader.readuntil(b"\r\n\r\n") == (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        exchange.write(b"data: 1\n\n")
        assert await reader.readexactly(14) == b"9\r\ndata: 1\n\n\r\n"
        exchange.write(b"")
        exchange.write(b"x" * 20_000)
        assert await reader.readexactly(20_008) == b"4e20\r\n" + b"x" * 20_000 + b"\r\n"
        exchange.end()
        assert await reader.readexactly(5) == b"0\r\n\r\n"
        assert (server.connections, server.exchanges, exchange.closed) == (1, 0, True)
        writer.close()

    run(main)


def test_a_streamed_answer_with_a_length_is_sent_as_it_is(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")])
            exchange.write(b"hel")
            with pytest.raises(ValueError, match="only 2 were announced"):
                exchange.write(b"lo!")
            exchange.write(b"lo")
            exchange.end()

        server = await lab.server(handler)

        assert await lab.raw(server, GET, GET_CLOSE) == (
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
        )

    run(main)


def test_a_streamed_answer_to_http_1_0_ends_with_the_connection(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [])
            exchange.write(b"hel")
            exchange.write(b"lo")
            exchange.end()

        server = await lab.server(handler)

        assert await lab.raw(server, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n") == (
            b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
        )

    run(main)


@pytest.mark.parametrize("announced", [True, False])
def test_an_aborted_answer_is_seen_as_truncated(run: Run, announced: bool) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [(b"content-length", b"10")] * announced)
            exchange.write(b"hel")
            exchange.abort()
            assert exchange.closed

        server = await lab.server(handler)
        answer = await lab.raw(server, GET)

        assert answer.partition(b"\r\n\r\n")[2] == (b"hel" if announced else b"3\r\nhel\r\n")

    run(main)


def test_an_aborted_answer_that_only_closing_would_end_is_reset(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [])
            exchange.write(b"hel")
            lab.loop.call_later(0.01, exchange.abort)

        server = await lab.server(handler)

        with pytest.raises(ConnectionResetError):
            await lab.raw(server, b"GET / HTTP/1.0\r\n\r\n")

    run(main)


def test_an_answer_shorter_than_announced_is_aborted(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [(b"content-length", b"10")])
            exchange.write(b"hel")
            exchange.end()

        server = await lab.server(handler)

        assert (await lab.raw(server, GET)).endswith(b"\r\n\r\nhel")

    run(main)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"x", b"a\r\nset-cookie: b")], 200),
        ([(b"x\r\ny", b"a")], 200),
        ([(b"x", b"a\0")], 200),
        ([(b"Content-Length", b"1")], 200),
        ([(b"content-length", b"+5")], 200),
        ([(b"content-length", b"5"), (b"content-length", b"6")], 200),
        ([], 101),
        ([], 100),
        ([], 1000),
    ],
)
def test_what_would_forge_an_answer_is_not_written(run: Run, headers: Headers, status: int) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            for call in (exchange.respond, exchange.start):
                with pytest.raises(ValueError, match=r"holds CR|lower-case|status|content-length"):
                    call(status, headers)
                assert not exchange.started
            exchange.respond(500, [])

        server = await lab.server(handler)

        assert await lab.raw(server, GET_CLOSE) == (
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )

    run(main)


def test_an_answer_begins_once(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [])
            for call in (exchange.respond, exchange.start):
                with pytest.raises(RuntimeError, match="begun before"):
                    call(500, [])
            exchange.end()
            exchange.end()
            exchange.write(b"late")
            exchange.respond(500, [])
            exchange.abort()

        server = await lab.server(handler)

        assert (await lab.raw(server, GET_CLOSE)).endswith(b"\r\n\r\n0\r\n\r\n")

    run(main)


def test_a_chunked_request_is_put_together(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        answers = await lab.raw(server, head + b"3\r\nhel\r\n", b"2;x=y\r\nlo\r\n0\r\nx: y\r\n\r\n" + GET_CLOSE)

        assert answers.count(b"POST / hello") == 1
        assert statuses(answers) == [200, 200]

    run(main)


def test_pipelined_requests_are_answered_one_after_the_other(run: Run) -> None:
    async def main(lab: Lab) -> None:
        open_now: list[Exchange] = []

        def handler(exchange: Exchange) -> None:
            assert server.exchanges == 1
            open_now.append(exchange)
            lab.loop.call_later(0.001 * (5 - len(open_now)), answer, exchange)

        def answer(exchange: Exchange) -> None:
            exchange.respond(200, [], exchange.target)

        server = await lab.server(handler)
        requests = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(5)]
        answers = await lab.raw(server, b"".join(requests[:2]), *requests[2:], GET_CLOSE)

        assert [part.rpartition(b"\r\n")[2] for part in answers.split(b"HTTP/1.1")[1:]] == [
            b"/0", b"/1", b"/2", b"/3", b"/4", b"/",
        ]  # fmt: skip

    run(main)


def test_a_thousand_pipelined_requests_do_not_nest(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)

        assert statuses(await lab.raw(server, GET * 5000 + GET_CLOSE)) == [200] * 5001

    run(main)


def test_who_takes_no_answers_is_asked_for_no_more_requests(run: Run) -> None:
    """A client that pipelines and never reads must not fill our memory with answers."""

    async def main(lab: Lab) -> None:
        answered = 0

        def handler(exchange: Exchange) -> None:
            nonlocal answered
            answered += 1
            exchange.respond(200, [], b"x" * 100_000)

        server = await lab.server(handler)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(GET * 1000)
        await asyncio.sleep(0.1)

        assert answered < 200  # what the sockets' buffers hold
        writer.transport.abort()

    run(main)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 3000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 3000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 30 + b"\r\n", 431),
        (b"GET /" + b"y" * 150 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"y" * 900, 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1ff\r\n%b\r\n" % (b"x" * 511) * 2,
            413,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS, spoken to a plain port
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"{}\n", 400),
    ],
)
def test_what_is_too_much_is_refused_before_it_is_kept(run: Run, request_bytes: bytes, status: int) -> None:
    async def main(lab: Lab) -> None:
        taken: list[Exchange] = []
        server = await lab.server(
            taken.append, limits=Limits(head_bytes=2000, header_count=20, target_bytes=100, body_bytes=1000)
        )
        answer = await lab.raw(server, request_bytes)

        assert statuses(answer) == [status]
        assert b"\r\nconnection: close\r\n" in answer
        assert not taken

    run(main)


def test_refusals_are_worded_by_the_host(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def refuse(status: int, reason: str) -> tuple[Headers, bytes]:
            return [(b"content-type", b"application/json")], b'{"status": %d, "reason": "%b"}' % (
                status,
                reason.encode(),
            )

        server = await lab.server(echo, refuse=refuse)

        assert await lab.raw(server, b"GET / HTTP/9.9\r\n\r\n") == (
            b"HTTP/1.1 505 HTTP Version Not Supported\r\ncontent-type: application/json\r\ncontent-length: 68\r\n"
            b'connection: close\r\n\r\n{"status": 505, "reason": "the version is not HTTP/1.0 or HTTP/1.1"}'
        )

    run(main)


def test_a_refused_request_is_not_followed_by_one_that_is_taken(run: Run) -> None:
    async def main(lab: Lab) -> None:
        taken: list[Exchange] = []
        server = await lab.server(taken.append)
        smuggled = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

        assert statuses(await lab.raw(server, smuggled + GET, GET)) == [400]
        assert not taken

    run(main)


def test_an_upgrade_is_not_taken_up_and_its_body_is_a_body(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        upgrade = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody"
        answers = await lab.raw(server, upgrade + GET_CLOSE)

        assert statuses(answers) == [200, 200]
        assert b"POST / body" in answers

    run(main)


def test_who_sends_a_body_that_is_refused_gets_to_see_the_answer(run: Run) -> None:
    """Closing with unread bytes would reset the connection, and the answer could be lost on the way."""

    async def main(lab: Lab) -> None:
        server = await lab.server(echo, limits=Limits(body_bytes=1000))
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n"

        assert statuses(await lab.raw(server, head, *[b"x" * 50_000] * 10)) == [413]

    run(main)


def test_who_waits_to_be_asked_on_is_asked_on(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.write(head + b"body")
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()

    run(main)


def test_a_line_end_too_many_is_forgiven(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\r\n"

        assert statuses(await lab.raw(server, post + post, b"\r", b"\n" + GET_CLOSE)) == [200] * 3

    run(main)


def test_a_client_that_goes_is_noticed_once(run: Run) -> None:
    async def main(lab: Lab) -> None:
        open_now: list[Exchange] = []
        gone: list[int] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(server.exchanges)
            open_now.append(exchange)

        server = await lab.server(handler)
        for leave in ("close", "abort"):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            await lab.until(lambda: open_now)
            getattr(writer.transport, leave)()
            await lab.until(lambda: gone)
            assert gone == [0]
            [exchange] = open_now
            assert exchange.closed
            exchange.start(200, [])
            exchange.write(b"nobody")
            exchange.end()
            open_now.clear()
            gone.clear()
        await lab.until(lambda: not server.connections)

    run(main)


def test_a_client_that_goes_after_the_end_is_nobodys_business(run: Run) -> None:
    async def main(lab: Lab) -> None:
        gone: list[bool] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(True)
            exchange.respond(200, [])

        server = await lab.server(handler)
        await lab.raw(server, GET_CLOSE)
        await lab.until(lambda: not server.connections)

        assert not gone

    run(main)


@pytest.mark.parametrize("half_close", [True, False])
def test_a_client_that_says_no_more_is_answered_or_gone(run: Run, half_close: bool) -> None:
    async def main(lab: Lab) -> None:
        gone: list[bool] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(True)
            lab.loop.call_later(0.02, exchange.respond, 200, [])

        server = await lab.server(handler, half_close=half_close)
        answers = await lab.raw(server, GET, eof=True)

        assert statuses(answers) == [200] * half_close
        assert gone == [True] * (not half_close)

    run(main)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbo"])
def test_a_request_that_ends_too_early_is_no_request(run: Run, begun: bytes) -> None:
    async def main(lab: Lab) -> None:
        taken: list[Exchange] = []
        server = await lab.server(taken.append)

        assert await lab.raw(server, begun, eof=True) == b""
        assert not taken

    run(main)


def test_a_client_that_reads_slowly_is_written_to_slowly(run: Run) -> None:
    async def main(lab: Lab) -> None:
        told: list[bool] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_writable = told.append
            exchange.start(200, [])
            while not told:
                exchange.write(b"x" * 10_000)
            lab.loop.call_later(0.01, finish, exchange)

        def finish(exchange: Exchange) -> None:
            if told[-1]:
                exchange.end()
            else:
                lab.loop.call_later(0.01, finish, exchange)

        server = await lab.server(handler)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET_CLOSE)
        await lab.until(lambda: told)
        assert told == [False]
        assert (await reader.read()).endswith(b"0\r\n\r\n")
        assert told == [False, True]
        writer.close()

    run(main)


def test_a_handler_that_fails_answers_500_or_cuts(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            if exchange.path == "/late":
                exchange.start(200, [])
            raise ZeroDivisionError

        server = await lab.server(handler)

        assert statuses(await lab.raw(server, GET, GET_CLOSE)) == [500, 500]
        assert (await lab.raw(server, b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")).endswith(b"chunked\r\n\r\n")
        assert [type(each["exception"]) for each in lab.problems] == [ZeroDivisionError] * 3
        lab.problems.clear()

    run(main)


def test_drain_ends_idle_connections_and_lets_the_others_finish(run: Run) -> None:
    async def main(lab: Lab) -> None:
        open_now: list[Exchange] = []
        server = await lab.server(open_now.append)
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", server.port)
        busy, busy_writer = await asyncio.open_connection("127.0.0.1", server.port)
        begun, begun_writer = await asyncio.open_connection("127.0.0.1", server.port)
        busy_writer.write(GET)
        begun_writer.write(GET[:10])
        await lab.until(lambda: open_now and server.connections == 3)
        await asyncio.sleep(0.01)

        server.stop_accepting()
        assert await idle.read() == b""
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", server.port)
        assert not await server.wait_idle(0.05)
        begun_writer.write(GET[10:])
        await lab.until(lambda: len(open_now) == 2)
        for exchange in open_now:
            exchange.respond(200, [], b"bye")
        for reader in (busy, begun):
            assert await reader.read() == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbye"
        assert await server.wait_idle(5)
        assert server.connections == 0
        for writer in (idle_writer, busy_writer, begun_writer):
            writer.close()

    run(main)


def test_idle_means_nobody_waits_even_if_connections_are_kept(run: Run) -> None:
    async def main(lab: Lab) -> None:
        open_now: list[Exchange] = []
        server = await lab.server(open_now.append)
        assert await server.wait_idle(0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await lab.until(lambda: open_now)
        assert not await server.wait_idle(0.01)

        lab.loop.call_later(0.01, open_now[0].respond, 200, [])
        assert await server.wait_idle(5)
        assert server.connections == 1
        writer.close()

    run(main)


def test_abort_all_tells_every_exchange(run: Run) -> None:
    async def main(lab: Lab) -> None:
        gone: list[bool] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(True)
            exchange.start(200, [])

        server = await lab.server(handler)
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        for _, writer in pairs:
            writer.write(GET)
        await lab.until(lambda: server.exchanges == 3)
        server.abort_all()
        await lab.until(lambda: not server.connections)

        assert gone == [True] * 3
        for _, writer in pairs:
            writer.transport.abort()

    run(main)


def test_a_server_listens_on_several_addresses(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)
        first = server.port
        await server.start("127.0.0.1", 0)

        assert server.port != first
        for port in (first, server.port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET_CLOSE)
            assert (await reader.read()).endswith(b"GET / ")
            writer.close()

    run(main)


def test_small_writes_do_not_wait_for_each_other(run: Run) -> None:
    """Nagle's algorithm and delayed acknowledgements together hold a small write back for 40 ms."""

    async def main(lab: Lab) -> None:
        options: list[Any] = []

        def handler(exchange: Exchange) -> None:
            assert exchange._connection is not None
            options.append(exchange._connection.transport.get_extra_info("socket").getsockopt(*NODELAY))
            exchange.respond(200, [])

        server = await lab.server(handler)
        await lab.raw(server, GET_CLOSE)

        assert options == [1]

    run(main)


NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
SOON = ServerTimeouts(head=1.0, body=2.0, idle=3.0, write=4.0, linger=0.5)


@pytest.mark.parametrize(
    ("begun", "answers", "after"),
    [
        (b"", [], 1.0),
        (b"GET / HTTP/1.1\r\nHo", [408], 1.0),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nbo", [408], 2.0),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", [408], 2.0),
        (GET, [200], 3.0),
        (GET + b"GET / HTTP/1.1\r\nHo", [200, 408], 1.0),
    ],
)
def test_each_phase_of_a_request_has_its_time(virtual: Run, begun: bytes, answers: list[int], after: float) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo, timeouts=SOON)
        answer = await lab.raw(server, begun)

        assert statuses(answer) == answers
        assert after <= lab.loop.time() <= after + 0.1

    virtual(main)


def test_a_body_that_keeps_coming_may_take_its_time(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo, timeouts=SOON)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        for _ in range(5):
            await asyncio.sleep(1.5)
            writer.write(b"x")
        assert statuses(await reader.read()) == [200]
        writer.close()

    virtual(main)


def test_an_answer_may_take_its_time(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            lab.loop.call_later(3600, exchange.respond, 200, [])

        server = await lab.server(handler, timeouts=SOON)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET_CLOSE)
        assert statuses(await reader.read()) == [200]
        assert lab.loop.time() >= 3600
        writer.close()

    virtual(main)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_takes_nothing_is_cut_off(virtual: Run, streamed: bool) -> None:
    async def main(lab: Lab) -> None:
        gone: list[float] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(lab.loop.time())
            if streamed:
                exchange.start(200, [])
                exchange.write(b"x" * 20_000_000)
            else:
                exchange.respond(200, [], b"x" * 20_000_000)

        server = await lab.server(handler, timeouts=SOON)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=100)
        writer.write(GET)
        await lab.until(lambda: server.connections)
        await lab.until(lambda: not server.connections)

        assert 4.0 <= lab.loop.time() <= 8.2
        assert len(gone) == streamed
        writer.transport.abort()

    virtual(main)


def test_who_says_goodbye_for_ever_is_not_listened_to_for_ever(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo, timeouts=SOON)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"nonsense\n")
        for _ in range(9):
            await asyncio.sleep(0.1)
            writer.write(b"more")

        assert server.connections == 0
        writer.transport.abort()

    virtual(main)


def test_idle_connections_cost_no_timers_of_their_own(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo, timeouts=ServerTimeouts(idle=50.0))
        pairs = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
        for _, writer in pairs:
            writer.write(GET)
        for reader, _ in pairs:
            await reader.readuntil(b"GET / ")
        before = lab.loop.callbacks  # type: ignore[attr-defined]
        await asyncio.sleep(40)

        assert lab.loop.callbacks - before < 10  # type: ignore[attr-defined]
        for _, writer in pairs:
            writer.close()

    virtual(main)
