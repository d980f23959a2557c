"""One connection to an upstream: opens it, sends a request, reads the answer, and says whether it can be used again.

A connection is OPENING, IDLE (kept in the pool), in HEAD (a request is out, its answer's head not yet in), or in one of
three phases by how the body ends: LENGTH, CHUNKED, UNTIL_CLOSE. In CLOSED nothing that arrives is looked at.
"""

from __future__ import annotations

import asyncio
import math
import socket
from typing import TYPE_CHECKING, cast

from inferencesched_gateway.wire.chunked import Chunked
from inferencesched_gateway.wire.errors import Phase, Refused, UpstreamError
from inferencesched_gateway.wire.heads import CHUNKED, UNTIL_CLOSE, ResponseHead, read_response
from inferencesched_gateway.wire.origin import Origin
from inferencesched_gateway.wire.outbox import Sender
from inferencesched_gateway.wire.repeats import Repeats
from inferencesched_gateway.wire.status import BODILESS

if TYPE_CHECKING:
    from inferencesched_gateway.wire.client import Call, Client

__all__ = ["Upstream"]

_OPENING, _IDLE, _HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _CLOSED = range(7)


class Upstream(asyncio.Protocol):
    """The protocol of one connection to an origin."""

    __slots__ = (
        "_buffer",
        "_call",
        "_chunked",
        "_client",
        "_left",
        "_opening",
        "_phase",
        "_repeats",
        "_resolving",
        "_reusable",
        "_reused",
        "_sender",
        "_transport",
        "_unsent",
        "deadline",
        "origin",
        "slot",
    )

    def __init__(self, client: Client, origin: Origin) -> None:
        self.origin = origin
        self.deadline = self.slot = math.inf
        self._client = client
        self._call: Call | None = None
        self._phase = _OPENING
        self._opening: asyncio.Task[None] | None = None
        self._resolving = False
        self._transport: asyncio.Transport | None = None
        self._sender: Sender | None = None
        self._buffer = b""  # an unfinished head
        self._repeats = Repeats[ResponseHead]()
        self._chunked: Chunked | None = None
        self._left = 0  # of a body with a length
        self._reused = False
        self._reusable = False
        self._unsent = 0  # bytes that waited when the send deadline was set; 0: all is sent

    # What the client calls

    def open(self, call: Call) -> None:
        """Make the connection, for this call."""
        self._call = call
        call.upstream = self
        self._deadline(call, call.timeouts.connect)
        self._opening = self._client.loop.create_task(self._open())
        self._opening.add_done_callback(self._opened)

    def begin(self, call: Call) -> None:
        """Send a request over a connection that was idle."""
        self._call = call
        call.upstream = self
        self._reused = True
        self._send(call)

    def abandon(self) -> None:
        """Close it, whatever it was doing; the call, if any, is not told."""
        self._close()

    def shut(self) -> None:
        """Close it, and tell the call that it failed."""
        if self._call is None:
            self._close()
        else:
            self._fail("the client was closed")

    def pause(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._transport.pause_reading()
        if self._phase >= _LENGTH and self._call is not None:
            self._client.timers.set(self, self._call.total_at)

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None:
            self._transport.resume_reading()
        if self._phase >= _LENGTH and self._call is not None:
            self._deadline(self._call, self._call.timeouts.body)

    def expired(self, now: float) -> None:
        """A deadline has passed: what was it that took so long?"""
        call = self._call
        if call is None:
            self._close()
        elif now >= call.total_at:
            self._fail(f"took longer than {call.timeouts.total:g} s in all", timed_out=True)
        elif self._phase == _OPENING:
            self._fail(f"no connection within {call.timeouts.connect:g} s", timed_out=True)
        elif self._phase == _HEAD and self._unsent:
            self._still_sending(call)
        elif self._phase == _HEAD:
            self._fail(f"no answer within {call.timeouts.head:g} s", timed_out=True)
        else:
            self._fail(f"the answer stopped for {call.timeouts.body:g} s", timed_out=True)

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._sender = Sender(self._client.outbox, self._transport)
        if self._call is None:  # cancelled while it was made
            self._transport.abort()
            return
        self._send(self._call)

    def pause_writing(self) -> None:
        """The peer is too slow."""
        if self._phase == _HEAD and self._call is not None:
            self._watch_sending(self._call)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._unsent = 0
        if self._phase == _HEAD and self._call is not None:
            self._deadline(self._call, self._call.timeouts.head)

    def data_received(self, data: bytes) -> None:
        """Read, unless nobody waits for it."""
        call = self._call
        try:
            if call is None:
                self._close()  # an answer that nobody asked for: what is this connection in the middle of?
            elif self._phase == _HEAD:
                self._read_heads(call, data)
            else:
                self._read_body(call, data)
                if self._call is call and not call.paused:
                    self._deadline(call, call.timeouts.body)
        except Exception as error:  # noqa: BLE001 - the answer's receiver failed; others must not suffer
            self._client.loop.call_exception_handler(
                {"message": "the receiver of an answer failed", "exception": error}
            )
            self._fail("the receiver of the answer failed")

    def eof_received(self) -> None:
        """The peer sends no more."""
        self._ended("closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, whoever ended it."""
        self._ended("closed the connection" if error is None else f"broke the connection: {error}", clean=error is None)
        self._client.gone(self)

    # Opening

    async def _open(self) -> None:
        """Resolve and connect; connection_made goes on from there. The only coroutine, one for each connection."""
        self._resolving = True
        addresses = await self._addresses()
        self._resolving = False
        await self._connect(addresses)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(f"{'no address' if self._resolving else 'no connection'}: {error}")
        if task.cancelled() or error is not None:
            self._client.gone(self)  # connection_lost may never be called: uvloop closes what was half made
        elif self._call is not None and self._call.paused and self._transport is not None:
            self._transport.pause_reading()  # uvloop begins to read after connection_made, whatever was said there

    async def _addresses(self) -> list[str]:
        if self.origin.is_literal:
            return [self.origin.host]
        found = await self._client.loop.getaddrinfo(self.origin.host, self.origin.port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(each[4][0]) for each in found))

    async def _connect(self, addresses: list[str]) -> None:
        tls = self._client.tls if self.origin.tls else None
        name = self.origin.host if tls is not None else None
        for i, address in enumerate(addresses):
            try:
                await self._client.loop.create_connection(
                    lambda: self, address, self.origin.port, ssl=tls, server_hostname=name
                )
            except OSError:
                if i + 1 == len(addresses):
                    raise
            else:
                return

    # Sending

    def _send(self, call: Call) -> None:
        sender = self._sender
        assert sender is not None
        self._phase = _HEAD
        self._unsent = 0
        self._deadline(call, call.timeouts.head)
        sender.write(call.head)
        if call.body:
            sender.write(call.body)
        if not self._reused:
            call.head = call.body = b""  # will not be sent again

    def _watch_sending(self, call: Call) -> None:
        assert self._sender is not None
        self._unsent = self._sender.unsent
        self._deadline(call, call.timeouts.send)

    def _still_sending(self, call: Call) -> None:
        assert self._sender is not None
        if self._sender.unsent < self._unsent:
            self._watch_sending(call)  # slow, and not stuck
        else:
            self._fail(f"took nothing of the request for {call.timeouts.send:g} s", timed_out=True)

    # Reading

    def _read_heads(self, call: Call, data: bytes) -> None:
        call.head = call.body = b""  # a byte has come: too late to send it again
        limits = self._client.limits
        found = None if self._buffer or call.to_head else self._repeats.find(data)
        if found is not None and found[1] <= limits.head_bytes:
            self._begin_body(call, found[0], data[found[1] :])
            return
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end > limits.head_bytes or (end < 4 and len(data) > limits.head_bytes):
                self._fail(f"the head of the answer is longer than {limits.head_bytes} bytes")
                return
            if end < 4:
                self._buffer = data
                return
            text = data[:end]
            try:
                head = read_response(text, limits, to_head=call.to_head)
            except Refused as refused:
                self._fail(f"the answer is not HTTP: {refused.reason}")
                return
            data = data[end:]
            if head.status >= 200:
                if not call.to_head and head.status not in BODILESS:
                    self._repeats.keep(head, text)
                self._begin_body(call, head, data)
                return
            if head.status == 101:
                self._fail("changed to a protocol that nobody asked for")
                return

    def _begin_body(self, call: Call, head: ResponseHead, rest: bytes) -> None:
        assert call.answer is not None
        length = head.length
        self._reusable = head.keep_alive
        self._left = length
        if length == CHUNKED:
            self._phase, self._chunked = _CHUNKED, Chunked()
        else:
            self._phase = _UNTIL_CLOSE if length == UNTIL_CLOSE else _LENGTH
        call.answer.head(head)
        if self._call is call and (rest or not length):
            self._read_body(call, rest)
        if self._call is call:
            self._client.timers.set(self, call.total_at)
            if not call.paused:
                self._deadline(call, call.timeouts.body)

    def _read_body(self, call: Call, data: bytes) -> None:
        """Tell a piece of the body, in the object that it arrived in where that is possible."""
        answer, phase = call.answer, self._phase
        assert answer is not None
        if phase == _LENGTH:
            left = self._left - len(data)
            if left < 0:
                self._reusable = False  # more than the answer: the next one could not be trusted
                data = data[:left]
            self._left = left
            if data:
                answer.data(data)
            if left <= 0 and self._call is call:
                self._finish(call)
        elif phase == _CHUNKED:
            chunked = self._chunked
            assert chunked is not None
            try:
                piece = chunked.feed(data)
            except ValueError as error:
                self._fail(f"the body is not framed well: {error}")
                return
            if piece:
                answer.data(piece)
            if chunked.done and self._call is call:
                self._reusable = self._reusable and not chunked.rest
                self._finish(call)
        else:
            answer.data(data)

    # Ending

    def _finish(self, call: Call) -> None:
        """The answer is complete. The connection goes back first, so that whoever is told can use it at once."""
        transport, sender, client = self._transport, self._sender, self._client
        assert transport is not None
        assert sender is not None
        self._call = self._chunked = None
        answer = call.over()
        if self._reusable and not client.closed and not sender.unsent:
            self._phase = _IDLE
            if call.paused:
                transport.resume_reading()
            client.timers.set(self, client.loop.time() + client.keepalive)
            client.pool.put(self)
        else:
            self._close()
        if answer is not None:
            answer.end()

    def _ended(self, how: str, *, clean: bool = True) -> None:
        """The upstream closed. Is that the end of the answer, bad luck with an old connection, or a failure?"""
        call = self._call
        if call is None or self._phase == _CLOSED:
            self._close()
        elif self._phase == _UNTIL_CLOSE and clean:
            self._finish(call)
        elif self._phase == _HEAD and self._reused and call.head and not call.retried:
            call.retried = True
            self._call = None
            self._close()
            self._client.open(call)
        else:
            self._fail(how)

    def _fail(self, what: str, *, timed_out: bool = False) -> None:
        phase = self._told_phase
        call, self._call = self._call, None
        self._close()
        answer = call.over() if call is not None else None
        if answer is not None:
            host = self.origin.authority.decode("ascii")
            answer.failed(UpstreamError(phase, f"{host}: {what}", timed_out=timed_out))

    @property
    def _told_phase(self) -> Phase:
        if self._phase == _OPENING:
            return "resolve" if self._resolving else "connect"
        if self._phase == _HEAD:
            return "send" if self._unsent else "head"
        return "body"

    def _close(self) -> None:
        """Close without flushing: whatever waits to be sent, nobody waits for what comes back."""
        self._phase = _CLOSED
        self._call = None
        self._chunked = None
        self._buffer = b""
        self._client.timers.discard(self)
        self._client.pool.discard(self)
        if self._sender is not None:
            self._sender.abort()
        elif self._opening is not None:
            self._opening.cancel()

    def _deadline(self, call: Call, seconds: float) -> None:
        self._client.timers.set(self, min(self._client.loop.time() + seconds, call.total_at))
