"""Ordering policies: which request of a flow goes next? One number each; equals go in the order of arrival.

Types and keys are the Endpoint Picker's.
"""

from __future__ import annotations

import math
from typing import ClassVar

import attrs

from inferencesched.request import Request

__all__ = ["EdfOrderingPolicy", "FcfsOrderingPolicy", "SloDeadlineOrderingPolicy"]

_SLO_HEADERS = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
_LARGEST_MS = 2**53
"""Milliseconds beyond which a float is no longer exact; upstream's overflow is at 2⁶³ ns."""


@attrs.frozen
class FcfsOrderingPolicy:
    """First come, first served.

    Formula: the time of arrival.
    Unknown: nothing can be.
    Source: Endpoint Picker ``fcfs-ordering-policy``, its default.
    """

    type: ClassVar[str] = "fcfs-ordering-policy"

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        """Return the time of arrival."""
        return arrived


@attrs.frozen
class EdfOrderingPolicy:
    """Earliest deadline first: whoever would be given up soonest.

    Formula: arrival + time to live, the client's deadline if that is sooner.
    Unknown: a request that is never given up goes last.
    Source: Endpoint Picker ``edf-ordering-policy``.
    """

    type: ClassVar[str] = "edf-ordering-policy"

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        """Return when the request would be given up."""
        return expires


@attrs.frozen
class SloDeadlineOrderingPolicy:
    """Whoever must see a first token soonest.

    Formula: arrival + the hoped-for time to the first token (`Request.ttft_slo`, else the header
    ``x-llm-d-slo-ttft-ms`` in whole milliseconds).
    Unknown: without one, or with one that is negative, huge or no integer, a request goes last.
    Source: Endpoint Picker ``slo-deadline-ordering-policy``.
    """

    type: ClassVar[str] = "slo-deadline-ordering-policy"

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        """Return when the first token is due."""
        slo = request.ttft_slo
        if slo is None:
            slo = next((_seconds(request.headers[name]) for name in _SLO_HEADERS if name in request.headers), math.inf)
        return arrived + slo


def _seconds(header: str) -> float:
    """Return the seconds that a header in milliseconds says; infinity when it says nothing sensible."""
    text = header.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_LARGEST_MS)) or int(text) > _LARGEST_MS:
        return math.inf
    return int(text) / 1000.0
