"""One of several, by weight: by dice, or always the same for one key.

With a key, every choice draws its own number in (0, 1) from a hash of key and name, and the smallest −ln(number)/weight
wins. The shares are exactly those of the weights, and a choice's draw depends on nothing but key, name and salt. So if
one weight grows, keys only go *to* that choice, from the others in proportion; if one shrinks, keys only go away from
it; if a choice is added or leaves, no key moves between the rest. Nothing less could move.

If several weights change at once, it counts how they stand to each other: 95/5 → 90/10 is, for two choices, one weight
that grows, and 5 % of the keys move. For three, 50/45/5 → 45/45/10 is two changes, one after the other, and moves no
more than both together.

Knows names and weights; what is chosen is for others to know.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import xxhash

__all__ = ["Shares"]


class Shares:
    """The weights of some choices.

    Args:
        names: what each choice is known by, for keys: reordering them moves no key. Those that are the same twice are
            told apart by their order.
        weights: each ≥ 0; a choice of weight 0 is never chosen.
        salt: two lists of choices with different salts choose independently for the same key.

    >>> Shares(["current", "canary"], [90, 10], "route").pick("tenant-7", random.Random(1))
    0

    Complexity: O(1) for a single choice, O(choices) otherwise.
    """

    __slots__ = ("_cumulative", "_draws", "_only", "_total")

    def __init__(self, names: Sequence[str], weights: Sequence[float], salt: str) -> None:
        live = [position for position, weight in enumerate(weights) if weight > 0]
        self._only = live[0] if len(live) == 1 else None
        self._cumulative: list[tuple[float, int]] = []
        self._draws: list[tuple[int, float, int]] = []
        self._total = 0.0
        for position in live:
            self._total += weights[position]
            self._cumulative.append((self._total, position))
            label = f"{len(salt)};{salt};{names[:position].count(names[position])};{names[position]}"
            self._draws.append((xxhash.xxh3_64_intdigest(label.encode()), weights[position], position))

    def pick(self, key: str | None, rng: random.Random) -> int | None:
        """Return the position of the choice, by key or, without one, by dice; None when no choice has weight."""
        if self._only is not None or not self._draws:
            return self._only
        if key is not None:
            content, least, chosen = key.encode("utf-8", "surrogatepass"), math.inf, None
            for seed, weight, position in self._draws:
                draw = -math.log((xxhash.xxh3_64_intdigest(content, seed) + 0.5) * 2.0**-64) / weight
                if draw < least:
                    least, chosen = draw, position
            return chosen
        point = rng.random() * self._total
        for up_to, position in self._cumulative:
            if point < up_to:
                return position
        return self._cumulative[-1][1]
