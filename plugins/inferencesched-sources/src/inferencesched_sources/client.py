"""Asking over HTTP: a line to each server, over which it is asked for the same page again and again.

A line keeps one connection. It sends a request that was made beforehand and tells its caller what became of it, in
callbacks; only making a connection takes a task. It has no clock: the caller gives up when it has waited long enough.

    ask ─┬─ there is a connection: send ─┬─ answer complete ─▶ answered, or failed; kept if the server keeps it
         │                               ├─ closed before a byte came: it was stale. Connect, once
         └─ there is none: connect, send ┴─ closed, not HTTP, too long ─▶ failed
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Protocol, cast

from inferencesched_sources.addresses import Place
from inferencesched_sources.answers import Answer, Refused
from inferencesched_sources.names import Names

__all__ = ["Caller", "Client", "Line"]

_NEXT_ADDRESS_SECONDS = 0.25
"""After which the next address of a name is tried, as in RFC 8305; the last one has all the time there is."""

_BUFFER_BYTES = 262_144
"""Read at once, at most. asyncio would allocate as many for every read, at the price of a whole look."""


class Caller(Protocol):
    """Who is told how it went: one of the two, once for every `Line.ask`, possibly before it returns."""

    def answered(self, page: bytes, /) -> None:
        """There is a page."""

    def failed(self, why: str, /) -> None:
        """There is none, for a reason in words that do not name the server."""


class Client:
    """What all lines have in common. Made and used inside a running event loop.

    Args:
        accept: what a page is asked for as.
        largest: bytes of a page.
        tls: for servers with TLS.
    """

    def __init__(self, *, accept: str, largest: int, tls: ssl.SSLContext) -> None:
        self.loop = asyncio.get_running_loop()
        self.accept = accept
        self.largest = largest
        self.tls = tls
        self.names = Names()
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._connections: set[_Connection] = set()
        self._closed: asyncio.Future[None] | None = None

    @property
    def connections(self) -> int:
        """How many are open, or being opened."""
        return len(self._connections)

    async def close(self) -> None:
        """Close every connection, and return when that is done. The callers of those asking are told nothing."""
        for connection in list(self._connections):
            connection.drop()
        if self._connections:
            self._closed = self.loop.create_future()
            await self._closed
        await self.names.close()

    def connect(self, line: Line, place: Place) -> _Connection:
        """Open a connection, which then asks."""
        connection = _Connection(self, line, place)
        self._connections.add(connection)
        return connection

    def gone(self, connection: _Connection) -> None:
        """A connection is closed, or was never made."""
        self._connections.discard(connection)
        if not self._connections and self._closed is not None and not self._closed.done():
            self._closed.set_result(None)


class Line:
    """One server, asked for one page.

    Args:
        url: where the page is; what is wrong with it is said when it is asked for.
    """

    __slots__ = ("_asking", "_caller", "_client", "_connection", "_place", "_wrong")

    def __init__(self, client: Client, url: str, caller: Caller) -> None:
        self._client = client
        self._caller = caller
        self._connection: _Connection | None = None
        self._asking = False
        self.move(url)

    def move(self, url: str) -> None:
        """Ask there, beginning with the next time; an answer that is awaited comes yet."""
        self._place: Place | None = None
        self._wrong = ""
        try:
            self._place = Place.of(url, accept=self._client.accept)
        except ValueError as error:
            self._wrong = in_words(error)
        if self._connection is not None:
            self._connection.is_old = True

    def ask(self) -> None:
        """Ask for the page. Not while an answer is awaited."""
        if self._connection is not None and self._connection.is_old:
            self.close()
        self._asking = True
        if self._place is None:
            self._fail(self._wrong)
        elif self._connection is None:
            self._connection = self._client.connect(self, self._place)
        else:
            self._connection.send()

    def give_up(self, why: str) -> None:
        """Do not wait any longer."""
        answer = None if self._connection is None else self._connection.answer
        self.close()
        self._fail(why if answer is None or answer.status in {0, 200} else f"answered {answer.status}")

    def close(self) -> None:
        """Close the connection; the caller is told nothing."""
        self._asking = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()

    # What the connection calls

    def read(self, data: memoryview, answer: Answer) -> None:
        """Something has come."""
        if not self._asking:
            self.close()  # what nobody asked for: what is this connection in the middle of?
            return
        try:
            answer.feed(data)
        except Refused as refused:
            self.give_up(str(refused))
            return
        if answer.complete:
            self._told(answer)

    def lost(self, connection: _Connection, answer: Answer, error: Exception | None) -> None:
        """The connection was closed from the other side, or broke."""
        self._connection = None
        if not self._asking:
            return
        if error is None:
            answer.end()
        if answer.complete:
            self._told(answer)
        elif connection.is_reused and not answer.begun and self._place is not None:
            self._connection = self._client.connect(self, self._place)
        elif answer.status not in {0, 200}:
            self._fail(f"answered {answer.status}")
        elif error is not None:
            self._fail(in_words(error))
        else:
            self._fail(
                f"cannot be asked (it closed the connection {'in' if answer.begun else 'instead of'} its answer)"
            )

    def unreachable(self, why: str) -> None:
        """No connection could be made."""
        self._connection = None
        if self._asking:
            self._fail(why)

    def _told(self, answer: Answer) -> None:
        if not answer.reusable:
            self.close()
        self._asking = False
        try:
            page = answer.page()
        except Refused as refused:
            self._caller.failed(str(refused))
        else:
            self._caller.answered(page)

    def _fail(self, why: str) -> None:
        self._asking = False
        self._caller.failed(why)


class _Connection(asyncio.BufferedProtocol):
    """One connection of a line, from its opening to its end. Without a line, nothing of it matters any more."""

    __slots__ = ("_client", "_line", "_opening", "_place", "_transport", "answer", "is_old", "is_reused")

    def __init__(self, client: Client, line: Line, place: Place) -> None:
        self.answer = Answer(client.largest)
        self.is_old = False
        self.is_reused = False
        self._client = client
        self._line: Line | None = line
        self._place = place
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = client.loop.create_task(self._open())
        self._opening.add_done_callback(self._opened)

    def send(self) -> None:
        """Ask once more."""
        assert self._transport is not None
        self.is_reused = True
        self.answer.begin()
        self._transport.write(self._place.request)

    def drop(self) -> None:
        """Close it at once."""
        self._line = None
        if self._transport is not None:
            self._transport.abort()
        elif self._opening is not None:
            self._opening.cancel()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: ask."""
        self._transport = cast("asyncio.Transport", transport)
        if self._line is None:
            self._transport.abort()
        else:
            self._transport.write(self._place.request)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Something is to be read: into the buffer of all, where it stays only until `buffer_updated` has returned."""
        return self._client.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Some of the answer."""
        if self._line is not None:
            self._line.read(self._client.buffer[:nbytes], self.answer)

    def eof_received(self) -> None:
        """The server sends no more."""
        self._lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, whoever ended it."""
        self._lost(error)
        self._client.gone(self)

    def _lost(self, error: Exception | None) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.lost(self, self.answer, error)

    # Opening

    async def _open(self) -> None:
        """Resolve and connect; `connection_made` goes on from there."""
        place = self._place
        addresses = await self._client.names.addresses(place.host, place.port)
        tls = self._client.tls if place.tls else None
        for address in addresses:
            is_last = address == addresses[-1]
            try:
                async with asyncio.timeout(None if is_last else _NEXT_ADDRESS_SECONDS):
                    await self._client.loop.create_connection(
                        lambda: self,
                        address,
                        place.port,
                        ssl=tls,
                        server_hostname=None if tls is None else place.host.rstrip("."),
                    )
            except OSError:
                if is_last:
                    raise
            if self._transport is not None:
                return

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening = None
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            self._client.gone(self)  # connection_lost may never be called: uvloop closes what was half made
        line = self._line
        if error is not None and line is not None:
            self._line = None
            line.unreachable(cannot_connect(error) if isinstance(error, OSError) else in_words(error))


def cannot_connect(error: OSError) -> str:
    """Say why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        why = f"no TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    elif isinstance(error, socket.gaierror) or not error.errno or error.errno < 0:
        why = error.strerror or str(error) or type(error).__name__
    else:
        why = os.strerror(error.errno)
    return f"cannot connect ({why})"


def in_words(error: BaseException) -> str:
    """Say what went wrong, in the words of whoever noticed."""
    return f"cannot be asked ({type(error).__name__}: {error})"
