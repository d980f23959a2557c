"""Dispatcher: flow control, scheduler and ledger as one state machine without I/O: *here*, *wait*, or *no*.

    submit ─▶ nobody waits, and there is room ────────────────▶ schedule ─▶ Assigned
          └─▶ bands ─▶ flows ─▶ requests ─ as room appears ───▶ schedule ─▶ Assigned
                 └─ full, too long, displaced, shut down ─────────────────▶ Rejected

The host pushes facts in and pulls events out. After every call it drains `next_event` and arms one timer for
`next_timer`; a queued request is placed while the host drains, one with each event, so that no call takes long.

Which submission is meant is said by the `Ticket` that `submit` returned and that every event carries. A request id does
instead while one live submission carries it; with two, a call by id raises `LifecycleError`, because ending one of
them at random would be a wrong count. A call about a submission that has ended, or that never was, changes nothing
and returns False (`retry`: None), so every path that may end a request may say so. Which calls are possible when stands
in `inferencesched.flow.states`.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from typing import Any, Protocol, Self

import attrs

from inferencesched.decision import Decision, Lease, Rejection
from inferencesched.endpoints import Endpoint
from inferencesched.errors import LifecycleError
from inferencesched.events import Assigned, Event, Evicted, Rejected, Ticket
from inferencesched.flow.book import Book
from inferencesched.flow.controller import FlowController
from inferencesched.flow.eviction import Evictor
from inferencesched.flow.meter import Meter
from inferencesched.flow.outcomes import Refusal, refuse
from inferencesched.flow.retry import SHORTEST, DrainRate, retry_after
from inferencesched.flow.saturation import Saturation
from inferencesched.flow.settings import LegacyAdmission, Settings
from inferencesched.flow.states import State, Step, after
from inferencesched.flow.waiting import Waiting, flow_of, size_of
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler

__all__ = ["Dispatcher"]

_STEP_OF = {
    Refusal.EXPIRED: Step.EXPIRE,
    Refusal.EXPIRED_WITHOUT_ENDPOINTS: Step.EXPIRE,
    Refusal.DISPLACED: Step.DISPLACE,
    Refusal.SHUTTING_DOWN: Step.HAND_BACK,
}
_WITHOUT_PLACE_IN_LINE = {
    Refusal.QUEUE_FULL_WITHOUT_ENDPOINTS,
    Refusal.EXPIRED_WITHOUT_ENDPOINTS,
    Refusal.SHED,
    Refusal.SHUTTING_DOWN,
    Refusal.INTERNAL,
}


class _Config(Protocol):
    """What a dispatcher needs of a `Config`."""

    def scheduler(self, *, rng: random.Random, **options: Any) -> Scheduler: ...
    def flow(self, scheduler: Scheduler) -> Settings | LegacyAdmission: ...
    def apply_to(self, scheduler: Scheduler, *, now: float) -> int: ...


@attrs.define(eq=False)
class _Queued(Waiting):
    """A submission that waits."""

    ticket: Ticket = attrs.field(kw_only=True)


@attrs.define(eq=False)
class _Placed:
    """A submission that has a place. Request and receipt are kept until the first token, while it may still move."""

    ticket: Ticket
    state: State
    model: str
    priority: int
    flow: str
    leases: tuple[Lease, ...]
    decision: Decision | None
    request: Request | None

    @property
    def stub(self) -> Request:
        """What is always kept of the request."""
        return Request(self.ticket.request_id, self.model, priority=self.priority, flow=self.flow)


class Dispatcher:
    """Queues, places and refuses requests.

    Args:
        scheduler: places them; from now on the dispatcher is the only one to call it.
        flow: how they queue; by default with the settings of `Settings`. `LegacyAdmission` queues nothing.

    Attributes:
        scheduler: the scheduler.
        flow: the flow control in force.
        controller: the queue; None under legacy admission.

    >>> from inferencesched import Profile, Registry
    >>> profile = Profile(picker=Registry().create("max-score-picker"))
    >>> dispatcher = Dispatcher(Scheduler(profile, rng=random.Random(7)))
    >>> ticket = dispatcher.submit(Request("r-1"), now=0.0)
    >>> dispatcher.next_event(), dispatcher.queued, dispatcher.next_timer()  # no endpoint yet: it waits for a minute
    (None, 1, 60.0)
    >>> _ = dispatcher.add_endpoint("a", "10.0.0.1:8000", now=3.0)
    >>> event = dispatcher.next_event()
    >>> event.request_id, event.decision.address, event.waited
    ('r-1', '10.0.0.1:8000', 3.0)
    >>> dispatcher.finish(ticket, now=4.0), dispatcher.in_flight
    (True, 0)

    Complexity: a call costs what its one request costs: O(log queued + bands) besides the scheduler's work, and
    O(endpoints) where saturation must be looked at anew. Only a change of the fleet looks at everything in flight.
    """

    def __init__(self, scheduler: Scheduler, *, flow: Settings | LegacyAdmission | None = None) -> None:
        self.scheduler = scheduler
        self._isolation = scheduler.isolation
        self._now = 0.0
        self._numbers = 0
        self._events: deque[Event] = deque()
        self._live: Book[_Queued | _Placed] = Book()
        self._orphans: OrderedDict[int, float] = OrderedDict()  # placed on a server that has left → when it did
        self._rate = DrainRate()
        self._closing_at: float | None = None
        self.controller: FlowController | None = None
        self._evictor: Evictor | None = None
        self._install(Settings() if flow is None else flow, now=0.0)

    @classmethod
    def from_config(cls, config: _Config, *, rng: random.Random, **options: Any) -> Self:
        """Return a dispatcher for a `Config`: with its flow control where the gate ``flowControl`` is on.

        Args:
            rng: the only source of chance.
            options: further arguments of `Scheduler`.
        """
        scheduler = config.scheduler(rng=rng, **options)
        return cls(scheduler, flow=config.flow(scheduler))

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return 0 if self.controller is None else len(self.controller)

    @property
    def in_flight(self) -> int:
        """How many requests have a place and have not ended."""
        return len(self._live) - self.queued

    @property
    def saturation(self) -> Saturation | None:
        """How full the pool is, as of the last call; None without endpoints."""
        return self._saturation()

    @property
    def drained(self) -> bool:
        """Whether nothing new is accepted and nothing is queued or in flight any more."""
        return self._closing_at is not None and not self._live

    # --- requests ----------------------------------------------------------------------------------------------------

    def submit(self, request: Request, *, now: float, subset: Collection[str] | None = None, n: int = 1) -> Ticket:
        """Ask for a place; what comes of it is told by `next_event`.

        Args:
            subset: names or addresses that may be used; see `Scheduler.candidates`.
            n: how many ranked endpoints are wanted: the place and `n - 1` fallbacks for `retry`.
        """
        self._now = self._isolation.now = now
        self._numbers += 1
        ticket = Ticket(request.id, self._numbers)
        controller = self.controller
        if self._closing_at is not None:
            self._refuse(request, ticket, Refusal.SHUTTING_DOWN)
        elif request.deadline is not None and request.deadline <= now:
            self._refuse(request, ticket, self._expired)
        elif controller is None:
            if request.priority < 0 and self._is_saturated(subset):
                self._refuse(request, ticket, Refusal.SHED)
            else:
                self._events.append(self._place(request, ticket, subset, n))
        elif not len(controller) and controller.lets_through(request.priority, self._saturation()):
            self._events.append(self._place(request, ticket, subset, n))
        else:
            self._enqueue(_Queued(request, self._numbers, now, size_of(request), subset, n, ticket=ticket))
        return ticket

    def first_token(self, which: Ticket | str, *, now: float) -> bool:
        """Say that the first output arrived: prefill work is given back, and the request can no longer move."""
        self._now = self._isolation.now = now
        placed = self._placed(which, "first_token")
        if placed is None:
            return False
        placed.state = after(placed.state, Step.FIRST_TOKEN)
        if placed.decision is not None:
            self.scheduler.first_token(placed.decision, now=now)
            self._meter.load_changed(*placed.leases)
            placed.decision = placed.request = None
        return True

    def touch(self, which: Ticket | str, *, now: float) -> bool:
        """Say that a placed request is alive, so that the reaper leaves it alone."""
        self._now = self._isolation.now = now
        placed = self._placed(which, "touch")
        touched = [] if placed is None else [self.scheduler.ledger.touch(lease, now=now) for lease in placed.leases]
        return any(touched)

    def report_usage(
        self, which: Ticket | str, *, prompt_tokens: float, output_tokens: float = 0.0, now: float
    ) -> bool:
        """Say what a placed request took, by its answer's usage, before `finish`; observers are told.

        Returns:
            Whether it still has its place.

        Raises:
            ValueError: tokens are negative, NaN or infinite.
        """
        if not (0 <= prompt_tokens < math.inf and 0 <= output_tokens < math.inf):
            raise ValueError(f"tokens must be finite and ≥ 0, got {prompt_tokens!r} and {output_tokens!r}")
        self._now = self._isolation.now = now
        placed = self._placed(which, "report_usage")
        if placed is None:
            return False
        request_id = placed.ticket.request_id
        self.scheduler.tell("usage_reported", request_id, placed.flow, prompt_tokens, output_tokens, now=now)
        return True

    def finish(self, which: Ticket | str, *, now: float, outcome: str = "success") -> bool:
        """Say that a placed request has ended: ``success``, ``error`` or ``cancelled``.

        Returns:
            Whether this was the call that ended it.
        """
        self._now = self._isolation.now = now
        placed = self._placed(which, "finish")
        if placed is None:
            return False
        self.scheduler.finish(placed.leases, now=now, outcome=outcome)
        self._end(placed, Step.FINISH)
        return True

    def cancel(self, which: Ticket | str, *, now: float) -> bool:
        """Say that the client is gone, wherever its request stands. No event follows.

        Returns:
            Whether this was the call that ended it.
        """
        self._now = self._isolation.now = now
        live = self._live.find(which)
        if live is None:
            return False
        if isinstance(live, _Placed):
            self.scheduler.finish(live.leases, now=now, outcome="cancelled")
            self._end(live, Step.CANCEL)
            return True
        after(State.QUEUED, Step.CANCEL)
        assert self.controller is not None
        self.controller.remove(live)
        self._leave_queue(live, "cancelled")
        self._live.remove(live.ticket)
        rejection = self._rejection(live.request, Refusal.CANCELLED, None)
        self.scheduler.tell("rejected", live.request, rejection, now=now)
        return True

    def retry(self, which: Ticket | str, *, now: float) -> Decision | None:
        """Move a placed request to its next fallback, before its first byte; its lease moves along.

        Returns:
            Where it is now; or None: there is nowhere left to go, and the request has ended in error.

        Raises:
            LifecycleError: its first token has arrived, or it is still queued.
        """
        self._now = self._isolation.now = now
        placed = self._placed(which, "retry")
        if placed is None:
            return None
        after(placed.state, Step.MOVE)
        assert placed.decision is not None
        if placed.request is None:  # it never had a fallback
            self.finish(placed.ticket, now=now, outcome="error")
            return None
        moved = self._moved(placed.request, placed.decision)
        if moved is None:
            self._end(placed, Step.FINISH)
            return None
        self._meter.load_changed(*placed.leases, *moved.leases)
        placed.decision, placed.leases = moved, moved.leases
        self._orphans.pop(placed.ticket.number, None)
        return moved

    # --- what to do next ---------------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Return the next thing to do, or None: nothing, until the next call of another method."""
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, Rejected) or event.ticket in self._live:
                    return event  # else it was ended before the host heard of it
            controller = self.controller
            if not controller:  # none, or nobody waits
                return None
            queued = controller.next(self._saturation(), now=self._now)
            if queued is None:
                if not self._ask_to_leave():
                    return None
            elif controller.expires_at(queued) <= self._now:  # the host's timer is late
                self._give_up(queued, self._expired)
            else:
                return self._place_queued(queued)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` next has something to do, or None. Calling it early, late or twice is harmless."""
        due = self.scheduler.next_timer()
        if self._orphans:
            due = _sooner(due, next(iter(self._orphans.values())) + self.scheduler.ledger.ttl)
        controller = self.controller
        if controller:
            due = _sooner(due, controller.next_expiry())
            due = _sooner(due, self._closing_at)
            due = _sooner(due, self._meter.next_look())
            if self._evictor is not None:
                due = _sooner(due, self._evictor.next_timer(now=self._now))
        return due

    def handle_timer(self, *, now: float) -> None:
        """Give up what has waited too long, and what nobody mentioned for the lease's time to live."""
        self._now = self._isolation.now = now
        reaped = self.scheduler.ledger.reaped_total
        self.scheduler.handle_timer(now=now)
        if self.scheduler.ledger.reaped_total != reaped:
            for placed in self._without_lease():
                if placed.ticket.number not in self._orphans:
                    self._end(placed, Step.LOSE)
        while self._orphans and next(iter(self._orphans.values())) + self.scheduler.ledger.ttl <= now:
            orphan = self._live[next(iter(self._orphans))]
            assert isinstance(orphan, _Placed)
            self._end(orphan, Step.LOSE)
        if self.controller is None:
            return
        for waiting in self.controller.expire(now=now):
            self._give_up(waiting, self._expired)
        if self._closing_at is not None and now >= self._closing_at:
            self._hand_back()

    # --- the fleet ---------------------------------------------------------------------------------------------------

    def add_endpoint(
        self, name: str, address: str = "", *, labels: Mapping[str, str] | None = None, rank: int = 0, now: float
    ) -> Endpoint:
        """Add an endpoint, or announce it again; see `Scheduler.add_endpoint`."""
        before = self.scheduler.table.get(name)
        endpoint = self.scheduler.add_endpoint(name, address, labels=labels, rank=rank, now=now)
        if before is not None and before.instance != endpoint.instance:
            self._meter.gauge.left(before)
        self._meter.gauge.joined(endpoint, now=now)
        self._fleet_changed(now=now)
        return endpoint

    def remove_endpoint(self, name: str, *, now: float) -> Endpoint:
        """Remove an endpoint; its leases are closed. Its requests go on for their hosts, until `finish` or `retry`.

        Raises:
            LifecycleError: there is no endpoint of that name.
        """
        endpoint = self.scheduler.remove_endpoint(name, now=now)
        self._meter.gauge.left(endpoint)
        self._fleet_changed(now=now)
        return endpoint

    def update(self, name: str, facts: Mapping[str, Any], *, now: float) -> None:
        """Record facts about one endpoint (see `EndpointTable.update`)."""
        self._now = self._isolation.now = now
        self.scheduler.update(name, facts, now=now)
        self._meter.facts_changed()

    # --- configuration and the end -----------------------------------------------------------------------------------

    def reload(self, config: _Config, *, now: float) -> int:
        """Put another configuration in force, whole or not at all; what is queued and in flight stays so.

        Limits hold for what comes from now on; nobody who is queued is refused by a smaller queue.

        Returns:
            The new generation, which decisions and rejections carry from now on.
        """
        generation = config.apply_to(self.scheduler, now=now)
        self._install(config.flow(self.scheduler), now=now)
        return generation

    def drain(self, *, now: float, grace: float = 0.0) -> None:
        """Accept nothing new; what is queued may still be placed for `grace` seconds and is then handed back as 503.

        What is in flight ends when its host says so; `drained` tells when that was the last.
        """
        self._now = self._isolation.now = now
        self._closing_at = now + grace
        if grace <= 0:
            self._hand_back()

    # --- inside: entering and leaving the queue ----------------------------------------------------------------------

    def _enqueue(self, queued: _Queued) -> None:
        controller, request = self.controller, queued.request
        assert controller is not None
        leaving = controller.room(queued)
        if leaving is None:
            has_endpoints = controller.patience.has_endpoints
            why = Refusal.QUEUE_FULL if has_endpoints else Refusal.QUEUE_FULL_WITHOUT_ENDPOINTS
            self._refuse(request, queued.ticket, why)
            return
        for displaced in leaving:
            controller.remove(displaced)
            self._give_up(displaced, Refusal.DISPLACED)
        queued.flow = flow_of(request)
        controller.add(queued, now=self._now)
        self._live.add(queued)
        if self.scheduler.hooks["queued"]:
            self.scheduler.tell("queued", request, queued.priority, queued.flow, now=self._now)

    def _place_queued(self, waiting: Waiting) -> Event:
        assert isinstance(waiting, _Queued)
        waited = self._now - waiting.arrived
        event = self._place(waiting.request, waiting.ticket, waiting.subset, waiting.n, waited, flow=waiting.flow)
        if isinstance(event, Assigned):  # in the book, the place has replaced the wait
            self._leave_queue(waiting, "placed")
        else:
            self._live.remove(waiting.ticket)
            self._leave_queue(waiting, "rejected")
        return event

    def _give_up(self, waiting: Waiting, why: Refusal) -> None:
        """Refuse a request that was taken out of the queue."""
        assert isinstance(waiting, _Queued)
        after(State.QUEUED, _STEP_OF[why])
        self._live.remove(waiting.ticket)
        self._leave_queue(waiting, "rejected")
        self._refuse(waiting.request, waiting.ticket, why, waited=self._now - waiting.arrived)

    def _leave_queue(self, waiting: Waiting, outcome: str) -> None:
        if not self.scheduler.hooks["dequeued"]:
            return
        waited = self._now - waiting.arrived
        self.scheduler.tell("dequeued", waiting.request, waiting.priority, waiting.flow, waited, outcome, now=self._now)

    def _hand_back(self) -> None:
        assert self._closing_at is not None
        for waiting in [] if self.controller is None else list(self.controller):
            assert self.controller is not None
            self.controller.remove(waiting)
            self._give_up(waiting, Refusal.SHUTTING_DOWN)

    # --- inside: placing and ending ----------------------------------------------------------------------------------

    def _place(
        self,
        request: Request,
        ticket: Ticket,
        subset: Collection[str] | None,
        n: int,
        waited: float = 0.0,
        *,
        flow: str | None = None,
    ) -> Event:
        try:
            outcome = self.scheduler.schedule(request, now=self._now, n=n, subset=subset)
        except Exception as error:  # noqa: BLE001 — plugins cannot raise here, so it is our own fault, and told as such
            self.scheduler.tell("plugin_failed", "scheduler", "machine", error, now=self._now)
            return Rejected(request.id, self._rejection(request, Refusal.INTERNAL, None), ticket, waited)
        if isinstance(outcome, Rejection):
            wait = None if outcome.http_status == 503 else self._seconds_for(0)
            outcome = attrs.evolve(outcome, retry_after=retry_after(wait, request.id))
            return Rejected(request.id, outcome, ticket, waited)
        kept = request if outcome.fallbacks else None
        flow = flow_of(request) if flow is None else flow
        model, priority, leases = request.model, request.priority, outcome.leases
        placed = _Placed(ticket, State.PLACED, model, priority, flow, leases, outcome, kept)
        self._live.add(placed)
        self._rate.count(now=self._now)
        self._meter.load_changed(*leases)
        if self.controller is not None:
            self.controller.placed()
        if self._evictor is not None:
            self._evictor.placed(ticket.number, request, now=self._now)
        return Assigned(request.id, outcome, ticket, waited)

    def _moved(self, request: Request, decision: Decision) -> Decision | None:
        if decision.lease in self.scheduler.ledger or not decision.fallbacks:
            return self.scheduler.fallback(request, decision, now=self._now)
        left = [endpoint.name for endpoint in decision.fallbacks]  # its server is gone, and with it the lease to move
        outcome = self.scheduler.schedule(request, now=self._now, n=len(left), subset=left)
        return None if isinstance(outcome, Rejection) else outcome

    def _end(self, placed: _Placed, step: Step) -> None:
        placed.state = after(placed.state, step)
        number = placed.ticket.number
        self._live.remove(placed.ticket)
        self._orphans.pop(number, None)
        self._meter.load_changed(*placed.leases)
        if self._evictor is not None:
            self._evictor.ended(number, now=self._now)

    def _ask_to_leave(self) -> bool:
        """Ask placed requests to make room, if that is wanted and would help; return whether somebody was asked."""
        controller, evictor, report = self.controller, self._evictor, self._meter.last
        if not controller or evictor is None or report is None:
            return False
        first = next(band for band in controller.bands if band)
        chosen = evictor.choose(
            level=report.level,
            ceiling=controller.gates.ceiling_of(first.priority),
            in_flight=self.in_flight,
            priority=first.priority,
            now=self._now,
        )
        for number in chosen:
            placed = self._live[number]
            assert isinstance(placed, _Placed)
            placed.state = after(placed.state, Step.EVICT)
            stub = placed.stub
            rejection = self._rejection(stub, Refusal.EVICTED, self._seconds_for(len(controller)))
            self.scheduler.tell("evicting", stub.id, placed.leases[0].endpoint, now=self._now)
            self._events.append(Evicted(stub.id, rejection, placed.ticket))
        return bool(chosen)

    # --- inside: refusing --------------------------------------------------------------------------------------------

    @property
    def _expired(self) -> Refusal:
        return Refusal.EXPIRED if len(self.scheduler.table) else Refusal.EXPIRED_WITHOUT_ENDPOINTS

    def _refuse(self, request: Request, ticket: Ticket, why: Refusal, *, waited: float = 0.0) -> None:
        position = eta = None
        if self.controller is not None and why not in _WITHOUT_PLACE_IN_LINE:
            position = self.controller.ahead_of(request.priority)
            eta = self._seconds_for(position)
        rejection = self._rejection(request, why, SHORTEST if why is Refusal.SHUTTING_DOWN else eta)
        self.scheduler.tell("rejected", request, rejection, now=self._now)
        self._events.append(Rejected(request.id, rejection, ticket, waited, position, eta))

    def _rejection(self, request: Request, why: Refusal, wait: float | None) -> Rejection:
        seconds = retry_after(wait, request.id)
        return refuse(request, why, retry_after=seconds, generation=self.scheduler.generation, now=self._now)

    def _seconds_for(self, position: int) -> float | None:
        """Return how long it takes, at the present rate, until so many others have been placed and one more."""
        rate = self._rate.per_second(now=self._now)
        return (position + 1) / rate if rate else None

    # --- inside: the pool ---------------------------------------------------------------------------------------------

    def _saturation(self) -> Saturation | None:
        return self._meter.read(self.scheduler.candidates, now=self._now)

    def _is_saturated(self, subset: Collection[str] | None) -> bool:
        """Return whether the candidates of one request are full; with none there is nothing to be full."""
        report = self._meter.read_these(self.scheduler.candidates(now=self._now, subset=subset))
        return report is not None and report.level >= 1.0

    def _fleet_changed(self, *, now: float) -> None:
        self._now = self._isolation.now = now
        self._meter.facts_changed()
        if self.controller is not None:
            self.controller.patience.watch(has_endpoints=len(self.scheduler.table) > 0, now=now)
        for placed in self._without_lease():
            self._orphans.setdefault(placed.ticket.number, now)

    def _without_lease(self) -> list[_Placed]:
        ledger = self.scheduler.ledger
        return [each for each in self._live if isinstance(each, _Placed) and each.leases[0] not in ledger]

    # --- inside: bookkeeping -----------------------------------------------------------------------------------------

    def _install(self, flow: Settings | LegacyAdmission, *, now: float) -> None:
        """Put a flow control in force; whoever waits goes on waiting, or goes to its place where nothing waits."""
        self._now = self._isolation.now = now
        slow_start = flow.tuning.slow_start_seconds if isinstance(flow, Settings) else 0.0
        guard, ledger = self._isolation.call, self.scheduler.ledger
        self._meter = Meter(
            flow.detector, slow_start=slow_start, guard=guard, count=lambda e: (ledger.requests(e), ledger.tokens(e))
        )
        for endpoint in self.scheduler.table.endpoints:
            self._meter.gauge.joined(endpoint, now=now - slow_start)
        self.flow = flow
        self._watch_evictable(flow)
        if isinstance(flow, Settings) and self.controller is not None:
            self.controller.reconfigure(flow)
            return
        queued = list(self.controller or ())
        self.controller = None
        if isinstance(flow, Settings):
            self.controller = FlowController(flow, guard)
            self.controller.patience.watch(has_endpoints=len(self.scheduler.table) > 0, now=now)
        for waiting in sorted(queued, key=lambda each: each.number):
            self._events.append(self._place_queued(waiting))

    def _watch_evictable(self, flow: Settings | LegacyAdmission) -> None:
        """Remember whom eviction may ask, from now on, if it is wanted."""
        if isinstance(flow, LegacyAdmission) or not flow.evict:
            self._evictor = None
            return
        policies = flow.eviction_filter, flow.eviction_order
        if self._evictor is not None and (self._evictor.candidates, self._evictor.order) == policies:
            return
        self._evictor = Evictor(*policies, self._isolation.call)
        for each in self._live:
            if isinstance(each, _Placed) and each.state is not State.EVICTING:
                self._evictor.placed(each.ticket.number, each.stub, now=self._now)

    def _placed(self, which: Ticket | str, call: str) -> _Placed | None:
        live = self._live.find(which)
        if isinstance(live, _Queued):
            raise LifecycleError(f"{call}: '{live.ticket.request_id}' is still queued; only cancel can end it")
        return live


def _sooner(one: float | None, other: float | None) -> float | None:
    return one if other is None or (one is not None and one <= other) else other
