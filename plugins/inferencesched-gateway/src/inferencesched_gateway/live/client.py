"""Client: the requests of a trace over HTTP, each at its time, and what somebody who waits for them sees.

Open loop: a request is sent when it is due, whatever became of those before it, and its times count from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import aiohttp
import attrs
import orjson

from inferencesched.sim import RequestRun, Trace, TraceRequest

__all__ = ["ask_all"]

_PATH = "/v1/chat/completions"
_HEADERS = {"content-type": "application/json"}
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=120.0)
_HEAD_START = 0.2  # seconds until the first request is due, for all of them to be ready


@attrs.define
class _Stream:
    """What has come of one answer; times in seconds since the trace began."""

    first_token: float = float("nan")
    last: float = float("nan")
    usage: Mapping[str, int] | None = None
    cached_tokens: int = 0
    trouble: str | None = None

    def read(self, line: bytes, now: float) -> None:
        """Take one line of the event stream in."""
        if not line.startswith(b"data: {"):
            return
        self.last = now
        is_begun = self.first_token == self.first_token
        if is_begun and b'"usage"' not in line and b'"error"' not in line:
            return  # a further token: that it came is all there is to know
        event = orjson.loads(line[6:])
        if error := event.get("error"):
            self.trouble = str(error.get("message", error))
        if not is_begun and any(choice["delta"].get("content") for choice in event.get("choices", ())):
            self.first_token = now
        if usage := event.get("usage"):
            self.usage = usage
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


async def ask_all(
    trace: Trace, url: str, bodies: Mapping[str, bytes], *, ended: Callable[[], object]
) -> list[RequestRun]:
    """Send every request of `trace` when it is due, and return what became of each, in the order of the trace.

    Prompts and answers have the lengths that usage told; `RequestRun.endpoint` is empty, for no client sees it.

    Args:
        trace: what to send, and when.
        url: of the server.
        bodies: by the ids of requests, which are sent as ``x-request-id``.
        ended: called for each request that has ended.

    Raises:
        aiohttp.ClientError: the server cannot be spoken to.
    """
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=_PATIENCE, headers=_HEADERS) as session:
        start = asyncio.get_running_loop().time() + _HEAD_START

        async def ask(request: TraceRequest) -> RequestRun:
            run = await _ask(session, request, bodies[request.id], trace.block_tokens, start)
            ended()
            return run

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(request)) for request in trace.requests]
        except ExceptionGroup as many:
            raise many.exceptions[0] from None
    return [task.result() for task in tasks]


async def _ask(
    session: aiohttp.ClientSession, request: TraceRequest, body: bytes, block_tokens: int, start: float
) -> RequestRun:
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(start + request.arrival - clock())
    stream = _Stream()
    async with session.post(_PATH, data=body, headers={"x-request-id": request.id}) as answer:
        if answer.status != 200:
            return RequestRun(request, None, f"{answer.status}: {(await answer.text())[:200]}")
        async for line in answer.content:
            stream.read(line, clock() - start)
    if stream.trouble is not None or stream.usage is None:
        return RequestRun(request, None, stream.trouble or "the answer ended without usage")
    prompt_tokens, output_tokens = stream.usage["prompt_tokens"], stream.usage["completion_tokens"]
    return RequestRun(
        attrs.evolve(request, prompt_tokens=prompt_tokens, output_tokens=output_tokens),
        "",
        first_token=stream.first_token,
        finished=stream.last,
        matched_blocks=stream.cached_tokens // block_tokens,
        matched_tokens=stream.cached_tokens,
    )
