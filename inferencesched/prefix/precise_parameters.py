"""The parameters of precise-prefix-cache-producer, as the Endpoint Picker nests them. Values only.

What has no counterpart here (a Redis index, a tokenizer pool) has no field, so that a configuration that asks for it is
told so. `KvEventsConfig` is read by whoever connects to the engines, and by nobody in this package.
"""

from __future__ import annotations

import attrs

from inferencesched.units import quantity

__all__ = [
    "CostAwareMemory",
    "InMemory",
    "IndexerConfig",
    "KvBlockIndex",
    "KvEventsConfig",
    "PodDiscovery",
    "TierWeight",
    "TokenProcessor",
]

_at_least_1 = attrs.validators.ge(1)


@attrs.frozen
class TokenProcessor:
    """How engines cut prompts into blocks; their events say it too, and that is what counts.

    Args:
        block_size_tokens: tokens per block where no event said otherwise.
        block_size: deprecated alias.
        hash_seed: accepted for compatibility: engine hashes are never recomputed here.
        hash_algorithm: accepted for compatibility, for the same reason.
    """

    block_size_tokens: int = attrs.field(default=16, validator=_at_least_1)
    block_size: int | None = attrs.field(default=None, validator=attrs.validators.optional(_at_least_1))
    hash_seed: str = ""
    hash_algorithm: str = attrs.field(default="cbor-fnv", validator=attrs.validators.in_(["cbor-fnv", "xxh64"]))


@attrs.frozen
class InMemory:
    """Limits of upstream's index; blocks kept in mind are bounded by `size` here as well.

    Args:
        size: blocks of all endpoints together.
        pod_cache_size: accepted for compatibility: holders of a block are a bitmap here, and all are kept.
    """

    size: int = attrs.field(default=100_000_000, validator=_at_least_1)
    pod_cache_size: int = attrs.field(default=10, validator=_at_least_1)


def _memory(text: str) -> int:
    return quantity(text.removesuffix("B"))  # a quantity of Kubernetes, but for the B that upstream writes


def _is_memory(_: object, __: object, text: str) -> None:
    _memory(text)


@attrs.frozen
class CostAwareMemory:
    """Memory of the index, as a quantity.

    Args:
        size: ``2GiB``, ``512Mi``…
    """

    size: str = attrs.field(default="2GiB", validator=_is_memory)

    @property
    def megabytes(self) -> float:
        """The size in megabytes."""
        return _memory(self.size) / 1e6


@attrs.frozen
class KvBlockIndex:
    """Where the index is kept: in memory, bounded by blocks or by bytes.

    Args:
        in_memory_config: bounded by blocks.
        cost_aware_memory_config: bounded by bytes; goes before the other.
        enable_metrics: accepted for compatibility: metrics are always there.
        metrics_logging_interval: accepted for compatibility: the library does not log.
    """

    in_memory_config: InMemory = attrs.field(factory=InMemory)
    cost_aware_memory_config: CostAwareMemory | None = None
    enable_metrics: bool = False
    metrics_logging_interval: str | int = "0s"  # Go marshals a duration as nanoseconds


@attrs.frozen
class TierWeight:
    """What a token cached in one tier is worth.

    Args:
        name: ``gpu``, ``cpu``… (upstream calls it a backend).
        weight: 1 is a token that need not be computed or moved.
    """

    name: str
    weight: float = attrs.field(default=1.0, validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)])


@attrs.frozen
class IndexerConfig:
    """The index and what its tiers are worth.

    Args:
        kv_block_index_config: where it is kept.
        kv_cache_backend_configs: weight of each tier; one that is not named weighs 1.
    """

    kv_block_index_config: KvBlockIndex = attrs.field(factory=KvBlockIndex)
    kv_cache_backend_configs: tuple[TierWeight, ...] = (TierWeight("gpu", 1.0), TierWeight("cpu", 0.8))


@attrs.frozen
class PodDiscovery:
    """How engines are found and reached.

    Args:
        pod_label_selector: accepted for compatibility: the endpoints of the scheduler are the engines.
        pod_namespace: accepted for compatibility.
        socket_port: where rank 0 publishes; rank r at `socket_port + r`.
        replay_socket_port: where rank 0 answers requests for a replay; None where it does not.
    """

    pod_label_selector: str = "llm-d.ai/inference-serving=true"
    pod_namespace: str = ""
    socket_port: int = attrs.field(default=5557, validator=[_at_least_1, attrs.validators.le(65_535)])
    replay_socket_port: int | None = attrs.field(default=None, validator=attrs.validators.optional(_at_least_1))


@attrs.frozen
class KvEventsConfig:
    """How to subscribe to the engines' events.

    Args:
        zmq_endpoint: a local address to bind, for engines that connect to us; None connects to each engine.
        topic_filter: what topics begin with.
        concurrency: accepted for compatibility: events are applied in one thread.
        engine_type: ``vllm`` or ``sglang``; both send the same shapes.
        discover_pods: connect to every endpoint of the scheduler.
        pod_discovery_config: ports.
    """

    zmq_endpoint: str | None = None
    topic_filter: str = "kv@"
    concurrency: int = attrs.field(default=4, validator=_at_least_1)
    engine_type: str = attrs.field(default="vllm", validator=attrs.validators.in_(["vllm", "sglang"]))
    discover_pods: bool = True
    pod_discovery_config: PodDiscovery = attrs.field(factory=PodDiscovery)
