"""What every route shares: bodies in, JSON and event streams out, the log, problems in the API's own shape, and faults.

A handler takes `(Service, Call)` and either returns an answer or raises a `Problem`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson
from aiohttp import web

from inferencesched_enginesim.faults import Fault
from inferencesched_enginesim.log import Received
from inferencesched_enginesim.problems import BadRequest, Problem, anthropic_error, openai_error
from inferencesched_enginesim.service import Service

__all__ = ["Call", "EventStream", "Handler", "echo_request_id", "json_answer", "route", "sever"]

_STREAM_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


class Call:
    """One request on its way through a handler.

    Attributes:
        request: aiohttp's.
        body: the JSON object that came with it; empty without one.
        received: its entry in the log.
        fault: what is to go wrong with it.
    """

    def __init__(self, request: web.Request, received: Received) -> None:
        self.request = request
        self.received = received
        self.body: Mapping[str, Any] = {}
        self.fault: Fault | None = None


Handler = Callable[[Service, Call], Awaitable[web.StreamResponse]]


class Severed(Exception):
    """The connection was ended on purpose; there is nothing left to answer."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__()
        self.response = response


def json_answer(payload: Any, status: int = 200) -> web.Response:
    """Return an answer with a JSON body."""
    return web.Response(body=orjson.dumps(payload), status=status, content_type="application/json")


class EventStream:
    """A streamed answer. Its head is sent when it is opened, events as they are given.

    An event counts as a chunk for the faults ``cut`` and ``truncate``: what was to be sent after the last one allowed
    never is.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._response = web.StreamResponse(headers=_STREAM_HEADERS)
        fault = call.fault
        self._fault = fault if fault is not None and fault.kind in {"cut", "truncate"} else None
        self._left = self._fault.chunks if self._fault is not None else 0

    async def open(self) -> None:
        """Send the head."""
        await self._response.prepare(self._call.request)
        self._call.received.status = 200

    async def send(self, events: Iterable[bytes]) -> None:
        """Send whole events, each ``data: …`` with its blank line, in one write."""
        if self._fault is None:
            await self._response.write(b"".join(events))
            return
        allowed = list(events)
        if len(allowed) > self._left:
            await self._response.write(b"".join(allowed[: self._left]))
            self._sever(self._fault)
        self._left -= len(allowed)
        await self._response.write(b"".join(allowed))

    async def close(self) -> web.StreamResponse:
        """End the stream, and return it."""
        if self._fault is not None:
            self._sever(self._fault)
        await self._response.write_eof()
        return self._response

    def _sever(self, fault: Fault) -> None:
        sever(self._call.request, is_reset=fault.kind == "cut")
        raise Severed(self._response)


def sever(request: web.Request, *, is_reset: bool) -> None:
    """End the connection under a request: reset, or closed after what was sent so far."""
    transport = request.transport
    if transport is None:
        return
    if is_reset:
        transport.abort()
    else:
        transport.close()


async def echo_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Send ``x-request-id`` back."""
    if given := request.headers.get("x-request-id"):
        response.headers["x-request-id"] = given


def route(service: Service, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the handler as aiohttp calls it: logged, with faults, and with problems as answers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        received = Received(time.time(), request.method, request.path_qs, _headers(request))
        service.log.add(received)
        call = Call(request, received)
        try:
            response = await _answer(service, handler, call)
        except Severed as severed:
            response = severed.response
        except (asyncio.CancelledError, ConnectionError):
            received.outcome = "gone" if call.fault is None else call.fault.kind
            raise
        received.outcome = "done" if call.fault is None else call.fault.kind
        received.status = response.status
        return response

    return handle


async def _answer(service: Service, handler: Handler, call: Call) -> web.StreamResponse:
    try:
        call.body = await _body(call.request)
        _note(call)
        call.fault = service.faults.draw()
        if call.fault is not None:
            if call.fault.kind == "hang":
                await service.faults.wait_for_reset()
                sever(call.request, is_reset=True)
                raise Severed(web.Response(status=500))
            if call.fault.kind == "error":
                raise Problem("A fault was injected.", status=call.fault.status, kind=_kind(call.fault.status))
        response = await handler(service, call)
    except Problem as problem:
        shape = anthropic_error if call.request.path.startswith("/v1/messages") else openai_error
        response = json_answer(shape(problem), problem.status)
        if problem.status in {429, 503}:
            response.headers["retry-after"] = "1"
        return response
    if call.fault is not None and isinstance(response, web.Response):
        await _spoil(call, response, call.fault)
    return response


async def _spoil(call: Call, response: web.Response, fault: Fault) -> None:
    """Send a whole answer as far as the fault lets it."""
    if fault.kind == "cut":
        sever(call.request, is_reset=True)
        raise Severed(response)
    body = response.body
    assert isinstance(body, bytes)
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = len(body)
    await half.prepare(call.request)
    await half.write(body[: len(body) // 2])
    sever(call.request, is_reset=False)
    raise Severed(half)


def _note(call: Call) -> None:
    model = call.body.get("model")
    if isinstance(model, str):
        call.received.model = model
    call.received.is_streamed = call.body.get("stream") is True


async def _body(request: web.Request) -> Mapping[str, Any]:
    content = await request.read()
    if not content:
        return {}
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is no JSON: {error.msg}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    return body


def _headers(request: web.Request) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for given, value in request.headers.items():
        name = given.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _kind(status: int) -> str:
    return {429: "RateLimitError", 503: "ServiceUnavailableError"}.get(status, "InternalServerError")
