"""Model servers that cost next to nothing: they answer at once and think of nothing.

    python -m bench.peers.backend --port 8001 --port 8002 --chunks 32 --interval 0.1

One process answers on every port given: a fixed chat completion, or a stream of `--chunks` events written one by one
(each as a chunk and a segment of its own, `--interval` seconds apart) when the body asks for one, and the small pages
by which routers look whether a server is there. `nginx_configuration` describes the same answers, without streams, to
nginx.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from pathlib import Path
from typing import cast

import httptools
import uvloop

MODEL = "bench-model"
CONTENT = "Four score and seven years ago"
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": CONTENT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
    },
    separators=(",", ":"),
).encode()
PAGES = {
    "/v1/models": json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1}]}).encode(),
    "/get_model_info": json.dumps({"model_path": MODEL, "is_generation": True}).encode(),
    "/get_server_info": json.dumps({"model_path": MODEL, "served_model_name": MODEL, "dp_size": 1}).encode(),
    "/version": b'{"version":"0.32.0"}',
    "/health": b"{}",
}
METRICS = (
    b"# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 0\n"
    b"# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting 0\n"
    b"# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc 0\n"
)


def event(choices: list[object]) -> bytes:
    """Return one server-sent event of a chat stream."""
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


TOKEN = event([{"index": 0, "delta": {"content": "score "}, "finish_reason": None}])
LAST = event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + b"data: [DONE]\n\n"


def whole(body: bytes, content_type: bytes = b"application/json") -> bytes:
    """Return a whole answer."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (content_type, len(body), body)


def chunked(data: bytes) -> bytes:
    """Return one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


ANSWERED = whole(ANSWER)
PAGES_ANSWERED = {path: whole(body) for path, body in PAGES.items()} | {"/metrics": whole(METRICS, b"text/plain")}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
TOKEN_CHUNK = chunked(TOKEN)
LAST_CHUNK = chunked(LAST) + b"0\r\n\r\n"


class Backend(asyncio.Protocol):
    """One connection. Requests on it are answered in turn: no client of ours sends ahead of an answer."""

    def __init__(self, *, chunks: int, interval: float) -> None:
        self._chunks = chunks
        self._interval = interval
        self._parser = httptools.HttpRequestParser(self)
        self._path = ""
        self._body: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write every chunk as a segment of its own."""
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop writing."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Parse."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport:
                self._transport.abort()

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._path = url.partition(b"?")[0].decode()
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        """Keep the body, to see whether a stream is asked for."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        if not self._transport:
            return
        if self._path in PAGES_ANSWERED:
            self._transport.write(PAGES_ANSWERED[self._path])
            return
        body = b"".join(self._body)
        if b'"stream":true' not in body and b'"stream": true' not in body:
            self._transport.write(ANSWERED)
            return
        self._transport.write(STREAM_HEAD)
        self._write_token(self._chunks)

    def _write_token(self, left: int) -> None:
        if not self._transport:
            return
        if left <= 1:
            self._transport.write(LAST_CHUNK)
            return
        self._transport.write(TOKEN_CHUNK)
        # Without an interval too, a turn of the loop keeps two chunks apart, as a model's steps do.
        loop = asyncio.get_running_loop()
        if self._interval:
            loop.call_later(self._interval, self._write_token, left - 1)
        else:
            loop.call_soon(self._write_token, left - 1)


async def serve(ports: list[int], *, chunks: int, interval: float) -> None:
    """Listen on every port until the process is ended."""
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda: Backend(chunks=chunks, interval=interval), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


def nginx_configuration(folder: Path, ports: list[int]) -> str:
    """Return what makes nginx, in one worker, answer as above on these ports; `folder` takes its files."""
    places = "\n".join(
        f"location = {path} {{ default_type application/json; return 200 '{body.decode()}'; }}"
        for path, body in PAGES.items()
    )
    metrics = METRICS.decode()
    servers = "\n".join(
        f"""server {{
        listen 127.0.0.1:{port} backlog=4096;
        {places}
        location = /metrics {{ default_type text/plain; return 200 '{metrics}'; }}
        location / {{ default_type application/json; return 200 '{ANSWER.decode()}'; }}
        }}"""
        for port in ports
    )
    temporary = "\n".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
    daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log crit;
    events {{ worker_connections 8192; }}
    http {{
    access_log off; tcp_nodelay on; keepalive_requests 100000000; keepalive_timeout 300s;
    client_max_body_size 64m; client_body_buffer_size 2m;
    {temporary}
    {servers}
    }}
    """


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, action="append", required=True)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--interval", type=float, default=0.0, metavar="SECONDS")
    given = parser.parse_args()
    uvloop.run(serve(given.port, chunks=given.chunks, interval=given.interval))


if __name__ == "__main__":
    main()
