"""Requests of one burst that share a prompt, sent where the first of them went.

Between two equal prompts that arrive within milliseconds no index can help: the first has not been computed when the
second is placed. Upstream holds every request back until a window closes, and then places the window as a whole. This
library never waits inside a decision; here a window is what arrived since it was opened, requests are placed as they
come, and each one follows those before it. The difference is small and worth stating: the *first* of a group goes where
load sends it (upstream: to the endpoint with the least of this window), and a longer prompt that would have been placed
before a shorter one is not. What is gained is the window itself: nobody waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import attrs
import numpy as np

from inferencesched.builtin.instances import instances
from inferencesched.decision import Decision
from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.interfaces import Observer
from inferencesched.prefix.hashing import PrefixKeys, request_keys
from inferencesched.request import Request

__all__ = ["BurstPrefixCacheProducer"]

_UNLIMITED = -1
_MAX_BLOCKS = 2048
"""Blocks looked at where the configuration sets no limit; upstream's."""


def _unlimited_or_positive(_: object, __: object, value: int) -> None:
    if value != _UNLIMITED and value < 1:
        raise ValueError(f"expected an integer ≥ 1, or -1 for no limit, got {value}")


@attrs.define(eq=False)
class _Window:
    """What was placed since `opened`."""

    opened: float = -math.inf
    requests: int = 0
    groups: dict[int, dict[int, int]] = attrs.field(factory=dict)  # last key of a prompt → instance → requests
    holders: dict[int, set[int]] = attrs.field(factory=dict)  # key of a prefix → instances
    load: dict[int, int] = attrs.field(factory=dict)  # instance → requests, or blocks to be computed

    def shared_with(self, keys: PrefixKeys, instance: int, least: int = 1) -> int:
        """Return how many leading blocks, at least `least`, the instance was sent; or 0. O(log blocks)."""
        low, high = 0, len(keys)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if instance in self.holders.get(keys[middle - 1], ()) else (low, middle - 1)
        return low if low >= least else 0


@attrs.define(eq=False)
class BurstPrefixCacheProducer(Observer):
    """Say which endpoints were sent the same prompt a moment ago, as if its prefix were in their cache already.

    Memory: of one window, at most `max_batch_size` requests and their blocks.

    Args:
        window_duration_ms: how long a window stays open after its first request, 1–10000.
        max_per_replica: requests of one group that an endpoint takes before the group goes on to another; -1 is no
            limit.
        block_size_tokens: tokens per block; a tail shorter than that is not looked at.
        max_prefix_tokens_to_match: how far into the prompt to look; 0 is 2048 blocks.
        min_colocate_blocks: leading blocks in common from which requests that are not equal follow each other; 0 is
            never.
        max_batch_size: requests of one window that take part; -1 is no limit.
        balance_by: what is balanced between endpoints when requests follow others they are not equal to: their number,
            or the ``tokens`` that an endpoint has to compute for them.

    Formula: equal in all whole blocks to earlier requests of the window → full match on the endpoints that these went
        to and that are below maxPerReplica. Else, the endpoint with the longest common prefix ≥ minColocateBlocks,
        among those below ⌈load of the window / endpoints⌉ → full match. 0 elsewhere.
    Unknown: who follows nobody gets no columns, nor does a request without a whole block or beyond maxBatchSize.
    Source: Endpoint Picker ``burst-prefix-cache-producer``, without its wait, see above.
    """

    type: ClassVar[str] = "burst-prefix-cache-producer"
    produces: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens")

    window_duration_ms: int = attrs.field(default=100, validator=[attrs.validators.ge(1), attrs.validators.le(10_000)])
    max_per_replica: int = attrs.field(default=_UNLIMITED, validator=_unlimited_or_positive)
    block_size_tokens: int = attrs.field(default=64, validator=attrs.validators.ge(1))
    max_prefix_tokens_to_match: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    min_colocate_blocks: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    max_batch_size: int = attrs.field(default=1000, validator=_unlimited_or_positive)
    balance_by: Literal["requests", "tokens"] = "requests"
    _window: _Window = attrs.field(init=False, repr=False, factory=_Window)

    @max_prefix_tokens_to_match.validator
    def _holds_a_block(self, _: object, value: int) -> None:
        if 0 < value < self.block_size_tokens:
            raise ValueError(f"expected 0, or an integer ≥ blockSizeTokens ({self.block_size_tokens}), got {value}")

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return a full match where the request should follow others, 0 elsewhere."""
        keys = self._keys(request)
        if not len(keys) or not self._takes_part(now=endpoints.now):
            return {}
        rows = instances(endpoints)
        follow = np.isin(rows, self._leaders(keys, rows.tolist()))
        if not follow.any():
            return {}
        total = float(len(keys) * self.block_size_tokens)
        return {
            "prefix_matched_tokens": np.where(follow, total, 0.0),
            "prefix_total_tokens": np.full(len(rows), total),
        }

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Note where the request went, in a new window if the last one has closed."""
        if now - self._window.opened >= self.window_duration_ms / 1000:
            self._window = _Window(now)
        keys = self._keys(request)
        if not len(keys) or not self._takes_part(now=now):
            return
        window = self._window
        window.requests += 1
        group = window.groups.setdefault(keys[len(keys) - 1], {})
        for lease in decision.leases:
            instance = lease.endpoint.instance
            cost = 1 if self.balance_by == "requests" else len(keys) - window.shared_with(keys, instance)
            window.load[instance] = window.load.get(instance, 0) + cost
            group[instance] = group.get(instance, 0) + 1
            if group[instance] == 1 and (self.min_colocate_blocks or self.balance_by == "tokens"):
                for key in keys[: len(keys)]:
                    window.holders.setdefault(key, set()).add(instance)

    def _takes_part(self, *, now: float) -> bool:
        window = self._window
        is_open = now - window.opened < self.window_duration_ms / 1000
        return is_open and (self.max_batch_size == _UNLIMITED or window.requests < self.max_batch_size)

    def _leaders(self, keys: PrefixKeys, present: list[int]) -> list[int]:
        """Return the instances to follow."""
        window, limit = self._window, self.max_per_replica
        group = window.groups.get(keys[len(keys) - 1])
        if group is not None:
            return [instance for instance, count in group.items() if limit == _UNLIMITED or count < limit]
        if not self.min_colocate_blocks:
            return []
        own = 1 if self.balance_by == "requests" else len(keys)
        fair_share = math.ceil((sum(window.load.values()) + own) / len(present))
        free = [instance for instance in window.load if instance in present and window.load[instance] < fair_share]
        shared = {instance: window.shared_with(keys, instance, self.min_colocate_blocks) for instance in free}
        longest = max(shared.values(), default=0)
        return [instance for instance, blocks in shared.items() if blocks == longest > 0]

    def _keys(self, request: Request) -> PrefixKeys:
        blocks = self.max_prefix_tokens_to_match // self.block_size_tokens or _MAX_BLOCKS
        return request_keys(request, block_size_tokens=self.block_size_tokens, max_blocks=blocks)
