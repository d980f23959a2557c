"""Second opinions: clients and a server that others wrote."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from inferencesched_gateway.wire import Exchange, Limits, Origin

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run

BODIES = [b"", b"hello", b"x" * 300_000]


def echo(exchange: Exchange) -> None:
    """Answer with the body: whole, in chunks, or with a length."""
    if exchange.path == "/whole":
        exchange.respond(200, [], exchange.body)
        return
    exchange.start(200, [(b"content-length", b"%d" % len(exchange.body))] * (exchange.path == "/length"))
    for i in range(0, len(exchange.body), 9_999):
        exchange.write(exchange.body[i : i + 9_999])
    exchange.end()


def test_aiohttp_understands_the_server(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo, limits=Limits(body_bytes=300_000))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            for path in ("/whole", "/chunks", "/length"):
                for body in BODIES:
                    async with session.post(path, data=body, expect100=len(body) > 5) as response:
                        assert (response.status, await response.read()) == (200, body)

                    async def pieces(body: bytes = body) -> AsyncIterator[bytes]:
                        for i in range(0, len(body), 50_000):
                            yield body[i : i + 50_000]

                    async with session.post(path, data=pieces()) as response:
                        assert (response.status, await response.read()) == (200, body)
            async with session.post("/whole", data=b"x" * 300_001) as response:
                assert response.status == 413
            async with session.head("/whole") as response:
                assert response.status == 200
            assert server.connections <= 2
        await asyncio.sleep(0.01)

    run(main)


def test_http_client_understands_the_server(run: Run) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo)

        def talk() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            for path in ("/whole", "/chunks", "/length"):
                for body in BODIES:
                    connection.request("POST", path, body)
                    assert connection.getresponse().read() == body
                    connection.request("POST", path, iter([body, b"!"]), encode_chunked=True)
                    assert connection.getresponse().read() == body + b"!"
            connection.request("HEAD", "/whole")
            assert connection.getresponse().read() == b""
            assert server.connections == 1
            connection.close()

        await asyncio.to_thread(talk)

    run(main)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("option", ["--http1.1", "--http1.0", "--http2"])
def test_curl_understands_the_server(run: Run, option: str) -> None:
    async def main(lab: Lab) -> None:
        server = await lab.server(echo, limits=Limits(body_bytes=2_000_000))

        def talk(path: str, body: bytes, *options: str) -> bytes:
            url = f"http://127.0.0.1:{server.port}{path}"
            command = [
                "curl",
                "--silent",
                "--show-error",
                "--max-time",
                "20",
                option,
                "--data-binary",
                "@-",
                *options,
                url,
            ]
            return subprocess.run(command, input=body, capture_output=True, check=True).stdout

        for path in ("/whole", "/chunks", "/length"):
            # The last is beyond what curl sends without asking first (Expect: 100-continue).
            for body in (b"hello", b"x" * 1_500_000):
                assert await asyncio.to_thread(talk, path, body) == body
        if option != "--http1.0":
            chunked = await asyncio.to_thread(talk, "/whole", b"hello", "--header", "Transfer-Encoding: chunked")
            assert chunked == b"hello"
        status = await asyncio.to_thread(talk, "/whole", b"x" * 2_000_001, "--write-out", "%{http_code}")
        assert status.endswith(b"413")

    run(main)


def test_the_client_understands_aiohttp(run: Run) -> None:
    async def main(lab: Lab) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            if request.path == "/whole":
                return web.Response(body=body)
            response = web.StreamResponse()
            if request.path == "/chunks":
                response.enable_chunked_encoding()
            else:
                response.content_length = len(body)
            await response.prepare(request)
            for i in range(0, len(body), 9_999):
                await response.write(body[i : i + 9_999])
            return response

        application = web.Application(client_max_size=10**6)
        application.router.add_post("/{path}", answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        client, origin = lab.client(), Origin("127.0.0.1", runner.addresses[0][1])
        try:
            for target in (b"/whole", b"/chunks", b"/length"):
                for body in BODIES:
                    heard = await lab.ask(client, origin, method=b"POST", target=target, body=body)
                    assert (heard.status, heard.body, heard.error) == (200, body, None)
            heard = await lab.ask(client, origin, method=b"POST", target=b"/a/b", body=b"x")
            assert heard.status == 404
            assert client.connections == 1
        finally:
            await client.close()
            await runner.cleanup()

    run(main)
