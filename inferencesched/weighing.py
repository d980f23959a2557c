"""Rows of scores, weighed: as lists where the endpoints are few and as arrays where they are many, to the same end.

A row has one score per endpoint; rows come in the order of the scorers. Nothing here knows what a score is about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

import numpy as np

from inferencesched.endpoints import FloatArray
from inferencesched.extremes import largest, smallest

__all__ = ["are_shares", "shares_of", "weighed_few"]


def shares_of(weights: Sequence[float]) -> FloatArray:
    """Return the weights as parts of one; all 0 where their sum is."""
    array = np.array(weights, np.float64)
    whole = array.sum() if len(array) else 0.0
    return array / whole if whole > 0 else np.zeros(len(array))


def are_shares(row: FloatArray | list[float]) -> bool:
    """Return whether every number of a row is in [0, 1]; NaN is not. A row has at least one."""
    if isinstance(row, list):
        return min(row) >= 0.0 and max(row) <= 1.0 and not math.isnan(sum(row))  # min and max may overlook a NaN
    return smallest(row) >= 0.0 and largest(row) <= 1.0


def weighed_few(shares: list[float], rows: list[list[float]], size: int) -> list[float]:
    """Return ``shares @ rows``, to the last rounding, for rows that are lists of `size` numbers."""
    if not rows:
        return [0.0] * size
    return [sum(map(mul, shares, column)) for column in zip(*rows, strict=True)]
