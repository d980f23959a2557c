"""What the tree means, as plainly as it can be said: every endpoint is a least-recently-used list of prefixes.

Slow, unbounded in memory, and obviously right: the rule machines compare the real thing with it after every step.
"""

from __future__ import annotations

from collections import OrderedDict


class NaiveIndex:
    """Endpoints by slot, each an ordered dictionary of the prefixes it holds, the least recently used first."""

    def __init__(self) -> None:
        self.held: dict[int, OrderedDict[bytes, None]] = {}
        self.capacities: dict[int, int] = {}

    def open(self, slot: int, capacity: int) -> None:
        self.held[slot] = OrderedDict()
        self.capacities[slot] = capacity

    def close(self, slot: int) -> None:
        del self.held[slot], self.capacities[slot]

    def insert(self, content: bytes, slot: int) -> None:
        """Use every block from the far end to the near one, so that a prefix is fresher than what continues it."""
        held = self.held[slot]
        for end in range(len(content), 0, -1):
            held[content[:end]] = None
            held.move_to_end(content[:end])
        self.shrink(slot, self.capacities[slot])

    def touch(self, content: bytes, slot: int) -> None:
        self.insert(content[: self.depth(content, slot)], slot)

    def shrink(self, slot: int, size: int) -> None:
        while len(self.held[slot]) > size:
            self.held[slot].popitem(last=False)

    def depth(self, content: bytes, slot: int) -> int:
        depth = 0
        while depth < len(content) and content[: depth + 1] in self.held[slot]:
            depth += 1
        return depth

    def prefixes(self) -> set[bytes]:
        return set().union(*self.held.values()) if self.held else set()
