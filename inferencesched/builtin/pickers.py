"""Pickers: given every endpoint's total, where does the request go? The only place where dice are thrown.

All take `max_num_of_endpoints`: how many ranked endpoints to return when the host does not ask for more. Equal totals
are always decided by chance, so that no endpoint is first because of its place in a list.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import attrs
import numpy as np

from inferencesched.builtin.instances import instances
from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray
from inferencesched.extremes import best_first
from inferencesched.interfaces import Observer
from inferencesched.request import Request

__all__ = [
    "MaxScorePicker",
    "PowerOfTwoChoicesPicker",
    "RandomPicker",
    "RoundRobinPicker",
    "WeightedRandomPicker",
]


_MODELS = 4096
"""Models whose turn is remembered; beyond that the one used longest ago starts its round anew."""


def _at_least_one(given: int) -> int:
    return max(1, given)


@attrs.frozen
class MaxScorePicker:
    """Take the endpoint with the largest total; among equals, each is as likely.

    Args:
        max_num_of_endpoints: ranked endpoints to return at least; ≤ 0 is 1.

    Formula: argmax(total), then the next largest; totals closer than 1e-9 are equal.
    Source: Endpoint Picker ``max-score-picker`` (shuffle, then stable sort by score).
    """

    type: ClassVar[str] = "max-score-picker"

    max_num_of_endpoints: int = attrs.field(default=1, converter=_at_least_one)

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return the best positions. O(picks × endpoints)."""
        return best_first(totals, max(n, self.max_num_of_endpoints), rng)

    def pick_few(
        self, request: Request, endpoints: EndpointBatch, totals: list[float], n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return the same by a list of totals."""
        return best_first(totals, max(n, self.max_num_of_endpoints), rng)


@attrs.frozen
class RandomPicker:
    """Take any endpoint, whatever its total: the baseline that a policy has to beat.

    Args:
        max_num_of_endpoints: ranked endpoints to return at least; ≤ 0 is 1.

    Formula: a uniform sample without replacement.
    Source: Endpoint Picker ``random-picker``.
    """

    type: ClassVar[str] = "random-picker"

    max_num_of_endpoints: int = attrs.field(default=1, converter=_at_least_one)

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return random positions. O(picks)."""
        wanted = min(max(n, self.max_num_of_endpoints), len(totals))
        return [rng.randrange(len(totals))] if wanted == 1 else rng.sample(range(len(totals)), wanted)


@attrs.frozen
class WeightedRandomPicker:
    """Take endpoints with probability proportional to their totals, so that several schedulers do not herd.

    Args:
        max_num_of_endpoints: ranked endpoints to return at least; ≤ 0 is 1.

    Formula: P(i) = total_i / Σ total, repeated without replacement; once nothing above 0 is left, uniform.
    Source: Endpoint Picker ``weighted-random-picker`` (A-Res, Efraimidis & Spirakis 2006, keys U^(1/w)): drawing one
        after another in proportion to the weights that are left has the same distribution.
    """

    type: ClassVar[str] = "weighted-random-picker"

    max_num_of_endpoints: int = attrs.field(default=1, converter=_at_least_one)

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return positions drawn in proportion. O(picks × endpoints)."""
        wanted = min(max(n, self.max_num_of_endpoints), len(totals))
        weights = totals.copy()
        picked: list[int] = []
        while len(picked) < wanted:
            ladder = weights.cumsum()
            if not ladder[-1] > 0:
                rest = [row for row in range(len(totals)) if row not in set(picked)]
                return picked + rng.sample(rest, wanted - len(picked))
            # side="right" steps over the rungs of zero width; rounding alone can step over the last of the others
            row = int(ladder.searchsorted(rng.random() * ladder[-1], side="right"))
            if row == len(ladder):
                row = int(weights.nonzero()[0][-1])
            picked.append(row)
            weights[row] = 0.0
        return picked


@attrs.frozen
class PowerOfTwoChoicesPicker:
    """Draw two endpoints and take the better one: near the best balance, and no herd forms on one favourite.

    Args:
        max_num_of_endpoints: ranked endpoints to return at least; ≤ 0 is 1.

    Formula: the larger total of two drawn uniformly; the other one and then further draws are the fallbacks.
    Source: ours; Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001.
    """

    type: ClassVar[str] = "power-of-two-choices-picker"

    max_num_of_endpoints: int = attrs.field(default=1, converter=_at_least_one)

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return the better of two draws, the other, then further draws. O(picks)."""
        wanted = min(max(n, self.max_num_of_endpoints), len(totals))
        drawn = rng.sample(range(len(totals)), min(max(2, wanted), len(totals)))
        drawn[:2] = sorted(drawn[:2], key=lambda row: -totals[row])
        return drawn[:wanted]


@attrs.define(eq=False)
class RoundRobinPicker(Observer):
    """Take the endpoints in turn, one turn per model, whatever their totals: the other baseline to beat.

    Args:
        max_num_of_endpoints: ranked endpoints to return at least; ≤ 0 is 1.

    Formula: the endpoint whose last turn for this model is longest ago; those that never had one come first, the oldest
        instance before the others. An endpoint that comes or goes moves nobody else's turn, and the endpoints of one
        stage (prefill) take theirs among themselves, whatever another stage (decode) does.
    Source: ours. Remembers the last 4,096 models.
    """

    type: ClassVar[str] = "round-robin-picker"

    max_num_of_endpoints: int = attrs.field(default=1, converter=_at_least_one)
    _turns: OrderedDict[str, dict[int, int]] = attrs.field(init=False, factory=OrderedDict, repr=False)
    _turn: int = attrs.field(init=False, default=0, repr=False)

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return positions in turn. O(n log n)."""
        everyone, turns = instances(endpoints), self._turns.get(request.model, {})
        last = np.array([turns.get(instance, 0) for instance in everyone.tolist()], np.int64)
        order = np.lexsort((everyone, last))
        return [int(row) for row in order[: max(n, self.max_num_of_endpoints)]]

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Pass the turn on."""
        turns = self._turns.setdefault(request.model, {})
        for lease in decision.leases:
            self._turn += 1
            turns[lease.endpoint.instance] = self._turn
        self._turns.move_to_end(request.model)
        if len(self._turns) > _MODELS:
            self._turns.popitem(last=False)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Forget the endpoint's turns. O(models)."""
        for turns in self._turns.values():
            turns.pop(endpoint.instance, None)
