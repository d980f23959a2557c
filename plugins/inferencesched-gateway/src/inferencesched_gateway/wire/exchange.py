"""One request and the way to answer it. Knows how an answer is framed; sockets and reading are the connection's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from inferencesched_gateway.wire.headers import Block, Headers, encode, first
from inferencesched_gateway.wire.heads import CHUNKED, UNTIL_CLOSE, RequestHead
from inferencesched_gateway.wire.outbox import JOINED_BYTES
from inferencesched_gateway.wire.status import BODILESS, status_line

if TYPE_CHECKING:
    from inferencesched_gateway.wire.connection import Connection

__all__ = ["Exchange", "answer_block"]

# Written by the wire itself. Everything else is written as given.
_FRAMING = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding"})
_CLOSE, _KEEP = b"connection: close\r\n", b"connection: keep-alive\r\n"


def answer_block(headers: Headers) -> Block:
    """Return fields made ready for answers.

    Raises:
        ValueError: One cannot be written.
    """
    kept = [pair for pair in headers if pair[0] not in _FRAMING]
    length: bytes | None = None
    closes = False
    if len(kept) != len(headers):
        for name, value in headers:
            if name == b"content-length":
                if not value.isdigit() or length is not None:
                    raise ValueError("content-length must be given once, as a number")
                length = value
            elif name == b"connection" and b"close" in value:
                closes = True
    return Block(encode(kept), length, closes=closes)


class Exchange:
    """A request, complete with its body, and the calls that answer it: ``respond``, or ``start``, ``write``, ``end``.

    Once the client has gone, calls that answer do nothing: nobody is there to be told. ``closed`` says so.

    Attributes:
        method: In capitals, one that llhttp knows.
        target: Path and query as received, or ``*``. A target in absolute form is already reduced to this.
        path: The target up to the first ``?``, not percent-decoded: what is matched is what is sent on.
        query: The rest, without ``?``.
        version: "1.1" or "1.0".
        headers: As received, names in lower case. Not to be changed: requests of a connection may share them.
        head: What the others here say of the request's head, in one; a ``note`` can be made on it.
        body: All of it, without the framing.
        peer: The client's address, without the port.
        started: An answer was begun.
        on_disconnect: Called when the client goes before the answer has ended; at most once.
        on_writable: Called with False when the client takes the answer too slowly (stop writing), with True when it
            has caught up.
    """

    __slots__ = (
        "_connection",
        "_left",
        "_silent",
        "body",
        "head",
        "headers",
        "method",
        "on_disconnect",
        "on_writable",
        "path",
        "peer",
        "query",
        "started",
        "target",
        "version",
    )

    def __init__(self, connection: Connection, head: RequestHead, body: bytes, peer: str) -> None:
        self._connection: Connection | None = connection
        self._left = 0  # bytes of the body still to be written; CHUNKED; UNTIL_CLOSE
        self._silent = head.method == "HEAD"  # the body is not written
        self.head = head
        self.method = head.method
        self.target = head.target
        self.path = head.path
        self.query = head.query
        self.version = head.version
        self.headers = head.headers
        self.body = body
        self.peer = peer
        self.started = False
        self.on_disconnect: Callable[[], None] | None = None
        self.on_writable: Callable[[bool], None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the exchange is over: answered, aborted, or the client has gone."""
        return self._connection is None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the field with this lower-case name."""
        return first(self.headers, name)

    def respond(self, status: int, headers: Headers | Block, body: bytes = b"") -> None:
        """Answer as a whole.

        ``content-length`` is written for you (to a HEAD request or with 304, the one among the headers is kept: it
        tells how long the body would be). ``connection: close`` among the headers ends the connection afterwards.

        Raises:
            ValueError: The status is below 200, or a header cannot be written.
            RuntimeError: An answer was begun before.
        """
        connection = self._connection
        if connection is None:
            return
        block = self._block(headers)
        if self._silent or status in BODILESS:
            length = block.length if block.length is not None or self.method != "HEAD" else b"%d" % len(body)
            connection.sender.write(self._head(connection, status, block, _length_line(status, length)))
        else:
            connection.sender.write(self._head(connection, status, block, b"content-length: %d\r\n" % len(body)))
            if body:
                connection.sender.write(body)
        connection.answered()

    def start(self, status: int, headers: Headers | Block, length: int | None = None) -> None:
        """Begin an answer whose body follows by ``write``.

        With a length, or ``content-length`` among the headers, that much must follow; otherwise it is sent in chunks,
        or to a client of HTTP/1.0, until the connection closes.

        Raises:
            ValueError: The status is below 200, or a header cannot be written.
            RuntimeError: An answer was begun before.
        """
        connection = self._connection
        if connection is None:
            return
        block = self._block(headers)
        given = block.length if length is None else b"%d" % length
        if self._silent or status in BODILESS:
            self._silent = True
            left, framing = 0, _length_line(status, given)
        elif given is not None:
            left, framing = int(given), b"content-length: %b\r\n" % given
        elif self.version == "1.0":
            left, framing = UNTIL_CLOSE, b""
            connection.keep_alive = False
        else:
            left, framing = CHUNKED, b"transfer-encoding: chunked\r\n"
        connection.sender.write(self._head(connection, status, block, framing))
        self._left = left

    def write(self, data: bytes) -> None:
        """Send a piece of the body, in this turn of the loop.

        Raises:
            ValueError: It is longer than the ``content-length`` announced.
        """
        connection = self._connection
        if connection is None or self._silent or not data:
            return
        sender, left = connection.sender, self._left
        if left == CHUNKED:
            if len(data) <= JOINED_BYTES:
                sender.write(b"%x\r\n%b\r\n" % (len(data), data))
                return
            sender.write(b"%x\r\n" % len(data))
            sender.write(data)
            sender.write(b"\r\n")
            return
        if left != UNTIL_CLOSE:
            if len(data) > left:
                raise ValueError(f"{len(data)} bytes more, but only {left} were announced")
            self._left = left - len(data)
        sender.write(data)

    def end(self) -> None:
        """The body is complete. If less was written than announced, the answer is aborted."""
        connection = self._connection
        if connection is None:
            return
        if not self._silent:
            if self._left == CHUNKED:
                connection.sender.write(b"0\r\n\r\n")
            elif self._left > 0:
                self.abort()
                return
        connection.answered()

    def abort(self) -> None:
        """Cut the connection, since the answer cannot be completed. The client can tell that it is not whole.

        What was written before still goes out, except where only the end of the connection would end the body: there
        the connection is reset.
        """
        connection = self._connection
        if connection is not None:
            connection.cut(reset=self._left == UNTIL_CLOSE)

    def over(self) -> None:
        """Let go of the connection and of whoever listens. Called by the connection, once."""
        self._connection = None
        self.on_writable = self.on_disconnect = None

    def _block(self, headers: Headers | Block) -> Block:
        if self.started:
            raise RuntimeError("the answer was begun before")
        return headers if isinstance(headers, Block) else answer_block(headers)

    def _head(self, connection: Connection, status: int, block: Block, framing: bytes) -> bytes:
        line, fields = status_line(status), block.lines
        self.started = True
        if block.closes or connection.server.draining:
            connection.keep_alive = False
        if not connection.keep_alive:
            return b"%b%b%b%b\r\n" % (line, fields, framing, _CLOSE)
        if self.version == "1.0":
            return b"%b%b%b%b\r\n" % (line, fields, framing, _KEEP)
        return b"%b%b%b\r\n" % (line, fields, framing)


def _length_line(status: int, length: bytes | None) -> bytes:
    return b"" if length is None or status == 204 else b"content-length: %b\r\n" % length
