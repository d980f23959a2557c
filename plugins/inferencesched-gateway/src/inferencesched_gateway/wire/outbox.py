"""What is written in one turn of the loop goes out at its end: in one piece for each connection, in the order written.

An answer is written as a head, a body and an end, and in a busy loop one turn writes to many connections. Each write of
its own is a system call, and wakes whoever waits for it while we are still busy: together that costs as much as all
that is done with a request. Nothing waits for longer than the turn that it was written in; it waits for less when it is
much (`_MOST_BYTES`, so that a slow peer is noticed and memory is bounded) or when many wait (`_MOST_WAITING`, so that
the first of a long turn does not wait for the last).
"""

from __future__ import annotations

import asyncio

__all__ = ["JOINED_BYTES", "Outbox", "Sender"]

JOINED_BYTES = 16_384  # beyond, copying costs more than a second buffer
_MOST_BYTES = 65_536  # asyncio's own mark above which a peer is too slow
_MOST_WAITING = 64


class Outbox:
    """The senders of one loop that have something to send when this turn is over."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Sender] = []

    def add(self, sender: Sender) -> None:
        """See that it is flushed before the next turn."""
        waiting = self._waiting
        waiting.append(sender)
        if len(waiting) == 1:
            self._loop.call_soon(self.flush)
        elif len(waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            try:
                sender.flush()
            except Exception as error:  # noqa: BLE001 - one that fails must not hold back the others
                self._loop.call_exception_handler({"message": "a transport failed to write", "exception": error})


class Sender:
    """One connection's way out. What ends a connection has to go through here, since there may be more to send."""

    __slots__ = ("_outbox", "_pieces", "_size", "_transport")

    def __init__(self, outbox: Outbox, transport: asyncio.Transport) -> None:
        self._outbox = outbox
        self._transport = transport
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken yet."""
        return self._size + self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send at the end of this turn, or at once if that is much."""
        pieces = self._pieces
        pieces.append(data)
        size = self._size = self._size + len(data)
        if size > _MOST_BYTES:
            self.flush()
        elif len(pieces) == 1:
            self._outbox.add(self)

    def flush(self) -> None:
        """Send now."""
        pieces, size = self._pieces, self._size
        if not pieces:
            return
        self._pieces, self._size = [], 0
        transport = self._transport
        if transport.is_closing():
            return  # it broke, and the protocol will be told so
        if size <= JOINED_BYTES:
            transport.write(b"".join(pieces))
        else:
            transport.writelines(pieces)

    def write_eof(self) -> None:
        """Send now, and say that nothing more will come, where a transport can say so."""
        self.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Send now, and close as soon as all of it is on its way."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what waits to be sent is lost."""
        self.drop()
        self._transport.abort()

    def drop(self) -> None:
        """Forget what waits to be sent."""
        self._pieces, self._size = [], 0
