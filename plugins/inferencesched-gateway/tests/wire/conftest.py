"""A laboratory: servers, clients and bare sockets on loopback, and at the end the proof that nothing is left over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self

import pytest
import uvloop
from hypothesis import settings
from inferencesched_gateway.wire import Call, Client, Exchange, Headers, Origin, ResponseHead, Server, UpstreamError

from inferencesched.testing import VirtualLoop

# As for the root's tests, which these may run without.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if "CI" in os.environ else "dev")

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "virtual": VirtualLoop,
}


class Heard:
    """An answer that writes down what it is told, and insists that nothing follows the end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.error: UpstreamError | None = None
        self.over = asyncio.get_running_loop().create_future()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def head(self, head: ResponseHead) -> None:
        assert not self.status
        assert not self.over.done()
        self.status, self.headers = head.status, head.headers

    def data(self, chunk: bytes) -> None:
        assert self.status
        assert chunk
        assert not self.over.done()
        self.chunks.append(chunk)

    def end(self) -> None:
        assert self.status
        self.over.set_result(None)

    def failed(self, error: UpstreamError) -> None:
        self.error = error
        self.over.set_result(None)


class Lab:
    """What a test uses; everything that is opened here is closed and counted when the test ends."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.problems: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.problems.append(context))
        self._servers: list[Server] = []
        self._clients: list[Client] = []
        self._scripted: list[asyncio.Server] = []
        self._scripts: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self._clients:
            await client.close()
            assert client.connections == len(client.pool) == 0
        for server in self._servers:
            server.stop_accepting()
            server.abort_all()
            assert await server.wait_idle(5)
            assert server.connections == server.exchanges == 0
        for scripted in self._scripted:
            scripted.close()
        for task in self._scripts:
            task.cancel()
        await asyncio.gather(*self._scripts, return_exceptions=True)
        # asyncio accepts in a task, which may have begun just before the listener was closed.
        await self.until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        await self.until(lambda: not any(server.connections for server in self._servers))
        assert not self.problems, self.problems

    async def server(self, handler: Callable[[Exchange], None], **options: Any) -> Server:
        """Start a server of ours."""
        server = Server(handler, **options)
        await server.start("127.0.0.1", 0)
        self._servers.append(server)
        return server

    def client(self, **options: Any) -> Client:
        """Return a client of ours."""
        client = Client(**options)
        self._clients.append(client)
        return client

    async def scripted(self, script: Script) -> Origin:
        """Start a server that does as the script says with each connection, and return where it is."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self.loop.create_task(self._play(script, reader, writer))
            self._scripts.add(task)
            task.add_done_callback(self._scripts.discard)

        scripted = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._scripted.append(scripted)
        return Origin("127.0.0.1", scripted.sockets[0].getsockname()[1])

    async def _play(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except OSError:
            pass  # the other side broke the connection, which is up to the test
        finally:
            writer.close()

    def hearing(self) -> Heard:
        """Return an answer that has heard nothing yet."""
        return Heard()

    def send(
        self,
        client: Client,
        origin: Origin,
        *,
        method: bytes = b"GET",
        target: bytes = b"/",
        body: bytes = b"",
        headers: Headers | None = None,
        **options: Any,
    ) -> tuple[Call, Heard]:
        """Send with a client of ours."""
        heard = Heard()
        return client.send(origin, method, target, headers or [], body, heard, **options), heard

    async def ask(self, client: Client, origin: Origin, **options: Any) -> Heard:
        """Send with a client of ours, and wait until the answer is over."""
        _, heard = self.send(client, origin, **options)
        await asyncio.wait_for(heard.over, 20)
        return heard

    async def raw(self, server: Server, *pieces: bytes, eof: bool = False) -> bytes:
        """Send bytes, piece by piece, and return everything that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            if eof:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()

    async def until(self, condition: Callable[[], object]) -> None:
        """Let others work until something is so."""
        for _ in range(10_000):
            if condition():
                return
            await asyncio.sleep(0.001)
        raise AssertionError("it never came true")


Main = Callable[[Lab], Coroutine[Any, Any, None]]
Run = Callable[[Main], None]


def _run(loop: str, main: Main) -> None:
    async def inside() -> None:
        async with Lab() as lab:
            await main(lab)

    with asyncio.Runner(loop_factory=LOOPS[loop], debug=loop == "asyncio") as runner:
        runner.run(inside())


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs what a test describes, on plain asyncio in debug mode and on uvloop."""
    return lambda main: _run(request.param, main)


@pytest.fixture
def virtual() -> Run:
    """Runs what a test describes in virtual time: a minute's silence takes no time."""
    return lambda main: _run("virtual", main)
