"""HTTP/1.1 on both sides of a gateway, as callbacks: no task and no future for a request."""

from inferencesched_gateway.wire.client import Answer, Call, Client
from inferencesched_gateway.wire.errors import UpstreamError
from inferencesched_gateway.wire.exchange import Exchange
from inferencesched_gateway.wire.headers import Headers, end_to_end
from inferencesched_gateway.wire.limits import ClientTimeouts, Limits, ServerTimeouts
from inferencesched_gateway.wire.origin import Origin
from inferencesched_gateway.wire.server import Server

__all__ = [
    "Answer",
    "Call",
    "Client",
    "ClientTimeouts",
    "Exchange",
    "Headers",
    "Limits",
    "Origin",
    "Server",
    "ServerTimeouts",
    "UpstreamError",
    "end_to_end",
]
