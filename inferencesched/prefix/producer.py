"""approx-prefix-cache-producer: who probably holds this prompt's prefix, guessed from where prompts were sent.

Every placement teaches: what was sent to an endpoint is in its KV cache soon after. That holds for picks of any kind, a
fallback's and a prefill stage's included. The guess is corrected where the host passes on how many tokens an engine
says it had cached (`cached_tokens_reported`).

The index is in `inferencesched.prefix.index`; here is only what it means to a scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.decision import Decision, Rejection
from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray, Numbers, constant
from inferencesched.interfaces import Observer
from inferencesched.prefix.calibration import Accuracy, Calibration
from inferencesched.prefix.hashing import KeyMaker, PrefixKeys
from inferencesched.prefix.index import IndexStats, PrefixIndex, estimate_memory
from inferencesched.request import Request

__all__ = ["LEAST_BLOCK_TOKENS", "ApproxPrefixCacheProducer"]

LEAST_BLOCK_TOKENS = 64
"""Upstream's floor: smaller blocks cost memory in proportion and say little more about where a prompt is cached."""

_DEFAULT_BLOCK_TOKENS = 16
"""Upstream's default, and how it tells that `block_size_tokens` was left alone."""


def _positive_unless_tuned(instance: Any, attribute: attrs.Attribute[int], value: int) -> None:
    if value <= 0 and not instance.auto_tune:
        raise ValueError(f"{attribute.name} must be > 0 where autoTune is off, got {value}")


@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class ApproxPrefixCacheProducer(Observer):
    """Say how much of the prompt each endpoint has probably in its KV cache.

    Args:
        auto_tune: take the block size from the engines' metrics, and capacities from their number of blocks.
        block_size_tokens: tokens per block of the index where the engines do not say; less than 64 counts as 64.
        max_prefix_tokens_to_match: how far into the prompt to look.
        max_prefix_blocks_to_match: deprecated; used when `max_prefix_tokens_to_match` is 0. Both 0: no limit.
        block_size: deprecated alias of `block_size_tokens`, used where that is left at its default.
        lru_capacity_per_server: blocks an endpoint may hold where it does not say how many it has.
        max_memory_mb: what the whole index never exceeds (ours; 24 bytes a block at most, see `estimate_memory_mb`).

    Formula: matched = tokens of the longest run of whole blocks, from the first on, that were sent to the endpoint and
        not evicted since; total = tokens of all whole blocks of the prompt.
    Unknown: a request without prompt, or with media whose content is unknown, gets no columns. A prompt shorter than a
        block gets 0 of 0.
    Source: Endpoint Picker ``approx-prefix-cache-producer``. Differences: lookups count each endpoint's own run;
        a tail shorter than a block is not matched; a prefix outlives what continues it; a capacity from the engine is
        converted to the index's block size and follows the engine's figure when it changes; of several block sizes
        the smallest counts, and not the first candidate's.
    """

    type: ClassVar[str] = "approx-prefix-cache-producer"
    consumes: ClassVar[tuple[str, ...]] = ("cache_block_size_tokens", "cache_num_blocks")
    produces: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens")

    auto_tune: bool = True
    block_size_tokens: int = attrs.field(default=_DEFAULT_BLOCK_TOKENS, validator=_positive_unless_tuned)
    max_prefix_tokens_to_match: int = attrs.field(default=131_072, validator=attrs.validators.ge(0))
    max_prefix_blocks_to_match: int = attrs.field(default=2048, validator=attrs.validators.ge(0))
    block_size: int | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.gt(0)))
    lru_capacity_per_server: int = attrs.field(default=31_250, validator=attrs.validators.gt(0))
    max_memory_mb: float = attrs.field(default=256.0, validator=attrs.validators.ge(1))

    _index: PrefixIndex = attrs.field(init=False, repr=False)
    _calibration: Calibration = attrs.field(init=False, repr=False)
    _block: int = attrs.field(init=False, repr=False, default=0)
    _maker: KeyMaker = attrs.field(init=False, repr=False)
    _blocks_seen: FloatArray | None = attrs.field(init=False, repr=False, default=None)
    _sizes_seen: FloatArray | None = attrs.field(init=False, repr=False, default=None)
    _tuned: int = attrs.field(init=False, repr=False, default=0)
    _latest: tuple[Request, PrefixKeys] | None = attrs.field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._index = PrefixIndex(max_memory_mb=self.max_memory_mb, capacity=self.lru_capacity_per_server)
        self._calibration = Calibration(cut_down=self._halve, let_grow=self._double)
        self._set_block(self._configured_block)

    # --- producing -------------------------------------------------------------------------------------------------

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return both columns. Complexity: O(nodes along the prompt) and O(endpoints), vectorised."""
        keys = self._asked(request, endpoints)
        if keys is None:
            return {}
        matched = self._index.column(keys, endpoints, unit=self._block)
        if doubted := self._calibration.doubted:
            for endpoint, trust in doubted.items():
                matched[[each == endpoint for each in endpoints.endpoints]] *= trust
        return {
            "prefix_matched_tokens": matched,
            "prefix_total_tokens": constant(len(keys) * self._block, len(matched)),
        }

    def produce_few(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, Numbers]:
        """Return both columns as lists. Complexity: O(nodes along the prompt × endpoints)."""
        keys = self._asked(request, endpoints)
        if keys is None:
            return {}
        matched = self._index.numbers(keys, endpoints, unit=self._block)
        if doubted := self._calibration.doubted:
            trusts = [doubted.get(endpoint, 1.0) for endpoint in endpoints.endpoints]
            matched = [tokens * trust for tokens, trust in zip(matched, trusts, strict=True)]
        return {
            "prefix_matched_tokens": matched,
            "prefix_total_tokens": [float(len(keys) * self._block)] * len(matched),
        }

    # --- learning --------------------------------------------------------------------------------------------------

    def endpoint_added(self, endpoint: Endpoint, *, now: float) -> None:
        """Let the endpoint take part, empty."""
        self._index.add(endpoint)
        self._blocks_seen = None

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Forget all that was sent to the endpoint."""
        self._index.remove(endpoint)
        self._calibration.forget(endpoint)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Learn that the prompt is going to every endpoint that was leased for it."""
        self._learn(request, decision.lease.endpoint)
        for lease in decision.others:
            self._learn(request, lease.endpoint)
        self._latest = None

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        """Learn that the prompt went to a fallback; it may have reached the origin as well."""
        self._learn(request, decision.endpoint)
        self._latest = None

    def rejected(self, request: Request, rejection: Rejection, *, now: float) -> None:
        """Let go of the prompt."""
        self._latest = None

    def cached_tokens_reported(self, decision: Decision, cached_tokens: float, *, now: float) -> None:
        """Compare what was predicted for a placement with what the engine says it had in cache (see `accuracy`).

        An endpoint that keeps having less than half of what is predicted has its entries halved, and its predictions
        discounted while that does not help; when they hold again, it may hold more again. A decision without a
        prediction, or an endpoint that is gone, teaches nothing.
        """
        endpoint, chosen = decision.endpoint, decision.passes[decision.primary]
        row = next((row for row in chosen.picked if chosen.kept.endpoint(row) == endpoint), None)
        if row is None or endpoint not in self._index:
            return
        predicted = chosen.kept.at("prefix_matched_tokens", row)
        if not math.isnan(predicted):
            trust = self._calibration.doubted.get(endpoint, 1.0)  # what the index said, before it was discounted
            self._calibration.report(endpoint, predicted=predicted / trust, cached=cached_tokens)

    # --- state -----------------------------------------------------------------------------------------------------

    @property
    def index(self) -> PrefixIndex:
        """The index, to look into; whoever writes to it has two writers where there should be one."""
        return self._index

    @property
    def block_tokens(self) -> int:
        """Tokens per block now in force."""
        return self._block

    @property
    def accuracy(self) -> Mapping[Endpoint, Accuracy]:
        """How well predictions held, per endpoint that reported."""
        return self._calibration.accuracy

    def stats(self) -> IndexStats:
        """Return the figures for metrics. O(endpoints)."""
        return self._index.stats()

    def estimate_memory_mb(self, endpoints: int) -> float:
        """Return what the index of so many endpoints takes at most: for a host to print at start."""
        return min(self.max_memory_mb, estimate_memory(endpoints, self.lru_capacity_per_server) / 1e6)

    def snapshot(self) -> Mapping[str, Any]:
        """Return the entries as plain values, with the block size they were made for."""
        return {"block_tokens": self._block, "index": self._index.snapshot()}

    def restore(self, state: Mapping[str, Any], endpoints: Mapping[str, Endpoint], /, *, now: float) -> None:
        """Take back the entries of those endpoints that are present. Entries of another block size are of no use."""
        if not self.auto_tune and state["block_tokens"] != self._block:
            return
        self._set_block(state["block_tokens"])
        self._index.restore(state["index"], endpoints.values())

    # --- inside ----------------------------------------------------------------------------------------------------

    @property
    def _configured_block(self) -> int:
        tokens = self.block_size_tokens
        if self.block_size is not None and tokens == _DEFAULT_BLOCK_TOKENS:
            tokens = self.block_size
        return max(tokens, LEAST_BLOCK_TOKENS)

    def _set_block(self, tokens: int) -> None:
        """Let blocks have so many tokens from now on; what was learned with another size ages out."""
        most: int | None = self.max_prefix_blocks_to_match or None
        if self.max_prefix_tokens_to_match:
            most = self.max_prefix_tokens_to_match // tokens
        self._block = tokens
        self._maker = KeyMaker(block_size_tokens=tokens, max_blocks=most)
        self._latest = self._blocks_seen = None

    def _asked(self, request: Request, endpoints: EndpointBatch) -> PrefixKeys | None:
        """The keys to look for; None where the request has nothing that could be matched."""
        if request.prompt is None or not all(request.media_beside):
            return None
        if self.auto_tune:
            self._tune(endpoints)
        return self._keys(request)

    def _keys(self, request: Request) -> PrefixKeys:
        """The request's keys: those of the last produce, if it is for the same prompt, with what they know already."""
        if self._latest is not None:
            latest, keys = self._latest
            if latest is request or _same_space(latest, request):
                return keys
        keys = self._maker.keys(request)
        self._latest = request, keys
        return keys

    def _learn(self, request: Request, endpoint: Endpoint) -> None:
        latest = self._latest
        if latest is not None and latest[0] is request:  # asked about just now
            self._index.insert(latest[1], endpoint)
        elif request.prompt is not None and all(request.media_beside):
            self._index.insert(self._keys(request), endpoint)

    def _tune(self, endpoints: EndpointBatch) -> None:
        """Follow the engines' own figures: the smallest block size among them, and the number of blocks of each."""
        engine_block = endpoints["cache_block_size_tokens"]
        if engine_block is not self._sizes_seen:  # a column's array is the same until somebody writes to it
            self._sizes_seen = engine_block
            smallest = np.min(engine_block, where=engine_block > 0, initial=np.inf)
            self._tuned = max(int(smallest), LEAST_BLOCK_TOKENS) if smallest < np.inf else self._configured_block
        block = self._tuned
        if block != self._block:
            self._set_block(block)
        blocks, seen = endpoints["cache_num_blocks"], self._blocks_seen
        if blocks is seen:
            return
        self._blocks_seen = blocks
        if seen is not None and np.array_equal(blocks, seen, equal_nan=True):
            return
        tokens = blocks * np.where(engine_block > 0, engine_block, self._block)
        for endpoint, capacity in zip(endpoints.endpoints, (tokens // self._block).tolist(), strict=True):
            if capacity > 0:
                self._index.add(endpoint, int(capacity))

    def _halve(self, endpoint: Endpoint) -> None:
        self._index.resize(endpoint, max(1, self._index.size(endpoint) // 2))

    def _double(self, endpoint: Endpoint) -> None:
        self._index.resize(endpoint, min(2 * self._index.capacity(endpoint), self.lru_capacity_per_server))


def _same_space(one: Request, other: Request) -> bool:
    """Whether two requests are about the very same prompt object in the same space (a handler evolves requests)."""
    return (
        one.prompt is other.prompt
        and one.model == other.model
        and one.adapter == other.adapter
        and one.cache_salt == other.cache_salt
        and one.media_beside == other.media_beside
    )
