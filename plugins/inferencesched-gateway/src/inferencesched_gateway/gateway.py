"""Gateway: from a request as received to a plan and a place: what is asked for, by whom, for which pool, how urgent.

    exchange ─▶ ours? (health, models, receipts) ─▶ answered here
             └▶ decode once ─▶ read ─▶ route ─▶ rewrite ─▶ Plan ─▶ Relay (and copies for mirrors)

Everything here is done in one go when the request is complete, on the event loop's thread; nothing waits.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any

import attrs
import orjson

from inferencesched import Decision, Rejection, Request
from inferencesched.apis import (
    Asked,
    BadBody,
    ErrorAnswer,
    Operation,
    error_answer,
    read_request,
    rejection_answer,
)
from inferencesched.resources import NoRoute
from inferencesched_gateway.control import read_control
from inferencesched_gateway.headers import DESTINATION, changed
from inferencesched_gateway.heading import Heading
from inferencesched_gateway.mirror import Mirrors
from inferencesched_gateway.outcome import Outcome
from inferencesched_gateway.records import Records
from inferencesched_gateway.relay import Plan, Relay
from inferencesched_gateway.setup import Setup
from inferencesched_gateway.trust import TrustedNetworks
from inferencesched_gateway.wire import Block, Client, Exchange, Headers, Origin

__all__ = ["Gateway", "GatewaySettings"]

_log = logging.getLogger(__name__)

_REMEMBERED_ORIGINS = 4096


_UNREAD = Asked(None)
"""What is known of a request that is passed through."""


def _lower(name: str) -> str:
    return name.lower()


@attrs.frozen
class GatewaySettings:
    """What can be said about how requests are treated.

    Attributes:
        attempts: endpoints that are tried before the first byte, the first one included.
        session_header: names the session: it keeps a session's requests together in traffic splits, and is known to
            plugins as the request's session.
        trusted: networks whose control headers count.
        keep_receipts: how many of the latest requests can be asked about.
    """

    attempts: int = attrs.field(default=3, validator=attrs.validators.ge(1))
    session_header: str = attrs.field(
        default="x-session-id", converter=_lower, validator=attrs.validators.matches_re(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
    )
    trusted: tuple[str, ...] = ()
    keep_receipts: int = attrs.field(default=256, validator=attrs.validators.ge(0))


class Gateway:
    """Takes exchanges, and finds each its pool.

    Args:
        setup: pools and routes in force; replaced as a whole on reload.
        client: the engines' side of the wire.
        settings: see there.
        rng: draws among the backends of a route.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        setup: Setup,
        client: Client,
        settings: GatewaySettings,
        *,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.setup = setup
        self.client = client
        self.settings = settings
        self.clock = clock
        self.records = Records(most=settings.keep_receipts)
        self.mirrors = Mirrors(self)
        self.trusted = TrustedNetworks(settings.trusted)
        self._rng = rng
        self._origins: dict[str, Origin] = {}
        self._destinations: dict[str, Block] = {}
        self._ids = map(f"{os.urandom(4).hex()}-{{:x}}".format, itertools.count(1))

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, or see that it is carried to where it will be."""
        heading = self._heading(exchange)
        request_id, operation = heading.request_id or next(self._ids), heading.operation
        try:
            self._carry(exchange, request_id, heading)
        except BadBody as error:
            self._turn_away(exchange, operation, request_id, status=400, code="invalid-request", message=error)
        except Exception:  # noqa: BLE001 — our own fault, whatever it is: it must not end without an answer
            _log.exception("request %s: failed before it was placed", request_id)
            if not exchange.started:
                self._turn_away(exchange, operation, request_id, status=500, code="internal")

    def _carry(self, exchange: Exchange, request_id: str, heading: Heading) -> None:
        setup, operation = heading.setup, heading.operation
        headers, control, session = heading.headers_of(exchange), heading.control, heading.session
        body: dict[str, Any] | None = None
        asked = _UNREAD
        if operation is not None:
            body = _decoded(exchange.body)
            asked = read_request(operation, body, dumps=orjson.dumps)
        elif not setup.operations.passes_through:
            raise BadBody("", "sent to a path that a configured parser knows")
        routed = setup.table.route(
            host=headers.get("host", ""),
            method=exchange.method,
            path=exchange.path,
            query=heading.query,
            headers=headers,
            model=asked.model,
            key=session or (control.flow if control.is_flow_told else None),
            rng=self._rng,
        )
        if isinstance(routed, NoRoute):
            self._turn_away(
                exchange,
                operation,
                request_id,
                status=routed.status,
                code=routed.code,
                message=routed.message,
                model=asked.model,
            )
            return
        if routed.request_headers:
            headers = changed(headers, routed.request_headers)
            control = read_control(headers)
        model = routed.model or control.model or asked.model
        content, restored = exchange.body, None
        if operation is not None and operation.has_model and body is not None and model != asked.model:
            content, restored = orjson.dumps({**body, "model": model}), asked.model
        namespace, name = routed.pool
        priority = 0
        if control.objective is not None:
            priority = setup.manifest.resources.priority(control.objective, name, namespace)
        request = Request(
            request_id,
            model or "",
            asked.prompt,
            priority=priority,
            flow=control.flow,
            session=session,
            headers=headers,
            cache_salt=asked.cache_salt,
            media=asked.media,
            media_placed=asked.is_media_placed,
            prompt_tokens=asked.prompt_tokens,
            max_output_tokens=asked.max_output_tokens,
            size_bytes=len(exchange.body),
            deadline=None if routed.timeout is None else self.clock() + routed.timeout,
            ttft_slo=control.ttft_slo,
            tpot_slo=control.tpot_slo,
        )
        plan = Plan(
            request,
            routed,
            heading,
            exchange.target if routed.path is None else _target(routed.path, exchange.query),
            content,
            restored,
            control.subset,
        )
        for mirror in routed.mirrors:
            self.mirrors.send(plan._replace(body=exchange.body), setup.pools[mirror])
        Relay(self, plan, setup.pools[routed.pool], exchange).start()

    # --- what relays need ----------------------------------------------------------------------------------------

    def origin(self, decision: Decision, hostname: str | None = None) -> Origin:
        """Return where to connect to; `hostname` is what to ask for there, if a route says so."""
        address = decision.address
        origin = self._origins.get(address)
        if origin is None:
            if len(self._origins) >= _REMEMBERED_ORIGINS:
                self._origins.clear()
            origin = self._origins[address] = Origin.parse(address)
        return origin if hostname is None else attrs.evolve(origin, authority=hostname.encode("ascii"))

    def destination(self, address: str) -> Block:
        """Return the header that tells an engine who it was taken for, ready to be written."""
        block = self._destinations.get(address)
        if block is None:
            if len(self._destinations) >= _REMEMBERED_ORIGINS:
                self._destinations.clear()
            block = self._destinations[address] = Block.line(DESTINATION, address.encode())
        return block

    def later(self, function: Callable[[], None]) -> None:
        """Call `function` when everything that is ready now has been done."""
        asyncio.get_running_loop().call_soon(function)

    def refuse(self, exchange: Exchange, rejection: Rejection, operation: Operation | None) -> None:
        """Answer a request that gets no place."""
        _respond(exchange, rejection_answer(operation, rejection), rejection.request_id)

    def answer_error(
        self,
        exchange: Exchange,
        operation: Operation | None,
        request_id: str,
        *,
        status: int,
        code: str,
        message: str | BadBody = "",
    ) -> None:
        """Answer a request that cannot be carried, in the shape of its own API."""
        _respond(exchange, error_answer(operation, status, message, code=code), request_id)

    def _turn_away(
        self,
        exchange: Exchange,
        operation: Operation | None,
        request_id: str,
        *,
        status: int,
        code: str,
        message: str | BadBody = "",
        model: str | None = None,
    ) -> None:
        """Answer a request that comes to no pool, and keep a record of it."""
        self.answer_error(exchange, operation, request_id, status=status, code=code, message=message)
        self.records.ended(Outcome(request_id, model=model or "", status=status, result="refused"), None)

    def refuse_unread(self, status: int, reason: str) -> tuple[Headers, bytes]:
        """Return headers and body for a request that the wire does not take."""
        self.records.ended(Outcome(next(self._ids), status=status, result="refused"), None)
        answer = error_answer(None, status, f"{reason[:1].upper()}{reason[1:]}.", code="refused")
        return _headers(answer), answer.content

    # --- inside ----------------------------------------------------------------------------------------------------

    def _heading(self, exchange: Exchange) -> Heading:
        """Return what the head says: the note that was made on it, unless that was under another setup."""
        note: Heading | None = exchange.head.note
        if note is None or note.setup is not self.setup:
            is_trusted = self.trusted.covers(exchange.peer)
            note = Heading(exchange, self.setup, trusted=is_trusted, session_header=self.settings.session_header)
            exchange.head.note = note
        return note


def _respond(exchange: Exchange, answer: ErrorAnswer, request_id: str) -> None:
    exchange.respond(answer.status, [*_headers(answer), (b"x-request-id", request_id.encode())], answer.content)


def _headers(answer: ErrorAnswer) -> Headers:
    return [(name.encode(), value.encode()) for name, value in answer.headers.items()]


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadBody("", f"JSON; it is not at line {error.lineno}, column {error.colno}") from None
    if not isinstance(body, dict):
        raise BadBody("", "a JSON object")
    return body


def _target(path: str, query: bytes) -> bytes:
    return path.encode("latin-1") + (b"?" + query if query else b"")
