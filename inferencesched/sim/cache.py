"""The KV cache of one simulated engine: blocks that are held, blocks that may be evicted, and nothing of time.

A block is in one of three states. *Held*: some running sequence needs it; *idle*: nobody needs it, its content is
kept in the hope of another prompt that begins alike; *nameless*: held, but its content is not (or not yet) known by a
key, so that nobody else can use it. When room is needed, idle blocks go, the longest idle first.

Sequences give their blocks back deepest first. A block therefore goes idle before the blocks in front of it, is
evicted before them, and what is left of a prompt is always a prefix of it: eviction is leaf first without a tree. This
is how vLLM's block pool works (vllm/v1/core/block_pool.py).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

__all__ = ["BlockCache"]


class BlockCache:
    """Blocks of a prefix cache, counted, with least-recently-used eviction of those that nobody holds.

    Keys stand for a block *and everything before it*: equal keys, equal prefixes.

    Args:
        capacity: the most blocks, of all three states together; infinite for a cache without limit.
        evicted: is told the key of each block that is evicted.

    Complexity: O(1) for each block touched. Idle blocks cost nothing until they are evicted.

    >>> cache = BlockCache(3)
    >>> cache.take(["system", "question"], 0, fresh=2)
    True
    >>> cache.publish("system"), cache.publish("question")
    (True, True)
    >>> cache.release(["system", "question"])
    >>> cache.match(["system", "another question"])
    1
    """

    def __init__(self, capacity: float = math.inf, *, evicted: Callable[[Hashable], object] | None = None) -> None:
        if not capacity >= 1:
            raise ValueError(f"a cache needs room for at least one block, got {capacity!r}")
        self.capacity = capacity
        self.nameless = 0
        self._evicted = evicted
        self._holders: dict[Hashable, int] = {}
        self._idle: OrderedDict[Hashable, None] = OrderedDict()  # longest idle first

    @property
    def held(self) -> int:
        """Blocks that some sequence needs."""
        return len(self._holders) + self.nameless

    @property
    def idle(self) -> int:
        """Blocks kept for nobody in particular."""
        return len(self._idle)

    @property
    def available(self) -> float:
        """Blocks that could be taken now: empty ones and idle ones."""
        return self.capacity - self.held

    @property
    def utilization(self) -> float:
        """Share of the blocks that are held; idle ones count as free, as in ``vllm:kv_cache_usage_perc``."""
        return 0.0 if math.isinf(self.capacity) else self.held / self.capacity

    def match(self, keys: Sequence[Hashable]) -> int:
        """Return how many leading blocks of a prompt are here. Changes nothing."""
        for count, key in enumerate(keys):
            if key not in self._holders and key not in self._idle:
                return count
        return len(keys)

    def take(self, keys: Sequence[Hashable], matched: int, *, fresh: int) -> bool:
        """Hold the first `matched` blocks of `keys`, which are here, and `fresh` nameless ones.

        Returns:
            False, with nothing changed, when there is no room.
        """
        revived = sum(key in self._idle for key in keys[:matched])
        if fresh + revived > self.available:
            return False
        for key in keys[:matched]:
            self._idle.pop(key, None)
            self._holders[key] = self._holders.get(key, 0) + 1
        return self.reserve(fresh)

    def reserve(self, fresh: int) -> bool:
        """Hold `fresh` more nameless blocks; False, with nothing changed, when there is no room."""
        if fresh > self.available:
            return False
        self.nameless += fresh
        while self.held + len(self._idle) > self.capacity:
            key, _ = self._idle.popitem(last=False)
            if self._evicted is not None:
                self._evicted(key)
        return True

    def publish(self, key: Hashable) -> bool:
        """Give one nameless block its key. If the content is here already, the copy is dropped and the block shared.

        Returns:
            whether the content was not here yet.
        """
        self.nameless -= 1
        is_new = key not in self._holders and key not in self._idle
        self._idle.pop(key, None)
        self._holders[key] = self._holders.get(key, 0) + 1
        return is_new

    def release(self, keys: Sequence[Hashable], *, nameless: int = 0) -> None:
        """Give back blocks that one sequence held: keyed ones go idle, deepest first, nameless ones are free."""
        self.nameless -= nameless
        for key in reversed(keys):
            left = self._holders[key] - 1
            if left:
                self._holders[key] = left
            else:
                del self._holders[key]
                self._idle[key] = None
