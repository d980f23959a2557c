"""The client: sends a request to an origin and tells an `Answer` what comes back. Connections are made and kept here.

It decides nothing about where a request goes or whether it may be repeated, with one exception: a connection that was
kept from an earlier request may have been closed by the server at the very moment it is used again. If it dies before
a byte of the answer has come, the request is sent once more, over a new connection.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
from typing import Protocol

from inferencesched_gateway.wire.errors import UpstreamError
from inferencesched_gateway.wire.headers import Block, Headers, encode
from inferencesched_gateway.wire.heads import ResponseHead
from inferencesched_gateway.wire.limits import ClientTimeouts, Limits
from inferencesched_gateway.wire.origin import Origin
from inferencesched_gateway.wire.outbox import Outbox
from inferencesched_gateway.wire.pool import Pool
from inferencesched_gateway.wire.timers import Timers
from inferencesched_gateway.wire.upstream import Upstream

__all__ = ["Answer", "Call", "Client", "request_block"]

# Below the 5 s after which uvicorn, and so most model servers, close an idle connection.
KEEPALIVE = 4.0
# Written by the client itself. Everything else is written as given.
_FRAMING = frozenset({b"content-length", b"host", b"transfer-encoding"})
_METHOD = re.compile(rb"[A-Z][A-Z\-]*")
_TARGET = re.compile(rb"[\x21\x22\x24-\x7e]+")
_USUAL = frozenset({b"GET", b"POST"})
_WITH_BODY = frozenset({b"PATCH", b"POST", b"PUT"})


def request_block(headers: Headers) -> Block:
    """Return fields made ready for requests.

    Raises:
        ValueError: One cannot be written.
    """
    return Block(encode([pair for pair in headers if pair[0] not in _FRAMING]))


class Answer(Protocol):
    """Who is told what comes back, inside the loop. ``end`` or ``failed`` comes last, exactly one of them, once.

    What arrived in one piece is told in one go: after `Call.pause` what had arrived before may still be told.
    """

    def head(self, head: ResponseHead, /) -> None:
        """The answer's status and fields."""

    def data(self, chunk: bytes, /) -> None:
        """A piece of the body, without its framing."""

    def end(self) -> None:
        """The body is complete."""

    def failed(self, error: UpstreamError, /) -> None:
        """There is no answer, or no more of it."""


class Call:
    """A request that was sent and is not yet answered."""

    __slots__ = ("answer", "body", "head", "origin", "paused", "retried", "timeouts", "to_head", "total_at", "upstream")

    def __init__(
        self, origin: Origin, head: bytes, body: bytes, answer: Answer, timeouts: ClientTimeouts, *, to_head: bool
    ) -> None:
        self.origin = origin
        self.head = head
        self.body = body
        self.answer: Answer | None = answer
        self.timeouts = timeouts
        self.to_head = to_head
        self.total_at = math.inf
        self.paused = False
        self.retried = False
        self.upstream: Upstream | None = None

    def cancel(self) -> None:
        """Give up: nothing is told any more, and the connection is closed. Does nothing once the call is over."""
        upstream = self.upstream
        self.over()
        if upstream is not None:
            upstream.abandon()

    def pause(self) -> None:
        """Stop reading the answer. Time does not count against ``body`` until `resume`."""
        if not self.paused:
            self.paused = True
            if self.upstream is not None:
                self.upstream.pause()

    def resume(self) -> None:
        """Read on."""
        if self.paused:
            self.paused = False
            if self.upstream is not None:
                self.upstream.resume()

    def over(self) -> Answer | None:
        """Let go of everything, and return whom to tell. Called by the connection."""
        answer, self.answer, self.upstream = self.answer, None, None
        self.head = self.body = b""
        return answer


class Client:
    """Sends requests, over as many connections as there are requests at a time.

    Args:
        timeouts: How long an upstream may take, unless a request says otherwise.
        limits: Of an answer's head; its body has none.
        tls: For origins with TLS; by default the system's certificates.
        keepalive: Seconds for which an idle connection is kept to be used again; the one used last is taken first.
    """

    def __init__(
        self,
        *,
        timeouts: ClientTimeouts | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self.timeouts = timeouts or ClientTimeouts()
        self.limits = limits or Limits()
        self.keepalive = keepalive
        self.pool = Pool()
        self.loop: asyncio.AbstractEventLoop
        self.timers: Timers
        self.outbox: Outbox
        self.closed = False
        self._started = False
        self._tls = tls
        self._open: set[Upstream] = set()
        self._closing: asyncio.Future[None] | None = None

    @property
    def connections(self) -> int:
        """Connections open now, or being opened."""
        return len(self._open)

    @property
    def tls(self) -> ssl.SSLContext:
        """The context for origins with TLS, made when the first one needs it."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def send(  # noqa: PLR0917 - a request, in the order of its bytes
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Headers | Block,
        body: bytes,
        answer: Answer,
        *,
        timeouts: ClientTimeouts | None = None,
    ) -> Call:
        """Send a request; ``answer`` is told later, never before this returns.

        ``host`` and ``content-length`` are written by the client, and left out of ``headers`` if they are there, as is
        ``transfer-encoding``. Nothing else is added or left out (`end_to_end` is for that).

        Raises:
            ValueError: Method, target or a header cannot be written.
            RuntimeError: The client is closed, or no loop is running.
        """
        if self.closed:
            raise RuntimeError("the client is closed")
        if not self._started:
            self.loop = asyncio.get_running_loop()
            self.timers = Timers(self.loop)
            self.outbox = Outbox(self.loop)
            self._started = True
        if (method not in _USUAL and not _METHOD.fullmatch(method)) or not _TARGET.fullmatch(target):
            raise ValueError("the method must be a word in capitals, the target visible ASCII without '#'")
        length = b"content-length: %d\r\n" % len(body) if body or method in _WITH_BODY else b""
        block = headers if isinstance(headers, Block) else request_block(headers)
        head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (method, target, origin.authority, block.lines, length)
        call = Call(origin, head, body, answer, timeouts or self.timeouts, to_head=method == b"HEAD")
        if call.timeouts.total != math.inf:
            call.total_at = self.loop.time() + call.timeouts.total
        upstream = self.pool.take(origin)
        if upstream is None:
            self.open(call)
        else:
            upstream.begin(call)
        return call

    def forget(self, origin: Origin) -> None:
        """Close its idle connections; requests under way are not touched."""
        while (upstream := self.pool.take(origin)) is not None:
            upstream.abandon()

    async def close(self) -> None:
        """Close every connection; calls under way fail. Returns when all are closed."""
        self.closed = True
        for upstream in list(self._open):
            upstream.shut()
        if self._open:
            self._closing = self.loop.create_future()
            await self._closing
        if self._started:
            self.timers.close()

    # What connections call

    def open(self, call: Call) -> None:
        """Send a call over a new connection."""
        upstream = Upstream(self, call.origin)
        self._open.add(upstream)
        upstream.open(call)

    def gone(self, upstream: Upstream) -> None:
        """A connection has ended, or was never made."""
        self.pool.discard(upstream)
        self._open.discard(upstream)
        if self._closing is not None and not self._open and not self._closing.done():
            self._closing.set_result(None)
