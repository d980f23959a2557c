"""The contracts of those who decide between bands: UsageLimitPolicy and FlowTuning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import attrs

from inferencesched.interfaces import FlowTuning, UsageLimitPolicy
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.values import add_value_clauses

__all__ = ["TUNING", "USAGE_LIMIT", "check_tuning", "check_usage_limit"]

USAGE_LIMIT = Contract("usage-limit-policy")
TUNING = Contract("flow-tuning")


@attrs.frozen(eq=False)
class Look:
    """A pool so full, and bands."""

    saturation: float
    priorities: tuple[int, ...]

    def smaller(self) -> Iterator[Look]:
        """Yield the look without one of three bands or more."""
        for gone in range(len(self.priorities)) if len(self.priorities) > 2 else ():
            yield Look(self.saturation, self.priorities[:gone] + self.priorities[gone + 1 :])

    def __str__(self) -> str:
        return f"  saturation {self.saturation:g}, priorities {self.priorities}"


_LEVELS = (0.0, 0.3, 0.5, 0.9, 1.0, 3.0)
_LOOKS = tuple(Look(level, priorities) for level in _LEVELS for priorities in ((5, 0), (100, 0, -10)))
_ODD_LOOKS = tuple(
    Look(level, priorities) for level in _LEVELS for priorities in ((0,), (10**9, -(10**9)), tuple(range(31, -33, -1)))
)
_IDLE = tuple(Look(0.0, priorities) for priorities in ((5, 0), (100, 0, -10)))


def _no_ceilings(answer: Any, look: Look) -> str | None:
    try:
        ceilings = [float(ceiling) for ceiling in answer]
    except TypeError:
        return f"expected a sequence of numbers, got {answer!r}"
    if len(ceilings) != len(look.priorities):
        return f"expected {len(look.priorities)} ceilings, got {len(ceilings)}"
    return "expected numbers, got NaN" if any(map(math.isnan, ceilings)) else None


@USAGE_LIMIT.clause(_LOOKS)
def ceilings(plugin: UsageLimitPolicy, look: Look) -> str | None:
    """The answer is one number for each band, and none is NaN."""
    return _no_ceilings(plugin.ceilings(look.saturation, look.priorities), look)


@USAGE_LIMIT.clause(_LOOKS)
def falling(plugin: UsageLimitPolicy, look: Look) -> str | None:
    """Ceilings do not rise towards lower bands."""
    answer = plugin.ceilings(look.saturation, look.priorities)
    if _no_ceilings(answer, look):
        return None
    rise = next((pair for pair in pairwise(answer) if pair[1] > pair[0]), None)
    return None if rise is None else f"below a ceiling of {rise[0]:g} stands one of {rise[1]:g}"


@USAGE_LIMIT.clause(_IDLE)
def idle(plugin: UsageLimitPolicy, look: Look) -> str | None:
    """A pool in which nothing happens is open to every band."""
    answer = plugin.ceilings(look.saturation, look.priorities)
    shut = next((p for p, c in zip(look.priorities, answer, strict=False) if not c > 0), None)
    return None if shut is None or _no_ceilings(answer, look) else f"band {shut} may never send"


@USAGE_LIMIT.clause(_ODD_LOOKS)
def any_bands(plugin: UsageLimitPolicy, look: Look) -> str | None:
    """Bands may be one or many, and their priorities any numbers."""
    usual = _LOOKS[0]
    if _no_ceilings(plugin.ceilings(usual.saturation, usual.priorities), usual):
        return None
    return _no_ceilings(plugin.ceilings(look.saturation, look.priorities), look)


@attrs.frozen(eq=False)
class Patience:
    """A band whose oldest request has waited so long, and so many placements since a band was let by."""

    waited: float
    since: int

    def smaller(self) -> Iterator[Patience]:
        """Yield nothing."""
        return iter(())

    def __str__(self) -> str:
        return f"  waited {self.waited:g} s, {self.since} placements since"


_PATIENCE = tuple(Patience(waited, since) for waited in (0.0, 0.5, 6.0, 600.0) for since in (0, 1, 9, 100))


@TUNING.clause(_PATIENCE)
def answers(plugin: FlowTuning, case: Patience) -> str | None:
    """The answer is True or False."""
    answer: object = plugin.lets_by(case.waited, case.since)
    return None if isinstance(answer, bool) else f"expected a bool, got {answer!r}"


@TUNING.clause(_PATIENCE)
def pure(plugin: FlowTuning, case: Patience) -> str | None:
    """The same question has the same answer."""
    first = plugin.lets_by(case.waited, case.since)
    plugin.lets_by(1.0, 1)
    return None if plugin.lets_by(case.waited, case.since) == first else "the same question had two answers"


@TUNING.clause(_PATIENCE)
def monotone(plugin: FlowTuning, case: Patience) -> str | None:
    """Who is let by would be let by after a longer wait, and after more placements."""
    if not plugin.lets_by(case.waited, case.since):
        return None
    later = (case.waited * 2 + 1, case.since), (case.waited, case.since + 1)
    kept = next((each for each in later if not plugin.lets_by(*each)), None)
    return None if kept is None else f"it is let by, and not after a wait of {kept[0]:g} s and {kept[1]} placements"


add_value_clauses(USAGE_LIMIT)
add_value_clauses(TUNING)


def check_usage_limit(plugin: UsageLimitPolicy, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a usage-limit policy promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return USAGE_LIMIT.check(plugin, expected)


def check_tuning(plugin: FlowTuning, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a tuning of the queue promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return TUNING.check(plugin, expected)
