"""Wrong pickers."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, half


@breaks("picker", "positions")
@attrs.frozen
class PicksOneTwice:
    """Draws with replacement: a fallback may be where the request failed already."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return rng.choices(range(len(totals)), k=n)


@breaks("picker", "count")
@attrs.frozen
class PicksOne:
    """Returns one endpoint however many are asked for: there is no fallback."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return [rng.randrange(len(totals))]


@breaks("picker", "pure")
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


@breaks("picker", "deterministic")
@attrs.frozen
class OwnDice:
    """Throws dice of its own: no decision can be replayed."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return secrets.SystemRandom().sample(range(len(totals)), min(n, len(totals)))


@breaks("picker", "dice")
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


@breaks("picker", "ties")
@attrs.frozen
class FirstOfEquals:
    """Takes the largest total that comes first: an idle fleet is one endpoint."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return [int(row) for row in np.argsort(-totals, kind="stable")[:n]]


@breaks("picker", "few")
@attrs.frozen
class WorstOfFew(_BestFirst):
    """Sorts a list the wrong way round."""

    def pick_few(
        self, request: Request, endpoints: EndpointBatch, totals: list[float], n: int, rng: random.Random, /
    ) -> Sequence[int]:
        rows = rng.sample(range(len(totals)), len(totals))
        return sorted(rows, key=lambda row: totals[row])[:n]


@breaks("picker", "any-request")
@attrs.frozen
class PicksBySession(_BestFirst):
    """Takes for granted that every request has a session, a prompt or an adapter."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        assert request.session or request.adapter or request.prompt_tokens, "whose turn is it?"
        return super().pick(request, endpoints, totals, n, rng)


@breaks("picker", "printable")
@attrs.frozen(repr=False)
class AnonymousPicker(_BestFirst):
    """Has the default `repr`."""


@breaks("picker", "comparable")
@attrs.frozen(eq=False)
class IncomparablePicker(_BestFirst):
    """Is equal to itself alone."""


@breaks("picker", "travels")
@attrs.frozen
class PickerAtHome(_BestFirst):
    """Holds a lambda, which no other process can have."""

    key: Callable[[float], float] = attrs.field(default=lambda total: -total, repr=False)


@breaks("picker", "rebuilt")
@attrs.frozen
class Halves(_BestFirst):
    """Keeps half of what it is given."""

    most: int = attrs.field(default=8, converter=half)
