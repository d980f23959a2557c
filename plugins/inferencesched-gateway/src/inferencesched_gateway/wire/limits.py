"""How much and how long: what the wire takes from a stranger before it says no. Values only."""

from __future__ import annotations

import math

import attrs

__all__ = ["ClientTimeouts", "Limits", "ServerTimeouts"]


@attrs.frozen(kw_only=True)
class Limits:
    """The most that one message may bring.

    Attributes:
        head_bytes: Start line and header fields together, with line ends (431; of an answer: it failed).
        header_count: Header fields (431).
        target_bytes: The request target (414).
        body_bytes: The body of a request (413): by its content-length before a byte is buffered, chunked as soon as
            it is exceeded. Answers of an upstream are passed on piece by piece and have no such limit.
    """

    head_bytes: int = 65_536
    header_count: int = 128
    target_bytes: int = 8_192
    body_bytes: int = 64 * 2**20  # a few images in base64


@attrs.frozen(kw_only=True)
class ServerTimeouts:
    """How long a client may take, in seconds. Told on a grid of 50 ms, never early.

    Attributes:
        head: From the first byte of a request, or the start of a connection, to the end of its head (408).
        body: Between two pieces of its body (408).
        idle: Between two requests of one connection; then it is closed.
        write: Without taking a single byte while an answer waits to be sent; then it is cut off.
        linger: For reading on, unheard, after a refusal, so that the client gets to see the answer.
    """

    head: float = 15.0
    body: float = 30.0
    idle: float = 75.0
    write: float = 60.0
    linger: float = 2.0


@attrs.frozen(kw_only=True)
class ClientTimeouts:
    """How long an upstream may take, in seconds. Told on a grid of 50 ms, never early.

    Attributes:
        connect: For name, connection and TLS handshake together.
        send: Without taking a single byte of the request while some of it waits to be sent.
        head: From the request (as soon as the system has taken all of it) to the end of the answer's head.
        body: Between two pieces of the answer. Time in which the call is paused does not count.
        total: For everything.
    """

    connect: float = 5.0
    send: float = 30.0
    head: float = 600.0  # a long answer that is not streamed is computed before its head is sent
    body: float = 300.0
    total: float = math.inf
