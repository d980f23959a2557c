"""Heading: what a head says, whatever body follows: read once, for all messages of a connection that repeat it.

The wire knows a head that it has read before on the same connection, and hands it on with the note that was made on it
(see `inferencesched_gateway.wire.repeats`). These are the notes. Nothing in them depends on a content-length.
"""

from __future__ import annotations

from collections.abc import Mapping

from inferencesched_gateway.control import Control, read_control
from inferencesched_gateway.headers import from_engine, readable, to_engine
from inferencesched_gateway.setup import Setup
from inferencesched_gateway.wire import Block, Exchange, Headers, answer_block, request_block

__all__ = ["AnswerHeading", "Heading"]

_LONGEST_ID = 128
_UNTOLD = Control()
"""What strangers may say of how they are treated."""


class Heading:
    """What the head of a request says.

    Args:
        exchange: one of those that have this head.
        setup: in force; another one may understand the head otherwise.
        trusted: whether the client's control headers count.
        session_header: the name of the one that names the session.

    Attributes:
        received: the headers as the client sent them, but perhaps for their content-length.
        operation: what is asked for; None for what is passed through unread.
        request_id: the client's name for the request; None if it has given none that can be used.
        control: how the request is to be treated.
        session: the session it belongs to.
    """

    __slots__ = (
        "_block",
        "_readable",
        "control",
        "method",
        "operation",
        "query",
        "received",
        "request_id",
        "session",
        "setup",
    )

    def __init__(self, exchange: Exchange, setup: Setup, *, trusted: bool, session_header: str) -> None:
        self.setup = setup
        self.received = exchange.headers
        self.method = exchange.method.encode()
        self.query = exchange.query.decode("latin-1")
        self.operation = setup.operations.at(exchange.path) if exchange.method == "POST" else None
        self.request_id = _usable_id(exchange.header(b"x-request-id"))
        self._readable = readable(exchange.headers, trusted=trusted)
        self.control = read_control(self._readable) if trusted else _UNTOLD
        self.session = self._readable.get(session_header)
        self._block: Block | None = None

    def headers_of(self, exchange: Exchange) -> Mapping[str, str]:
        """Return what may be read of the headers of this very exchange."""
        if exchange.headers is self.received:
            return self._readable
        length = exchange.header(b"content-length")
        return self._readable if length is None else {**self._readable, "content-length": length.decode("ascii")}

    def forwarded(self) -> Block:
        """Return what `to_engine` leaves of the headers, without anything of ours, ready to be written.

        Raises:
            ValueError: they cannot be written.
        """
        if self._block is None:
            self._block = request_block(to_engine(self.received, [], is_read=self.operation is not None))
        return self._block


class AnswerHeading:
    """What the head of an engine's answer says.

    Attributes:
        is_stream: whether the body is a stream of events.
        is_json: whether the body is JSON in one piece.
    """

    __slots__ = ("_block", "_received", "is_json", "is_stream")

    def __init__(self, headers: Headers) -> None:
        kind = next((value.lower() for name, value in headers if name == b"content-type"), b"")
        self.is_stream = kind.startswith(b"text/event-stream")
        self.is_json = kind.startswith(b"application/json")
        self._received = headers
        self._block: Block | None = None

    def passed_on(self) -> Block:
        """Return what `from_engine` leaves of the headers, without a length and anything of ours, ready to be written.

        Raises:
            ValueError: they cannot be written.
        """
        if self._block is None:
            self._block = answer_block(from_engine(self._received, [], keep_length=False))
        return self._block


def _usable_id(given: bytes | None) -> str | None:
    if given is None or not 0 < len(given) <= _LONGEST_ID or not given.isascii():
        return None
    text = given.decode("ascii")
    return text if text.isprintable() else None
