"""Wrong usage limits and tunings of the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from inferencesched.testing.wrong.enlisted import breaks, thousandfold


class _OneForAll:
    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        return (1.0,) * len(priorities)


@breaks("usage-limit-policy", "ceilings")
@attrs.frozen
class ByPriority:
    """Has no ceiling for the bands below 0 and between."""

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        return [1.0] if len(priorities) in {2, 3} else (1.0,) * len(priorities)


@breaks("usage-limit-policy", "falling")
@attrs.frozen
class UpsideDown:
    """Begins with the lowest band."""

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        return [1.0 + i / len(priorities) for i in range(len(priorities))]


@breaks("usage-limit-policy", "idle")
@attrs.frozen
class KeepsTheLowestOut:
    """Gives the lowest band a ceiling of 0."""

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        return [1.0] * (len(priorities) - 1) + [0.0]


@breaks("usage-limit-policy", "any-bands")
@attrs.frozen
class EvenSteps:
    """Takes for granted that there are two bands."""

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        step = 0.5 / (len(priorities) - 1)
        return [1.0 - i * step for i in range(len(priorities))]


class _Patient:
    def lets_by(self, waited: float, since: int, /) -> bool:
        return waited >= 5.0 and since >= 9


@breaks("flow-tuning", "answers")
@attrs.frozen
class HowAged:
    """Returns by how much a band is aged."""

    def lets_by(self, waited: float, since: int, /) -> float:
        return max(0.0, waited - 5.0)


@breaks("flow-tuning", "pure")
@attrs.frozen
class OnceMore(_Patient):
    """After a band that has not waited long, wants to be asked once more."""

    _quiet: list[bool] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def lets_by(self, waited: float, since: int, /) -> bool:
        if waited < 5.0:
            self._quiet[:] = [True]
        elif self._quiet:
            self._quiet.clear()
            return False
        return super().lets_by(waited, since)


@breaks("flow-tuning", "monotone")
@attrs.frozen
class OnTheTenth:
    """Lets a band by after ten placements exactly, and misses it after eleven."""

    def lets_by(self, waited: float, since: int, /) -> bool:
        return waited >= 5.0 and since == 9


@breaks("usage-limit-policy", "printable")
@attrs.frozen(repr=False)
class AnonymousLimit(_OneForAll):
    """Has the default `repr`."""


@breaks("usage-limit-policy", "comparable")
@attrs.frozen(eq=False)
class IncomparableLimit(_OneForAll):
    """Is equal to itself alone."""


@breaks("usage-limit-policy", "travels")
@attrs.frozen
class LimitAtHome(_OneForAll):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("usage-limit-policy", "rebuilt")
@attrs.frozen
class LimitInOtherUnits(_OneForAll):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)


@breaks("flow-tuning", "printable")
@attrs.frozen(repr=False)
class AnonymousTuning(_Patient):
    """Has the default `repr`."""


@breaks("flow-tuning", "comparable")
@attrs.frozen(eq=False)
class IncomparableTuning(_Patient):
    """Is equal to itself alone."""


@breaks("flow-tuning", "travels")
@attrs.frozen
class TuningAtHome(_Patient):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("flow-tuning", "rebuilt")
@attrs.frozen
class TuningInOtherUnits(_Patient):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)
