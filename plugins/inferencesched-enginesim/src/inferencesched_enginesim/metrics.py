"""vLLM's metric page of a simulated engine: which families there are, and what they are called.

Names, labels, help and buckets are those of vLLM 0.32 (``new``), or those of its first engine where they differ
(``old``). Seconds are real ones: what a client would measure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from inferencesched.sim import Engine
from inferencesched_enginesim.spec import ServerSpec
from inferencesched_enginesim.tally import Histogram, Tally

__all__ = ["CONTENT_TYPE", "MetricPage"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ADAPTER_SETS = 16  # label sets of lora_requests_info that stay on the page; vLLM keeps all
_OLD_NAMES = {
    "kv_cache_usage_perc": "gpu_cache_usage_perc",
    "prefix_cache_queries": "gpu_prefix_cache_queries",
    "prefix_cache_hits": "gpu_prefix_cache_hits",
    "inter_token_latency_seconds": "time_per_output_token_seconds",
}


class MetricPage(Collector):
    """Shows an engine and a tally as vLLM would.

    Args:
        spec: the server.
        engine: its engine.
        tally: what it has counted.
        unix: seconds since 1970.
    """

    def __init__(
        self, spec: ServerSpec, engine: Engine, tally: Tally, *, unix: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._tally = tally
        self._unix = unix
        self._model = spec.model
        self._is_old = spec.metrics_dialect == "old"
        self._labels = ("model_name",) if self._is_old else ("engine", "model_name")
        self._values = (spec.model,) if self._is_old else ("0", spec.model)
        self._adapter_sets: dict[tuple[str, ...], float] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._text: bytes | None = None

    def changed(self) -> None:
        """Know that the text has to be made anew."""
        self._text = None

    def text(self) -> bytes:
        """Return the page in Prometheus' text format."""
        if self._text is None:
            self._text = generate_latest(self._registry)
        return self._text

    def collect(self) -> Iterator[Metric]:
        """Yield every family, as prometheus_client asks for them."""
        engine, tally = self._engine, self._tally
        yield self._gauge("num_requests_running", "Number of requests in model execution batches.", len(engine.running))
        yield self._gauge("num_requests_waiting", "Number of requests waiting to be processed.", len(engine.waiting))
        usage = engine.cache.utilization
        yield self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage)
        yield from self._counters()
        for name, histogram, text in (
            ("time_to_first_token_seconds", tally.ttft, "Histogram of time to first token in seconds."),
            ("inter_token_latency_seconds", tally.inter_token, "Histogram of inter-token latency in seconds."),
            (
                "request_time_per_output_token_seconds",
                tally.tpot,
                "Histogram of time_per_output_token_seconds per request.",
            ),
            ("e2e_request_latency_seconds", tally.e2e, "Histogram of e2e request latency in seconds."),
            ("request_queue_time_seconds", tally.queue, "Histogram of time spent in WAITING phase for request."),
            (
                "request_inference_time_seconds",
                tally.inference,
                "Histogram of time spent in RUNNING phase for request.",
            ),
            ("request_prefill_time_seconds", tally.prefill, "Histogram of time spent in PREFILL phase for request."),
            ("request_decode_time_seconds", tally.decode, "Histogram of time spent in DECODE phase for request."),
            ("request_prompt_tokens", tally.prompt_lengths, "Number of prefill tokens processed."),
            ("request_generation_tokens", tally.answer_lengths, "Number of generation tokens processed."),
        ):
            yield self._histogram(name, histogram, text)
        if engine.spec.max_adapters:
            yield self._adapters()
        yield self._cache_config()

    def _counters(self) -> Iterator[Metric]:
        tally, engine = self._tally, self._engine
        generated = tally.generated_tokens + sum(served.generated for served in engine.running)
        for name, text, value in (
            (
                "prefix_cache_queries",
                "Prefix cache queries, in terms of number of queried tokens.",
                tally.prompt_tokens,
            ),
            ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", tally.cached_tokens),
            ("num_preemptions", "Cumulative number of preemption from the engine.", engine.preemptions),
            ("prompt_tokens", "Number of prefill tokens processed.", tally.prompt_tokens),
            ("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", tally.cached_tokens),
            ("generation_tokens", "Number of generation tokens processed.", generated),
        ):
            counter = CounterMetricFamily(self._name(name), text, labels=self._labels)
            counter.add_metric(self._values, value)
            yield counter
        text = "Count of successfully processed requests."
        success = CounterMetricFamily(self._name("request_success"), text, labels=(*self._labels, "finished_reason"))
        for reason, count in tally.endings.items():
            success.add_metric((*self._values, reason), count)
        yield success
        text = "Number of admission attempts rejected by a queue limit, by reason."
        rejections = CounterMetricFamily("vllm:admission_rejections", text, labels=("model_name", "reason"))
        rejections.add_metric((self._model, "max_num_queued_reqs"), tally.rejected)
        yield rejections

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(self._name(name), text, labels=self._labels)
        gauge.add_metric(self._values, value)
        return gauge

    def _histogram(self, name: str, histogram: Histogram, text: str) -> Metric:
        family = HistogramMetricFamily(self._name(name), text, labels=self._labels)
        family.add_metric(self._values, histogram.buckets(), histogram.sum)
        return family

    def _adapters(self) -> Metric:
        """The sets of adapters that were seen, each with when; the newest is the present one."""
        engine = self._engine
        present = tuple(
            ",".join(sorted({s.request.adapter for s in those if s.request.adapter is not None}))
            for those in (engine.running, engine.waiting)
        )
        self._adapter_sets.pop(present, None)
        self._adapter_sets[present] = self._unix()
        while len(self._adapter_sets) > _ADAPTER_SETS:
            del self._adapter_sets[next(iter(self._adapter_sets))]
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        family = GaugeMetricFamily("vllm:lora_requests_info", "Running stats on lora requests.", labels=labels)
        for (running, waiting), seen in self._adapter_sets.items():
            family.add_metric((str(engine.spec.max_adapters), running, waiting), seen)
        return family

    def _cache_config(self) -> Metric:
        engine = self._engine
        blocks = engine.cache.capacity
        facts = {
            "block_size": str(engine.block_tokens),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "engine": "0",
            "gpu_memory_utilization": "0.92",
            "num_cpu_blocks": "None",
            "num_gpu_blocks": "None" if math.isinf(blocks) else str(int(blocks)),
            "num_gpu_blocks_override": "None",
            "prefix_caching_hash_algo": "xxhash",
        }
        text = "Information of the LLMEngine CacheConfig"
        family = GaugeMetricFamily("vllm:cache_config_info", text, labels=tuple(facts))
        family.add_metric(tuple(facts.values()), 1.0)
        return family

    def _name(self, name: str) -> str:
        return "vllm:" + (_OLD_NAMES.get(name, name) if self._is_old else name)
