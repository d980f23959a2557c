"""The largest, the smallest, and what counts as equal to them. Nothing here knows what is being compared."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

__all__ = ["TIE", "among_the_best", "best_first", "largest", "smallest", "tied"]

TIE = 1e-9
"""Totals closer than this are equal: far above the rounding of a weighted sum, far below any difference that means
something."""


_FEW = 48


def largest(values: NDArray[np.float64]) -> float:
    """Return the largest value, NaN if any is NaN. At a few hundred elements argmax is twice as fast as max."""
    return values.item(values.argmax())


def smallest(values: NDArray[np.float64]) -> float:
    """Return the smallest value, NaN if any is NaN."""
    return values.item(values.argmin())


def tied(totals: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the positions that share the largest total. O(n)."""
    best: NDArray[np.intp] = (totals >= totals.item(totals.argmax()) - TIE).nonzero()[0]
    return best


def among_the_best(totals: NDArray[np.float64], rng: random.Random) -> int:
    """Return the position of the largest total; among equals each is as likely. O(n), dice only for a tie."""
    best = tied(totals)
    return int(best[0] if len(best) == 1 else best[rng.randrange(len(best))])


def best_first(totals: NDArray[np.float64] | list[float], n: int, rng: random.Random) -> list[int]:
    """Return the positions of the `n` largest totals, one after another as `among_the_best` would draw them.

    Complexity: O(n × totals); O(totals log totals) for a few dozen, which are compared quicker as a list than as an
    array, and quickest where nothing is tied.
    """
    if isinstance(totals, np.ndarray) and len(totals) > _FEW:
        left = totals.copy()
        picked: list[int] = []
        for _ in range(min(n, len(totals))):
            picked.append(among_the_best(left, rng))
            left[picked[-1]] = -np.inf
        return picked
    values: list[float] = list(totals) if isinstance(totals, list) else totals.tolist()
    ranked, above = sorted(values, reverse=True)[: n + 1], np.inf
    for value in ranked:
        if above - value <= TIE:
            break
        above = value
    else:  # nothing is tied, and no dice are needed
        return [values.index(value) for value in ranked[:n]]
    picked, wanted = [], min(n, len(values))
    while len(picked) < wanted:
        most = max(values)
        best = [position for position, value in enumerate(values) if value >= most - TIE]
        # Where they are equal to the last bit, those that are left stay the best, and need not be looked for again.
        draws = min(len(best), wanted - len(picked)) if values.count(most) == len(best) else 1
        for _ in range(draws):
            position = best.pop(rng.randrange(len(best)) if len(best) > 1 else 0)
            picked.append(position)
            values[position] = -np.inf
    return picked
