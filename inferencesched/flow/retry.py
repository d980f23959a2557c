"""When to come back: how fast the queue drains, and the ``Retry-After`` that follows from it."""

from __future__ import annotations

import math
import zlib

__all__ = ["LONGEST", "SHORTEST", "DrainRate", "retry_after"]

SHORTEST = 1.0
"""Seconds: the least a client is told."""

LONGEST = 120.0
"""Seconds: openai-python gives up instead of waiting longer than that."""

_SPREAD = 1.5
"""A wait is stretched by up to this factor, so that those refused together do not come back together."""

_UNKNOWN = 5.0
"""Seconds to tell where no rate has been measured: no endpoints, or nothing placed yet."""


class DrainRate:
    """How many requests a second find a place, as an average that forgets over `horizon` seconds.

    Complexity: O(1) a call.
    """

    def __init__(self, *, horizon: float = 10.0) -> None:
        self._horizon = horizon
        self._count = 0.0  # each placement counts 1 when it happens and decays from then on
        self._counted_at = 0.0
        self._started_at: float | None = None

    def count(self, *, now: float) -> None:
        """Count a placement."""
        if self._started_at is None:
            self._started_at = now
        elif now > self._counted_at:
            self._count *= math.exp((self._counted_at - now) / self._horizon)
        self._count += 1.0
        self._counted_at = now

    def per_second(self, *, now: float) -> float | None:
        """Return the rate, or None while it is too early to tell."""
        if self._started_at is None or now - self._started_at < SHORTEST:
            return None
        decayed = self._count * math.exp(min(0.0, self._counted_at - now) / self._horizon)
        seen = 1.0 - math.exp((self._started_at - now) / self._horizon)  # the share of the horizon that was watched
        return decayed / (self._horizon * seen)


def retry_after(seconds: float | None, request_id: str) -> float:
    """Return what to tell a client that should come back in about `seconds`; None: nobody knows.

    At least 1 s, at most 120 s, and stretched by up to a half by a hash of the request's id: the same call gives the
    same answer, and those refused together come back one after another.

    >>> retry_after(0.01, "r-1"), retry_after(1e9, "r-1")
    (1.425, 114.024)
    """
    wait = _UNKNOWN if seconds is None else seconds
    wait = min(max(wait, SHORTEST), LONGEST / _SPREAD)
    share = zlib.crc32(request_id.encode(errors="replace")) / 2**32
    return round(wait * (1.0 + (_SPREAD - 1.0) * share), 3)
