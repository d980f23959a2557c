"""Durations and quantities as YAML people write them: ``200ms``, ``1m30s``; ``1Gi``, ``500M``, ``1e9``.

The first are Go's durations, the second Kubernetes' quantities. In Python a duration is seconds, a quantity an int.
"""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["duration", "format_duration", "quantity"]

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STEP = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[-+]?(0|({_STEP.pattern})+)")

_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{letter: Decimal(1000) ** (i + 1) for i, letter in enumerate("kMGTPE")},
    **{f"{letter}i": Decimal(1024) ** (i + 1) for i, letter in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)(\D{0,2})")
_LARGEST = 2**63 - 1


def duration(text: str) -> float:
    """Return the seconds that a Go duration stands for, not negative.

    >>> duration("1m30s"), duration("200ms"), duration("0")
    (90.0, 0.2, 0.0)

    Raises:
        ValueError: it is no duration, or a negative one.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 500ms or 1m30s, got {text!r}")
    seconds = sum((float(number) * _SECONDS[unit] for number, unit in _STEP.findall(text)), 0.0)
    if text.startswith("-") and seconds:
        raise ValueError(f"expected a duration ≥ 0, got {text!r}")
    return seconds


def format_duration(seconds: float) -> str:
    """Return the Go duration for `seconds`.

    >>> format_duration(90.0), format_duration(0.2)
    ('90s', '200ms')
    """
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    milliseconds = round(seconds * 1e3, 6)
    return f"{int(milliseconds)}ms" if milliseconds == int(milliseconds) else f"{round(seconds * 1e9)}ns"


def quantity(given: str | float) -> int:
    """Return the whole number that a Kubernetes quantity stands for, rounded up as Kubernetes does, not negative.

    >>> quantity("1Gi"), quantity("5k"), quantity(500)
    (1073741824, 5000, 500)

    Raises:
        ValueError: it is no quantity, a negative one, or one beyond 2⁶³ − 1.
    """
    found = _QUANTITY.fullmatch(str(given))
    factor = _FACTORS.get(found[2]) if found else None
    if found is None or factor is None:
        raise ValueError(f"expected a quantity such as 500, 5k or 1Gi, got {given!r}")
    value = Decimal(found[1]) * factor
    if not 0 <= value <= _LARGEST:
        raise ValueError(f"expected a quantity ≥ 0 and < 2⁶³, got {given!r}")
    return int(value.to_integral_value("ROUND_CEILING"))
