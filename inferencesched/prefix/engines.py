"""All engines of a fleet and what their events add up to: streams, forests and one tree, under one memory bound.

For each endpoint: an `EventStream` says what to apply, a `Residency` keeps the blocks, and the slots of the tree, one
per tier, have what is a prefix. Nothing here knows requests, schedulers or sockets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray
from inferencesched.prefix.chain import content_digest
from inferencesched.prefix.events import INDEXED_KINDS, AllCleared, BlocksRemoved, BlocksStored, EventBatch, KvEvent
from inferencesched.prefix.hashing import Keys, space_seed
from inferencesched.prefix.index import MEGABYTE
from inferencesched.prefix.radix import RadixTree
from inferencesched.prefix.residency import Allowance, Residency
from inferencesched.prefix.stream import EventStream, Forget, Step, Trust
from inferencesched.request import BYTES_PER_TOKEN

__all__ = ["EngineStats", "Engines"]

_MAX_RUN = 64
"""Blocks per node: a block told by its own key is looked for along a run, and 64 steps are 15 µs."""

_TREE_SHARE = 0.25
"""Of the memory, what the tree may take; the forests need more, for they know every block by the engine's name too."""

_BYTES_PER_BLOCK = 64
"""Of a forest with two tiers: 37 in columns, seven in the table, what arrays allocate in advance; rounded up."""


@attrs.frozen
class EngineStats:
    """One engine, for metrics.

    Attributes:
        trust: how far its events are believed.
        blocks: kept in mind.
        refused_blocks: not kept, for lack of memory.
        gaps: times that batches were missing.
        restarts: times that the numbers went backwards.
        duplicates: batches that came twice or too late.
        unavailable: why there are no events, if the engine said so.
        counters: events by what became of them: ``unknown``, ``malformed``, ``skipped_group``, ``stranger_removed``.
    """

    trust: Trust
    blocks: int
    refused_blocks: int
    gaps: int
    restarts: int
    duplicates: int
    unavailable: str | None
    counters: Mapping[str, int]


class _Engine:
    """One endpoint's stream and forest."""

    def __init__(self, tree: RadixTree, slots: list[int], allowance: Allowance) -> None:
        self.slots = slots
        self.stream = EventStream()
        self.blocks = Residency(tree, slots, allowance=allowance)
        self.skipped_groups: set[int] = set()
        self.counters: Counter[str] = Counter()


class Engines:
    """What engines hold.

    Args:
        max_memory_mb: megabytes that tree and forests never exceed together.
        max_blocks: blocks kept in mind of all engines together.
        weights: worth of a token by tier; tiers that are not named weigh 1.

    Complexity: per block of an event O(1) with a constant of some 20 µs; see `Residency`.
    """

    def __init__(self, *, max_memory_mb: float, max_blocks: int, weights: Mapping[str, float]) -> None:
        budget = int(max_memory_mb * MEGABYTE)
        self._tree = RadixTree(max_bytes=max(int(budget * _TREE_SHARE), 400_000), max_run=_MAX_RUN)
        self._allowance = Allowance(min(max_blocks, int(budget * (1 - _TREE_SHARE)) // _BYTES_PER_BLOCK))
        self._worths = sorted({1.0, *weights.values()}, reverse=True)
        self._tier_ranks = {tier: self._worths.index(weight) for tier, weight in weights.items()}
        self._engines: dict[Endpoint, _Engine] = {}
        self._block_sizes: tuple[int, ...] = ()
        self._generation = 0
        self._token = object()

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._engines

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Tokens per block, as events have told: mostly one size in a fleet."""
        return self._block_sizes

    @property
    def nbytes(self) -> int:
        """Bytes allocated for tree and forests. O(endpoints)."""
        return self._tree.nbytes + sum(engine.blocks.nbytes for engine in self._engines.values())

    def add(self, endpoint: Endpoint) -> None:
        """Let an endpoint take part; nothing is known of it. O(1)."""
        if endpoint not in self._engines:
            slots = [self._tree.open() for _ in self._worths]
            self._engines[endpoint] = _Engine(self._tree, slots, self._allowance)
            self._generation += 1

    def remove(self, endpoint: Endpoint) -> None:
        """Forget an endpoint and all it holds. O(nodes it holds)."""
        engine = self._engines.pop(endpoint, None)
        if engine is None:
            return
        engine.blocks.clear()
        for slot in engine.slots:
            self._tree.close(slot)
        self._generation += 1

    def receive(self, endpoint: Endpoint, sequence: int, batch: EventBatch, *, replayed: bool = False) -> Trust:
        """Take a batch of an engine's live channel, or one that was asked for again; return the trust that follows."""
        engine = self._engines.get(self._of_rank(endpoint, batch.rank))
        if engine is None:
            return Trust.NONE
        take = engine.stream.replayed if replayed else engine.stream.receive
        self._follow(engine, take(sequence, batch))
        return engine.stream.trust

    def trust(self, endpoints: EndpointBatch) -> FloatArray:
        """Return how far each endpoint's events are trusted, as `Trust` numbers. O(endpoints)."""
        known = self._engines
        return np.array(
            [known[each].stream.trust if each in known else Trust.NONE for each in endpoints.endpoints], np.float64
        )

    def matched(self, keys: Iterable[tuple[int, Keys]], endpoints: EndpointBatch) -> FloatArray:
        """Return the worth in tokens of what each endpoint holds of a prompt, given its keys by block size."""
        found = np.zeros(len(endpoints))
        levels = [
            endpoints.static((self._token, self._generation, level), partial(self._slots_of, level=level))
            for level in range(len(self._worths))
        ]
        for size, each in keys:
            spans = self._tree.match(each)
            if not spans:
                continue
            depths = np.append(self._tree.spread(spans, size), 0.0)  # the last is for endpoints that are not known
            worth, better = np.zeros(len(endpoints)), np.zeros(len(endpoints))
            for slots, weight in zip(levels, self._worths, strict=True):
                depth = depths[slots]
                worth += weight * (depth - better)
                better = depth
            found = np.maximum(found, worth)
        return found

    def replay_offered(self, endpoint: Endpoint) -> None:
        """Let a gap in the endpoint's numbers be filled instead of starting anew."""
        if endpoint in self._engines:
            self._engines[endpoint].stream.offer_replay()

    def missing(self, endpoint: Endpoint) -> tuple[int, int] | None:
        """Return what a replay should bring, or None."""
        return self._engines[endpoint].stream.missing if endpoint in self._engines else None

    def replay_failed(self, endpoint: Endpoint) -> None:
        """Give up what is missing."""
        if endpoint in self._engines:
            engine = self._engines[endpoint]
            self._follow(engine, engine.stream.replay_failed())

    def disconnected(self, endpoint: Endpoint) -> None:
        """Trust nothing until the endpoint speaks again."""
        if endpoint in self._engines:
            self._engines[endpoint].stream.disconnected()

    def not_offered(self, endpoint: Endpoint, reason: str) -> bool:
        """Note that the engine publishes no events; return whether that is news."""
        return endpoint in self._engines and self._engines[endpoint].stream.not_offered(reason)

    def stats(self) -> dict[Endpoint, EngineStats]:
        """Return the figures of each engine. O(endpoints)."""
        return {
            endpoint: EngineStats(
                engine.stream.trust,
                len(engine.blocks),
                engine.blocks.refused_blocks,
                engine.stream.gaps,
                engine.stream.restarts,
                engine.stream.duplicates,
                engine.stream.unavailable,
                dict(engine.counters),
            )
            for endpoint, engine in self._engines.items()
        }

    def size(self, endpoint: Endpoint) -> int:
        """Return how many blocks the endpoint holds without a gap, in any tier. O(1)."""
        engine = self._engines.get(endpoint)
        return 0 if engine is None else self._tree.size(engine.slots[-1])

    def check(self) -> None:
        """Assert every invariant. O(everything)."""
        self._tree.check()
        for engine in self._engines.values():
            engine.blocks.check()
        assert self._allowance.used == sum(engine.blocks.rows for engine in self._engines.values()), (
            "rows are miscounted"
        )

    def _follow(self, engine: _Engine, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Forget):
                engine.blocks.clear()
                continue
            engine.counters["unknown"] += step.unknown
            engine.counters["malformed"] += len(step.malformed)
            for event in step.events:
                self._apply(engine, event, step.model)
            if step.malformed:
                engine.stream.lost()
                engine.blocks.clear()

    def _apply(self, engine: _Engine, event: KvEvent, model: str) -> None:
        if isinstance(event, AllCleared):
            engine.blocks.clear()
            engine.stream.emptied()
            return
        if self._is_skipped(engine, event):
            engine.counters["skipped_group"] += 1
            return
        tier = self._tier_ranks.get(event.tier, self._worths.index(1.0))
        if isinstance(event, BlocksRemoved):
            engine.counters["stranger_removed"] += engine.blocks.removed(event.hashes, tier=tier)
            return
        size = event.block_size
        if event.contents and size not in self._block_sizes:
            self._block_sizes = tuple(sorted({*self._block_sizes, size}))
        seed = space_seed(width=size * BYTES_PER_TOKEN, model=event.lora or model)
        extras = event.extras or (b"",) * len(event.contents)
        contents = [content_digest(content, extra, seed) for content, extra in zip(event.contents, extras, strict=True)]
        engine.blocks.stored(event.hashes, contents or None, parent=event.parent, seed=seed, tier=tier)

    @staticmethod
    def _is_skipped(engine: _Engine, event: BlocksStored | BlocksRemoved) -> bool:
        """Whether the event is about a cache group whose blocks are no prefixes; only stores tell a group's kind."""
        if isinstance(event, BlocksStored) and event.kind not in INDEXED_KINDS:
            engine.skipped_groups.add(event.group or 0)
        return (event.group or 0) in engine.skipped_groups

    def _of_rank(self, endpoint: Endpoint, rank: int | None) -> Endpoint:
        """The endpoint that a batch is about: the one with that rank behind the same address, if there is one."""
        if rank is None or rank == endpoint.rank:
            return endpoint
        return next((e for e in self._engines if e.rank == rank and e.address == endpoint.address), endpoint)

    def _slots_of(self, endpoints: tuple[Endpoint, ...], level: int) -> NDArray[np.intp]:
        engines = self._engines
        return np.array([engines[each].slots[level] if each in engines else -1 for each in endpoints], np.intp)
