"""More work than the fleet can do: bands of priority, the real Dispatcher, clients that come back, virtual time.

Calls arrive at random (Poisson), in several bands whose rates are given in multiples of what the fleet can serve at
all. Each asks the dispatcher for a place, waits for it as long as the dispatcher lets it, runs on a simulated engine,
or is refused; a refused client reads the answer that it would get over HTTP, and behaves as its library does.

`capacity_of` measures what a fleet can serve when it is never idle and never limited. It is the unit of everything
here: what flow control costs in throughput shows as a share of it.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import attrs
from attrs.validators import ge, gt, min_len

from inferencesched.apis import ErrorAnswer, openai_error
from inferencesched.dispatcher import Dispatcher
from inferencesched.events import Assigned, Evicted, Rejected, Ticket
from inferencesched.request import Request
from inferencesched.sim.engine import Engine, EngineEvent
from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.report import Quantiles
from inferencesched.sim.trace import TraceRequest
from inferencesched.sim.workload import LogNormal

__all__ = [
    "BANDS",
    "Band",
    "BandSummary",
    "Call",
    "Clients",
    "Overload",
    "Storm",
    "capacity_of",
    "run_overload",
]

_BLOCK_TOKENS = 512  # of simulated caches; no two prompts share one, so a fine block would only cost time


@attrs.frozen
class Band:
    """Calls of one priority.

    Attributes:
        name: for the table.
        priority: as a request carries it; below 0 is sheddable.
        load: offered, in multiples of the fleet's capacity.
    """

    name: str
    priority: int
    load: float = attrs.field(validator=ge(0.0))


BANDS = (Band("urgent", 100, 0.25), Band("normal", 0, 0.35), Band("sheddable", -10, 1.4))
"""Twice what the fleet can do; what must not be lost is 60 % of it."""


@attrs.frozen
class Clients:
    """What clients do when they are refused.

    Attributes:
        retries: how often they come back; 2 is the official clients' default.
        hear: whether headers reach them; some proxy may drop those that it does not know.
        backoff_first: seconds before the first retry where the answer names no time, doubled with each further one.
        backoff_most: the longest of those.
        backoff_jitter: the share by which each of those is shortened at random.
    """

    retries: int = attrs.field(default=2, validator=ge(0))
    hear: bool = True
    backoff_first: float = 0.5
    backoff_most: float = 8.0
    backoff_jitter: float = 0.25

    def wait(self, answer: ErrorAnswer, attempts: int, rng: random.Random) -> float | None:
        """Return the seconds until the next attempt, None if there is none: openai-python 3.54.0, to the letter."""
        headers = answer.headers if self.hear else {}
        if attempts > self.retries or headers.get("x-should-retry") == "false":
            return None
        told = headers.get("retry-after-ms")
        seconds = float(told) / 1000.0 if told is not None else float(headers.get("retry-after", 0.0))
        if seconds > 120.0:
            return None
        if seconds > 0.0:
            return seconds
        backoff = min(self.backoff_first * 2.0 ** (attempts - 1), self.backoff_most)
        return backoff * (1.0 - self.backoff_jitter * rng.random())


_PROMPT, _ANSWER = LogNormal(800, 3_000), LogNormal(250, 600)
_RESIGNED = Clients(retries=0)


@attrs.frozen
class Overload:
    """What arrives, where, and for how long.

    Attributes:
        fleet: the engines, and how often their metrics are read.
        bands: who asks for how much.
        prompt: length of a prompt in tokens.
        answer: length of an answer in tokens.
        duration: seconds in which calls arrive; those that are under way then are seen to their end.
        clients: what they do when they are refused.
    """

    fleet: FleetSpec
    bands: tuple[Band, ...] = attrs.field(default=BANDS, validator=min_len(1))
    prompt: LogNormal = _PROMPT
    answer: LogNormal = _ANSWER
    duration: float = attrs.field(default=600.0, validator=gt(0.0))
    clients: Clients = _RESIGNED


@attrs.define(eq=False)
class Call:
    """One call of a client, with all its attempts. Times in seconds since the beginning, NaN until they come.

    Attributes:
        band: whose.
        request: what it asks for; its arrival is that of the first attempt.
        attempts: when it was submitted, again and again.
        refusals: why it was refused each time.
        assigned: when it got its place.
        first_token: when its answer began.
        finished: when it ended.
    """

    band: Band
    request: TraceRequest
    attempts: list[float] = attrs.field(factory=list)
    refusals: list[str] = attrs.field(factory=list)
    assigned: float = math.nan
    first_token: float = math.nan
    finished: float = math.nan

    @property
    def is_served(self) -> bool:
        """Whether it got its whole answer."""
        return not math.isnan(self.finished)

    @property
    def ttft(self) -> float:
        """Seconds from the first attempt to the first token, all waiting included."""
        return self.first_token - self.request.arrival


@attrs.frozen
class BandSummary:
    """What became of one band. Times in seconds.

    Attributes:
        band: its name.
        calls: how many there were.
        shed: the share of them that never got an answer.
        attempts: how often each was submitted, in the mean.
        ttft: of those that did: from the first attempt, all waiting included.
    """

    band: str
    calls: int
    shed: float
    attempts: float
    ttft: Quantiles


@attrs.frozen
class Storm:
    """What became of every call.

    Attributes:
        calls: in the order of their first attempts.
        capacity: calls a second that the fleet could serve.
        duration: seconds in which they arrived.
    """

    calls: tuple[Call, ...] = attrs.field(repr=False)
    capacity: float
    duration: float

    def summary(self, band: str) -> BandSummary:
        """Return the numbers of one band; NaN where it had no calls."""
        calls = [call for call in self.calls if call.band.name == band]
        served = [call.ttft for call in calls if call.is_served]
        attempts = sum(len(call.attempts) for call in calls)
        n = len(calls) or math.nan
        return BandSummary(band, len(calls), 1.0 - len(served) / n, attempts / n, Quantiles.of(served))

    def offered(self, window: float) -> Sequence[float]:
        """Return attempts per first attempt, for one window of so many seconds after another; NaN where none began."""
        end = max((call.attempts[-1] for call in self.calls), default=0.0)
        tried, begun = ([0] * (1 + int(end / window)) for _ in range(2))
        for call in self.calls:
            begun[int(call.attempts[0] / window)] += 1
            for at in call.attempts:
                tried[int(at / window)] += 1
        return [all_ / first if first else math.nan for all_, first in zip(tried, begun, strict=True)]

    @property
    def refused(self) -> float:
        """The share of attempts that were refused."""
        attempts = sum(len(call.attempts) for call in self.calls)
        return sum(len(call.refusals) for call in self.calls) / attempts if attempts else math.nan

    @property
    def goodput(self) -> float:
        """Calls served while the overload lasted, as a share of what the fleet could have served."""
        served = sum(call.finished <= self.duration for call in self.calls)
        return served / self.duration / self.capacity


def capacity_of(spec: Overload, *, requests: int = 2_000, seed: int = 0) -> float:
    """Return the calls a second that the fleet can serve: engines with everything queued at once, its middle part."""
    rates = {}
    for engine_spec in set(spec.fleet.engines):
        engine = Engine(engine_spec, block_tokens=_BLOCK_TOKENS)
        for request in itertools.islice(_sizes(spec, random.Random(seed), "capacity"), requests):
            engine.submit(request, now=0.0)
        ended = [e.time for e in _run_dry(engine) if e.kind == "finished"]
        begin, end = len(ended) // 5, len(ended) * 4 // 5
        rates[engine_spec] = (end - begin) / (ended[end] - ended[begin])
    return sum(rates[engine_spec] for engine_spec in spec.fleet.engines)


def run_overload(
    spec: Overload, build: Callable[[random.Random], Dispatcher], *, capacity: float, seed: int = 0
) -> Storm:
    """Run every call to its end under the dispatcher that `build` makes from its dice.

    Calls, their sizes and their times depend on the seed alone, so that two dispatchers see the same ones.
    """
    calls = tuple(_arrivals(spec, capacity, seed))
    _Run(spec, build(random.Random(seed)), random.Random(seed + 1)).run(calls)
    return Storm(calls, capacity, spec.duration)


def _arrivals(spec: Overload, capacity: float, seed: int) -> list[Call]:
    calls = []
    for number, band in enumerate(spec.bands):
        rng = random.Random(f"{seed}/{band.name}")
        sizes, at = _sizes(spec, rng, band.name, first_block=number << 40), 0.0
        while band.load and (at := at + rng.expovariate(band.load * capacity)) < spec.duration:
            calls.append(Call(band, attrs.evolve(next(sizes), arrival=at)))
    return sorted(calls, key=lambda call: call.request.arrival)


def _sizes(spec: Overload, rng: random.Random, name: str, *, first_block: int = 0) -> Iterator[TraceRequest]:
    """Yield requests that share nothing, all at time 0."""
    block = first_block
    for number in itertools.count():
        prompt = min(spec.prompt.draw_tokens(rng), 100_000)
        blocks = -(-prompt // _BLOCK_TOKENS)
        yield TraceRequest(
            f"{name}-{number}", 0.0, prompt, spec.answer.draw_tokens(rng), tuple(range(block, block + blocks))
        )
        block += blocks


def _run_dry(engine: Engine) -> Iterator[EngineEvent]:
    while (time := engine.next_time()) is not None:
        yield from engine.advance(time)


class _Run:
    """One run: an agenda of what happens when, the engines, and who holds which place."""

    def __init__(self, spec: Overload, dispatcher: Dispatcher, rng: random.Random) -> None:
        self._spec = spec
        self._dispatcher = dispatcher
        self._rng = rng
        names = spec.fleet.names
        self._engines: Mapping[str, Engine] = MappingProxyType(
            {name: Engine(e, block_tokens=_BLOCK_TOKENS) for name, e in zip(names, spec.fleet.engines, strict=True)}
        )
        self._due: dict[str, float | None] = dict.fromkeys(names)
        self._order = itertools.count()
        self._agenda: list[tuple[float, int, Call | str]] = []  # who tries again, or which engine has news
        self._waiting: dict[Ticket, Call] = {}
        self._running: dict[str, tuple[Ticket, Call]] = {}
        for name in names:
            dispatcher.add_endpoint(name, f"{name}.sim", now=0.0)

    def run(self, calls: Sequence[Call]) -> None:
        """Let everything happen."""
        for call in calls:
            self._plan(call.request.arrival, call)
        scrape = 0.0
        while self._agenda:
            now = self._agenda[0][0]
            timer = self._dispatcher.next_timer()
            if self._spec.fleet.scrape_interval and scrape <= min(now, math.inf if timer is None else timer):
                self._scrape(scrape)
                scrape += self._spec.fleet.scrape_interval
            elif timer is not None and timer <= now:
                self._dispatcher.handle_timer(now=timer)
                self._heed(timer)
            else:
                _, _, what = heapq.heappop(self._agenda)
                if isinstance(what, Call):
                    self._attempt(what, now)
                elif self._due[what] == now:
                    self._advance(what, now)

    def _plan(self, time: float, what: Call | str) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), what))

    def _scrape(self, now: float) -> None:
        for name in self._engines:
            self._advance(name, now)
            self._dispatcher.update(name, self._engines[name].scrape(now), now=now)
        self._heed(now)

    def _attempt(self, call: Call, now: float) -> None:
        call.attempts.append(now)
        request = Request(
            call.request.id,
            prompt_tokens=call.request.prompt_tokens,
            priority=call.band.priority,
            flow=call.band.name,
            size_bytes=4 * call.request.prompt_tokens,
        )
        self._waiting[self._dispatcher.submit(request, now=now)] = call
        self._heed(now)

    def _heed(self, now: float) -> None:
        """Do what the dispatcher says."""
        while (event := self._dispatcher.next_event()) is not None:
            match event:
                case Assigned(ticket=ticket, decision=decision):
                    call = self._waiting.pop(ticket)
                    call.assigned = now
                    self._running[call.request.id] = ticket, call
                    name = decision.endpoint.name
                    self._advance(name, now)
                    self._engines[name].submit(call.request, now=now)
                    self._follow(name)
                case Rejected(ticket=ticket, rejection=rejection):
                    call = self._waiting.pop(ticket)
                    call.refusals.append(rejection.reason)
                    wait = self._spec.clients.wait(openai_error(rejection), len(call.attempts), self._rng)
                    if wait is not None:
                        self._plan(now + wait, call)
                case Evicted():
                    pass  # cooperative, and these engines finish what they have begun

    def _advance(self, name: str, now: float) -> None:
        """Let an engine work up to `now`, and tell the dispatcher what came of it."""
        for event in self._engines[name].advance(now):
            ticket, call = self._running[event.served.request.id]
            if event.kind == "first_token":
                call.first_token = event.time
                self._dispatcher.first_token(ticket, now=event.time)
            else:
                call.finished = event.time
                del self._running[call.request.id]
                self._dispatcher.report_usage(
                    ticket,
                    prompt_tokens=call.request.prompt_tokens,
                    output_tokens=call.request.output_tokens,
                    now=event.time,
                )
                self._dispatcher.finish(ticket, now=event.time)
            self._heed(event.time)
        self._follow(name)

    def _follow(self, name: str) -> None:
        due = self._engines[name].next_time()
        if due is not None and due != self._due[name]:
            self._plan(due, name)
        self._due[name] = due
