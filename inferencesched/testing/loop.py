"""An event loop in virtual time: when everybody waits, it leaps to the next timer."""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from typing import TypeVarTuple

from inferencesched.testing.clock import VirtualClock

__all__ = ["VirtualLoop"]

Arguments = TypeVarTuple("Arguments")


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is a `VirtualClock`'s, for tests of what awaits: an hour of sleeping takes no time at all.

    Attributes:
        clock: its time; give it to an `AsyncDispatcher` too.
        callbacks: how many callbacks were ever handed to it: what idling costs, without a stop-watch.

    >>> async def main():
    ...     await asyncio.sleep(3600)
    ...     return asyncio.get_running_loop().time()
    >>> with asyncio.Runner(loop_factory=VirtualLoop) as runner:
    ...     runner.run(main())
    3600.0
    """

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = VirtualClock() if clock is None else clock
        self.callbacks = 0
        super().__init__(_Leap(self.clock))

    def time(self) -> float:
        """Return the virtual time."""
        return self.clock.now

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run a callback in the next turn, and count it."""
        self.callbacks += 1
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Arguments], object],
        *args: *Arguments,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run a callback at a time, and count it."""
        self.callbacks += 1
        return super().call_at(when, callback, *args, context=context)


class _Leap(selectors.DefaultSelector):
    """Waits for nothing: where there is nothing to read, the time that the loop would have waited has passed."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("everybody waits and nobody has a timer: this would never end")
        self._clock.advance(max(timeout, 0.0))
        return ready
