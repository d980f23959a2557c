"""Random cuts change nothing; random bytes break nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import uvloop
from hypothesis import example, given, settings, strategies as st
from inferencesched_gateway.wire import Client, Exchange, Headers, Limits, Origin, ResponseHead, Server, UpstreamError
from inferencesched_gateway.wire.connection import Connection

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run

Seen = tuple[str, bytes, Headers, bytes, str]
LIMITS = Limits(head_bytes=2000, header_count=20, target_bytes=100, body_bytes=5000)
TOKEN = st.from_regex(rb"[a-z][a-z0-9_\-]{0,6}", fullmatch=True)
VALUE = st.from_regex(rb"[!-~\x80-\xff]([\t !-~\x80-\xff]{0,10}[!-~\x80-\xff])?", fullmatch=True)


@st.composite
def requests(draw: Callable[[Any], Any]) -> bytes:
    """Return a valid request, that is not the last one."""
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE"]))
    target = draw(st.from_regex(rb"/[a-z0-9/?%=]{0,20}", fullmatch=True))
    lines = [b"%b: %b\r\n" % (b"x-" + draw(TOKEN), draw(VALUE)) for _ in range(draw(st.integers(0, 4)))]
    body: bytes = draw(st.binary(max_size=50))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        lines.append(b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked\r\n")
        parts = [body[i : i + 7] for i in range(0, len(body), 7)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        body = b""
    lines = draw(st.permutations([*lines, b"Host: h\r\n"]))
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, b"".join(lines), body)


MUTATIONS = [b"\r", b"\n", b"\0", b" ", b":", b"\r\n", b"\r\n\r\n", b"\t", b"\xff", b"0", b"Content-Length: 3\r\n"]
MUTATIONS += [b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b","]


@st.composite
def mutated(draw: Callable[[Any], Any]) -> bytes:
    """Return valid requests with a few bytes put in, taken out or replaced."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from([*MUTATIONS, b""]) | st.binary(max_size=3)) + data[at + gone :]
    return data


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


class Memory(asyncio.Transport):
    """A transport to nowhere that delivers at once: what a protocol does with bytes, without the time sockets take."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.protocol = protocol
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol.connection_lost(None)

    abort = close


async def _listening(handler: Callable[[Exchange], None]) -> Server:
    server = Server(handler, limits=LIMITS)
    await server.start("127.0.0.1", 0)
    return server


def served(pieces: list[bytes], *, later: bool) -> tuple[list[Seen], bytes]:
    """Return what a server of ours took from these pieces, and what it answered before the end of them."""
    seen: list[Seen] = []
    waiting: list[Exchange] = []

    def handler(exchange: Exchange) -> None:
        seen.append((exchange.method, exchange.target, exchange.headers, exchange.body, exchange.version))
        if later:
            waiting.append(exchange)
        else:
            exchange.respond(200, [], b"%d" % len(seen))

    async def main() -> bytes:
        server = await _listening(handler)
        [listener] = server._listeners
        protocol = Connection(server)
        transport = Memory(protocol)
        protocol.connection_made(transport)
        for piece in pieces:
            if transport.closed:
                break
            protocol.data_received(piece)
            while waiting:
                waiting.pop().respond(200, [], b"%d" % len(seen))
        if not transport.closed and not protocol.eof_received():
            transport.close()
        assert (server.connections, server.exchanges) == (0, 0)
        listener.close()
        server.timers.close()
        return transport.written

    return seen, asyncio.run(main())


def checked(answers: bytes, taken: int) -> list[int]:
    """Return the statuses; all answers are whole, and nothing follows a refusal."""
    statuses = []
    while answers:
        head, found, answers = answers.partition(b"\r\n\r\n")
        assert found
        status = int(head[9:12])
        if status == 100:
            continue
        statuses.append(status)
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        if status != 200 or not answers.startswith(b"HTTP/1.1 "):
            answers = answers[length:]
    assert statuses[:taken] == [200] * taken
    assert len(statuses) <= taken + 1
    assert all(400 <= each < 600 for each in statuses[taken:])
    return statuses


@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 10_000), max_size=10), st.booleans())
def test_requests_are_the_same_however_they_are_cut_up(valid: list[bytes], places: list[int], later: bool) -> None:
    data = b"".join(valid)

    whole = served([data], later=later)
    parts = served(cut(data, places), later=later)

    assert whole == parts
    assert len(whole[0]) == len(valid)
    assert checked(whole[1], len(valid)) == [200] * len(valid)


@settings(max_examples=300)
@given(mutated() | st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=6))
@example(b"\r\n\r", [1, 2])
@example(b"\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", [2])
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", [])
def test_mangled_requests_are_answered_or_refused_and_never_taken_two_ways(data: bytes, places: list[int]) -> None:
    whole, answers = served([data], later=False)
    parts, _ = served(cut(data, places), later=True)

    checked(answers, len(whole))
    assert whole == parts


def test_thousands_of_mangled_requests_over_sockets_leave_nothing_behind(run: Run) -> None:
    """The same with real sockets, many at a time; the bytes are drawn here, with a seed, to have so many."""
    rng = random.Random(6)
    heads = [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nAccept: */*\r\n\r\n0123456789",
        b"POST /v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /v1/models?a=b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    ]

    def mangle() -> bytes:
        data = rng.choice(heads)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            data = data[:at] + rng.choice([*MUTATIONS, rng.randbytes(2)]) + data[at + rng.randint(0, 2) :]
        return data

    async def main(lab: Lab) -> None:
        server = await lab.server(lambda exchange: exchange.respond(200, [], b"ok"), limits=LIMITS)
        sent = 0

        async def one() -> None:
            nonlocal sent
            while sent < PER_LOOP:
                sent += 1
                data = mangle()
                try:
                    answers = await lab.raw(server, data, eof=True)
                except ConnectionError:
                    continue  # the refusal was lost on the way, as it may be
                assert all(each[:3].isdigit() for each in answers.split(b"HTTP/1.1 ")[1:])

        await asyncio.gather(*(one() for _ in range(20)))
        await lab.until(lambda: not server.connections)
        assert server.exchanges == 0

    run(main)


PER_LOOP = 1500  # on each of two loops


class Told:
    """An answer that writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.body = b""

    def head(self, head: ResponseHead) -> None:
        self.events.append((head.status, head.headers))

    def data(self, chunk: bytes) -> None:
        assert chunk
        self.body += chunk

    def end(self) -> None:
        self.events.append("end")

    def failed(self, error: UpstreamError) -> None:
        self.events.append(error.phase)


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil the end",
]


def told(pieces: list[bytes]) -> tuple[list[Any], bytes]:
    """Return what a client of ours tells when an upstream answers with these pieces and closes."""

    async def main() -> tuple[list[Any], bytes]:
        client, answer = Client(limits=LIMITS), Told()
        silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        origin = Origin("127.0.0.1", silent.sockets[0].getsockname()[1])
        call = client.send(origin, b"GET", b"/", [], b"", answer)
        upstream = call.upstream
        assert upstream is not None
        assert upstream._opening is not None
        await upstream._opening
        for piece in pieces:
            upstream.data_received(piece)
        upstream.eof_received()
        await client.close()
        assert client.connections == len(client.pool) == 0
        silent.close()
        return answer.events, answer.body

    return uvloop.run(main())


@settings(max_examples=150)
@given(st.sampled_from(ANSWERS), st.data(), st.lists(st.integers(0, 10_000), max_size=6))
def test_mangled_answers_end_or_fail_once_however_they_are_cut_up(
    answer: bytes, data: st.DataObject, places: list[int]
) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(answer)))
        answer = (
            answer[:at] + data.draw(st.sampled_from([*MUTATIONS, b""])) + answer[at + data.draw(st.integers(0, 2)) :]
        )

    events, body = told([answer])
    events_of_parts, body_of_parts = told(cut(answer, places))

    assert [each for each in events if isinstance(each, str)] == events[-1:]
    assert events == events_of_parts
    if events[-1] == "end":
        assert body == body_of_parts
