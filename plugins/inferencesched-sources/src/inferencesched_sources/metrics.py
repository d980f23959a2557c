"""metrics-data-source and core-metrics-extractor: the load of every engine, off its page of metrics."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import attrs

from inferencesched import Endpoint
from inferencesched.interfaces import Reading
from inferencesched.signals import (
    DIALECTS,
    AdapterInfo,
    CacheInfo,
    Dialect,
    Layout,
    MetricSpec,
    Number,
    Part,
    recognise,
)
from inferencesched.vocabulary import UPSTREAM_ATTRIBUTES
from inferencesched_sources.http_source import HttpSource

__all__ = ["CoreMetricsExtractor", "CustomMetric", "EngineConfig", "MetricsDataSource"]

_LEGACY_LABEL = "inference.networking.k8s.io/engine-type"


@attrs.define(eq=False, kw_only=True)
class MetricsDataSource(HttpSource):
    """Ask every endpoint for its metrics, and let extractors read them.

    Args:
        scheme: of the endpoint's page; an endpoint whose address has a scheme keeps it.
        path: of the page.
        port: instead of the endpoint's own.
        insecure_skip_verify: take any certificate.
        ca_cert_path: a PEM file with the authorities to trust.
        client_cert_path: a PEM file with a certificate to show; with `client_key_path`.
        client_key_path: its key.
        interval: from one look at an endpoint to the next (a Go duration); less than 50 ms counts as 50 ms.

    Formula: one keep-alive connection per endpoint, no redirects; each wait is varied by a tenth; an answer that takes
        more than 1 s, is longer than 8 MiB or has another status than 200 is a failure.
    Unknown: a failure changes no fact: what is known stays and grows old, and no endpoint is removed.
    Source: Endpoint Picker ``metrics-data-source``. Differences: ``interval`` is 100 ms by default, half of what
        ``utilization-detector`` takes for stale; the labels ``metricsAddress``, ``metricsPort`` and ``metricsPath``
        of an endpoint go before the parameters; a page of which nobody reads a column is not asked for.
    """

    type: ClassVar[str] = "metrics-data-source"
    default_extractors: ClassVar[tuple[str, ...]] = ("core-metrics-extractor",)


def _spec(text: str) -> MetricSpec | None:
    return MetricSpec.parse(text) if text.strip() else None


def _is_spec(_: object, __: Any, text: str) -> None:
    _spec(text)


def _metric() -> str:
    return attrs.field(default="", validator=_is_spec)


@attrs.frozen
class CustomMetric:
    """A number that no dialect has.

    Args:
        attribute_key: the column; a name that upstream has for one of ours is understood.
        metric_spec: the metric.
    """

    attribute_key: str = attrs.field(validator=attrs.validators.min_len(1))
    metric_spec: str = attrs.field(validator=attrs.validators.and_(attrs.validators.min_len(1), _is_spec))

    @property
    def number(self) -> Number:
        """How it is read."""
        column = UPSTREAM_ATTRIBUTES.get(self.attribute_key, self.attribute_key)
        return Number(column, (MetricSpec.parse(self.metric_spec),))


def _is_an_engine(_: object, __: object, name: str) -> None:
    if name in {"", "default"}:
        raise ValueError(f"expected the name of an engine, got {name!r}; which is the default stands in defaultEngine")


def _are_distinct(_: object, __: object, metrics: tuple[CustomMetric, ...]) -> None:
    keys = [each.attribute_key for each in metrics]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"the attributeKey '{twice[0]}' is given twice")


@attrs.frozen
class EngineConfig:
    """What one engine calls its metrics; an empty spec is a fact that it does not tell.

    Args:
        name: of the engine, as the label has it; that of a built-in engine replaces it.
        queued_requests_spec: requests that wait.
        running_requests_spec: requests that run.
        kv_usage_spec: share of the KV cache in use, 0–1.
        lora_spec: the metric whose labels list the LoRA adapters.
        cache_info_spec: the metric whose labels tell the size of the cache.
        cache_block_size_label_name: of these labels, the tokens per block.
        cache_num_blocks_label_name: and the number of blocks.
        cache_block_size_spec: tokens per block, where that is a metric.
        cache_num_blocks_spec: number of blocks, where that is a metric.
        custom_metrics: further numbers.
    """

    name: str = attrs.field(validator=_is_an_engine)
    queued_requests_spec: str = _metric()
    running_requests_spec: str = _metric()
    kv_usage_spec: str = _metric()
    lora_spec: str = _metric()
    cache_info_spec: str = _metric()
    cache_block_size_label_name: str = ""
    cache_num_blocks_label_name: str = ""
    cache_block_size_spec: str = _metric()
    cache_num_blocks_spec: str = _metric()
    custom_metrics: tuple[CustomMetric, ...] = attrs.field(default=(), validator=_are_distinct)

    @property
    def dialect(self) -> Dialect:
        """The engine's dialect."""
        numbers = (
            ("waiting_requests", self.queued_requests_spec, "sum"),
            ("running_requests", self.running_requests_spec, "sum"),
            ("kv_cache_utilization", self.kv_usage_spec, "max"),
            ("cache_block_size_tokens", self.cache_block_size_spec, "max"),
            ("cache_num_blocks", self.cache_num_blocks_spec, "sum"),
        )
        parts: list[Part] = [
            Number(column, (spec,), combine="max" if combine == "max" else "sum")
            for column, text, combine in numbers
            if (spec := _spec(text)) is not None
        ]
        adapters, cache = _spec(self.lora_spec), _spec(self.cache_info_spec)
        if adapters is not None:
            parts.append(AdapterInfo(adapters))
        if cache is not None:
            parts.append(CacheInfo(cache, self.cache_block_size_label_name, self.cache_num_blocks_label_name))
        return Dialect(self.name, (*parts, *(each.number for each in self.custom_metrics)))


class _Known:
    """What the last page of an endpoint has taught."""

    __slots__ = ("dialect", "layout")

    def __init__(self) -> None:
        self.dialect: Dialect | None = None
        self.layout = Layout()


@attrs.define(eq=False)
class CoreMetricsExtractor:
    """Read queue, batch, KV cache and LoRA adapters off a page of metrics, in the words of the engine that wrote it.

    Args:
        engine_label_key: the endpoint's label that names its engine.
        default_engine: whose words are tried where no label says, and the page is nobody's that is known.
        engine_configs: further engines, or other words for a built-in one.

    Formula: of several series of a metric the newest timestamp counts; among equals, counts are added up and of shares
        the largest is taken. LoRA adapters are those of the series with the largest value. Above rank 0, of series that
        have a label ``engine`` or ``dp_rank`` only the endpoint's own count.
    Unknown: a fact that the engine should tell and does not is unknown from then on, and the log says so once. Without
        the metric for LoRA adapters, none are loaded.
    Source: Endpoint Picker ``core-metrics-extractor``. Differences: an engine without label is recognised by its page;
        old and new names of a metric are both understood; several series are added up, where upstream takes the first.
    """

    type: ClassVar[str] = "core-metrics-extractor"
    default_source: ClassVar[str] = "metrics-data-source"

    engine_label_key: str = "llm-d.ai/engine-type"
    default_engine: str = "vllm"
    engine_configs: tuple[EngineConfig, ...] = ()

    _dialects: Mapping[str, Dialect] = attrs.field(init=False, repr=False)
    _known: weakref.WeakKeyDictionary[Endpoint, _Known] = attrs.field(
        init=False, repr=False, factory=weakref.WeakKeyDictionary
    )

    def __attrs_post_init__(self) -> None:
        names = [config.name for config in self.engine_configs]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the engine '{twice[0]}' is configured twice")
        own = {config.name: config.dialect for config in self.engine_configs}
        self._dialects = {**own, **{name: each for name, each in DIALECTS.items() if name not in own}}
        if self.default_engine not in self._dialects:
            raise ValueError(f"defaultEngine '{self.default_engine}' is none of {', '.join(self._dialects)}")

    @property
    def brings(self) -> frozenset[str]:
        """The columns that some engine tells."""
        return frozenset(c for dialect in self._dialects.values() for part in dialect.parts for c in part.columns)

    def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
        """Return the facts among `columns` that the page has."""
        known = self._known.get(endpoint)
        if known is None:
            known = self._known[endpoint] = _Known()
        dialect = self._labelled(endpoint) or known.dialect
        if dialect is None:
            dialect = known.dialect = recognise(payload, self._dialects.values())
            if dialect is None:
                dialect = self._dialects[self.default_engine]
        reading = dialect.read(payload, columns, rank=endpoint.rank, layout=known.layout)
        if reading.absent and not dialect.wrote(payload):
            known.dialect = None  # another engine has taken its place, or none speaks yet
        return reading

    def _labelled(self, endpoint: Endpoint) -> Dialect | None:
        """Return the dialect that the endpoint's label asks for: the default one for a name that nobody knows."""
        name = endpoint.labels.get(self.engine_label_key) or endpoint.labels.get(_LEGACY_LABEL)
        return None if name is None else self._dialects.get(name, self._dialects[self.default_engine])
