"""The ordinary reverse proxy of an asyncio programme, as a measure: aiohttp on both sides, round robin, no more.

python -m bench.peers.aiohttp_proxy --port 8000 --endpoint http://127.0.0.1:8001 --endpoint …
"""

from __future__ import annotations

import argparse
import itertools

import aiohttp
import uvloop
from aiohttp import web

KEPT = ("content-type", "cache-control")


def application(endpoints: list[str]) -> web.Application:
    """Return the proxy as an application."""
    turns = itertools.cycle(endpoints)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    key = web.AppKey("session", aiohttp.ClientSession)

    async def open_session(app: web.Application) -> None:
        app[key] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close_session(app: web.Application) -> None:
        await app[key].close()

    async def forward(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        url = next(turns) + request.path_qs
        async with request.app[key].request(request.method, url, data=body or None, headers=headers) as answer:
            passed = {name: answer.headers[name] for name in KEPT if name in answer.headers}
            if answer.content_length is not None:
                return web.Response(status=answer.status, headers=passed, body=await answer.read())
            stream = web.StreamResponse(status=answer.status, headers=passed)
            await stream.prepare(request)
            async for chunk in answer.content.iter_any():
                await stream.write(chunk)
            await stream.write_eof()
            return stream

    app.on_startup.append(open_session)
    app.on_cleanup.append(close_session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--endpoint", action="append", required=True)
    given = parser.parse_args()
    uvloop.install()
    web.run_app(application(given.endpoint), host="127.0.0.1", port=given.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
