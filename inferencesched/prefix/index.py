"""The prefix index: a radix tree, spoken to in endpoints and megabytes instead of slots and bytes.

One index serves all models, adapters and salts at once: their prompts differ from the first key on (see `hashing`), so
they share one memory bound, and ten thousand adapters that come and go leave nothing behind. An endpoint is an
*instance*: one that was removed and added again under the same name holds nothing.

Nothing here knows requests, scheduling or time; what a key is made of is decided elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray
from inferencesched.prefix import dump
from inferencesched.prefix.hashing import Keys
from inferencesched.prefix.radix import UNLIMITED, RadixTree, Span

__all__ = ["BYTES_PER_BLOCK", "MEGABYTE", "IndexStats", "PrefixIndex", "estimate_memory"]

MEGABYTE = 1_000_000
"""Bytes in a megabyte of `max_memory_mb`: the smaller of the two usual meanings, so that the bound holds for both."""

BYTES_PER_BLOCK = 24
"""Measured on trees of short prompts (five new blocks each), where nodes weigh most; long prompts need about 10."""


def estimate_memory(endpoints: int, blocks_per_endpoint: int) -> int:
    """Return the bytes that a full index takes if no two endpoints hold the same block: the most it can be.

    >>> estimate_memory(endpoints=16, blocks_per_endpoint=31250) / MEGABYTE
    12.0
    """
    return endpoints * blocks_per_endpoint * BYTES_PER_BLOCK


@attrs.frozen
class IndexStats:
    """What an index is and has done, for metrics.

    Attributes:
        blocks: in the index, each counted once.
        placements: blocks of all endpoints together.
        nodes: of the tree.
        memory_bytes: allocated now.
        max_memory_bytes: never exceeded; None without a bound.
        lookups: prompts matched so far.
        hits: lookups that found at least one block on some endpoint.
        looked_up_blocks: blocks in all prompts matched so far.
        matched_blocks: of these, blocks that some endpoint held without a gap.
        evicted_blocks: dropped so far, over a capacity or the memory bound.
        endpoints: blocks held by each endpoint.
    """

    blocks: int
    placements: int
    nodes: int
    memory_bytes: int
    max_memory_bytes: int | None
    lookups: int
    hits: int
    looked_up_blocks: int
    matched_blocks: int
    evicted_blocks: int
    endpoints: Mapping[Endpoint, int]


class PrefixIndex:
    """Which endpoint holds which prefix.

    Args:
        max_memory_mb: megabytes that the index never exceeds, as the interpreter counts allocations; None for no bound.
        capacity: blocks that an endpoint may hold, unless `add` says otherwise.
        max_run: blocks per node of the tree at most; None leaves it to the tree.

    Raises:
        ValueError: the bound is too small for an index to begin with (about 0.15 MB).

    >>> from inferencesched.prefix.hashing import PrefixKeys
    >>> index, a = PrefixIndex(max_memory_mb=16), Endpoint("a")
    >>> index.insert(PrefixKeys(b"You are a helpful assistant. Hi!", width=8), a)
    4
    >>> index.match(PrefixKeys(b"You are a helpful assistant. Why?", width=8))
    {Endpoint(name='a', address='', labels=mappingproxy({}), rank=0, instance=0): 3}

    Complexity: stated per method, in the words of `inferencesched.prefix.radix`.
    """

    def __init__(
        self, *, max_memory_mb: float | None = None, capacity: int = UNLIMITED, max_run: int | None = None
    ) -> None:
        self._limit = None if max_memory_mb is None else int(max_memory_mb * MEGABYTE)
        self._slots: dict[Endpoint, int] = {}
        self._tree = RadixTree(max_bytes=self._allowance(), max_run=max_run)
        self._nobody = self._tree.open(capacity=0)
        self._token = object()  # names this index among whatever else a batch remembers
        self._generation = 0
        self._few: tuple[Endpoint, ...] = ()  # those that `numbers` was last asked about,
        self._few_generation = 0  # and when,
        self._few_bits: list[int] = []  # and the bit of each in a bitmap of holders
        self._capacity = capacity
        self._lookups = self._hits = self._looked_up = self._matched = 0

    def __len__(self) -> int:
        """Blocks in the index, each counted once. O(1)."""
        return len(self._tree)

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._slots

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints that the index knows, in the order they came."""
        return tuple(self._slots)

    @property
    def nbytes(self) -> int:
        """Bytes allocated, as the interpreter counts them: at most `max_memory_mb`. O(1)."""
        return self._tree.nbytes + sys.getsizeof(self._slots)

    @property
    def visits(self) -> int:
        """Nodes visited by all walks so far: the work done, for tests that count instead of timing."""
        return self._tree.visits

    # --- endpoints -------------------------------------------------------------------------------------------------

    def add(self, endpoint: Endpoint, capacity: int | None = None) -> None:
        """Let an endpoint take part; one that does already only gets the new capacity, if one is given. O(1)."""
        slot = self._slots.get(endpoint)
        if slot is None:
            self._slots[endpoint] = self._tree.open(self._capacity if capacity is None else capacity)
            self._tree.limit(self._allowance())
            self._generation += 1
        elif capacity is not None:
            self._tree.resize(slot, capacity)

    def remove(self, endpoint: Endpoint) -> int:
        """Forget an endpoint and all it holds; return how many blocks that was. O(nodes it holds)."""
        slot = self._slots.pop(endpoint, None)
        if slot is None:
            return 0
        self._generation += 1
        return self._tree.close(slot)

    def clear(self, endpoint: Endpoint) -> int:
        """Forget all that an endpoint holds, but not the endpoint; return how many blocks. O(nodes it holds)."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else self._tree.clear(slot)

    def resize(self, endpoint: Endpoint, blocks: int) -> None:
        """Set the capacity of an endpoint to `blocks` and evict what is too much. O(nodes evicted)."""
        self._tree.resize(self._slots[endpoint], blocks)

    def capacity(self, endpoint: Endpoint) -> int:
        """Return how many blocks an endpoint may hold. O(1)."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else self._tree.capacity(slot)

    def size(self, endpoint: Endpoint) -> int:
        """Return how many blocks an endpoint holds. O(1)."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else self._tree.size(slot)

    # --- reading ---------------------------------------------------------------------------------------------------

    def column(self, keys: Keys, batch: EndpointBatch, *, unit: int = 1) -> FloatArray:
        """Return, for each endpoint of the batch, how much of the prompt it holds: a fresh array of shape (n,).

        Args:
            unit: what a block counts for; tokens, mostly.

        Complexity: O(path) and O(endpoints), vectorised; see `RadixTree.depths`.
        """
        tree, spans = self._tree, self._spans(keys)
        slots = batch.static((self._token, self._generation), self._slots_of)
        column: FloatArray = tree.spread(spans, unit)[slots]
        return column

    def numbers(self, keys: Keys, batch: EndpointBatch, *, unit: int = 1) -> list[float]:
        """Return what `column` returns as a list. Complexity: O(path × endpoints)."""
        spans, endpoints = self._spans(keys), batch.endpoints
        if endpoints is not self._few or self._few_generation != self._generation:
            slots = [self._slots.get(endpoint) for endpoint in endpoints]
            self._few_bits = [0 if slot is None else 1 << slot for slot in slots]
            self._few, self._few_generation = endpoints, self._generation
        bits = self._few_bits
        found = [0.0] * len(bits)
        for place, (blocks, holders) in enumerate(spans, 1):
            if place < len(spans) and spans[place][1] == holders:
                continue  # the next span says the same of the same endpoints, and more
            depth = float(blocks * unit)
            for row, bit in enumerate(bits):
                if holders & bit:
                    found[row] = depth
        return found

    def _spans(self, keys: Keys) -> list[Span]:
        """Match a prompt, and count that it was."""
        spans = self._tree.match(keys)
        self._lookups += 1
        self._looked_up += len(keys)
        if spans:
            self._hits += 1
            self._matched += spans[-1][0]
        return spans

    def held(self, keys: Keys, endpoint: Endpoint) -> int:
        """Return how many leading blocks of the prompt an endpoint holds. Complexity: that of `RadixTree.match`."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else self._tree.held(keys, slot)

    def match(self, keys: Keys) -> dict[Endpoint, int]:
        """Return how many leading blocks each endpoint holds, of those that hold any. For people: O(endpoints)."""
        depths = self._tree.depths(keys)
        return {endpoint: int(depths[slot]) for endpoint, slot in self._slots.items() if depths[slot]}

    # --- writing ---------------------------------------------------------------------------------------------------

    def insert(self, keys: Keys, endpoint: Endpoint) -> int:
        """Say that an endpoint now holds the prompt and has just used it; return how many blocks are new to it.

        An endpoint that is not known yet is added. Complexity: O(path + new blocks), and O(1) per node evicted.
        """
        slot = self._slots.get(endpoint)
        if slot is None:
            self.add(endpoint)
            slot = self._slots[endpoint]
        return self._tree.insert(keys, slot)

    def touch(self, keys: Keys, endpoint: Endpoint) -> int:
        """Refresh the recency of what an endpoint holds of the prompt; return how many blocks that is. O(path)."""
        slot = self._slots.get(endpoint)
        return 0 if slot is None else self._tree.touch(keys, slot)

    @property
    def tick(self) -> int:
        """The number of the latest use, for `expire`. O(1)."""
        return self._tree.tick

    def expire(self, tick: int) -> None:
        """Evict what no endpoint has used since that tick. O(nodes evicted)."""
        self._tree.expire(tick)

    # --- state -----------------------------------------------------------------------------------------------------

    def stats(self) -> IndexStats:
        """Return the figures for metrics. O(endpoints)."""
        sizes = {endpoint: self._tree.size(slot) for endpoint, slot in self._slots.items()}
        return IndexStats(
            blocks=len(self._tree),
            placements=sum(sizes.values()),
            nodes=self._tree.nodes,
            memory_bytes=self.nbytes,
            max_memory_bytes=self._limit,
            lookups=self._lookups,
            hits=self._hits,
            looked_up_blocks=self._looked_up,
            matched_blocks=self._matched,
            evicted_blocks=self._tree.evicted_blocks,
            endpoints=sizes,
        )

    def snapshot(self) -> dict[str, Any]:
        """Return all entries as plain values, endpoints by name: what `restore` takes. O(everything)."""
        return dump.snapshot(self._tree, {slot: endpoint.name for endpoint, slot in self._slots.items()})

    def restore(self, state: Mapping[str, Any], endpoints: Iterable[Endpoint]) -> int:
        """Take entries back for those `endpoints` that the snapshot names; return how many blocks they hold now.

        What the index holds already stays; the restored entries count as used just now, in their old order.

        Raises:
            ValueError: the state is not a snapshot of this version.

        Complexity: O(entries × depth).
        """
        present = {endpoint.name: endpoint for endpoint in endpoints}
        for endpoint in present.values():
            self.add(endpoint)
        slots = {name: self._slots[endpoint] for name, endpoint in present.items()}
        dump.restore(self._tree, state, slots)
        return sum(self.size(endpoint) for endpoint in present.values())

    def check(self) -> None:
        """Assert every invariant. O(everything)."""
        self._tree.check()
        assert len(set(self._slots.values())) == len(self._slots), "two endpoints share a slot"
        assert self._limit is None or self.nbytes <= self._limit, f"{self.nbytes} bytes of at most {self._limit}"

    def _slots_of(self, endpoints: tuple[Endpoint, ...]) -> NDArray[np.intp]:
        return np.array([self._slots.get(endpoint, self._nobody) for endpoint in endpoints], np.intp)

    def _allowance(self) -> int | None:
        """What the tree may take: the bound, less the dictionary of endpoints."""
        return None if self._limit is None else self._limit - sys.getsizeof(self._slots)
