"""How well the index predicts what engines really had in cache, told by the usage figures of their answers.

For every answer that reports its cached tokens, the share of the predicted tokens that was true is averaged per
endpoint. An endpoint whose share stays low has a smaller cache than assumed, or none: its entries are cut down, and
while that does not help, what is claimed of it is discounted by the measured share. One whose predictions hold again is
allowed more again, step by step.

Nothing here knows keys, trees or scores; it turns pairs of numbers into two others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs

from inferencesched.endpoints import Endpoint

__all__ = ["Accuracy", "Calibration"]

_SMOOTHING = 1 / 16
"""Weight of one report: the average forgets half of what it knew within eleven."""

_ENOUGH = 8
"""Reports before the average is acted upon, and again after each action."""

_WRONG = 0.5
"""Share of the prediction below which an endpoint counts as consistently wrong."""

_RIGHT = 0.9
"""Share above which an endpoint that was cut down may hold more again."""


@attrs.frozen
class Accuracy:
    """What has been learned about the predictions for one endpoint.

    Attributes:
        reports: answers that said how much was cached and of which something had been predicted.
        share: of the predicted tokens, how many were cached, averaged over about the last sixteen reports; in [0, 1].
        error_tokens: predicted minus cached, averaged likewise; positive where the index promises too much.
        since: reports since the endpoint's entries were last cut down or allowed more.
    """

    reports: int = 0
    share: float = 1.0
    error_tokens: float = 0.0
    since: int = 0

    @property
    def trust(self) -> float:
        """What a predicted token is worth: 1, or the measured share once that is consistently low, but never nothing.

        An endpoint whose every prediction failed must be able to win trust back.
        """
        return max(self.share, _SMOOTHING) if self.reports >= 2 * _ENOUGH and self.share < _WRONG else 1.0

    def after(self, predicted: float, cached: float) -> Accuracy:
        """Return the accuracy after one more report."""
        weight = max(_SMOOTHING, 1 / (self.reports + 1))  # a plain average until there are enough
        share = min(1.0, cached / predicted)
        return Accuracy(
            self.reports + 1,
            self.share + weight * (share - self.share),
            self.error_tokens + weight * (predicted - cached - self.error_tokens),
            self.since + 1,
        )


class Calibration:
    """Accuracy per endpoint, and what follows from it.

    Args:
        cut_down: called with an endpoint whose entries should be halved.
        let_grow: called with an endpoint that was cut down and may hold twice as many again.

    Complexity: every method O(1), but `doubted` O(endpoints that are).
    """

    def __init__(self, *, cut_down: Callable[[Endpoint], None], let_grow: Callable[[Endpoint], None]) -> None:
        self._cut_down = cut_down
        self._let_grow = let_grow
        self._cuts: Counter[Endpoint] = Counter()
        self._accuracy: dict[Endpoint, Accuracy] = {}
        self._doubted: dict[Endpoint, float] = {}

    def report(self, endpoint: Endpoint, *, predicted: float, cached: float) -> Accuracy:
        """Take in what an answer said; return the accuracy that follows.

        Predictions of nothing teach nothing: that an engine had more than was promised is no fault of its entries.
        """
        known = self._accuracy.get(endpoint, Accuracy())
        if predicted <= 0:
            return known
        known = known.after(predicted, max(0.0, cached))
        if known.since >= _ENOUGH and known.share < _WRONG:
            known = attrs.evolve(known, since=0)
            self._cuts[endpoint] += 1
            self._cut_down(endpoint)
        elif known.since >= _ENOUGH and known.share > _RIGHT and self._cuts[endpoint]:
            known = attrs.evolve(known, since=0)
            self._cuts[endpoint] -= 1
            self._let_grow(endpoint)
        self._accuracy[endpoint] = known
        if known.trust < 1.0:
            self._doubted[endpoint] = known.trust
        else:
            self._doubted.pop(endpoint, None)
        return known

    def forget(self, endpoint: Endpoint) -> None:
        """Drop what was learned about an endpoint that is gone."""
        self._accuracy.pop(endpoint, None)
        self._doubted.pop(endpoint, None)
        self._cuts.pop(endpoint, None)

    @property
    def accuracy(self) -> dict[Endpoint, Accuracy]:
        """What was learned, per endpoint that reported: for metrics."""
        return dict(self._accuracy)

    @property
    def doubted(self) -> dict[Endpoint, float]:
        """Endpoints whose predictions are discounted, and by what factor. Mostly empty."""
        return self._doubted
