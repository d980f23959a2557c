"""The client, seen from the upstream's side."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from inferencesched_gateway.wire import Call, ClientTimeouts, Exchange, Headers, Limits, Origin, UpstreamError

if TYPE_CHECKING:
    from tests.wire.conftest import Heard, Lab, Run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read a head."""
    return await reader.readuntil(b"\r\n\r\n")


def test_a_request_is_sent_and_its_answer_told(run: Run) -> None:
    async def main(lab: Lab) -> None:
        heads: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await request(reader) + await reader.readexactly(4))
            writer.write(b"HTTP/1.1 201 Created\r\nX-A: B\r\nContent-Length: 5\r\n\r\nhello")

        origin = await lab.scripted(script)
        headers: Headers = [
            (b"x-b", b"c"),
            (b"host", b"other"),
            (b"content-length", b"9"),
            (b"transfer-encoding", b"x"),
        ]
        heard = await lab.ask(lab.client(), origin, method=b"POST", target=b"/v1?x", body=b"body", headers=headers)

        assert heads == [
            b"POST /v1?x HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nx-b: c\r\ncontent-length: 4\r\n\r\nbody" % origin.port
        ]
        assert (heard.status, heard.body, heard.error) == (201, b"hello", None)
        assert heard.headers == [(b"x-a", b"B"), (b"content-length", b"5")]

    run(main)


@pytest.mark.parametrize(("method", "line"), [(b"GET", b""), (b"DELETE", b""), (b"POST", b"content-length: 0\r\n")])
def test_a_request_without_a_body_says_so_where_one_is_expected(run: Run, method: bytes, line: bytes) -> None:
    async def main(lab: Lab) -> None:
        heads: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await request(reader))
            writer.write(OK)

        origin = await lab.scripted(script)
        await lab.ask(lab.client(), origin, method=method)

        assert heads[0].split(b"\r\n", 2)[2] == line + b"\r\n"

    run(main)


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GET ", b"/", []),
        (b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET", b"/", []),
        (b"get", b"/", []),
        (b"", b"/", []),
        (b"GET", b"/ HTTP/1.1\r\nX: y", []),
        (b"GET", b"/a b", []),
        (b"GET", b"/a#b", []),
        (b"GET", b"/\xff", []),
        (b"GET", b"", []),
        (b"GET", b"/", [(b"x", b"a\r\ny: b")]),
        (b"GET", b"/", [(b"x\n", b"a")]),
        (b"GET", b"/", [(b"Host", b"a")]),
    ],
)
def test_what_would_forge_a_request_is_not_sent(run: Run, method: bytes, target: bytes, headers: Headers) -> None:
    async def main(lab: Lab) -> None:
        client = lab.client()
        with pytest.raises(ValueError, match=r"method|holds CR|lower-case"):
            lab.send(client, Origin("127.0.0.1", 1), method=method, target=target, headers=headers)
        assert client.connections == 0

    run(main)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nx: y\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_answer_is_the_same_however_it_arrives(run: Run, answer: bytes, body: bytes, step: int) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            for i in range(0, len(answer), step):
                writer.write(answer[i : i + step])
                await asyncio.sleep(0)

        heard = await lab.ask(lab.client(), await lab.scripted(script))

        assert (heard.body, heard.error) == (body, None)

    run(main)


def test_an_answer_to_head_has_no_body(run: Run) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(2):
                await request(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

        origin, client = await lab.scripted(script), lab.client()
        for _ in range(2):
            heard = await lab.ask(client, origin, method=b"HEAD")
            assert (heard.status, heard.body, heard.error) == (200, b"", None)
        assert client.connections == 1

    run(main)


@pytest.mark.parametrize(
    ("answer", "status", "phase"),
    [
        (b"", 0, "head"),
        (b"HTTP/1.1 20", 0, "head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 200, "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 200, "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", 200, "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n", 200, "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello", 200, "body"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", 0, "head"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 0, "head"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3000, 0, "head"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 3000 + b"\r\n\r\n", 0, "head"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 0, "head"),
    ],
)
def test_an_answer_that_is_not_whole_has_failed(run: Run, answer: bytes, status: int, phase: str) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(answer)

        client = lab.client(limits=Limits(head_bytes=2000))
        heard = await lab.ask(client, await lab.scripted(script))

        assert heard.error is not None
        assert (heard.status, heard.error.phase, heard.error.timed_out) == (status, phase, False)
        assert str(heard.error).startswith("127.0.0.1:")
        assert len(client.pool) == 0

    run(main)


def test_a_body_that_only_closing_ends_is_not_whole_if_the_connection_breaks(run: Run) -> None:
    async def main(lab: Lab) -> None:
        def handler(exchange: Exchange) -> None:
            exchange.start(200, [])
            exchange.write(b"hel")
            lab.loop.call_later(0.01, exchange.abort)

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Pass on as HTTP/1.0 what a server of ours answers."""
            await request(reader)
            inner, outer = await asyncio.open_connection("127.0.0.1", server.port)
            outer.write(b"GET / HTTP/1.0\r\n\r\n")
            try:
                while data := await inner.read(100):
                    writer.write(data)
            except ConnectionResetError:
                linger = writer.transport.get_extra_info("socket")
                linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.transport.abort()
            outer.close()

        server = await lab.server(handler)
        heard = await lab.ask(lab.client(), await lab.scripted(script))

        assert heard.body == b"hel"
        assert heard.error is not None
        assert heard.error.phase == "body"

    run(main)


def test_a_connection_is_used_again_the_last_one_first(run: Run) -> None:
    async def main(lab: Lab) -> None:
        waiting: list[Exchange] = []
        server = await lab.server(waiting.append)
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        calls = [lab.send(client, origin)[1] for _ in range(3)]
        await lab.until(lambda: len(waiting) == 3)
        connections = [exchange._connection for exchange in waiting]
        for i in (0, 2, 1):
            waiting[i].respond(200, [])
            await calls[i].over
        waiting.clear()

        for expected in (1, 2, 0):
            lab.send(client, origin)
            await lab.until(lambda: waiting)
            assert waiting.pop()._connection is connections[expected]
        assert client.connections == 3

    run(main)


def test_i8_there_is_no_hidden_limit_of_connections(run: Run) -> None:
    async def main(lab: Lab) -> None:
        waiting: list[Exchange] = []
        server = await lab.server(waiting.append)
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        heard = [lab.send(client, origin)[1] for _ in range(150)]
        await lab.until(lambda: len(waiting) == 150)
        for exchange in waiting:
            exchange.respond(200, [])
        await asyncio.gather(*(each.over for each in heard))

        assert client.connections == len(client.pool) == 150

    run(main)


def test_idle_connections_are_closed_before_servers_do(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, []))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        await lab.ask(client, origin)
        await asyncio.sleep(3)
        await lab.ask(client, origin)
        await asyncio.sleep(3.9)
        assert client.connections == server.connections == 1
        await asyncio.sleep(0.2)
        await lab.until(lambda: not server.connections)
        assert client.connections == 0

    virtual(main)


def test_a_kept_connection_that_has_died_is_replaced_once(run: Run) -> None:
    """A server that closes idle connections may do so just when the next request is on its way."""

    async def main(lab: Lab) -> None:
        seen: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await request(reader) + await reader.readexactly(4))
            writer.write(OK)
            if len(seen) == 1:
                seen.append(await request(reader) + await reader.readexactly(4))  # and close without an answer

        origin, client = await lab.scripted(script), lab.client()
        for body in (b"one.", b"two."):
            heard = await lab.ask(client, origin, method=b"POST", body=body)
            assert (heard.status, heard.body, heard.error) == (200, b"hello", None)

        assert [each[-4:] for each in seen] == [b"one.", b"two.", b"two."]

    run(main)


def test_a_request_is_repeated_only_once_and_only_before_the_answer_has_begun(run: Run) -> None:
    async def main(lab: Lab) -> None:
        seen: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await request(reader))
            if b"/first" not in seen[-1]:
                return
            writer.write(OK)
            seen.append(await request(reader))
            writer.write(b"H" if b"/begun" in seen[-1] else b"")

        origin, client = await lab.scripted(script), lab.client()
        for target, times in ((b"/dead", 2), (b"/begun", 1)):
            await lab.ask(client, origin, target=b"/first")
            heard = await lab.ask(client, origin, target=target)
            assert heard.error is not None
            assert heard.error.phase == "head"
            assert [each.split()[1] for each in seen] == [b"/first"] + [target] * times
            seen.clear()

    run(main)


def test_a_new_connection_that_dies_is_not_tried_again(run: Run) -> None:
    async def main(lab: Lab) -> None:
        seen: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await request(reader))

        heard = await lab.ask(lab.client(), await lab.scripted(script))

        assert heard.error is not None
        assert len(seen) == 1

    run(main)


@pytest.mark.parametrize("extra", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"x"])
@pytest.mark.parametrize("later", [True, False])
def test_bytes_beyond_an_answer_end_the_connection(run: Run, extra: bytes, later: bool) -> None:
    """Response splitting: what comes unasked must not become the answer to the next request."""

    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(OK + (b"" if later else extra))
            if later:
                await asyncio.sleep(0.01)
                writer.write(extra)
            await reader.read()

        origin, client = await lab.scripted(script), lab.client()
        heard = await lab.ask(client, origin)
        assert (heard.body, heard.error) == (b"hello", None)
        await lab.until(lambda: not client.connections)
        assert (await lab.ask(client, origin)).body == b"hello"

    run(main)


def test_an_answer_may_come_before_the_request_is_sent(run: Run) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge")
            await asyncio.sleep(0.05)

        client = lab.client()
        heard = await lab.ask(client, await lab.scripted(script), method=b"POST", body=b"x" * 20_000_000)

        assert (heard.status, heard.body, heard.error) == (413, b"large", None)
        assert len(client.pool) == 0

    run(main)


def test_nobody_listening_is_a_failed_connect(run: Run) -> None:
    async def main(lab: Lab) -> None:
        client = lab.client()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            heard = await lab.ask(client, Origin("127.0.0.1", unused.getsockname()[1]))

        assert heard.error is not None
        assert (heard.error.phase, heard.error.timed_out) == ("connect", False)
        assert client.connections == 0

    run(main)


def test_a_name_that_nobody_knows_is_a_failed_resolve(run: Run) -> None:
    async def main(lab: Lab) -> None:
        for name in ("no-such-host.invalid", "a" * 70 + ".invalid"):
            heard = await lab.ask(lab.client(), Origin(name, 80))
            assert heard.error is not None
            assert heard.error.phase == "resolve"
            assert name in heard.error.message

    run(main)


def test_a_name_is_resolved(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, [], exchange.header(b"host") or b""))
        heard = await lab.ask(lab.client(), Origin("localhost", server.port))

        assert heard.body == b"localhost:%d" % server.port

    run(main)


SOON = ClientTimeouts(connect=1.0, send=2.0, head=3.0, body=4.0)


@pytest.mark.parametrize(
    ("answer", "phase", "after"),
    [
        (b"", "head", 3.0),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "head", 3.0),
        (b"HTTP/1.1 200", "head", 3.0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "body", 4.0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "body", 4.0),
        (b"HTTP/1.1 200 OK\r\n\r\nhel", "body", 4.0),
    ],
)
def test_each_phase_of_an_answer_has_its_time(virtual: Run, answer: bytes, phase: str, after: float) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(answer)
            await reader.read()

        heard = await lab.ask(lab.client(timeouts=SOON), await lab.scripted(script))

        assert heard.error is not None
        assert (heard.error.phase, heard.error.timed_out) == (phase, True)
        assert after <= lab.loop.time() <= after + 0.1

    virtual(main)


def test_a_request_that_is_not_taken_is_given_up(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(100)

        client = lab.client(timeouts=SOON)
        heard = await lab.ask(client, await lab.scripted(script), method=b"POST", body=b"x" * 20_000_000)

        assert heard.error is not None
        assert (heard.error.phase, heard.error.timed_out) == ("send", True)
        assert 2.0 <= lab.loop.time() <= 4.2

    virtual(main)


def test_a_connection_that_is_not_made_is_given_up(virtual: Run) -> None:
    """A listener whose queue is full does not refuse; it says nothing."""

    async def main(lab: Lab) -> None:
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            client, origin = lab.client(timeouts=SOON), Origin("127.0.0.1", deaf.getsockname()[1])
            heard = [lab.send(client, origin)[1] for _ in range(4)]
            await asyncio.gather(*(each.over for each in heard))

        phases = [each.error.phase for each in heard if each.error is not None and each.error.timed_out]
        assert len(phases) == 4
        assert "connect" in phases

    virtual(main)


def test_a_total_time_holds_for_all_phases_together(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                writer.write(b"x")
                await asyncio.sleep(1)

        timeouts = ClientTimeouts(total=7.5)
        heard = await lab.ask(lab.client(timeouts=SOON), await lab.scripted(script), timeouts=timeouts)

        assert heard.error is not None
        assert (heard.error.phase, heard.error.timed_out) == ("body", True)
        assert 7.5 <= lab.loop.time() <= 7.6

    virtual(main)


def test_a_stream_that_keeps_coming_may_take_its_time(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(20):
                await asyncio.sleep(3)
                writer.write(b"1\r\nx\r\n")
            writer.write(b"0\r\n\r\n")

        _, heard = lab.send(lab.client(timeouts=SOON), await lab.scripted(script))
        await heard.over

        assert (heard.body, heard.error) == (b"x" * 20, None)

    virtual(main)


def test_a_paused_call_stops_reading_and_its_time_stands_still(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        sent = 0

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(500):
                writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                await writer.drain()
                sent += 1
            writer.write(b"0\r\n\r\n")

        call, heard = lab.send(lab.client(timeouts=SOON), await lab.scripted(script))
        await lab.until(lambda: heard.chunks)
        call.pause()
        await asyncio.sleep(60)
        told, so_far = len(heard.body), sent
        await asyncio.sleep(60)
        assert (len(heard.body), sent) == (told, so_far)
        assert so_far < 1000
        assert heard.error is None

        call.resume()
        await heard.over
        assert (len(heard.body), heard.error) == (5_000_000, None)

    virtual(main)


def test_a_call_may_be_paused_before_it_is_connected(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, [], b"x" * 20_000_000))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        call, heard = lab.send(client, origin)
        call.pause()
        call.pause()
        await asyncio.sleep(0.2)
        assert not heard.over.done()
        call.resume()
        await heard.over
        assert len(heard.body) == 20_000_000
        assert (await lab.ask(client, origin)).status == 200
        assert client.connections == 1

    run(main)


@pytest.mark.parametrize("when", ["at once", "connecting", "waiting", "reading", "over"])
def test_a_cancelled_call_is_told_nothing_and_its_connection_closes(run: Run, when: str) -> None:
    async def main(lab: Lab) -> None:
        gone: list[bool] = []
        waiting: list[Exchange] = []

        def handler(exchange: Exchange) -> None:
            exchange.on_disconnect = lambda: gone.append(True)
            waiting.append(exchange)

        server = await lab.server(handler)
        client = lab.client()
        call, heard = lab.send(client, Origin("127.0.0.1", server.port))
        if when == "connecting":
            await asyncio.sleep(0)
        if when in {"waiting", "reading", "over"}:
            await lab.until(lambda: waiting)
        if when == "reading":
            waiting[0].start(200, [])
            waiting[0].write(b"x")
            await lab.until(lambda: heard.chunks)
        if when == "over":
            waiting[0].respond(200, [])
            await heard.over
        call.cancel()
        call.cancel()
        call.pause()
        call.resume()

        await lab.until(lambda: client.connections == server.connections == (when == "over"))
        assert gone == [True] * (when in {"waiting", "reading"})
        assert heard.over.done() is (when == "over")

    run(main)


@pytest.mark.parametrize("at", ["head", "data"])
def test_a_call_may_be_cancelled_by_whom_it_tells(run: Run, at: str) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, [], b"hello"))
        heard: Heard = lab.hearing()
        client = lab.client()
        calls: list[Call] = []
        setattr(heard, at, lambda *_: calls[0].cancel())
        calls.append(client.send(Origin("127.0.0.1", server.port), b"GET", b"/", [], b"", heard))
        await lab.until(lambda: not client.connections)

        assert not heard.over.done()
        assert not heard.chunks

    run(main)


@pytest.mark.parametrize("at", ["head", "data", "end"])
def test_a_receiver_that_fails_loses_its_call_and_harms_nobody(run: Run, at: str) -> None:
    async def main(lab: Lab) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        server = await lab.server(lambda exchange: exchange.respond(200, [], b"hello"))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        heard: Heard = lab.hearing()
        setattr(heard, at, fail)
        client.send(origin, b"GET", b"/", [], b"", heard)
        await lab.until(lambda: lab.problems)

        assert isinstance(lab.problems.pop()["exception"], ZeroDivisionError)
        assert (heard.error is not None) is (at != "end")
        assert (await lab.ask(client, origin)).body == b"hello"

    run(main)


def test_the_end_is_a_good_moment_for_the_next_request(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, [], exchange.target))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        first, second = lab.hearing(), lab.hearing()

        def send_next() -> None:
            client.send(origin, b"GET", b"/2", [], b"", second)

        first.end = send_next  # type: ignore[method-assign]
        client.send(origin, b"GET", b"/1", [], b"", first)
        await second.over

        assert (first.body, second.body) == (b"/1", b"/2")
        assert client.connections == 1

    run(main)


def test_forgetting_an_origin_closes_what_is_idle_there(run: Run) -> None:
    async def main(lab: Lab) -> None:
        waiting: list[Exchange] = []
        servers = [await lab.server(waiting.append) for _ in range(2)]
        client = lab.client()
        origins = [Origin("127.0.0.1", server.port) for server in servers]
        heard = [lab.send(client, origin)[1] for origin in (*origins, origins[0])]
        await lab.until(lambda: len(waiting) == 3)
        for exchange in waiting[:2]:
            exchange.respond(200, [])
        await asyncio.gather(heard[0].over, heard[1].over)
        assert len(client.pool) == 2

        client.forget(origins[0])
        client.forget(Origin("127.0.0.1", 1))
        await lab.until(lambda: client.connections == 2)
        assert len(client.pool) == 1
        waiting[2].respond(200, [])
        await heard[2].over
        assert heard[2].error is None

    run(main)


def test_closing_fails_what_is_under_way(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.start(200, []))
        client, origin = lab.client(), Origin("127.0.0.1", server.port)
        _, reading = lab.send(client, origin)
        await lab.until(lambda: reading.status)
        _, connecting = lab.send(client, origin)
        await client.close()

        assert isinstance(reading.error, UpstreamError)
        assert reading.error.phase == "body"
        assert isinstance(connecting.error, UpstreamError)
        assert connecting.error.phase == "connect"
        with pytest.raises(RuntimeError, match="closed"):
            lab.send(client, origin)
        await client.close()

    run(main)


def test_small_requests_do_not_wait_for_each_other(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, []))
        client = lab.client()
        await lab.ask(client, Origin("127.0.0.1", server.port))
        [upstream] = client._open
        assert upstream._transport is not None

        nodelay = upstream._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert nodelay == 1

    run(main)


def test_large_bodies_are_handed_on_in_the_object_they_arrived_in(run: Run) -> None:
    async def main(lab: Lab) -> None:
        client, heard = lab.client(), lab.hearing()
        origin = await lab.scripted(never)
        client.send(origin, b"GET", b"/", [], b"", heard)
        await lab.until(lambda: [each for each in client._open if each._transport is not None])
        [upstream] = client._open
        pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", b"x" * 100_000, b"y" * 100_000]
        for piece in pieces:
            upstream.data_received(piece)

        assert [id(each) for each in heard.chunks] == [id(each) for each in pieces[1:]]
        assert heard.over.done()

    run(main)


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""
    await reader.read()
