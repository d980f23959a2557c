"""precise-prefix-cache-producer: who holds this prompt's prefix, as the engines themselves say.

Engines publish what enters and leaves their KV caches. A source (the distribution ``inferencesched-sources`` has one)
decodes the messages and hands them to `PrecisePrefixCacheProducer.receive`; what follows is computed here. Where the
events of an endpoint cannot be trusted (see `inferencesched.prefix.stream`), or the prompt came as text, which no
engine names blocks by, the guess of `ApproxPrefixCacheProducer` stands in, and a column says for which endpoints it
did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.decision import Decision, Rejection
from inferencesched.endpoints import Endpoint, EndpointBatch, FloatArray
from inferencesched.interfaces import Observer
from inferencesched.prefix.chain import ChainKeys
from inferencesched.prefix.engines import Engines
from inferencesched.prefix.events import EventBatch, extra_digest, parse_batch
from inferencesched.prefix.hashing import prompt_content, space_seed
from inferencesched.prefix.precise_parameters import IndexerConfig, KvEventsConfig, TokenProcessor
from inferencesched.prefix.producer import ApproxPrefixCacheProducer
from inferencesched.prefix.stream import Trust
from inferencesched.request import BYTES_PER_TOKEN, Request
from inferencesched.units import duration, format_duration

__all__ = ["PrecisePrefixCacheProducer"]

_TTL = {"parameter": "speculativeTTL", "written": str, "write": format_duration}


def _seconds(given: float | str) -> float:
    return duration(given) if isinstance(given, str) else given


@attrs.define(eq=False)
class PrecisePrefixCacheProducer(Observer):
    """Say how much of the prompt each endpoint has in its KV cache, by its own account.

    Args:
        token_processor_config: block size where no event has said it yet.
        indexer_config: limits of the index, and what a token is worth in each tier.
        kv_events_config: how a source reaches the engines; not used here.
        speculative_indexing: count a prompt as cached where it was just sent, until its events can have come.
        speculative_ttl: seconds that takes (a Go duration in YAML).
        approximate_fallback: guess from our own picks where events are not to be trusted (ours).
        max_memory_mb: what index and bookkeeping never exceed together; the guess has a bound of its own (ours).

    Formula: matched = tokens of the longest run of blocks, from the first on, that the engine has, each worth the
        weight of its tier (blocks behind the first one that left the best tier weigh what the next tier does);
        total = tokens of all whole blocks.
    Unknown: a request without prompt gets no columns. Text, or media whose place in the prompt is not known, is
        matched by the guess alone.
    Source: Endpoint Picker ``precise-prefix-cache-producer``. Differences: matched is not truncated to whole blocks;
        orphans are kept; a gap, a restart or an unreadable event never leaves phantoms; and where events fail, the
        guess takes over: ``prefix_events_trusted`` is 1 where all is known, 0.5 where more may be cached than is
        known, 0 where the guess stands alone.
    """

    type: ClassVar[str] = "precise-prefix-cache-producer"
    consumes: ClassVar[tuple[str, ...]] = ("cache_block_size_tokens", "cache_num_blocks")
    produces: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens", "prefix_events_trusted")

    token_processor_config: TokenProcessor = attrs.field(factory=TokenProcessor)
    indexer_config: IndexerConfig = attrs.field(factory=IndexerConfig)
    kv_events_config: KvEventsConfig = attrs.field(factory=KvEventsConfig)
    speculative_indexing: bool = False
    speculative_ttl: float = attrs.field(
        default=2.0, converter=_seconds, validator=attrs.validators.gt(0), metadata=_TTL
    )
    approximate_fallback: bool = True
    max_memory_mb: float = attrs.field(default=512.0, validator=attrs.validators.ge(1))

    _engines: Engines = attrs.field(init=False, repr=False)
    _guess: ApproxPrefixCacheProducer | None = attrs.field(init=False, repr=False, default=None)
    _speculative: ApproxPrefixCacheProducer | None = attrs.field(init=False, repr=False, default=None)
    _expiring: deque[tuple[float, int]] = attrs.field(init=False, repr=False, factory=deque)
    _latest: tuple[Request, list[tuple[int, ChainKeys]]] | None = attrs.field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        config = self.indexer_config.kv_block_index_config
        aware = config.cost_aware_memory_config
        self._engines = Engines(
            max_memory_mb=self.max_memory_mb if aware is None else min(self.max_memory_mb, aware.megabytes),
            max_blocks=config.in_memory_config.size,
            weights={each.name.lower(): each.weight for each in self.indexer_config.kv_cache_backend_configs},
        )
        if self.approximate_fallback:
            self._guess = ApproxPrefixCacheProducer()
        if self.speculative_indexing:
            self._speculative = ApproxPrefixCacheProducer()

    # --- producing -------------------------------------------------------------------------------------------------

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return the columns. Complexity: O(blocks matched + nodes along the prompt), O(endpoints) vectorised."""
        if request.prompt is None:
            return {}
        trust = self._engines.trust(endpoints)
        keys = self._keys(request)
        guessed = {} if self._guess is None else self._guess.produce(request, endpoints)
        guess = guessed.get("prefix_matched_tokens")
        if keys is None:
            return {**guessed, "prefix_events_trusted": np.zeros(len(endpoints))}
        matched = np.where(trust > Trust.NONE, self._engines.matched(keys, endpoints), 0.0)
        if guess is not None:
            np.maximum(matched, guess, out=matched, where=trust < Trust.FULL)
        if self._speculative is not None:
            self._expire(endpoints.now)
            np.maximum(matched, self._speculative.produce(request, endpoints)["prefix_matched_tokens"], out=matched)
        total = max([len(each) * size for size, each in keys], default=0)
        if guess is not None and (trust < Trust.FULL).any():
            total = max(total, int(guessed["prefix_total_tokens"].max(initial=0)))
        return {
            "prefix_matched_tokens": np.minimum(matched, total),
            "prefix_total_tokens": np.full(len(endpoints), float(total)),
            "prefix_events_trusted": trust / Trust.FULL,
        }

    # --- what engines say ------------------------------------------------------------------------------------------

    def receive(self, endpoint: Endpoint, sequence: int, payload: Any, *, model: str = "", now: float) -> Trust:
        """Take a message from an engine's live channel.

        Args:
            endpoint: whose channel it came by. A rank told in the message that differs picks the endpoint with the
                same address and that rank, if there is one.
            sequence: the number that came with it.
            payload: the message, decoded.
            model: the base model, as the topic names it; requests must call it by the same name.

        Returns:
            How far the endpoint's events are trusted now. After it, ask `missing`.

        A message that cannot be read is counted and taken for lost; it raises nothing.
        """
        return self._engines.receive(endpoint, sequence, _parsed(payload, model))

    def replayed(self, endpoint: Endpoint, sequence: int, payload: Any, *, model: str = "", now: float) -> Trust:
        """Take a message that the engine sent again on request; late ones change nothing."""
        return self._engines.receive(endpoint, sequence, _parsed(payload, model), replayed=True)

    def replay_offered(self, endpoint: Endpoint) -> None:
        """Say that the source can ask this engine for a replay. To be called before its first message."""
        self._engines.replay_offered(endpoint)

    def missing(self, endpoint: Endpoint) -> tuple[int, int] | None:
        """Return the first and last number that a replay should bring, or None."""
        return self._engines.missing(endpoint)

    def replay_failed(self, endpoint: Endpoint, *, now: float) -> None:
        """Say that the replay brought not everything: what is known is dropped, and built anew from what comes."""
        self._engines.replay_failed(endpoint)

    def disconnected(self, endpoint: Endpoint, *, now: float) -> None:
        """Say that the channel is gone: the endpoint is guessed about until it speaks again."""
        self._engines.disconnected(endpoint)

    def events_not_offered(self, endpoint: Endpoint, reason: str, *, now: float) -> bool:
        """Say that the engine does not publish events; return whether that is news. Asking again is of no use."""
        return self._engines.not_offered(endpoint, reason)

    # --- what happens ------------------------------------------------------------------------------------------------

    def endpoint_added(self, endpoint: Endpoint, *, now: float) -> None:
        """Let the endpoint take part; nothing is known of it."""
        self._engines.add(endpoint)
        for each in self._guesses():
            each.endpoint_added(endpoint, now=now)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Forget the endpoint and all it holds."""
        self._engines.remove(endpoint)
        for each in self._guesses():
            each.endpoint_removed(endpoint, now=now)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Learn where the prompt goes, for the guess and for the time until the events come."""
        for each in self._guesses():
            each.assigned(request, decision, now=now)
        self._remember_until(now)
        self._latest = None

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        """Learn where the prompt goes after all."""
        for each in self._guesses():
            each.moved(request, decision, origin, now=now)
        self._remember_until(now)
        self._latest = None

    def rejected(self, request: Request, rejection: Rejection, *, now: float) -> None:
        """Let go of the prompt."""
        for each in self._guesses():
            each.rejected(request, rejection, now=now)
        self._latest = None

    def cached_tokens_reported(self, decision: Decision, cached_tokens: float, *, now: float) -> None:
        """Let the guess learn how good it was."""
        if self._guess is not None:
            self._guess.cached_tokens_reported(decision, cached_tokens, now=now)

    # --- for metrics -----------------------------------------------------------------------------------------------

    @property
    def engines(self) -> Engines:
        """What is known of each engine: trust, sizes, and counters of what went wrong."""
        return self._engines

    @property
    def guess(self) -> ApproxPrefixCacheProducer | None:
        """The approximate producer that stands in, if there is one."""
        return self._guess

    # --- inside ----------------------------------------------------------------------------------------------------

    def _guesses(self) -> Iterable[ApproxPrefixCacheProducer]:
        return [each for each in (self._guess, self._speculative) if each is not None]

    def _remember_until(self, now: float) -> None:
        if self._speculative is not None:
            self._expire(now)
            self._expiring.append((now + self.speculative_ttl, self._speculative.index.tick))

    def _expire(self, now: float) -> None:
        due = 0
        while self._expiring and self._expiring[0][0] <= now:
            _, due = self._expiring.popleft()
        if due and self._speculative is not None:
            self._speculative.index.expire(due)

    def _keys(self, request: Request) -> list[tuple[int, ChainKeys]] | None:
        """The prompt's keys for each block size in the fleet; None where engines' names for blocks cannot be told."""
        prompt = request.prompt
        if prompt is None or isinstance(prompt, str | bytes) or request.media:
            return None
        content = prompt_content(prompt)
        salt = extra_digest([request.cache_salt]) if request.cache_salt else b""
        config = self.token_processor_config
        sizes = self._engines.block_sizes or (config.block_size or config.block_size_tokens,)
        return [
            (
                size,
                ChainKeys(
                    content,
                    block_size_tokens=size,
                    seed=space_seed(width=size * BYTES_PER_TOKEN, model=request.lora),
                    first_extras=salt,
                ),
            )
            for size in sizes
        ]


def _parsed(payload: Any, model: str) -> EventBatch:
    """The batch, or an empty one that says why it could not be read."""
    try:
        return parse_batch(payload, model=model)
    except ValueError as error:
        return EventBatch(0.0, (), malformed=(str(error),), model=model)
