"""Rule machines: hypothesis plays a host, in any order it likes, and after each step every invariant must hold.

Subclass one, override what makes the object under test, and give pytest its ``TestCase``::

    class MyPolicy(SchedulerMachine):
        def make_scheduler(self):
            return Scheduler(Profile(scorers=[(CarbonAware(), 1)], picker=MaxScorePicker()), rng=random.Random(0))


    TestMyPolicy = MyPolicy.TestCase
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferencesched.decision import Decision, Lease, Rejection
from inferencesched.endpoints import Endpoint
from inferencesched.ledger import Ledger
from inferencesched.profile import Profile
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler
from inferencesched.testing.strategies import requests

__all__ = ["LedgerMachine", "SchedulerMachine"]

_NAMES = st.sampled_from(("a", "b", "c", "d"))
_TTL = 60.0


class LedgerMachine(RuleBasedStateMachine):
    """Leases are taken and given back, twice, late and never; endpoints restart under their names; time passes.

    After each step the books balance, and agree with a plain list of what ought to be open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = self.make_ledger()
        self.now = 0.0
        self.instances = 0
        self.present: dict[str, Endpoint] = {}
        self.open: dict[Lease, float] = {}
        self.closed: list[Lease] = []

    def make_ledger(self) -> Ledger:
        """Return the ledger to be tested, with a ttl of 60 seconds."""
        return Ledger(ttl=_TTL)

    @initialize()
    def start(self) -> None:
        """Begin with one endpoint."""
        self.join("a")

    @rule(name=_NAMES)
    def join(self, name: str) -> None:
        """Add an endpoint; one of that name restarts, and what was in flight on it is over."""
        if name in self.present:
            self.leave(name)
        self.instances += 1
        self.present[name] = Endpoint(name, instance=self.instances)
        self.ledger.add(self.present[name])

    @rule(name=_NAMES)
    def leave(self, name: str) -> None:
        """Remove an endpoint, if it is there."""
        endpoint = self.present.pop(name, None)
        if endpoint is not None:
            gone = self.ledger.remove(endpoint)
            assert set(gone) == {lease for lease in self.open if lease.endpoint == endpoint}
            self._close(*gone)

    @precondition(lambda self: self.present)
    @rule(data=st.data(), id=st.sampled_from(("r-1", "r-2")), tokens=st.floats(0, 1e6), output=st.floats(0, 1e6))
    def reserve(self, data: Any, id: str, tokens: float, output: float) -> None:
        """Take a lease; ids are used again and again."""
        endpoint = self.present[data.draw(st.sampled_from(sorted(self.present)))]
        lease = self.ledger.reserve(id, endpoint, prefill_tokens=tokens, output_tokens=output, now=self.now)
        self.open[lease] = self.now

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        """Give a lease back."""
        lease = data.draw(st.sampled_from(list(self.open)))
        assert self.ledger.release(lease)
        self._close(lease)

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def release_late(self, data: Any) -> None:
        """Give a lease back that is closed: nothing may happen but that it is counted."""
        attempts = self.ledger.underflow_total
        assert not self.ledger.release(data.draw(st.sampled_from(self.closed)))
        assert self.ledger.underflow_total == attempts + 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def begin(self, data: Any) -> None:
        """Say that the first token has come: the prompt's tokens are given back."""
        lease = data.draw(st.sampled_from(list(self.open)))
        self.ledger.first_token(lease, now=self.now)
        self.open[lease] = self.now

    @rule(seconds=st.sampled_from((0.5, 20.0, 70.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass, and lost leases be reaped."""
        self.now += seconds
        reaped = self.ledger.reap(now=self.now)
        assert set(reaped) == {lease for lease, touched in self.open.items() if touched + _TTL <= self.now}
        self._close(*reaped)

    @invariant()
    def books_balance(self) -> None:
        """Every counter is the sum of its open leases."""
        audit = self.ledger.audit()
        assert audit.balanced, audit.problems
        assert audit.open_leases == len(self.open)

    @invariant()
    def counts_agree(self) -> None:
        """Each endpoint has as many requests in flight as leases that ought to be open on it."""
        on = Counter(lease.endpoint for lease in self.open)
        for endpoint in self.present.values():
            assert self.ledger.requests(endpoint) == on[endpoint]

    def _close(self, *leases: Lease) -> None:
        for lease in leases:
            del self.open[lease]
        self.closed += leases


class SchedulerMachine(RuleBasedStateMachine):
    """A host adds and loses endpoints, reports facts, places requests, falls back, finishes twice and forgets.

    After each step the books balance, what is in flight is what the host thinks it is, and no placement is on an
    endpoint that was not there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = self.make_scheduler()
        self.now = 0.0
        self.running: list[tuple[Request, Decision]] = []
        self.ended: list[Decision] = []

    def make_scheduler(self) -> Scheduler:
        """Return the scheduler to be tested; by default one that picks at random."""
        return Scheduler(Profile(picker=_Anybody()), rng=random.Random(0))

    @rule(name=_NAMES, address=st.sampled_from(("1", "2")), zone=st.sampled_from(("a", "b")))
    def join(self, name: str, address: str, zone: str) -> None:
        """Announce an endpoint; under another address it is a restart."""
        before = self.scheduler.table.get(name)
        endpoint = self.scheduler.add_endpoint(name, address, labels={"zone": zone}, now=self.now)
        if before is not None and before != endpoint:
            self._lost(before)

    @rule(name=_NAMES)
    def leave(self, name: str) -> None:
        """Remove an endpoint, if it is there."""
        if name in self.scheduler.table:
            self._lost(self.scheduler.remove_endpoint(name, now=self.now))

    @precondition(lambda self: len(self.scheduler.table) > 0)
    @rule(data=st.data(), waiting=st.integers(0, 100), used=st.just(float("nan")) | st.floats(0, 1))
    def report(self, data: Any, waiting: int, used: float) -> None:
        """Report facts about an endpoint, some of them unknown."""
        name = data.draw(st.sampled_from(list(self.scheduler.table)))
        facts = {"waiting_requests": waiting, "kv_cache_utilization": used}
        self.scheduler.update(name, facts, now=self.now)

    @rule(request=requests(ids=st.sampled_from(("r-1", "r-2", "r-3"))), n=st.integers(1, 3))
    def place(self, request: Request, n: int) -> None:
        """Place a request, or be told why not."""
        answer = self.scheduler.schedule(request, now=self.now, n=n)
        if isinstance(answer, Rejection):
            assert answer.http_status in {429, 503}
            return
        assert set(answer.passes[answer.primary].endpoints) <= set(self.scheduler.table.endpoints)
        assert answer.endpoint not in answer.fallbacks
        self.running.append((request, answer))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fall_back(self, data: Any) -> None:
        """Say that the endpoint did not answer."""
        request, decision = self._draw(data)
        moved = self.scheduler.fallback(request, decision, now=self.now)
        if moved is None:
            self.ended.append(decision)
            return
        assert moved.endpoint in decision.fallbacks
        self.running.append((request, moved))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def begin(self, data: Any) -> None:
        """Say that the first token has come."""
        request, decision = self._draw(data)
        self.scheduler.first_token(decision, now=self.now)
        self.running.append((request, decision))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(("success", "error", "cancelled")))
    def finish(self, data: Any, outcome: str) -> None:
        """Say that a placement has ended."""
        _, decision = self._draw(data)
        assert self.scheduler.finish(decision, now=self.now, outcome=outcome)
        self.ended.append(decision)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def finish_again(self, data: Any) -> None:
        """Say once more that a placement has ended: nothing may happen."""
        assert not self.scheduler.finish(data.draw(st.sampled_from(self.ended)), now=self.now)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        timer = self.scheduler.next_timer()
        if timer is not None and timer <= self.now:
            self.forget()

    @rule()
    def forget(self) -> None:
        """Lose track of everything: the reaper ends it."""
        if self.running:
            self.now += 10_000
            self.scheduler.handle_timer(now=self.now)
            self.ended += [decision for _, decision in self.running]
            self.running.clear()

    @invariant()
    def books_balance(self) -> None:
        """Every counter is the sum of its open leases, and these are what the host knows of."""
        audit = self.scheduler.ledger.audit()
        assert audit.balanced, audit.problems
        assert {d.lease for _, d in self.running} <= set(filter(self.scheduler.ledger.__contains__, self._leases()))
        assert audit.open_leases == sum(lease in self.scheduler.ledger for lease in self._leases())

    def _leases(self) -> list[Lease]:
        return [lease for _, decision in self.running for lease in decision.leases]

    def _draw(self, data: Any) -> tuple[Request, Decision]:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))

    def _lost(self, endpoint: Endpoint) -> None:
        """End what was running there: the scheduler has closed its leases."""
        lost = [each for each in self.running if each[1].endpoint == endpoint]
        self.running = [each for each in self.running if each[1].endpoint != endpoint]
        for _, decision in lost:
            self.scheduler.finish(decision, now=self.now)  # stages on other endpoints
            self.ended.append(decision)


class _Anybody:
    """Picks at random; the machines of the library receive their pickers, and so does this one."""

    def pick(self, request: Any, endpoints: Any, totals: Any, n: int, rng: random.Random, /) -> list[int]:
        return rng.sample(range(len(totals)), min(n, len(totals)))
