"""A host that does anything in any order: hypothesis plays it, and after each step the books must balance."""

import random
from collections import Counter
from typing import Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched import Assigned, Dispatcher, Profile, Registry, Rejected, Request, Scheduler
from inferencesched.dispatcher import _Placed
from inferencesched.events import Evicted, Ticket
from inferencesched.flow import BandSettings, ConcurrencyDetector, LegacyAdmission, Settings, State, Tuning

create = Registry().create

BAND = BandSettings(max_requests=4, max_bytes=60, fairness=create("token-weighted-fairness-policy"))
QUEUEING = Settings(
    bands={5: BAND, 0: BAND, -1: BAND},
    max_requests=8,
    max_bytes=100,
    ttl=30.0,
    no_endpoint_ttl=50.0,
    detector=ConcurrencyDetector(max_concurrency=2),
    evict=True,
    tuning=Tuning(displace=True, slow_start_seconds=0.0, age_turns=3),
)
FLOWS = (QUEUEING, LegacyAdmission(ConcurrencyDetector(max_concurrency=2)))
LEASE_TTL = 100.0


class Host(RuleBasedStateMachine):
    """Submits, ends, forgets, loses servers, reloads, and reads its events now or later."""

    def __init__(self) -> None:
        super().__init__()
        profile = Profile(scorers=[(create("active-request-scorer"), 1.0)], picker=create("max-score-picker"))
        scheduler = Scheduler(profile, rng=random.Random(1), lease_ttl=LEASE_TTL)
        self.dispatcher = Dispatcher(scheduler, flow=QUEUEING)
        self.now = 0.0
        self.open: dict[Ticket, float] = {}  # submitted and not ended, as far as the host knows → when
        self.placed: set[Ticket] = set()
        self.ended: Counter[int] = Counter()
        self.submitted = 0

    @rule(
        id=st.sampled_from("abc"),
        priority=st.sampled_from((5, 0, -1, 3)),
        flow=st.sampled_from("xy"),
        size=st.integers(0, 70),
        patience=st.none() | st.integers(-1, 20),
        n=st.integers(1, 2),
    )
    def submit(self, *, id: str, priority: int, flow: str, size: int, patience: int | None, n: int) -> None:
        deadline = None if patience is None else max(0.0, self.now + patience)
        request = Request(id, priority=priority, flow=flow, size_bytes=size, deadline=deadline)
        self.open[self.dispatcher.submit(request, now=self.now, n=n)] = self.now
        self.submitted += 1

    @rule()
    def read(self) -> None:
        while (event := self.dispatcher.next_event()) is not None:
            match event:
                case Assigned():
                    assert event.ticket in self.open
                    self.placed.add(event.ticket)
                case Rejected():
                    self.over(event.ticket)
                case Evicted():
                    assert event.ticket in self.placed

    @precondition(lambda self: self.open)
    @rule(data=st.data(), how=st.sampled_from(("finish", "cancel", "first_token", "retry", "forget")))
    def mention(self, data: Any, how: str) -> None:
        ticket = data.draw(st.sampled_from(list(self.open)))
        if how == "cancel":
            if self.dispatcher.cancel(ticket, now=self.now):
                self.over(ticket)
        elif ticket in self.placed:
            if how == "finish":
                if self.dispatcher.finish(ticket, now=self.now):
                    self.over(ticket)
            elif how == "first_token":
                self.dispatcher.first_token(ticket, now=self.now)
            elif how == "retry" and self.may_move(ticket) and self.dispatcher.retry(ticket, now=self.now) is None:
                self.over(ticket)

    def may_move(self, ticket: Ticket) -> bool:
        live = self.dispatcher._live.find(ticket)
        return isinstance(live, _Placed) and live.state is State.PLACED

    @rule(name=st.sampled_from(("e0", "e1")), present=st.booleans())
    def fleet(self, name: str, present: bool) -> None:
        if present:
            self.dispatcher.add_endpoint(name, now=self.now)
        elif name in self.dispatcher.scheduler.table:
            self.dispatcher.remove_endpoint(name, now=self.now)

    @rule(seconds=st.sampled_from((0.0, 0.5, 7.0, 40.0)))
    def wait(self, seconds: float) -> None:
        """Time passes, and the timer fires as often as it asks to."""
        until = self.now + seconds
        while (timer := self.dispatcher.next_timer()) is not None and timer <= until:
            self.now = max(self.now, timer)
            self.dispatcher.handle_timer(now=self.now)
            self.read()
            again = self.dispatcher.next_timer()
            assert again is None or again > self.now, "a timer that was handled asks again for the same moment"
        self.now = until

    @rule(flow=st.sampled_from(FLOWS))
    def reload(self, flow: Settings | LegacyAdmission) -> None:
        self.dispatcher._install(flow, now=self.now)

    def over(self, ticket: Ticket) -> None:
        self.ended[ticket.number] += 1
        self.open.pop(ticket, None)
        self.placed.discard(ticket)

    @invariant()
    def every_submission_ends_once(self) -> None:
        assert all(times == 1 for times in self.ended.values()), self.ended
        lost = self.submitted - len(self.ended) - len(self.open)
        assert lost == 0

    @invariant()
    def what_is_open_is_live_or_about_to_be_told(self) -> None:
        live = {each.ticket for each in self.dispatcher._live}
        told = {event.ticket for event in self.dispatcher._events}
        reaped = {ticket for ticket, since in self.open.items() if self.now - since >= LEASE_TTL}
        assert set(self.open) - reaped <= live | told
        assert live <= set(self.open)

    @invariant()
    def the_ledger_balances_and_holds_only_what_is_placed(self) -> None:
        assert self.dispatcher.scheduler.ledger.audit().balanced
        assert len(self.dispatcher.scheduler.ledger) <= self.dispatcher.in_flight

    @invariant()
    def limits_hold(self) -> None:
        controller = self.dispatcher.controller
        if controller is None:
            return
        assert len(controller) <= 8
        assert controller.size_bytes <= 100
        assert sum(len(band) for band in controller.bands) == len(controller)
        assert sum(band.size_bytes for band in controller.bands) == controller.size_bytes
        for band in controller.bands:
            assert len(band) == sum(band.flows.values())

    def teardown(self) -> None:
        """Shut down, end what is placed: nothing is left."""
        self.dispatcher.drain(now=self.now)
        self.read()
        for ticket in list(self.placed):
            if self.dispatcher.finish(ticket, now=self.now):
                self.over(ticket)
        assert self.dispatcher.drained
        assert len(self.dispatcher.scheduler.ledger) == 0


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=40, stateful_step_count=30)
