"""One client's connection: reads requests one after the other, hands each over complete, and refuses what is not one.

A connection is in one of four phases. In HEAD it waits for a head (or for anything at all, between requests); in BODY
it collects; in BUSY one exchange is open and whatever else arrives is held, with reading paused; in CLOSING an answer
is on its way out, and what still comes in is not listened to. So answers cannot get out of order, and a request that
was refused cannot be followed by one that is taken.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from typing import TYPE_CHECKING, cast

from inferencesched_gateway.wire.chunked import Chunked
from inferencesched_gateway.wire.errors import Refused
from inferencesched_gateway.wire.exchange import Exchange
from inferencesched_gateway.wire.headers import encode
from inferencesched_gateway.wire.heads import CHUNKED, RequestHead, read_request
from inferencesched_gateway.wire.outbox import Sender
from inferencesched_gateway.wire.repeats import Repeats
from inferencesched_gateway.wire.status import status_line

if TYPE_CHECKING:
    from inferencesched_gateway.wire.server import Server

__all__ = ["Connection"]

_HEAD, _BODY, _BUSY, _CLOSING = range(4)
_LINGER_BYTES = 1_048_576
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: closing sends RST instead of FIN


class Connection(asyncio.Protocol):
    """The protocol of one accepted connection."""

    __slots__ = (
        "_buffer",
        "_chunked",
        "_head",
        "_held",
        "_looping",
        "_paused",
        "_peer",
        "_phase",
        "_pieces",
        "_received",
        "_repeats",
        "_scanned",
        "_stopped",
        "_tls",
        "_unsent",
        "deadline",
        "exchange",
        "keep_alive",
        "sender",
        "server",
        "slot",
        "transport",
    )
    transport: asyncio.Transport
    sender: Sender

    def __init__(self, server: Server) -> None:
        self.server = server
        self.deadline = self.slot = math.inf
        self.exchange: Exchange | None = None
        self.keep_alive = True
        self._phase = _HEAD
        self._buffer = bytearray()  # an unfinished head
        self._scanned = 0  # of it, up to where no end was found
        self._repeats = Repeats[RequestHead]()
        self._head: RequestHead | None = None  # whose body is being read
        self._chunked: Chunked | None = None
        self._pieces: list[bytes | memoryview] = []
        self._received = 0  # bytes of the body so far; in CLOSING, bytes not listened to
        self._held = b""  # requests that came before the answer to this one
        self._stopped = False  # reading, by us
        self._looping = False
        self._paused = False  # writing, by the transport
        self._unsent = 0  # bytes waiting when the write deadline was set

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the first request's head."""
        self.transport = cast("asyncio.Transport", transport)
        self.sender = Sender(self.server.outbox, self.transport)
        self._tls = transport.get_extra_info("sslcontext") is not None
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self.server.connected(self)
        self._deadline(self.server.timeouts.head)

    def data_received(self, data: bytes) -> None:
        """Read, hold, or stop listening."""
        if self._phase == _BUSY:
            self._hold(data)
        elif self._phase == _CLOSING:
            self._received += len(data)
            if self._received > _LINGER_BYTES:
                self.sender.abort()
        else:
            self._take(data)

    def eof_received(self) -> bool:
        """The peer sends no more."""
        if self._phase == _BUSY and self.server.half_close and not self._tls:
            self.keep_alive = False
            return True
        self._drop_exchange()
        self._close(linger=False)
        return False

    def pause_writing(self) -> None:
        """The peer is too slow."""
        self._paused = True
        self._watch_writing()
        if self.exchange is not None and self.exchange.on_writable is not None:
            self.exchange.on_writable(False)

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._paused = False
        if self._phase == _HEAD:
            self._next()
        elif self._phase == _BUSY:
            self.server.timers.set(self, math.inf)
            if self.exchange is not None and self.exchange.on_writable is not None:
                self.exchange.on_writable(True)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, whoever ended it."""
        self._phase = _CLOSING
        self.server.timers.discard(self)
        self.sender.drop()
        self._forget_request()
        self._held = b""
        self.server.disconnected(self)
        self._drop_exchange()

    # What the exchange calls

    def answered(self) -> None:
        """The answer is complete: on to the next request, or close."""
        exchange, self.exchange = self.exchange, None
        assert exchange is not None
        exchange.over()
        self.server.finished()
        if not self.keep_alive or self.server.draining:
            self._close(linger=self._stopped)
            return
        self._phase = _HEAD
        if self._paused:
            self._hold(b"")  # a client that asks and asks but takes no answers is not listened to
        elif not self._stopped:
            self._deadline(self.server.timeouts.idle)
        elif not self._looping:
            self._next()

    def cut(self, *, reset: bool) -> None:
        """Close without completing the answer; ``reset`` where a plain close would look like completing it."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.over()
            self.server.finished()
        if reset:
            self.abort()
        else:
            self._close(linger=False)

    # What the server calls

    @property
    def idle(self) -> bool:
        """Whether it is between two requests."""
        return self._phase == _HEAD and not self._buffer

    def close_if_idle(self) -> None:
        """Close if it is between two requests; otherwise it will after its answer."""
        if self.idle:
            self._close(linger=False)

    def abort(self) -> None:
        """Cut off at once; what waits to be sent is lost."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.sender.abort()

    def expired(self, now: float) -> None:
        """A deadline has passed: whose turn was it?"""
        if self._phase == _HEAD and not self._buffer:
            self._close(linger=False)
        elif self._phase in {_HEAD, _BODY}:
            self._refuse(408, "the request did not arrive in time")
        elif self.sender.unsent < self._unsent:
            self._watch_writing()  # slow, and not stuck
        elif self._phase == _BUSY:
            self.abort()
        else:
            self.sender.abort()

    # Reading

    def _next(self) -> None:
        """Begin with what is held, and read on when that is used up."""
        data, self._held = self._held, b""
        self._deadline(self.server.timeouts.idle)
        self._take(data)
        if self._phase == _HEAD and not self._paused:
            self._stopped = False
            self.transport.resume_reading()

    def _hold(self, data: bytes) -> None:
        """Keep what came before its turn, and read no more."""
        self._held += data
        self._stopped = True
        self.transport.pause_reading()

    def _take(self, data: bytes) -> None:
        """Read on; a loop, since a handler may answer before it returns, and requests may follow each other."""
        self._looping = True
        try:
            while data and self._phase != _CLOSING:
                if self._phase == _BUSY or self._paused:
                    self._hold(data)
                    break
                data = self._take_head(data) if self._phase == _HEAD else self._take_body(data)
        except Refused as refused:
            self._refuse(refused.status, refused.reason)
        finally:
            self._looping = False

    def _take_head(self, data: bytes) -> bytes:
        found = None if self._buffer else self._repeats.find(data)
        if found is None or found[1] > self.server.limits.head_bytes:
            return self._read_head(data)
        return self._begin(found[0], data, found[1])

    def _read_head(self, data: bytes) -> bytes:
        if self._buffer:
            self._buffer += data
            if self._buffer.find(b"\r\n\r\n", self._scanned) < 0:
                return self._wait_for_head()
            data = bytes(self._buffer)
            self._buffer.clear()
            self._scanned = 0
        if data.startswith(b"\r\n"):
            data = _without_empty_lines(data)
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self._buffer += data
            if data:
                self._deadline(self.server.timeouts.head)
            return self._wait_for_head()
        limits, text = self.server.limits, data[:end]
        if end > limits.head_bytes:
            raise Refused(431, f"the head is longer than {limits.head_bytes} bytes")
        head = read_request(text, limits)
        self._repeats.keep(head, text)
        return self._begin(head, data, end)

    def _wait_for_head(self) -> bytes:
        """Say no as soon as this can no longer become a head, instead of waiting for the rest."""
        begun, limits = self._buffer, self.server.limits
        if begun.startswith(b"\r\n"):
            begun[:] = _without_empty_lines(bytes(begun))
        if len(begun) > limits.head_bytes:
            raise Refused(431, f"the head is longer than {limits.head_bytes} bytes")
        if len(begun) > limits.target_bytes + 32 and b"\n" not in begun:
            raise Refused(414, f"the request target is longer than {limits.target_bytes} bytes")
        if begun and not begun[:1].isupper() and begun != b"\r":
            raise Refused(400, "the first line does not begin with a method")
        if begun.count(b"\n", self._scanned) != begun.count(b"\r\n", max(self._scanned - 1, 0)):
            raise Refused(400, "a line ends without CR")
        self._scanned = max(len(begun) - 3, 0)
        return b""

    def _begin(self, head: RequestHead, data: bytes, begin: int) -> bytes:
        """Hand the request over if all of it is here, as it nearly always is; otherwise go on with its body."""
        self.keep_alive = head.keep_alive
        length, limit, here = head.length, self.server.limits.body_bytes, len(data) - begin
        if length > limit:
            raise Refused(413, f"the body is longer than {limit} bytes")
        if here >= length >= 0:
            end = begin + length
            self._dispatch(head, data[begin:end])
            return data[end:]
        if head.expects_continue and not here:
            self.sender.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._phase = _BODY
        self._head = head
        if length == CHUNKED:
            self._chunked, self._received = Chunked(), 0
        else:
            self._pieces.append(memoryview(data)[begin:])  # copied once, when all of it is there
            self._received = here
        self._deadline(self.server.timeouts.body)
        return data[begin:] if length == CHUNKED else b""

    def _take_body(self, data: bytes) -> bytes:
        assert self._head is not None
        self._deadline(self.server.timeouts.body)
        if self._chunked is not None:
            return self._take_chunks(self._head, self._chunked, data)
        missing = self._head.length - self._received
        if len(data) < missing:
            self._pieces.append(data)
            self._received += len(data)
            return b""
        self._pieces.append(data[:missing])
        self._dispatch(self._head, b"".join(self._pieces))
        return data[missing:]

    def _take_chunks(self, head: RequestHead, chunked: Chunked, data: bytes) -> bytes:
        try:
            piece = chunked.feed(data)
        except ValueError as error:
            raise Refused(400, str(error)) from None
        limit = self.server.limits.body_bytes
        self._received += len(piece)
        if self._received > limit:
            raise Refused(413, f"the body is longer than {limit} bytes")
        if piece:
            self._pieces.append(piece)
        if not chunked.done:
            return b""
        self._dispatch(head, b"".join(self._pieces))
        return chunked.rest

    def _dispatch(self, head: RequestHead, body: bytes) -> None:
        if self._head is not None:
            self._forget_request()
        self._phase = _BUSY
        self.deadline = math.inf  # what `Timers.set` would do
        exchange = self.exchange = Exchange(self, head, body, self._peer)
        self.server.handle(exchange)

    def _forget_request(self) -> None:
        self._head = self._chunked = None
        self._pieces = []
        self._buffer.clear()
        self._scanned = 0

    # Ending

    def _drop_exchange(self) -> None:
        """The client has gone: tell whoever works for it."""
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        told = exchange.on_disconnect
        exchange.over()
        self.server.finished()
        if told is not None:
            told()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that is not taken, and close: where the next one would begin is not known."""
        self._forget_request()
        headers, body = self.server.refuse(status, reason)
        fields = encode(headers)
        framing = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.sender.write(status_line(status) + fields + framing + body)
        self._close(linger=True)

    def _close(self, *, linger: bool) -> None:
        """Close when all is sent. Lingering reads on for a while: unread data would turn the end into a reset."""
        self._phase = _CLOSING
        self._held = b""
        self._received = 0
        if not linger:
            self.sender.flush()
            self._watch_writing()
            self.sender.close()
            return
        self._unsent = 0
        self._deadline(self.server.timeouts.linger)
        self.transport.resume_reading()
        self.sender.write_eof()

    def _watch_writing(self) -> None:
        self._unsent = self.sender.unsent
        self._deadline(self.server.timeouts.write)

    def _deadline(self, seconds: float) -> None:
        self.server.timers.set(self, self.server.loop.time() + seconds)


def _without_empty_lines(data: bytes) -> bytes:
    """Drop those before a request: some clients end a body with a line end too many (RFC 9112 §2.2)."""
    at = 0
    while data.startswith(b"\r\n", at):
        at += 2
    return data[at:]
