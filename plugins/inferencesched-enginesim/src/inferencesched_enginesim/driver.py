"""The simulated engine in real time: one timer that lets it work up to now, and wakes whom it has tokens for.

Nothing here knows HTTP. Tokens are counted, not made: what they say is the business of whoever passes them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from inferencesched.sim import CacheChange, Engine, EngineSpec, Served, TraceRequest
from inferencesched_enginesim.clock import ScaledClock
from inferencesched_enginesim.prompts import Tokens
from inferencesched_enginesim.text import Answer

__all__ = ["Driver", "Listener", "Sequence"]

_PAUSE_SECONDS = 0.001  # between two looks at tokens in mid-answer: finer is not seen through a socket


class Sequence:
    """One prompt and its answer inside the engine.

    Attributes:
        request: as the engine has it.
        tokens: of the prompt.
        answer: what it will say.
        finish_reason: why it will end there: ``stop`` or ``length``.
        is_streamed: whether each token matters, or only the last one.
        wake: is called when there are new tokens, or the answer is complete.
        told: how many tokens of the answer were passed on.
        served, arrived: what the engine knows of it, and when it came there in simulated seconds; from submission on.
        first_token, finished: when, in simulated seconds; None before.
    """

    __slots__ = (
        "answer",
        "arrived",
        "finish_reason",
        "finished",
        "first_token",
        "is_streamed",
        "request",
        "served",
        "tokens",
        "told",
        "wake",
    )

    served: Served
    arrived: float

    def __init__(
        self, request: TraceRequest, tokens: Tokens, answer: Answer, finish_reason: str, *, is_streamed: bool = False
    ) -> None:
        self.request = request
        self.tokens = tokens
        self.answer = answer
        self.finish_reason = finish_reason
        self.is_streamed = is_streamed
        self.wake: Callable[[], object] = _sleep_on
        self.told = 0
        self.first_token: float | None = None
        self.finished: float | None = None

    @property
    def generated(self) -> int:
        """Tokens of the answer that are there."""
        return self.served.generated

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that were found in the cache; 0 before it was looked for."""
        return self.served.matched_tokens


def _sleep_on() -> None:
    """Nobody is to be woken yet."""


class Listener(Protocol):
    """Who is told what happens to sequences."""

    def submitted(self, sequence: Sequence) -> None:
        """It is about to come into the engine."""

    def first_token(self, sequence: Sequence) -> None:
        """The prompt is computed."""

    def finished(self, sequence: Sequence) -> None:
        """The answer is complete."""

    def aborted(self, sequence: Sequence) -> None:
        """Nobody waits any more."""

    def stepped(self) -> None:
        """The engine has worked for a while, or was changed from outside."""


class Driver:
    """Runs one engine inside an event loop.

    Args:
        spec: the engine.
        block_tokens: tokens per cache block.
        rate: simulated seconds in a real one.
        loop: whose time is real here.
        listener: is told what happens to sequences, after it did.
        watch: is told of every block that comes into the cache or leaves it.

    Complexity: a look at the engine costs O(running sequences); there are at most a thousand a second, and one for
    each sequence that begins or ends.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        block_tokens: int,
        rate: float,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
        watch: Callable[[CacheChange], object] | None = None,
    ) -> None:
        self.engine = Engine(spec, block_tokens=block_tokens, watch=watch)
        self.clock = ScaledClock(loop.time, rate)
        self._loop = loop
        self._listener = listener
        self._live: dict[Served, Sequence] = {}
        self._streamed = 0  # of the live ones
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0.0  # when, in real time

    @property
    def live(self) -> int:
        """Sequences that wait or run."""
        return len(self._live)

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence.

        Raises:
            ValueError: the engine could never hold it.
        """
        now = self._advance()
        self._listener.submitted(sequence)
        sequence.arrived = now
        sequence.served = self.engine.submit(sequence.request, now=now)
        self._live[sequence.served] = sequence
        self._streamed += sequence.is_streamed
        self._after()

    def abort(self, sequence: Sequence) -> None:
        """Drop a sequence, unless it has finished."""
        if sequence.served not in self._live:
            return
        self._advance()
        if self._forget(sequence.served) is not None:
            self.engine.abort(sequence.served)
            self._listener.aborted(sequence)
        self._after()

    def set_rate(self, rate: float) -> None:
        """Let the engine work faster or slower from now on."""
        self._advance()
        self.clock.set_rate(rate)
        self._after()

    def close(self) -> None:
        """Stop; sequences that have not finished never will."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _look(self) -> None:
        self._timer = None
        self._looked = self._loop.time()
        self._advance()
        self._after()

    def _advance(self) -> float:
        """Let the engine work up to now, and tell everybody."""
        now = self.clock.now()
        for event in self.engine.advance(now):
            sequence = self._live[event.served]
            if event.kind == "first_token":
                sequence.first_token = event.time
                self._listener.first_token(sequence)
            else:
                sequence.finished = event.time
                self._forget(event.served)
                self._listener.finished(sequence)
                sequence.wake()
        if self._streamed:
            for served in self.engine.running:
                sequence = self._live[served]
                if sequence.is_streamed and served.generated > sequence.told:
                    sequence.wake()
        return now

    def _forget(self, served: Served) -> Sequence | None:
        sequence = self._live.pop(served, None)
        if sequence is not None:
            self._streamed -= sequence.is_streamed
        return sequence

    def _after(self) -> None:
        self._listener.stepped()
        due = self.engine.next_time()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is None:
            return
        when = self.clock.real_at(due)
        step = self.engine.next_step_time()
        if self._streamed and step is not None:
            when = min(when, max(self.clock.real_at(step), self._looked + _PAUSE_SECONDS))
        self._timer = self._loop.call_at(when, self._look)
