"""The duration of steps: one by itself, or a run of them in which each is a little longer than the one before.

In a run the same sequences decode and nothing else happens. Each step adds one token to every context, so that steps
last d, d + δ, d + 2δ…, and the first k of them k·d + δ·k(k − 1)/2: hundreds cost no more to compute than one.
"""

from __future__ import annotations

import math

import attrs

__all__ = ["Run"]


@attrs.define
class Run:
    """`steps` steps under way, one after another without a gap, `done` of them complete."""

    start: float
    duration: float  # of the first step
    growth: float = 0.0  # by which each further step is longer
    steps: int = 1
    done: int = 0

    def end(self, steps: int) -> float:
        """Return when the first `steps` steps are complete."""
        return self.start + steps * self.duration + self.growth * steps * (steps - 1) / 2

    def complete(self, now: float) -> int:
        """Return how many steps are complete at `now`: the largest count with ``end(count) <= now``."""
        if self.end(self.steps) <= now:
            return self.steps
        elapsed, half = now - self.start, self.growth / 2
        if half > 0:  # the root of half·x² + (duration − half)·x = elapsed
            slope = self.duration - half
            guess = int((math.sqrt(slope * slope + 4 * half * elapsed) - slope) / (2 * half))
        else:
            guess = int(elapsed / self.duration)
        guess = min(max(guess, self.done), self.steps)  # rounding may leave it one off, either way
        while guess > self.done and self.end(guess) > now:
            guess -= 1
        while guess < self.steps and self.end(guess + 1) <= now:
            guess += 1
        return guess
