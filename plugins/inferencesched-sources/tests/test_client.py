"""Asking over real sockets: what a line makes of servers good and bad, and that nothing is left of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVarTuple

import pytest
import trustme
import uvloop
from inferencesched_sources.addresses import Place
from inferencesched_sources.client import Client, Line

Ts = TypeVarTuple("Ts")

LARGEST = 100_000
OK = b"HTTP/1.1 200 OK\r\n"
PAGE = b"a 1\n"
GOOD = OK + b"content-length: 4\r\n\r\n" + PAGE


class Reset(bytes):
    """The answer before the connection is broken off."""


class Last(bytes):
    """The answer before the connection is closed."""


class Server:
    """Answers the first request with the first of the answers, and so on; those that come late get the last one."""

    def __init__(self, *answers: bytes) -> None:
        self.answers: Sequence[bytes] = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await self.talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        self.writers.discard(writer)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
            writer.write(answer)
            await writer.drain()
            if isinstance(answer, Reset):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            if isinstance(answer, Reset | Last):
                return

    @contextlib.asynccontextmanager
    async def running(self, host: str = "127.0.0.1", **options: Any) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self.serve, host, 0, **options)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self.writers:
                writer.transport.abort()
            while self.writers:  # noqa: ASYNC110 — they close in tasks of their own
                await asyncio.sleep(0.001)
            await server.wait_closed()


class Told:
    """A caller that keeps what it is told."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes | str] = asyncio.Queue()

    def answered(self, page: bytes) -> None:
        self.said.put_nowait(page)

    def failed(self, why: str) -> None:
        self.said.put_nowait(why)


class Desk:
    """A client, its line, and who asks."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.client = Client(accept="text/plain", largest=LARGEST, tls=tls or ssl.create_default_context())
        self.told = Told()
        self.line = Line(self.client, url, self.told)

    async def ask(self) -> bytes | str:
        self.line.ask()
        async with asyncio.timeout(20):
            said = await self.told.said.get()
        assert self.told.said.empty()
        return said


@contextlib.asynccontextmanager
async def asking(url: str | Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Desk]:
    desk = Desk(f"http://127.0.0.1:{url.port}/metrics" if isinstance(url, Server) else url, tls)
    try:
        yield desk
    finally:
        await desk.client.close()
        assert desk.client.connections == 0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 — what is waited for happens in another's hands
            await asyncio.sleep(0.001)


class Loop(asyncio.SelectorEventLoop):
    """A loop that counts, and whose names can be told."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = 0
        self.timers = 0
        self.lookups = 0
        self.known: dict[str, list[str]] = {}
        self.resolves = asyncio.Event()
        self.resolves.set()

    def create_task(self, *args: Any, **options: Any) -> Any:
        self.tasks += 1
        return super().create_task(*args, **options)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        self.lookups += 1
        await self.resolves.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.known[host]]


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run in a loop that looks closely; what it leaves behind is a warning, and so an error."""

    def run_in(scenario: Coroutine[Any, Any, None]) -> None:
        troubles: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
            await scenario
            await until(lambda: len(asyncio.all_tasks()) == 1)  # the servers' own end by themselves

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(debug=True, loop_factory=factory) as runner:
            runner.run(watched())
        gc.collect()
        # A server's connection whose handshake the client broke off is the server's trouble.
        assert [each for each in troubles if "incoming connection" not in each["message"]] == []

    return run_in


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        GOOD,
        OK + b"transfer-encoding: chunked\r\n\r\n2\r\na \r\n2\r\n1\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\n" + PAGE,
        b"HTTP/1.1 102 Processing\r\n\r\n" + GOOD,
    ],
)
def test_every_look_is_the_same_request_over_one_connection(run: Run, answer: bytes) -> None:
    async def scenario() -> None:
        async with Server(answer).running() as server, asking(server) as desk:
            assert [await desk.ask() for _ in range(5)] == [PAGE] * 5
            assert server.connections == 1
            assert (
                server.requests
                == [
                    b"GET /metrics HTTP/1.1\r\n"
                    b"host: 127.0.0.1:%d\r\n"
                    b"accept: text/plain\r\n"
                    b"accept-encoding: identity\r\n"
                    b"user-agent: inferencesched\r\n\r\n" % server.port
                ]
                * 5
            )

    run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        Last(OK + b"\r\n" + PAGE),
        Last(b"HTTP/1.0 200 OK\r\n\r\n" + PAGE),
        b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\n" + PAGE,
        OK + b"connection: close\r\ncontent-length: 4\r\n\r\n" + PAGE,
        GOOD + b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_connection_that_is_not_kept_is_closed_and_another_one_is_made(run: Run, answer: bytes) -> None:
    async def scenario() -> None:
        async with Server(answer).running() as server, asking(server) as desk:
            for asked in range(1, 4):
                assert await desk.ask() == PAGE
                assert (server.connections, desk.client.connections <= 1) == (asked, True)
                await until(lambda: not server.writers)

    run(scenario())


def test_a_page_larger_than_what_is_read_at_once_arrives_whole(run: Run) -> None:
    page = bytes(range(256)) * 300

    async def scenario() -> None:
        answers = (
            b"content-length: 76800\r\n\r\n" + page,
            b"transfer-encoding: chunked\r\n\r\n12c00\r\n" + page + b"\r\n0\r\n\r\n",
        )
        async with Server(*(OK + each for each in answers)).running() as server, asking(server) as desk:
            desk.client.buffer = desk.client.buffer[:1000]
            assert [await desk.ask(), await desk.ask()] == [page, page]

    run(scenario())


def test_pages_of_several_servers_are_not_mixed_up(run: Run) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            pages = [bytes([65 + i]) * 50_000 for i in range(10)]
            servers = [
                await stack.enter_async_context(Server(OK + b"content-length: 50000\r\n\r\n" + page).running())
                for page in pages
            ]
            desk = await stack.enter_async_context(asking(servers[0]))
            told = [Told() for _ in servers]
            lines = [
                Line(desk.client, f"http://127.0.0.1:{server.port}/", each)
                for server, each in zip(servers, told, strict=True)
            ]
            for _ in range(3):
                for line in lines:
                    line.ask()
                assert [await each.said.get() for each in told] == pages

    run(scenario())


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 404, 503])
def test_another_status_is_said_and_the_connection_kept(run: Run, status: int) -> None:
    async def scenario() -> None:
        bad = b"HTTP/1.1 %d Such\r\nlocation: /other\r\ncontent-length: 4\r\n\r\nsuch" % status
        async with Server(bad, bad, GOOD).running() as server, asking(server) as desk:
            assert [await desk.ask() for _ in range(3)] == [f"answered {status}"] * 2 + [PAGE]
            assert (server.connections, len(server.requests)) == (1, 3)

    run(scenario())


@pytest.mark.parametrize("end", [Last, Reset])
def test_a_stale_connection_is_replaced_once_and_nobody_notices(run: Run, end: type[bytes]) -> None:
    """The server closes it when it is used again, without a byte of an answer."""

    async def scenario() -> None:
        async with Server(GOOD, end(b""), GOOD, end(b""), end(b""), GOOD).running() as server, asking(server) as desk:
            assert [await desk.ask(), await desk.ask()] == [PAGE, PAGE]
            assert (server.connections, len(server.requests)) == (2, 3)

            said = await desk.ask()  # neither the old one nor the new one answers
            assert str(said).startswith("cannot be asked (")
            assert (server.connections, len(server.requests)) == (3, 5)
            assert await desk.ask() == PAGE

    run(scenario())


@pytest.mark.parametrize("end", [Last, Reset])
def test_a_connection_that_was_closed_while_nobody_asked_is_replaced(run: Run, end: type[bytes]) -> None:
    async def scenario() -> None:
        async with Server(end(GOOD)).running() as server, asking(server) as desk:
            for asked in range(1, 4):
                assert await desk.ask() == PAGE
                assert server.connections == asked
                await until(lambda: desk.client.connections == 0)

    run(scenario())


def test_bytes_that_nobody_asked_for_end_the_connection(run: Run) -> None:
    async def scenario() -> None:
        async with Server(GOOD).running() as server, asking(server) as desk:
            assert await desk.ask() == PAGE
            (writer,) = server.writers
            writer.write(GOOD)
            await until(lambda: desk.client.connections == 0)
            assert (await desk.ask(), server.connections) == (PAGE, 2)

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Last(b""), "cannot be asked (it closed the connection instead of its answer)"),
        (Last(OK), "cannot be asked (it closed the connection in its answer)"),
        (Last(GOOD[:-1]), "cannot be asked (it closed the connection in its answer)"),
        (
            Last(OK + b"transfer-encoding: chunked\r\n\r\n4\r\na 1"),
            "cannot be asked (it closed the connection in its answer)",
        ),
        (Reset(OK + b"\r\n" + PAGE), "cannot be asked (ConnectionResetError: "),
        (Last(b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\nbu"), "answered 503"),
        (b"\x00\x01 what?\r\n\r\n", "does not speak HTTP ("),
        (OK + b"transfer-encoding: chunked\r\n\r\nmany\r\n", "does not speak HTTP ("),
        (OK + b"content-length: 100001\r\n\r\n" + b"#" * 100_001, "answered with more than 100000 bytes"),
        (OK + b"x: " + b"y" * 70_000, "does not speak HTTP (there is no end to its head)"),
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "answered 101"),
    ],
)
def test_an_answer_that_is_none_is_said_in_words_and_the_next_look_is_a_new_one(
    run: Run, answer: bytes, why: str
) -> None:
    async def scenario() -> None:
        async with Server(answer, GOOD).running() as server, asking(server) as desk:
            said = await desk.ask()
            assert isinstance(said, str)
            assert said.startswith(why)
            assert (await desk.ask(), server.connections) == (PAGE, 2)

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "too slow"),
        (OK, "too slow"),
        (OK + b"content-length: 9\r\n\r\na 1\n", "too slow"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\n", "answered 503"),
    ],
)
def test_whoever_gives_up_is_told_once_and_hears_nothing_of_it_later(run: Run, answer: bytes, why: str) -> None:
    async def scenario() -> None:
        async with Server(answer, GOOD).running() as server, asking(server) as desk:
            desk.line.ask()
            await until(lambda: len(server.requests) == 1)
            await asyncio.sleep(0.01)  # what it says arrives
            desk.line.give_up("too slow")
            assert desk.told.said.get_nowait() == why
            await until(lambda: not server.writers)
            assert (await desk.ask(), server.connections) == (PAGE, 2)
            assert desk.told.said.empty()

    run(scenario())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:{closed}/", "cannot connect (Connection refused)"),
        ("http://no-such-host.invalid/", "cannot connect ("),
        ("http://[not an address/", "cannot be asked (ValueError: "),
        ("http://gpu 0/", "cannot be asked (ValueError: 'gpu 0' is no host)"),
        ("http://gpu-0:99999/", "cannot be asked (ValueError: "),
        ("http:///metrics", "cannot be asked (ValueError: '' is no host)"),
    ],
)
def test_a_place_that_cannot_be_reached_is_said_in_words(run: Run, url: str, why: str) -> None:
    async def scenario() -> None:
        with contextlib.closing(socket.socket()) as unused:
            unused.bind(("127.0.0.1", 0))
            async with asking(url.format(closed=unused.getsockname()[1])) as desk:
                for _ in range(2):
                    assert str(await desk.ask()).startswith(why)

    run(scenario())


# --- places ----------------------------------------------------------------------------------------------------------


def test_a_line_that_is_moved_asks_elsewhere_the_next_time(run: Run) -> None:
    async def scenario() -> None:
        async with Server(GOOD).running() as one, Server(GOOD).running() as other, asking(one) as desk:
            for move_first in (True, False):
                desk.line.move(f"http://127.0.0.1:{one.port}/")
                assert await desk.ask() == PAGE
                asked = len(one.requests)
                if move_first:
                    desk.line.move(f"http://127.0.0.1:{other.port}/there")
                    desk.line.ask()
                else:
                    desk.line.ask()
                    desk.line.move(f"http://127.0.0.1:{other.port}/there")
                    asked += 1
                    assert await desk.told.said.get() == PAGE
                    desk.line.ask()
                assert await desk.told.said.get() == PAGE
                assert len(one.requests) == asked
                assert other.requests[-1].startswith(b"GET /there HTTP/1.1\r\n")
                assert desk.client.connections <= 2
            desk.line.move("http://[")
            assert str(await desk.ask()).startswith("cannot be asked (")

    run(scenario())


@pytest.mark.parametrize(
    ("url", "host", "port", "line", "fields"),
    [
        ("http://gpu-0/metrics", "gpu-0", 80, "GET /metrics HTTP/1.1", ["host: gpu-0"]),
        ("https://gpu-0/", "gpu-0", 443, "GET / HTTP/1.1", ["host: gpu-0"]),
        ("https://gpu-0:80", "gpu-0", 80, "GET / HTTP/1.1", ["host: gpu-0:80"]),
        ("http://[::1]:8000/m?a=b&c=d%20e#f", "::1", 8000, "GET /m?a=b&c=d%20e HTTP/1.1", ["host: [::1]:8000"]),
        ("http://[fe80::1%eth0]/m", "fe80::1%eth0", 80, "GET /m HTTP/1.1", ["host: [fe80::1]"]),
        ("http://rechner-ü/é à", "xn--rechner--e6a", 80, "GET /%C3%A9%20%C3%A0 HTTP/1.1", ["host: xn--rechner--e6a"]),
        ("http://a:b%40@gpu-0/", "gpu-0", 80, "GET / HTTP/1.1", ["host: gpu-0", "authorization: Basic YTpiQA=="]),
        ("http://gpu-0/\r\nx: y", "gpu-0", 80, "GET /x:%20y HTTP/1.1", ["host: gpu-0"]),
    ],
)
def test_a_url_becomes_a_request(url: str, host: str, port: int, line: str, fields: list[str]) -> None:
    place = Place.of(url, accept="text/plain")

    assert (place.host, place.port, place.tls) == (host, port, url.startswith("https"))
    first, *others = place.request.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
    assert first == line
    own = ["accept: text/plain", "accept-encoding: identity", "user-agent: inferencesched"]
    assert sorted(others) == sorted([*fields, *own])


def test_an_endpoint_with_an_address_of_ipv6_is_asked(run: Run) -> None:
    async def scenario() -> None:
        async with Server(GOOD).running("::1") as server, asking(f"http://[::1]:{server.port}/") as desk:
            assert await desk.ask() == PAGE
            assert b"host: [::1]:%d\r\n" % server.port in server.requests[0]

    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    run(scenario())


def test_a_name_is_resolved(run: Run) -> None:
    async def scenario() -> None:
        async with Server(GOOD).running() as server, asking(f"http://localhost:{server.port}/") as desk:
            assert await desk.ask() == PAGE
            assert b"host: localhost:%d\r\n" % server.port in server.requests[0]

    run(scenario())


def in_loop(scenario: Callable[[Loop], Awaitable[None]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        await scenario(loop)
        await until(lambda: len(asyncio.all_tasks()) == 1)

    with asyncio.Runner(debug=True, loop_factory=Loop) as runner:
        runner.run(main())


def test_of_a_name_with_several_addresses_one_that_answers_is_found() -> None:
    async def scenario(loop: Loop) -> None:
        loop.known["gpu-0"] = ["127.0.0.9", "127.0.0.1"]
        async with Server(GOOD).running() as server, asking(f"http://gpu-0:{server.port}/") as desk:
            assert await desk.ask() == PAGE

    in_loop(scenario)


def test_an_address_that_does_not_answer_is_left_for_the_next_one() -> None:
    async def scenario(loop: Loop) -> None:
        full = socket.create_server(("127.0.0.9", 0), backlog=0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]  # nobody accepts them: a queue with no room for us
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.9", port))
        loop.known["gpu-0"] = ["127.0.0.9", "127.0.0.1"]
        server = Server(GOOD)
        listener = socket.create_server(("127.0.0.1", port))
        serving = await asyncio.start_server(server.serve, sock=listener)
        async with serving, asking(f"http://gpu-0:{port}/") as desk:
            assert await desk.ask() == PAGE
        await until(lambda: not server.writers)
        for each in (full, *waiting):
            each.close()

    in_loop(scenario)


def test_a_lookup_that_takes_long_is_waited_for_by_everybody_and_asked_for_once() -> None:
    async def scenario(loop: Loop) -> None:
        loop.known["gpu-0"] = ["127.0.0.1"]
        loop.resolves.clear()
        async with Server(GOOD).running() as server, asking(f"http://gpu-0:{server.port}/") as desk:
            for _ in range(3):
                desk.line.ask()
                await asyncio.sleep(0.01)
                desk.line.give_up("too slow")
                assert await desk.told.said.get() == "too slow"
            assert loop.lookups == 1
            loop.resolves.set()
            assert await desk.ask() == PAGE
            desk.line.close()
            assert await desk.ask() == PAGE
            assert (loop.lookups, server.connections) == (1, 2)

    in_loop(scenario)


# --- TLS -------------------------------------------------------------------------------------------------------------


def served(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_a_server_with_a_certificate_is_asked_and_its_name_is_checked(run: Run) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def scenario() -> None:
        answers = (
            GOOD,
            Last(b""),
            GOOD,
            Last(OK + b"\r\n" + PAGE),
            OK + b"content-length: 90000\r\n\r\n" + b"#" * 90_000,
        )
        async with Server(*answers).running(ssl=served(authority, "localhost", "127.0.0.1")) as server:
            async with asking(f"https://localhost:{server.port}/", trusting) as desk:
                assert [await desk.ask() for _ in range(4)] == [PAGE, PAGE, PAGE, b"#" * 90_000]
                assert server.connections == 3
            async with asking(f"https://127.0.0.1:{server.port}/", trusting) as desk:
                assert await desk.ask() == b"#" * 90_000

    run(scenario())


def test_a_server_that_speaks_no_tls_is_said_in_words(run: Run) -> None:
    async def greets(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(greets, "127.0.0.1", 0)
        async with server, asking(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as desk:
            assert await desk.ask() == "cannot connect (no TLS: wrong version number)"

    run(scenario())


@pytest.mark.parametrize(
    ("names", "trusted", "why"),
    [
        (["127.0.0.1"], False, "cannot connect (its certificate: unable to get local issuer certificate)"),
        (
            ["elsewhere"],
            True,
            "cannot connect (its certificate: IP address mismatch, certificate is not valid for '127.",
        ),
    ],
)
def test_a_certificate_that_is_not_trusted_is_said_in_words(
    run: Run, names: list[str], trusted: bool, why: str
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    if trusted:
        authority.configure_trust(context)

    async def scenario() -> None:
        options: dict[str, Any] = {"ssl": served(authority, *names)}
        async with Server(GOOD).running(**options) as server:
            async with asking(f"https://127.0.0.1:{server.port}/", context) as desk:
                for _ in range(2):
                    assert str(await desk.ask()).startswith(why)
            assert not server.requests

    run(scenario())


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("when", ["at once", "connecting", "waiting", "reading", "idle"])
def test_whenever_it_is_closed_nothing_is_left(run: Run, when: str, tls: bool) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    answer = {"waiting": b"", "reading": OK + b"content-length: 9\r\n\r\na"}.get(when, GOOD)

    async def scenario() -> None:
        options: dict[str, Any] = {"ssl": served(authority, "127.0.0.1")} if tls and when != "connecting" else {}
        async with Server(answer).running(**options) as server:
            async with asking(f"http{'s' * tls}://127.0.0.1:{server.port}/", trusting) as desk:
                desk.line.ask()
                if when == "connecting":
                    await until(lambda: server.connections == 1)  # with TLS, it never shakes hands
                elif when != "at once":
                    await until(lambda: len(server.requests) == 1)
                    await asyncio.sleep(0.01)
                if when == "idle":
                    assert desk.told.said.get_nowait() == PAGE
            if when not in {"idle", "connecting"}:
                assert desk.told.said.empty()
            await until(lambda: not server.writers)

    run(scenario())


def test_a_look_takes_no_task_and_no_timer() -> None:
    async def scenario(loop: Loop) -> None:
        async with Server(GOOD).running() as server, asking(server) as desk:
            assert await desk.ask() == PAGE
            before = loop.tasks
            for _ in range(20):
                desk.line.ask()
                assert await desk.told.said.get() == PAGE
            assert loop.tasks == before
            timers = loop.timers
            desk.line.ask()
            assert await desk.told.said.get() == PAGE
            assert loop.timers == timers
            assert server.connections == 1

    in_loop(scenario)
