"""The sequence of one engine's event batches: what to apply, when to ask for a replay, and how far to trust the result.

| trust | what it says | how it comes about |
| --- | --- | --- |
| NONE | nothing is known of this engine's cache | no batch yet, connection lost, replay under way, events not offered |
| PARTIAL | what is known is true, but there may be more | joined after the first batch, or batches were lost |
| FULL | what is known is all there is | every batch since the engine's start, or since it cleared its caches |

Batches are numbered from 0. A number that was skipped is a gap: with replay the batches behind it wait (a bounded
number of them) until the missing ones came; without, or when the replay fails, everything known is dropped, for a
removal may have been among them, and the story starts again as PARTIAL. A number that goes backwards is an engine that
restarted: its cache is empty. Nothing here knows blocks or sockets: it gives out *steps*, in order.
"""

from __future__ import annotations

import enum
from collections import deque

import attrs

from inferencesched.prefix.events import EventBatch

__all__ = ["EventStream", "Forget", "Step", "Trust"]

WAITING_BATCHES = 1024
"""Batches kept while a replay is under way; more make it fail."""


class Trust(enum.IntEnum):
    """How far to believe what the events of an engine add up to."""

    NONE = 0
    PARTIAL = 1
    FULL = 2


@attrs.frozen
class Forget:
    """A step: drop everything known of the engine."""


Step = Forget | EventBatch
"""What to do next: forget, or apply a batch."""


class EventStream:
    """Turns numbered batches into steps.

    Args:
        can_replay: whether the source can ask the engine for batches again.

    Complexity: O(1) a batch.
    """

    def __init__(self, *, can_replay: bool = False) -> None:
        self._can_replay = can_replay
        self._next: int | None = None  # the number expected
        self._last_timestamp = 0.0
        self._standing = Trust.NONE  # what trust is while nothing is missing
        self._connected = False
        self._waiting: deque[tuple[int, EventBatch]] = deque()
        self._replaying = False
        self.gaps = 0
        self.restarts = 0
        self.duplicates = 0
        self.unavailable: str | None = None

    def offer_replay(self) -> None:
        """Say that the source can ask the engine for batches again."""
        self._can_replay = True

    @property
    def trust(self) -> Trust:
        """How far to trust what has been applied."""
        usable = self._connected and not self._replaying and self.unavailable is None
        return self._standing if usable else Trust.NONE

    @property
    def missing(self) -> tuple[int, int] | None:
        """First and last number that a replay should bring, or None. Ask after each call."""
        if not self._replaying or self._next is None:
            return None
        return self._next, self._waiting[0][0] - 1

    def receive(self, sequence: int, batch: EventBatch) -> list[Step]:
        """Take a batch from the engine's live channel."""
        self._connected = True
        self.unavailable = None
        if self._replaying:
            return self._while_replaying(sequence, batch)
        if self._next is None:
            self._standing = Trust.PARTIAL if sequence else Trust.FULL
            if sequence and self._can_replay:
                self._next, self._standing = 0, Trust.FULL
                return self._await_replay(sequence, batch)
            return [self._apply(sequence, batch)]
        if sequence < self._next:
            if sequence == self._next - 1 and batch.timestamp == self._last_timestamp:
                self.duplicates += 1
                return []
            return self._restart(sequence, batch)
        if sequence > self._next:
            self.gaps += 1
            if self._can_replay:
                return self._await_replay(sequence, batch)
            self._standing = Trust.PARTIAL
            return [Forget(), self._apply(sequence, batch)]
        return [self._apply(sequence, batch)]

    def replayed(self, sequence: int, batch: EventBatch) -> list[Step]:
        """Take a batch that the engine sent again because it was asked to.

        Whatever is not the next one that is missing is passed over: a replay that comes too late, after it was given
        up, changes nothing.
        """
        if not self._replaying or sequence != self._next:
            self.duplicates += 1
            return []
        steps: list[Step] = [self._apply(sequence, batch)]
        if self._waiting[0][0] == self._next:
            self._replaying = False
            steps += self._drain()
        return steps

    def replay_failed(self) -> list[Step]:
        """Give the missing batches up: what is known is dropped, and the story goes on with those that waited."""
        if not self._replaying:
            return []
        self._replaying = False
        self._standing = Trust.PARTIAL
        return [Forget(), *self._drain()]

    def lost(self) -> list[Step]:
        """Say that something of a batch could not be read: a removal may have been in it."""
        self._standing = Trust.PARTIAL
        return [Forget()]

    def emptied(self) -> None:
        """Say that the engine cleared its caches: what is known, nothing, is all there is."""
        self._standing = Trust.FULL

    def disconnected(self) -> None:
        """Say that the connection is gone: nothing is trusted until a batch arrives, and then its number will tell."""
        self._connected = False

    def not_offered(self, reason: str) -> bool:
        """Say that the engine does not publish events; return whether that is news, and so worth a log line."""
        news = self.unavailable is None
        self.unavailable = reason
        return news

    def _apply(self, sequence: int, batch: EventBatch) -> EventBatch:
        self._next = sequence + 1
        self._last_timestamp = batch.timestamp
        return batch

    def _restart(self, sequence: int, batch: EventBatch) -> list[Step]:
        self.restarts += 1
        self._standing = Trust.PARTIAL if sequence else Trust.FULL
        return [Forget(), self._apply(sequence, batch)]

    def _await_replay(self, sequence: int, batch: EventBatch) -> list[Step]:
        self._replaying = True
        self._waiting.append((sequence, batch))
        return []

    def _while_replaying(self, sequence: int, batch: EventBatch) -> list[Step]:
        newest = self._waiting[-1][0]
        if sequence <= newest:  # the engine restarted while we waited: what it said before is of no use
            self._waiting.clear()
            self._replaying = False
            return self._restart(sequence, batch)
        self._waiting.append((sequence, batch))
        if sequence == newest + 1 and len(self._waiting) <= WAITING_BATCHES:
            return []
        self.gaps += sequence != newest + 1
        while len(self._waiting) > 1:  # only what comes after the last gap tells a story without holes
            self._waiting.popleft()
        return self.replay_failed()

    def _drain(self) -> list[Step]:
        steps: list[Step] = [self._apply(*waiting) for waiting in self._waiting]
        self._waiting.clear()
        return steps
