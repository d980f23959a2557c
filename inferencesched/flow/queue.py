"""The queue of one flow: requests by rank, equals in the order of arrival."""

from __future__ import annotations

from sortedcontainers import SortedList

from inferencesched.flow.waiting import Waiting

__all__ = ["FlowQueue"]


class FlowQueue:
    """Sorted, and exact: what is removed leaves nothing behind.

    Complexity: `add`, `remove` O(log n); `first`, `head` O(1).
    """

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: SortedList = SortedList()  # (rank, number, waiting); numbers differ, so the last is not compared

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> Waiting:
        """The request that goes next."""
        waiting: Waiting = self._items[0][2]
        return waiting

    @property
    def head(self) -> tuple[float, int]:
        """Where that request stands among the fronts of all flows."""
        rank, number, _ = self._items[0]
        return rank, number

    def add(self, waiting: Waiting) -> None:
        """Take in a request."""
        self._items.add((waiting.rank, waiting.number, waiting))

    def remove(self, waiting: Waiting) -> None:
        """Let go of a request, wherever it stands."""
        self._items.remove((waiting.rank, waiting.number, waiting))
