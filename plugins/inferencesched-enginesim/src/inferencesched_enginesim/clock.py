"""Engine time from real time: scaled, and without a jump when the scale changes."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["ScaledClock"]


class ScaledClock:
    """Simulated seconds since the clock was made.

    Args:
        real: seconds, monotonic.
        rate: simulated seconds in a real one, more than 0.
    """

    def __init__(self, real: Callable[[], float], rate: float) -> None:
        self._real = real
        self._real_then = real()
        self._then = 0.0
        self.rate = rate

    def now(self) -> float:
        """Return the simulated time."""
        return self._then + (self._real() - self._real_then) * self.rate

    def real_at(self, time: float) -> float:
        """Return when, on the real clock, the simulated clock shows `time`, if the rate stays."""
        return self._real_then + (time - self._then) / self.rate

    def set_rate(self, rate: float) -> None:
        """Let time pass at another rate from now on."""
        self._then, self._real_then = self.now(), self._real()
        self.rate = rate
