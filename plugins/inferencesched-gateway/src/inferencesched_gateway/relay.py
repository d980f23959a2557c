"""Relay: the life of one request on its way through the gateway.

    waiting ─▶ assigned ─▶ sent ─▶ head ─▶ first byte ─▶ … ─▶ end
       │          ▲          │       │                 │
       │          └──────────┴───────┘ next fallback   └─ fails: an error event ends the stream
       └─ rejected, or the client goes away

Nothing has reached the client before the first byte of the answer: until then another endpoint may be tried, in the
order that the decision ranked them, and the lease moves along. Afterwards there is no other endpoint. Whichever way it
ends, the place is given back exactly once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import attrs
import orjson

from inferencesched import Decision, Rejection, Request
from inferencesched.apis import (
    StreamReader,
    Usage,
    error_event,
    restore_model,
    upstream_answer,
    usage_of,
)
from inferencesched.events import Ticket
from inferencesched.resources import Routed
from inferencesched_gateway.headers import DESTINATION, from_engine, to_engine
from inferencesched_gateway.heading import AnswerHeading, Heading
from inferencesched_gateway.outcome import Outcome
from inferencesched_gateway.pool import Pool
from inferencesched_gateway.wire import Block, Call, Exchange, Headers, ResponseHead, UpstreamError

if TYPE_CHECKING:
    from inferencesched_gateway.gateway import Gateway

__all__ = ["Plan", "Relay"]

_log = logging.getLogger(__name__)

_TRY_ELSEWHERE = frozenset({502, 503, 504})
"""Answers by which a server says that it cannot serve now, and that another one might."""

_TOUCH_SECONDS = 60.0
"""How often a stream says that it is alive, so that its lease is not taken for lost."""

_LARGEST_READ = 4 * 1024 * 1024
"""Bytes of an answer in one piece that is read for its usage; a longer one is passed on unread."""


class Plan(NamedTuple):
    """What is to be done with one request, as read and routed.

    Attributes:
        request: as it is to be placed.
        routed: which pool, and what the route changes.
        heading: what its head says.
        target: path and query to ask the engine for.
        body: what to send: the client's own bytes, unless the model's name had to be changed in it.
        model: the client's name for the model, to be restored in the answer; None where nothing was changed.
        subset: endpoints that may be used; None for all.
    """

    request: Request
    routed: Routed
    heading: Heading
    target: bytes
    body: bytes
    model: str | None = None
    subset: tuple[str, ...] | None = None

    @property
    def id_header(self) -> tuple[bytes, bytes]:
        """The header that names the request, on both sides."""
        return b"x-request-id", self.request.id.encode("ascii")


class Relay:
    """Carries one request to an engine and its answer back.

    Args:
        gateway: whose client, clock and records are used.
        plan: what is to be done.
        pool: where.
        exchange: the client's side.
    """

    __slots__ = (
        "_attempts",
        "_began",
        "_call",
        "_collected",
        "_decision",
        "_exchange",
        "_first",
        "_gateway",
        "_head",
        "_id",
        "_is_held",
        "_is_over",
        "_placed",
        "_plan",
        "_pool",
        "_reader",
        "_receipt",
        "_size",
        "_status",
        "_ticket",
        "_touched",
    )

    def __init__(self, gateway: Gateway, plan: Plan, pool: Pool, exchange: Exchange) -> None:
        self._gateway = gateway
        self._plan = plan
        self._pool = pool
        self._exchange = exchange
        self._id = Block.line(*plan.id_header)
        self._began = gateway.clock()
        self._placed: float | None = None
        self._first: float | None = None
        self._touched = 0.0
        self._ticket: Ticket | None = None
        self._decision: Decision | None = None
        self._receipt: Rejection | None = None
        self._call: Call | None = None
        self._head: ResponseHead | None = None  # of the answer, while nothing of it has been passed on
        self._status = 0
        self._reader: StreamReader | None = None
        self._collected: list[bytes] | None = None
        self._is_held = False  # the whole of it is waited for, because it may have to be changed
        self._size = 0
        self._attempts = 0
        self._is_over = False
        exchange.on_disconnect = self._gone
        exchange.on_writable = self._writable

    def start(self) -> None:
        """Ask for a place."""
        self._ticket = self._pool.submit(
            self._plan.request, self, subset=self._plan.subset, n=self._gateway.settings.attempts
        )
        if self._is_over:
            self._ticket = None

    # --- told by the pool ----------------------------------------------------------------------------------------

    def assigned(self, ticket: Ticket, decision: Decision) -> None:
        """There is a place: send the request there."""
        self._ticket, self._decision = ticket, decision
        self._placed = self._gateway.clock()
        self._send(decision)

    def rejected(self, rejection: Rejection) -> None:
        """There is none: tell the client so."""
        self._ticket = None
        self._receipt = rejection
        self._refuse(rejection, "rejected")

    def evicted(self, rejection: Rejection) -> None:
        """More urgent work needs the place, or the gateway is stopped."""
        if self._call is not None:
            self._call.cancel()
        if self._exchange.started:
            is_end = rejection.reason == "rejected-shutting-down"
            why = "This gateway is shutting down." if is_end else "The request had to make room for more urgent work."
            self._break_off(rejection.http_status, why, rejection.reason)
            self._over("cancelled")
        else:
            self._refuse(rejection, "cancelled")

    # --- told by the engine's side --------------------------------------------------------------------------------

    def head(self, head: ResponseHead) -> None:
        """The engine has begun to answer; nothing is passed on before the first byte of its body."""
        status = head.status
        if status in _TRY_ELSEWHERE and self._move():
            return
        self._status, self._head = status, head
        self._reader = self._collected = None
        self._size, self._is_held = 0, False
        operation = self._plan.heading.operation
        if operation is None:
            return
        heading: AnswerHeading | None = head.note
        if heading is None:
            heading = head.note = AnswerHeading(head.headers)
        if heading.is_stream:
            self._reader = StreamReader(operation, self._plan.model, loads=orjson.loads, dumps=orjson.dumps)
        elif heading.is_json or status >= 400:
            self._collected = []
            self._is_held = self._plan.model is not None or status >= 400

    def data(self, chunk: bytes) -> None:
        """Pass a piece of the answer on."""
        if self._reader is not None:
            now = self._gateway.clock()
            if self._first is None:
                self._first = self._touched = now
                self._begin()
            elif now - self._touched > _TOUCH_SECONDS and self._ticket is not None:
                self._touched = now
                self._pool.touch(self._ticket)
            out = self._reader.feed(chunk)
            if out:
                self._exchange.write(out)
            return
        if self._collected is not None and self._collect(chunk):
            return
        if self._head is not None:
            self._begin()
        self._exchange.write(chunk)

    def end(self) -> None:
        """The answer is complete."""
        self._call = None
        usage: Usage | None = None
        if self._reader is not None:
            usage = self._reader.usage
            if self._head is not None:
                self._begin()
            rest = self._reader.end()
            if rest:
                self._exchange.write(rest)
        elif self._collected is not None:
            usage = self._read_whole(b"".join(self._collected))
        if self._head is not None:
            self._begin()
        self._exchange.end()
        if usage is not None and usage.cached_tokens is not None and self._decision is not None:
            self._pool.report_cached_tokens(self._decision, usage.cached_tokens)
        self._over("success" if self._status < 500 else "error", usage)

    def failed(self, error: UpstreamError) -> None:
        """The engine cannot be reached, is silent, or has broken off."""
        self._call = None
        if not self._exchange.started:
            if not self._is_late() and self._move():
                return
            self._status, code = (504, "engine-timeout") if error.timed_out else (502, "engine-unreachable")
            self._gateway.answer_error(
                self._exchange, self._plan.heading.operation, self._plan.request.id, status=self._status, code=code
            )
        else:
            self._break_off(502, "The model server broke off its answer.", "engine-broke-off")
        self._over("error")

    # --- told by the client's side ----------------------------------------------------------------------------------

    def _gone(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if not self._exchange.started:
            self._status = 499
        self._over("cancelled")

    def _writable(self, yes: bool) -> None:
        if self._call is not None:
            if yes:
                self._call.resume()
            else:
                self._call.pause()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _send(self, decision: Decision) -> None:
        self._attempts += 1
        try:
            self._call = self._asked_of(decision)
        except ValueError as error:
            self._fail(error)

    def _asked_of(self, decision: Decision) -> Call:
        plan, gateway = self._plan, self._gateway
        deadline, routed = plan.request.deadline, plan.routed
        timeouts = None
        if deadline is not None:
            timeouts = attrs.evolve(gateway.client.timeouts, total=max(deadline - gateway.clock(), 0.0))
        return gateway.client.send(
            gateway.origin(decision, routed.hostname),
            plan.heading.method,
            plan.target,
            self._forwarded(decision),
            plan.body,
            self,
            timeouts=timeouts,
        )

    def _forwarded(self, decision: Decision) -> Headers | Block:
        """Return the headers to send; as they were made ready before, unless something says how to change them."""
        plan, told, owned = self._plan, decision.headers, decision.owned_headers
        heading, changes, address = plan.heading, plan.routed.request_headers, decision.address
        if not (told or owned or changes):
            return heading.forwarded() + self._gateway.destination(address) + self._id
        ours = [(DESTINATION, address.encode()), plan.id_header]
        is_read = heading.operation is not None
        return to_engine(heading.received, ours, is_read=is_read, changes=changes, told=told, owned=owned)

    def _fail(self, error: ValueError) -> None:
        """Answer for a fault of ours: a plugin or a route says to write what no header can carry."""
        _log.error("request %s: cannot be carried: %s", self._plan.request.id, error)
        if self._call is not None:
            self._call.cancel()
        self._status = 500
        request = self._plan.request
        self._gateway.answer_error(
            self._exchange, self._plan.heading.operation, request.id, status=500, code="internal"
        )
        self._over("error")

    def _move(self) -> bool:
        """Try the next fallback, if there is one."""
        decision, ticket = self._decision, self._ticket
        if decision is None or ticket is None or not decision.fallbacks:
            return False
        if self._call is not None:
            self._call.cancel()
            self._call = None
        moved = self._pool.retry(ticket)
        if moved is None:
            self._ticket = None  # it has ended there: every fallback has left the fleet
            return False
        self._decision = moved
        self._send(moved)
        return True

    def _is_late(self) -> bool:
        """Whether the time that the route allows is over: no other endpoint could do better."""
        deadline = self._plan.request.deadline
        return deadline is not None and self._gateway.clock() >= deadline

    def _begin(self, length: int | None = None) -> None:
        """Pass the head of the answer on, with a new length if it has one; from now on there is no other endpoint."""
        assert self._head is not None
        assert self._decision is not None
        if self._reader is not None and self._ticket is not None:
            self._pool.first_token(self._ticket)
        head, self._head = self._head, None
        try:
            self._pass_head(head, self._decision, length)
        except ValueError as error:
            self._fail(error)

    def _pass_head(self, head: ResponseHead, decision: Decision, length: int | None) -> None:
        """Write it as it was made ready before, unless something says how to change it."""
        heading: AnswerHeading | None = head.note
        changes, told = self._plan.routed.response_headers, decision.response_headers
        is_untouched = not self._is_held and (self._reader is None or self._plan.model is None)
        if heading is not None and head.status == 200 and is_untouched and not (changes or told):
            block = heading.passed_on() + self._id
            self._exchange.start(200, block, head.length if head.length >= 0 else None)
            return
        ours = [self._plan.id_header]
        if length is not None:
            ours.append((b"content-length", b"%d" % length))
        headers = from_engine(head.headers, ours, keep_length=is_untouched, changes=changes, told=told)
        self._exchange.start(self._status, headers)

    def _collect(self, chunk: bytes) -> bool:
        """Keep a copy of an answer in one piece, to be read at its end; return whether it is held back until then."""
        assert self._collected is not None
        self._collected.append(chunk)
        self._size += len(chunk)
        if self._size <= _LARGEST_READ:
            return self._is_held
        held, self._collected = self._collected[:-1], None
        if self._is_held:
            self._begin()
            for piece in held:
                self._exchange.write(piece)
        return False

    def _read_whole(self, content: bytes) -> Usage | None:
        """Return the usage of an answer in one piece; one that was held back is passed on as the client knows it."""
        operation, model = self._plan.heading.operation, self._plan.model
        assert operation is not None
        try:
            body = orjson.loads(content)
        except orjson.JSONDecodeError:
            body = None
        if self._is_held:
            own = upstream_answer(operation, self._status, body) if self._status >= 400 else None
            if own is not None:
                content = own.content
            elif model is not None and restore_model(operation, body, model):
                content = orjson.dumps(body)
            self._begin(len(content))
            self._exchange.write(content)
        return usage_of(operation, body) if self._status < 400 else None

    def _refuse(self, rejection: Rejection, result: str) -> None:
        self._status = rejection.http_status
        self._gateway.refuse(self._exchange, rejection, self._plan.heading.operation)
        self._over(result)

    def _break_off(self, status: int, sentence: str, code: str) -> None:
        """End an answer that has begun and cannot be completed, so that nobody takes it for complete."""
        reader = self._reader
        if reader is None:
            self._exchange.abort()
            return
        rest = reader.end()
        if not reader.is_failed:
            rest += error_event(self._plan.heading.operation, status, sentence, code=code, events=reader.events)
        self._exchange.write(rest)
        self._exchange.end()

    def _over(self, result: str, usage: Usage | None = None) -> None:
        """Give the place back and keep a record; only the first call counts."""
        if self._is_over:
            return
        self._is_over = True
        exchange, ticket, decision = self._exchange, self._ticket, self._decision
        exchange.on_disconnect = exchange.on_writable = None
        self._ticket = self._call = None
        usage = usage if usage is not None or self._reader is None else self._reader.usage
        if ticket is not None:
            if usage is not None:
                self._pool.report_usage(ticket, usage)
            if result == "cancelled":
                self._pool.cancel(ticket)
            else:
                self._pool.finish(ticket, result)
        now = self._gateway.clock()
        outcome = Outcome(
            self._plan.request.id,
            self._pool.name,
            "" if decision is None else decision.endpoint.name,
            self._plan.model or self._plan.request.model,
            self._plan.request.priority,
            self._status,
            result,
            now - self._began,
            None if self._placed is None else self._placed - self._began,
            None if self._first is None else self._first - self._began,
            None if self._first is None else _seconds_per_token(now - self._first, usage),
            usage,
            self._attempts,
        )
        self._gateway.records.ended(outcome, self._receipt or decision)


def _seconds_per_token(seconds: float, usage: Usage | None) -> float | None:
    """Return how long each token after the first took; None without a count."""
    if usage is None or usage.output_tokens is None or usage.output_tokens < 2:
        return None
    return seconds / (usage.output_tokens - 1)
