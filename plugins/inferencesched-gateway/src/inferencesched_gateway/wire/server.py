"""The server: listeners, the connections that they accept, and how they end. What a request means is the handler's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from inferencesched_gateway.wire.connection import Connection
from inferencesched_gateway.wire.exchange import Exchange
from inferencesched_gateway.wire.headers import Headers
from inferencesched_gateway.wire.limits import Limits, ServerTimeouts
from inferencesched_gateway.wire.outbox import Outbox
from inferencesched_gateway.wire.timers import Timers

__all__ = ["Refuse", "Server"]

Refuse = Callable[[int, str], tuple[Headers, bytes]]
_BACKLOG = 2048  # connections that wait to be accepted; the system's own limit applies too


def _plain(status: int, reason: str) -> tuple[Headers, bytes]:
    return [(b"content-type", b"text/plain; charset=utf-8")], f"{status}: {reason}\n".encode()


class Server:
    """Listens, and calls ``handler`` with each request as soon as it is complete.

    The handler answers at once or later, through the `Exchange`. If it raises, the client gets a 500 (or a cut answer,
    if one was begun) and the loop's exception handler the error.

    Args:
        handler: Called once a request, inside the loop. It must not block.
        limits: What one request may bring.
        timeouts: How long a client may take.
        tls: Serve TLS with this context.
        refuse: Makes headers and body of the answers that the wire gives by itself, from the status and a sentence that
            quotes nothing of the request: 400, 405, 408, 413, 414, 417, 431, 500, 505.
        half_close: What it means that a client shuts down its sending side while it waits: that it has gone (False, as
            most servers take it, and the only way to notice), or that it has merely said everything (True).

    Attributes:
        port: Of the listener started last; the real one, if 0 was asked for.
        exchanges: Requests being answered now.
        draining: `stop_accepting` was called.
    """

    def __init__(
        self,
        handler: Callable[[Exchange], None],
        *,
        limits: Limits | None = None,
        timeouts: ServerTimeouts | None = None,
        tls: ssl.SSLContext | None = None,
        refuse: Refuse = _plain,
        half_close: bool = False,
    ) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self.timeouts = timeouts or ServerTimeouts()
        self.refuse = refuse
        self.half_close = half_close
        self.port = 0
        self.exchanges = 0
        self.draining = False
        self.loop: asyncio.AbstractEventLoop
        self.timers: Timers
        self.outbox: Outbox
        self._tls = tls
        self._listeners: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def connections(self) -> int:
        """Connections open now, TLS handshakes not counted."""
        return len(self._connections)

    async def start(self, host: str, port: int) -> None:
        """Listen on an address; may be called again for another one.

        Raises:
            OSError: The address cannot be had.
        """
        if not self._listeners:
            self.loop = asyncio.get_running_loop()
            self.timers = Timers(self.loop)
            self.outbox = Outbox(self.loop)
        listener = await self.loop.create_server(
            lambda: Connection(self), host, port, ssl=self._tls, backlog=_BACKLOG, reuse_address=True
        )
        self._listeners.append(listener)
        self.port = listener.sockets[0].getsockname()[1]

    def stop_accepting(self) -> None:
        """Close listeners and idle connections; answers from now on end their connection."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._connections):
            connection.close_if_idle()

    async def wait_idle(self, timeout: float) -> bool:  # noqa: ASYNC109 - how long is the caller's question
        """Wait until no request is under way, arriving or being answered; return whether that came in time.

        What was answered has then been sent, as far as the system took it.

        After `stop_accepting`: until the last connection has closed, its answer sent.
        """
        if self._is_idle():
            return True
        future = self.loop.create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    def abort_all(self) -> None:
        """Cut every connection; exchanges learn of it as of any disconnect."""
        for connection in list(self._connections):
            connection.abort()

    # What connections call

    def connected(self, connection: Connection) -> None:
        """A connection was accepted, and its TLS handshake is done."""
        self._connections.add(connection)
        if self.draining:
            connection.close_if_idle()

    def disconnected(self, connection: Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if self._waiting:
            self.loop.call_soon(self._tell_idle)

    def finished(self) -> None:
        """An exchange has ended."""
        self.exchanges -= 1
        if self._waiting:
            self.loop.call_soon(self._tell_idle)

    def handle(self, exchange: Exchange) -> None:
        """Hand a request over, and answer for a handler that fails."""
        self.exchanges += 1
        try:
            self.handler(exchange)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not wait for ever
            self.loop.call_exception_handler({"message": "the handler of a request failed", "exception": error})
            if exchange.started:
                exchange.abort()
            else:
                headers, body = self.refuse(500, "internal error")
                exchange.respond(500, headers, body)

    def _is_idle(self) -> bool:
        self.outbox.flush()
        if self.draining:
            return not self._connections
        return not self.exchanges and all(each.idle for each in self._connections)

    def _tell_idle(self) -> None:
        if self._waiting and self._is_idle():
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
