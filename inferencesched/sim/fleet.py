"""A fleet of simulated engines behind the real scheduler, in virtual time. Everything that happens is an `Event`.

The fleet is a host of the library like any other: it pushes scraped facts in, asks for a place when a request arrives,
says when the first token and the end come and what the answer took, and calls the timer when it is due. It knows
nothing of policies.

Three things move time on: an arrival, something an engine did, a scrape. At equal times engines come first, then the
scrape, then arrivals in the order of the trace. A scrape that no decision will see is not carried out, so that the
facts at each decision are exactly those of a scraper that never sleeps: as old as the last multiple of the interval.

Not modelled: the network, the time a decision takes, clients that hang up, retries after a rejection.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs
from attrs.validators import ge, min_len

from inferencesched.decision import Decision, Rejection
from inferencesched.errors import ConfigError, Problem
from inferencesched.request import DEFAULT_FLOW, Request
from inferencesched.scheduler import Scheduler
from inferencesched.sim.engine import Engine, EngineEvent, EngineSpec, Served
from inferencesched.sim.trace import Trace, TraceRequest

__all__ = ["Event", "Fleet", "FleetSpec"]


@attrs.frozen
class FleetSpec:
    """Which engines there are, and how often their metrics are read.

    Attributes:
        engines: one for each endpoint.
        scrape_interval: seconds between two readings; 0 reads at every decision.
    """

    engines: tuple[EngineSpec, ...] = attrs.field(validator=min_len(1))
    scrape_interval: float = attrs.field(default=1.0, validator=ge(0.0))

    @property
    def names(self) -> tuple[str, ...]:
        """The endpoints' names: ``e0``, ``e1``…, of equal length."""
        width = len(str(len(self.engines) - 1))
        return tuple(f"e{number:0{width}d}" for number in range(len(self.engines)))


@attrs.frozen(eq=False)
class Event:
    """One thing that happened to one request.

    Attributes:
        time: seconds since the trace began.
        kind: what.
        request: to whom.
        endpoint: where; None for a rejection.
        outcome: the scheduler's answer; for ``assigned`` and ``rejected`` only.
        served: what the engine knows of the request; for ``first_token`` and ``finished`` only.
    """

    time: float
    kind: Literal["assigned", "rejected", "first_token", "finished"]
    request: TraceRequest
    endpoint: str | None = None
    outcome: Decision | Rejection | None = None
    served: Served | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain JSON values; times in seconds, to the microsecond."""
        plain: dict[str, Any] = {"t": round(self.time, 6), "event": self.kind, "request": self.request.id}
        if self.endpoint is not None:
            plain["endpoint"] = self.endpoint
        if isinstance(self.outcome, Decision):
            chosen = self.outcome.passes[self.outcome.primary]
            plain["total"] = round(float(chosen.totals[chosen.picked[0]]), 9)
            plain["tied"] = chosen.tied
        elif self.outcome is not None:
            plain["reason"] = self.outcome.reason
        if self.served is not None and self.kind == "finished":
            plain["matched_blocks"] = self.served.matched_blocks
            plain["preemptions"] = self.served.preemptions
        return plain

    def to_json(self) -> str:
        """Return the event as one line of a log; equal events give equal bytes."""
        return json.dumps(self.to_dict(), separators=(",", ":"))


class Fleet:
    """Engines, and the scheduler that places requests on them.

    Args:
        spec: the engines.
        scheduler: decides; its endpoints are added here, it should have none yet.
        block_tokens: tokens per cache block, those of the trace to be run.

    Complexity: O(log endpoints) for each event, besides what engine and scheduler do.
    """

    def __init__(self, spec: FleetSpec, scheduler: Scheduler, *, block_tokens: int) -> None:
        self.spec = spec
        self.scheduler = scheduler
        self.engines: Mapping[str, Engine] = {
            name: Engine(engine, block_tokens=block_tokens)
            for name, engine in zip(spec.names, spec.engines, strict=True)
        }
        for name in self.engines:
            scheduler.add_endpoint(name, f"{name}.sim", now=0.0)
        self._placed: dict[str, Decision] = {}
        self._due: dict[str, float | None] = dict.fromkeys(self.engines)
        self._agenda: list[tuple[float, str]] = []  # may hold times that `_due` has replaced
        self._scraped = -math.inf

    def run(self, trace: Trace) -> Iterator[Event]:
        """Yield everything that happens to the requests of a trace, until the last one has ended.

        Raises:
            ConfigError: some request could never run on some engine, whatever else runs there.
        """
        self._check(trace)
        for request in trace.requests:
            yield from self._until(request.arrival)
            scrape = self._last_scrape(request.arrival)
            if scrape > self._scraped:
                self._scrape(scrape)
            yield self._arrive(request, trace)
        yield from self._until(math.inf)

    def _check(self, trace: Trace) -> None:
        longest = max(trace.requests, key=_total_tokens, default=None)
        if longest is None:
            return
        problems = [
            Problem(f"request {longest.id}", f"has {_total_tokens(longest)} tokens, more than {engine.name} can hold")
            for engine in dict.fromkeys(self.spec.engines)
            if _total_tokens(longest) > engine.cache_blocks(trace.block_tokens) * trace.block_tokens
        ]
        adapted = next((request for request in trace.requests if request.adapter is not None), None)
        if adapted is not None:
            problems += [
                Problem(f"request {adapted.id}", f"wants adapter '{adapted.adapter}', and {engine.name} has no slots")
                for engine in dict.fromkeys(self.spec.engines)
                if not engine.max_adapters
            ]
        if problems:
            raise ConfigError(problems)

    def _until(self, now: float) -> Iterator[Event]:
        """Let the engines work up to `now`; a scrape that lies in between and will be seen takes place at its time."""
        scrape = self._last_scrape(now)
        while self._agenda and self._agenda[0][0] <= now:
            if self._scraped < scrape < self._agenda[0][0]:
                self._scrape(scrape)
            time, name = heapq.heappop(self._agenda)
            if self._due[name] == time:
                for event in self.engines[name].advance(time):
                    yield self._tell(name, event)
                self._schedule(name)

    def _last_scrape(self, now: float) -> float:
        interval = self.spec.scrape_interval
        if math.isinf(now):
            return -math.inf  # nothing arrives any more: nobody will look
        return math.floor(now / interval) * interval if interval else now

    def _scrape(self, now: float) -> None:
        for name, engine in self.engines.items():
            engine.advance(now)  # nothing that has to be told lies in between: that is on the agenda
            self.scheduler.update(name, engine.scrape(now), now=now)
        self._scraped = now

    def _arrive(self, request: TraceRequest, trace: Trace) -> Event:
        now = request.arrival
        self._ring(now)
        asked = Request(
            request.id,
            prompt=trace.prompt(request),
            prompt_tokens=request.prompt_tokens,
            adapter=request.adapter,
            session=request.session,
        )
        outcome = self.scheduler.schedule(asked, now=now)
        if isinstance(outcome, Rejection):
            return Event(now, "rejected", request, outcome=outcome)
        name = outcome.endpoint.name
        self._placed[request.id] = outcome
        engine = self.engines[name]
        engine.advance(now)
        engine.submit(request, now=now)
        self._schedule(name)
        return Event(now, "assigned", request, name, outcome=outcome)

    def _tell(self, name: str, event: EngineEvent) -> Event:
        self._ring(event.time)
        request = event.served.request
        if event.kind == "first_token":
            placed = self._placed[request.id]
            self.scheduler.first_token(placed, now=event.time)
            self.scheduler.report_cached_tokens(placed, event.served.matched_tokens, now=event.time)
        else:
            # A scheduler by itself has no say about usage: a dispatcher tells its observers, and so does this host.
            tokens = float(request.prompt_tokens), float(request.output_tokens)
            self.scheduler.tell("usage_reported", request.id, DEFAULT_FLOW, *tokens, now=event.time)
            self.scheduler.finish(self._placed.pop(request.id), now=event.time)
        return Event(event.time, event.kind, request, name, served=event.served)

    def _ring(self, now: float) -> None:
        """Call the scheduler's timer if it was due."""
        due = self.scheduler.next_timer()
        if due is not None and due <= now:
            self.scheduler.handle_timer(now=now)

    def _schedule(self, name: str) -> None:
        due = self.engines[name].next_time()
        if due is not None and due != self._due[name]:
            heapq.heappush(self._agenda, (due, name))
        self._due[name] = due


def _total_tokens(request: TraceRequest) -> int:
    return request.prompt_tokens + request.output_tokens
