"""Keeping a bad plugin from failing a request: call it, check it, do without it.

Every plugin call of a scheduler goes through one `Isolation`. A call that raises is a *fault*: the decision goes on
without that plugin and the receipt names it. After `threshold` faults in a row the plugin's breaker opens and it is not
called at all for `cooldown` seconds; then one call is let through, whose outcome closes or re-opens the breaker.

Pure Python cannot interrupt a call that hangs. What it can do is not to be caught twice: with a `stopwatch` (a host
passes ``time.perf_counter``), a call that took longer than `budget` seconds is a fault too, its late answer is
discarded, and the breaker keeps the plugin out from then on. Without a stopwatch nothing here reads a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, TypeVar

import attrs

from inferencesched.decision import Skip
from inferencesched.errors import PluginError

__all__ = ["Isolation", "Strict"]

T = TypeVar("T")


class Strict:
    """No isolation: whatever a plugin raises comes out. What `Profile.run` uses, and what a plugin's tests want."""

    def call(self, plugin: str, role: str, function: Callable[..., T], /, *args: Any) -> T | None:
        """Return ``function(*args)``."""
        return function(*args)

    def drain(self) -> tuple[Skip, ...]:
        """Return the plugins skipped since the last call: none, ever."""
        return ()


@attrs.define
class _Breaker:
    faults: int = 0
    closed_at: float = -math.inf  # may be called from this moment on


class Isolation(Strict):
    """Calls plugins for one scheduler and remembers how they behave.

    Args:
        threshold: faults in a row that open a breaker.
        cooldown: seconds it stays open before one call is tried.
        stopwatch: a clock to measure calls with, or None.
        budget: seconds a call may take, when there is a stopwatch.

    Attributes:
        now: the time of the current decision, set by the scheduler.
        faults_total: faults by plugin name, since the start.

    Complexity: O(1) a call.
    """

    def __init__(
        self,
        *,
        threshold: int = 5,
        cooldown: float = 30.0,
        stopwatch: Callable[[], float] | None = None,
        budget: float = 0.1,
    ) -> None:
        self.now = 0.0
        self.faults_total: dict[str, int] = {}
        self._threshold = threshold
        self._cooldown = cooldown
        self._stopwatch = stopwatch
        self._budget = budget
        self._on_fault: Callable[[str, str, Exception], None] | None = None
        self._breakers: dict[str, _Breaker] = {}  # of plugins that have failed since they last succeeded
        self._well: list[str] = []  # of those, the ones that have answered in this decision
        self._skipped: list[Skip] = []

    def call(self, plugin: str, role: str, function: Callable[..., T], /, *args: Any) -> T | None:
        """Return ``function(*args)``, or None when the plugin failed or is kept out; the reason is in `drain`."""
        breaker = None
        if self._breakers:
            breaker = self._breakers.get(plugin)
            if breaker is not None and self.now < breaker.closed_at:
                self._skipped.append(Skip(plugin, role, f"breaker open after {breaker.faults} failures in a row"))
                return None
        try:
            answer = function(*args) if self._stopwatch is None else self._timed(plugin, function, *args)
        except Exception as error:  # noqa: BLE001 — whatever it is, it is the plugin's
            self.fault(plugin, role, error)
            return None
        if breaker is not None:
            self._well.append(plugin)
        return answer

    def fault(self, plugin: str, role: str, error: Exception) -> None:
        """Count a fault and note the skip. After `threshold` of them in a row the breaker opens."""
        breaker = self._breakers.setdefault(plugin, _Breaker())
        breaker.faults += 1
        if breaker.faults >= self._threshold:
            breaker.closed_at = self.now + self._cooldown
        if plugin in self._well:  # it answered, but what it answered did not hold
            self._well.remove(plugin)
        self.faults_total[plugin] = self.faults_total.get(plugin, 0) + 1
        self._skipped.append(Skip(plugin, role, _describe(error)))
        if self._on_fault is not None:
            self._on_fault(plugin, role, error)

    def observe(self, on_fault: Callable[[str, str, Exception], None]) -> None:
        """Have `on_fault` told of each fault: plugin, role, error."""
        self._on_fault = on_fault

    def note(self, observer: str, error: Exception) -> None:
        """Count a failure that no decision has to do without: an observer's."""
        self.faults_total[observer] = self.faults_total.get(observer, 0) + 1

    def drain(self) -> tuple[Skip, ...]:
        """Return the plugins skipped since the last call, and close the breakers of those that did well."""
        if not self._breakers:
            return ()
        for plugin in self._well:
            self._breakers.pop(plugin, None)
        skipped = tuple(self._skipped)
        self._well.clear()
        self._skipped.clear()
        return skipped

    def _timed(self, plugin: str, function: Callable[..., T], /, *args: Any) -> T:
        stopwatch = self._stopwatch
        assert stopwatch is not None
        start = stopwatch()
        answer = function(*args)
        took = stopwatch() - start
        if took > self._budget:
            raise PluginError(plugin, f"took {took:.3f} s of its {self._budget:g} s; the late answer was discarded")
        return answer


def _describe(error: Exception) -> str:
    """Say what happened without the error's own text: a stranger's message may quote the prompt."""
    if isinstance(error, PluginError):
        return error.message
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return f"raised {type(error).__name__}{place}"
