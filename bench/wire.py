"""CPU time that a proxied request costs on the gateway's wire, without any decision, beside a bare relay of bytes.

    python bench/wire.py             # about a minute
    python bench/wire.py --quick     # a tenth of the requests
    python bench/wire.py --peers     # an aiohttp server with an aiohttp client, too

Backend, proxy and load are three processes on one machine; what is reported is the CPU time of the proxy alone, and
how much of it is spent in the system, of the cheapest round. The backend answers at once with 300 bytes; the load is a
closed loop of so many requests at a time, each with nine header fields as an API client sends them. A stream is a chunk
of 160 bytes each 2 ms, sent on as it comes.

*bytes* reads and writes what it gets without looking at it, as an asyncio protocol on uvloop: what is left when HTTP
costs nothing. *wire* is `inferencesched_gateway.wire`, *wire, asyncio* the same without uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import platform
import resource
from collections.abc import Awaitable, Callable
from importlib import metadata
from multiprocessing.connection import Connection
from typing import Any, cast

import uvloop
from inferencesched_gateway.wire import (
    Answer,
    Client,
    Exchange,
    Headers,
    Origin,
    ResponseHead,
    Server,
    UpstreamError,
    end_to_end,
)

from bench.peers.wire_proxy import Relay

REQUEST: Headers = [
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python 1.99.0"),
    (b"x-request-id", b"5b0e6c0e-1f5c-4f5e-9f0a-0c8d5a0f3f11"),
    (b"x-stainless-lang", b"python"),
]
ANSWER: Headers = [(b"content-type", b"application/json"), (b"server", b"bench"), (b"x-request-id", b"5b0e6c0e")]
STREAM: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":" token"}}]}'.ljust(158, b" ") + b"\n\n"
CHUNKS, CHUNK_SECONDS = 400, 0.002
ROUNDS = 5


class Streaming:
    """One stream of the backend: a chunk each time the timer comes round."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.left = CHUNKS
        exchange.start(200, STREAM)
        self.step()

    def step(self) -> None:
        """Send a chunk, and see to the next."""
        self.exchange.write(CHUNK)
        self.left -= 1
        if self.left:
            asyncio.get_running_loop().call_later(CHUNK_SECONDS, self.step)
        else:
            self.exchange.end()


def answer(exchange: Exchange) -> None:
    if exchange.path == "/stream":
        Streaming(exchange)
    else:
        exchange.respond(200, ANSWER, b"x" * 300)


async def serve_backend(_: int) -> int:
    server = Server(answer)
    await server.start("127.0.0.1", 0)
    return server.port


async def serve_wire(backend: int) -> int:
    client, origin = Client(), Origin("127.0.0.1", backend)

    def forward(exchange: Exchange) -> None:
        headers = end_to_end(exchange.headers)
        call = client.send(origin, exchange.method.encode(), exchange.target, headers, exchange.body, Relay(exchange))
        exchange.on_disconnect = call.cancel

    server = Server(forward)
    await server.start("127.0.0.1", 0)
    return server.port


class Bytes(asyncio.Protocol):
    """One side of a relay that knows nothing of HTTP."""

    transport: asyncio.Transport
    other: Bytes
    held: bytes | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Write it to the other side, as soon as there is one."""
        if self.held is None:
            self.other.transport.write(data)
        else:
            self.held += data

    def connection_lost(self, error: Exception | None) -> None:
        """End the other side."""
        if self.held is None:
            self.other.transport.close()


async def serve_bytes(backend: int) -> int:
    loop = asyncio.get_running_loop()
    tasks = set()

    async def connect(near: Bytes) -> None:
        _, far = await loop.create_connection(Bytes, "127.0.0.1", backend)
        near.other, far.other = far, near
        held, near.held = near.held, None
        far.transport.write(held or b"")

    def accept() -> Bytes:
        near = Bytes()
        near.held = b""
        task = loop.create_task(connect(near))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return near

    server = await loop.create_server(accept, "127.0.0.1", 0)
    return int(server.sockets[0].getsockname()[1])


async def serve_aiohttp(backend: int) -> int:
    from aiohttp import ClientSession, TCPConnector, web  # noqa: PLC0415 - a peer, of the gateway's dev extra

    session = ClientSession(connector=TCPConnector(limit=0), auto_decompress=False)

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {"host", "connection"}}
        url = f"http://127.0.0.1:{backend}{request.path_qs}"
        async with session.request(request.method, url, data=body, headers=headers) as upstream:
            kept = {name: value for name, value in upstream.headers.items() if name.lower() != "transfer-encoding"}
            if "Content-Length" in upstream.headers:
                return web.Response(status=upstream.status, headers=kept, body=await upstream.read())
            response = web.StreamResponse(status=upstream.status, headers=kept)
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    application = web.Application(client_max_size=2**26)
    application.router.add_route("*", "/{tail:.*}", forward)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return int(runner.addresses[0][1])


SERVERS: dict[str, Callable[[int], Awaitable[int]]] = {
    "backend": serve_backend,
    "bytes": serve_bytes,
    "wire": serve_wire,
    "wire, asyncio": serve_wire,
    "aiohttp": serve_aiohttp,
}


def process(name: str, backend: int, pipe: Connection) -> None:
    """Serve until the other end of the pipe closes; each message on it is answered with the CPU time so far."""

    async def main() -> None:
        over = asyncio.Event()

        def asked() -> None:
            try:
                pipe.recv()
            except EOFError:
                over.set()
                asyncio.get_running_loop().remove_reader(pipe.fileno())
            else:
                usage = resource.getrusage(resource.RUSAGE_SELF)
                pipe.send((usage.ru_utime + usage.ru_stime, usage.ru_stime))

        pipe.send(await SERVERS[name](backend))
        asyncio.get_running_loop().add_reader(pipe.fileno(), asked)
        await over.wait()
        os._exit(0)

    (asyncio.run if name.endswith("asyncio") else uvloop.run)(main())


class Child:
    """A server in a process of its own."""

    def __init__(self, name: str, backend: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=process, args=(name, backend, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.port: int = self.pipe.recv()

    def cpu(self) -> tuple[float, float]:
        """Return the CPU seconds so far, and those of them spent in the system."""
        self.pipe.send(None)
        total, system = self.pipe.recv()
        return total, system

    def stop(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join()


class Load:
    """A closed loop: each answer sends the next request."""

    def __init__(self, client: Client, port: int, path: bytes, body: bytes, count: int) -> None:
        self.client, self.origin, self.path, self.body = client, Origin("127.0.0.1", port), path, body
        self.left, self.open, self.chunks = count, 0, 0
        self.done = asyncio.get_running_loop().create_future()

    def send(self) -> None:
        """Send one."""
        self.left -= 1
        self.open += 1
        self.client.send(self.origin, b"POST", self.path, REQUEST, self.body, cast("Answer", self))

    def head(self, head: ResponseHead) -> None:
        """Insist on success."""
        assert head.status == 200, head.status

    def data(self, chunk: bytes) -> None:
        """Count."""
        self.chunks += 1

    def end(self) -> None:
        """Send the next one."""
        self.open -= 1
        if self.left:
            self.send()
        elif not self.open:
            self.done.set_result(None)

    def failed(self, error: UpstreamError) -> None:
        """Give up."""
        self.done.set_exception(error)


async def run(child: Child, path: bytes, size: int, count: int, concurrency: int) -> tuple[float, float]:
    """Return the CPU seconds that so many requests took, and those of them spent in the system."""
    client = Client()
    before = after = 0.0, 0.0
    for measured in (False, True):
        load = Load(client, child.port, path, b"x" * size, count if measured else max(concurrency, count // 10))
        before = child.cpu()
        for _ in range(min(concurrency, load.left)):
            load.send()
        await load.done
        after = child.cpu()
    await client.close()
    return after[0] - before[0], after[1] - before[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    parser.add_argument("--peers", action="store_true", help="measure aiohttp, too")
    parser.add_argument("--only", help="one of the proxies")
    arguments = parser.parse_args()
    scale = 10 if arguments.quick else 1
    cases: list[tuple[str, bytes, int, int, int]] = [
        ("1 KiB, 1 at a time", b"/v1/chat/completions", 1024, 4000, 1),
        ("1 KiB, 32 at a time", b"/v1/chat/completions", 1024, 10000, 32),
        ("64 KiB, 1 at a time", b"/v1/chat/completions", 65536, 2000, 1),
        ("64 KiB, 32 at a time", b"/v1/chat/completions", 65536, 4000, 32),
        ("chunk of 1 stream", b"/stream", 1024, 4, 1),
        ("chunk of 32 streams", b"/stream", 1024, 64, 32),
    ]
    names = [arguments.only] if arguments.only else ["bytes", "wire", "wire, asyncio", *["aiohttp"] * arguments.peers]
    print(f"Python {platform.python_version()}, uvloop {metadata.version('uvloop')}")
    print("CPU µs of the proxy for each (of which in the system)\n")
    backend = Child("backend")
    rows: dict[str, list[str]] = {}
    for name in names:
        proxy = Child(name, backend.port)
        for title, path, size, count, concurrency in cases:
            streamed = path == b"/stream"
            each = max(count // scale, 1) if not streamed else count
            total, system = min(uvloop.run(run(proxy, path, size, each, concurrency)) for _ in range(ROUNDS))
            units = each * (CHUNKS if streamed else 1) / 1e6
            rows.setdefault(title, []).append(f"{total / units:7.1f} ({system / units:5.1f})")
        proxy.stop()
    backend.stop()
    show(names, rows)


def show(names: list[Any], rows: dict[str, list[str]]) -> None:
    print(f"{'':22}" + "".join(f"{name:>22}" for name in names))
    for title, cells in rows.items():
        print(f"{title:22}" + "".join(f"{cell:>22}" for cell in cells))


if __name__ == "__main__":
    main()
