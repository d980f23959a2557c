"""The queue of one flow: requests by rank, equals in the order of arrival.

A heap of (rank, number) and nothing else. Who is queued is known to the band, and a number that the band no longer has
is a gap: what leaves from the middle costs nothing but its gap, which goes when it reaches the front, or with all the
others once gaps are most of the heap. A gap is two numbers: the request and its body are gone at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush

from inferencesched.flow.waiting import Waiting

__all__ = ["FlowQueue"]

_FEW = 16
"""Gaps that are not worth a clean-up."""


class FlowQueue:
    """Numbers by rank.

    Args:
        members: who is queued, by number; of them, those that were added here are this queue's.

    Complexity: `add` O(log n), O(1) for the last in order; `remove` O(log n) amortised; `first`, `head` O(1).
    """

    __slots__ = ("_heap", "_members", "_size")

    def __init__(self, members: Mapping[int, Waiting]) -> None:
        self._heap: list[tuple[float, int]] = []
        self._members = members
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def first(self) -> Waiting:
        """The request that goes next."""
        return self._members[self._heap[0][1]]

    @property
    def head(self) -> tuple[float, int]:
        """Where that request stands among the fronts of all flows."""
        return self._heap[0]

    def add(self, waiting: Waiting) -> bool:
        """Take in a member; return whether it goes next."""
        heappush(self._heap, (waiting.rank, waiting.number))
        self._size += 1
        return self._heap[0][1] == waiting.number

    def remove(self, number: int) -> bool:
        """Let go of a request that is a member no longer; return whether it was to go next."""
        heap, members = self._heap, self._members
        self._size -= 1
        was_first = heap[0][1] == number
        if was_first:
            heappop(heap)
            while heap and heap[0][1] not in members:
                heappop(heap)
        elif len(heap) > 2 * self._size + _FEW:
            heap[:] = [entry for entry in heap if entry[1] in members]
            heapify(heap)
        return was_first
