"""Deliberately wrong plugins: one for each clause, caught by that clause and by no other.

A suite that has never failed proves nothing. `WRONG` is what the checks are checked with; read it as a list of the
mistakes that are easy to make.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.decision import Decision, Pass
from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray
from inferencesched.interfaces import Conclusion, Observer
from inferencesched.request import Request

__all__ = ["WRONG", "Wrong"]


@attrs.frozen
class Wrong:
    """A plugin that breaks one clause.

    Attributes:
        role: whose contract.
        clause: the only clause that it breaks.
        plugin: an instance.
    """

    role: str
    clause: str
    plugin: Any


WRONG: list[Wrong] = []


def _breaks(role: str, clause: str) -> Callable[[type], type]:
    """Put an instance of the class on the list."""

    def enlist(cls: type) -> type:
        WRONG.append(Wrong(role, clause, cls()))
        return cls

    return enlist


def _thousandfold(seconds: float) -> float:
    return seconds * 1000.0


def _one_more(labels: tuple[str, ...]) -> tuple[str, ...]:
    return (*labels, "ready")


def _half(most: int) -> int:
    return most // 2


def _next_block(tokens: int) -> int:
    return tokens + 16


def _other_name(stage: str) -> str:
    return f"{stage}-stage"


# --- scorers ---------------------------------------------------------------------------------------------------------


@_breaks("scorer", "shape")
@attrs.frozen
class ScoresAsList:
    """Returns a list: a fine answer, but not an array."""

    def score(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        return [0.5] * len(endpoints)


@_breaks("scorer", "range")
@attrs.frozen
class Unbounded:
    """Takes for granted that no queue is longer than a hundred."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        free = 1.0 - endpoints["waiting_requests"] / 100
        return np.where(np.isnan(free), 0.5, free)


@_breaks("scorer", "pure")
@attrs.frozen(eq=False)
class ReusesItsArray:
    """Saves an allocation: its answer to one request is overwritten by the next."""

    _scores: dict[int, FloatArray] = attrs.field(factory=dict, init=False, repr=False)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        scores = self._scores.setdefault(len(endpoints), np.zeros(len(endpoints)))
        scores[:] = len(request.model) % 10 / 10
        return scores

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReusesItsArray)

    def __hash__(self) -> int:
        return 0


@_breaks("scorer", "order")
@attrs.frozen
class PrefersTheFirst:
    """Breaks ties by position, so that whoever joined first gets everything."""

    relative: ClassVar[bool] = True

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.linspace(1.0, 0.0, len(endpoints))


@_breaks("scorer", "subset")
@attrs.frozen
class SecretlyRelative:
    """Compares with the longest queue of all, and does not say so."""

    consumes: ClassVar[tuple[str, ...]] = ("running_requests",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        running = np.nan_to_num(endpoints["running_requests"])
        return np.asarray(1.0 - running / (running.max() + 1.0))


@_breaks("scorer", "unknown")
@attrs.frozen
class PassesNanOn:
    """Lets an unknown fact be an unknown score."""

    consumes: ClassVar[tuple[str, ...]] = ("kv_cache_utilization",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.clip(1.0 - endpoints["kv_cache_utilization"], 0.0, 1.0)


@_breaks("scorer", "consumes")
@attrs.frozen
class ReadsInSecret:
    """Reads a column that it does not declare: no receipt will show how old the fact was."""

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.where(endpoints["kv_cache_utilization"] > 0.9, 0.0, 1.0)


@_breaks("scorer", "any-request")
@attrs.frozen
class NeedsAPrompt:
    """Takes for granted that there is a prompt."""

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        prompt: Any = request.prompt
        return np.full(len(endpoints), 1.0 / (1 + len(prompt)))


class _Plain:
    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.full(len(endpoints), 0.5)


@_breaks("scorer", "printable")
@attrs.frozen(repr=False)
class Anonymous(_Plain):
    """Has the default `repr`: an address in every receipt."""


@_breaks("scorer", "comparable")
@attrs.frozen(eq=False)
class Incomparable(_Plain):
    """Is equal to itself alone: after a reload everything has changed."""


@_breaks("scorer", "travels")
@attrs.frozen
class StaysAtHome(_Plain):
    """Holds what cannot be pickled, so that policies cannot be compared in several processes."""

    weigh: Callable[[float], float] = attrs.field(default=lambda share: share**2, repr=False)


@_breaks("scorer", "rebuilt")
@attrs.frozen
class Converts(_Plain):
    """Converts what it is given to another unit: shown and loaded again, a second becomes a thousand."""

    half_life: float = attrs.field(default=1.0, converter=_thousandfold)


# --- filters ---------------------------------------------------------------------------------------------------------


@_breaks("filter", "mask")
@attrs.frozen
class KeepsAsNumbers:
    """Returns ones and zeros: as an index, they are positions and not a mask."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        return np.ones(len(endpoints), np.int64)


@_breaks("filter", "pure")
@attrs.frozen
class LeavesANote:
    """Writes into the request for a scorer to read."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        request.attributes["seen"] = True  # type: ignore[index]
        return np.ones(len(endpoints), np.bool_)


@_breaks("filter", "order")
@attrs.frozen
class KeepsTheFirstHalf:
    """Cuts a long list short, wherever everybody stands in it."""

    relative: ClassVar[bool] = True

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.arange(len(endpoints)) < (len(endpoints) + 1) // 2


@_breaks("filter", "subset")
@attrs.frozen
class KeepsTheBest:
    """Keeps the shortest queue of all, and does not say that it compares."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        waiting = np.nan_to_num(endpoints["waiting_requests"])
        return np.asarray(waiting == waiting.min())


@_breaks("filter", "unknown")
@attrs.frozen
class CountsOnFacts:
    """Makes an integer of what may be unknown."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.array([int(each["waiting_requests"]) < 10 for each in endpoints], np.bool_)


@_breaks("filter", "consumes")
@attrs.frozen
class FiltersInSecret:
    """Declares one column and reads another as well."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return ~((endpoints["waiting_requests"] > 10) & endpoints.contains("active_adapters", "sql"))


@_breaks("filter", "any-request")
@attrs.frozen
class NeedsAHeader:
    """Takes for granted that the gateway sets a header."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        wanted = (request.session or request.adapter or request.attributes["zone"]).lower()
        return np.full(len(endpoints), wanted != "nowhere")


class _KeepsAll:
    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.ones(len(endpoints), np.bool_)


@_breaks("filter", "printable")
@attrs.frozen(repr=False)
class AnonymousFilter(_KeepsAll):
    """Says in receipts that endpoints were dropped by an address."""


@_breaks("filter", "comparable")
@attrs.frozen(eq=False)
class IncomparableFilter(_KeepsAll):
    """Is equal to itself alone, and memoised under a key that is never found again."""


@_breaks("filter", "travels")
@attrs.frozen
class ForgetsOnTheWay(_KeepsAll):
    """Comes out of a pickle with another limit than it went in."""

    limit: int = 10

    def __getstate__(self) -> dict[str, int]:
        return {"limit": 0}

    def __copy__(self) -> ForgetsOnTheWay:
        return self


@_breaks("filter", "rebuilt")
@attrs.frozen
class Accumulates(_KeepsAll):
    """Adds to what it is given: loaded from its own parameters it has a label more each time."""

    labels: tuple[str, ...] = attrs.field(default=(), converter=_one_more)


# --- pickers ---------------------------------------------------------------------------------------------------------


@_breaks("picker", "positions")
@attrs.frozen
class PicksOneTwice:
    """Draws with replacement: a fallback may be where the request failed already."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return rng.choices(range(len(totals)), k=n)


@_breaks("picker", "count")
@attrs.frozen
class PicksOne:
    """Returns one endpoint however many are asked for: there is no fallback."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return [rng.randrange(len(totals))]


@_breaks("picker", "pure")
@attrs.frozen
class CrossesOut:
    """Marks what it has picked in the totals it was given, which the receipt will show."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        picked: list[int] = []
        while len(picked) < min(n, len(totals)):
            best = np.flatnonzero(totals == totals.max())
            picked.append(int(best[rng.randrange(len(best))]))
            totals[picked[-1]] = -1.0
        return picked


@_breaks("picker", "deterministic")
@attrs.frozen
class OwnDice:
    """Throws dice of its own: no decision can be replayed."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return secrets.SystemRandom().sample(range(len(totals)), min(n, len(totals)))


@_breaks("picker", "dice")
@attrs.frozen
class SharedDice:
    """Throws the dice that every module shares."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        random.random()
        return rng.sample(range(len(totals)), min(n, len(totals)))


class _BestFirst:
    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        rows = rng.sample(range(len(totals)), len(totals))
        return sorted(rows, key=lambda row: -totals[row])[:n]


@_breaks("picker", "ties")
@attrs.frozen
class FirstOfEquals:
    """Takes the largest total that comes first: an idle fleet is one endpoint."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return [int(row) for row in np.argsort(-totals, kind="stable")[:n]]


@_breaks("picker", "any-request")
@attrs.frozen
class PicksBySession(_BestFirst):
    """Takes for granted that every request has a session, a prompt or an adapter."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        assert request.session or request.adapter or request.prompt_tokens, "whose turn is it?"
        return super().pick(request, endpoints, totals, n, rng)


@_breaks("picker", "printable")
@attrs.frozen(repr=False)
class AnonymousPicker(_BestFirst):
    """Has the default `repr`."""


@_breaks("picker", "comparable")
@attrs.frozen(eq=False)
class IncomparablePicker(_BestFirst):
    """Is equal to itself alone."""


@_breaks("picker", "travels")
@attrs.frozen
class PickerAtHome(_BestFirst):
    """Holds a lambda, which no other process can have."""

    key: Callable[[float], float] = attrs.field(default=lambda total: -total, repr=False)


@_breaks("picker", "rebuilt")
@attrs.frozen
class Halves(_BestFirst):
    """Keeps half of what it is given."""

    most: int = attrs.field(default=8, converter=_half)


# --- producers -------------------------------------------------------------------------------------------------------


class _Produces:
    produces: ClassVar[tuple[str, ...]] = ("tokens",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.full(len(endpoints), np.nan)}


@_breaks("producer", "columns")
@attrs.frozen
class ProducesANumber(_Produces):
    """Returns one number for all endpoints."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        return {"tokens": np.float64(8.0)}


@_breaks("producer", "produces")
@attrs.frozen
class ProducesMore(_Produces):
    """Makes a column that it does not declare, and that nobody can be put in order after."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"words": np.zeros(len(endpoints))}


@_breaks("producer", "pure")
@attrs.frozen
class ForcesItsWay(_Produces):
    """Switches writing on, and corrects a fact for everybody who reads it later."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        waiting = endpoints["waiting_requests"]
        if waiting.base is not None:
            waiting.flags.writeable = True
            waiting[:] = 0.0
        return {"tokens": np.full(len(endpoints), 8.0)}


@_breaks("producer", "order")
@attrs.frozen
class AsksTheFirst(_Produces):
    """Takes what the first endpoint reports for what all of them do."""

    consumes: ClassVar[tuple[str, ...]] = ("cache_num_blocks",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.full(len(endpoints), endpoints["cache_num_blocks"][0])}


@_breaks("producer", "unknown")
@attrs.frozen
class ProducesFromFacts(_Produces):
    """Makes an integer of what may be unknown."""

    consumes: ClassVar[tuple[str, ...]] = ("cache_num_blocks",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.array([float(int(each["cache_num_blocks"])) for each in endpoints])}


@_breaks("producer", "consumes")
@attrs.frozen
class ProducesInSecret(_Produces):
    """Reads a column that it does not declare: it may run before the producer that makes it."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": endpoints["prompt_tokens"] * 2.0}


@_breaks("producer", "any-request")
@attrs.frozen
class CountsThePrompt(_Produces):
    """Takes for granted that there is a prompt."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        prompt: Any = request.prompt
        return {"tokens": np.full(len(endpoints), float(len(prompt)))}


@_breaks("producer", "prefix")
@attrs.frozen
class MatchesTooMuch:
    """Counts the last, half-filled block as matched, but not as one that can match."""

    produces: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens")

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {name: np.full(len(endpoints), 512.0 + 16.0 * ("matched" in name)) for name in self.produces}


@_breaks("producer", "printable")
@attrs.frozen(repr=False)
class AnonymousProducer(_Produces):
    """Has the default `repr`."""


@_breaks("producer", "comparable")
@attrs.frozen(eq=False)
class IncomparableProducer(_Produces):
    """Is equal to itself alone."""


@_breaks("producer", "travels")
@attrs.frozen
class ProducerAtHome(_Produces):
    """Holds a lambda, which no other process can have."""

    count: Callable[[str], int] = attrs.field(default=lambda text: len(text) // 4, repr=False)


@_breaks("producer", "rebuilt")
@attrs.frozen
class Grows(_Produces):
    """Rounds up to the next block, and once more each time."""

    tokens: int = attrs.field(default=16, converter=_next_block)


# --- profile handlers ------------------------------------------------------------------------------------------------


class _RunsAll:
    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        return () if passes else tuple(profiles)

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        return Conclusion(next(iter(passes)))


@_breaks("profile-handler", "ends")
@attrs.frozen
class TriesAgain(_RunsAll):
    """Asks a profile again when it found no endpoint."""

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        return [name for name in profiles if name not in passes or not passes[name].picked]


@_breaks("profile-handler", "known")
@attrs.frozen
class WantsMore(_RunsAll):
    """Takes for granted that there is a profile for prefill."""

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        return () if passes else (*profiles, "prefill")


@_breaks("profile-handler", "concludes")
@attrs.frozen
class ConcludesFromNothing(_RunsAll):
    """Names a profile that did not run."""

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        return Conclusion("decode")


@_breaks("profile-handler", "pure")
@attrs.frozen
class TakesTurns(_RunsAll):
    """Lets the profiles take turns by a counter of its own."""

    _turns: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        if passes:
            return ()
        self._turns.append(1)
        return tuple(profiles)[len(self._turns) % len(profiles) :]

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        return Conclusion(next(iter(passes), None), message="it is nobody's turn")


@_breaks("profile-handler", "any-request")
@attrs.frozen
class SplitsByPrompt(_RunsAll):
    """Takes for granted that there is a prompt."""

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        prompt: Any = request.prompt
        return Conclusion(next(iter(passes)), headers={"x-prompt-size": str(len(prompt))})


@_breaks("profile-handler", "printable")
@attrs.frozen(repr=False)
class AnonymousHandler(_RunsAll):
    """Has the default `repr`."""


@_breaks("profile-handler", "comparable")
@attrs.frozen(eq=False)
class IncomparableHandler(_RunsAll):
    """Is equal to itself alone."""


@_breaks("profile-handler", "travels")
@attrs.frozen
class HandlerAtHome(_RunsAll):
    """Holds a lambda, which no other process can have."""

    decide: Callable[[float], bool] = attrs.field(default=lambda tokens: tokens > 512, repr=False)


@_breaks("profile-handler", "rebuilt")
@attrs.frozen
class Renames(_RunsAll):
    """Keeps another name than the one it is given."""

    stage: str = attrs.field(default="decode", converter=_other_name)


# --- observers -------------------------------------------------------------------------------------------------------


@_breaks("observer", "any-order")
@attrs.define(eq=False)
class ExpectsABeginning(Observer):
    """Takes for granted that what ends has begun, once."""

    _started: set[str] = attrs.field(factory=set, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self._started.add(request.id)

    def finished(self, request_id: str, endpoint: Endpoint, outcome: str, *, now: float) -> None:
        self._started.remove(request_id)


@_breaks("observer", "forgets-endpoints")
@attrs.define(eq=False)
class RemembersEndpoints(Observer):
    """Counts by instance, and keeps the counts of those that are gone."""

    _served: dict[int, int] = attrs.field(factory=dict, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self._served[decision.endpoint.instance] = self._served.get(decision.endpoint.instance, 0) + 1


@_breaks("observer", "forgets-requests")
@attrs.define(eq=False)
class RemembersRequests(Observer):
    """Keeps the ids of all requests of an endpoint for as long as that lives."""

    _seen: dict[int, list[str]] = attrs.field(factory=dict, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self._seen.setdefault(decision.endpoint.instance, []).append(request.id)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        self._seen.pop(endpoint.instance, None)


@_breaks("observer", "printable")
class AnonymousObserver(Observer):
    """Has the default `repr`."""


@_breaks("observer", "rebuilt")
@attrs.define(eq=False)
class Multiplies(Observer):
    """Keeps a thousandfold of what it is given."""

    window: float = attrs.field(default=30.0, converter=_thousandfold)
