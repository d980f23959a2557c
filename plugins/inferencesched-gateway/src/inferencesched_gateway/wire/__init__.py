"""HTTP/1.1 on both sides of a gateway, as callbacks: no task and no future for a request.

A gateway reads a request, decides, passes it on, and passes back what comes. The decision takes microseconds, so what
carries the bytes decides how fast the gateway is. The usual pair of server and client pays for generality with each
request: a task, futures, header objects, URL objects, streams. This package is what is left without them: two asyncio
protocols, llhttp (httptools) for heads, and calls. It runs on any asyncio loop, and is meant for uvloop.

CPU of a proxy that decides nothing, `bench/wire.py --peers`, Python 3.11 on a shared machine with two cores, in µs:

    =======================  ============  =======  =============  =======
    each                     bytes copied     wire  wire, asyncio  aiohttp
    =======================  ============  =======  =============  =======
    1 KiB, 32 at a time                15       30             35      142
    64 KiB, 32 at a time               28       86             82      193
    chunk of 32 streams                 9       14             15       23
    =======================  ============  =======  =============  =======

*Bytes copied* is a relay without HTTP: what the system and uvloop take for themselves.

Who does what, from the socket inwards::

    server      listeners, drain              client      requests, retries of dead connections
    connection  one client's connection       upstream    one connection to an upstream
    exchange    one request, its answer       pool        idle connections, by origin
                                              origin      where an upstream is

    heads       a message's first lines, and where its body ends: the one place that decides it
    chunked     bodies in chunks              headers     what may be written, and what is passed on
    timers      deadlines, one timer for all  limits      how much and how long
    outbox      one write a turn and connection   repeats  a head that was read before

What it refuses to know: models, routes, engines, JSON. What it does not do: HTTP/2, upgrades, tunnels, request bodies
piece by piece (an exchange is handed over complete), trailers (read and dropped), a ``date`` field.
"""

from inferencesched_gateway.wire.client import Answer, Call, Client, request_block
from inferencesched_gateway.wire.errors import UpstreamError
from inferencesched_gateway.wire.exchange import Exchange, answer_block
from inferencesched_gateway.wire.headers import Block, Headers, end_to_end
from inferencesched_gateway.wire.heads import ResponseHead
from inferencesched_gateway.wire.limits import ClientTimeouts, Limits, ServerTimeouts
from inferencesched_gateway.wire.origin import Origin
from inferencesched_gateway.wire.server import Server

__all__ = [
    "Answer",
    "Block",
    "Call",
    "Client",
    "ClientTimeouts",
    "Exchange",
    "Headers",
    "Limits",
    "Origin",
    "ResponseHead",
    "Server",
    "ServerTimeouts",
    "UpstreamError",
    "answer_block",
    "end_to_end",
    "request_block",
]
