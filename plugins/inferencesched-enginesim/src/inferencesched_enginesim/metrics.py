"""vLLM's metric page of a simulated engine: what is counted, and the families that it is shown as.

Names, labels, help and buckets are those of vLLM 0.32 (``new``), or those of its first engine where they differ
(``old``). Seconds are real ones: what a client would measure.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from inferencesched_enginesim.driver import Driver, Sequence
from inferencesched_enginesim.spec import ServerSpec

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_TPOT = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_TOKENS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
_REASONS = ("stop", "length", "abort", "error", "repetition")
_ADAPTER_SETS = 16  # label sets of lora_requests_info that stay on the page; vLLM keeps all
_OLD_NAMES = {
    "kv_cache_usage_perc": "gpu_cache_usage_perc",
    "prefix_cache_queries": "gpu_prefix_cache_queries",
    "prefix_cache_hits": "gpu_prefix_cache_hits",
    "inter_token_latency_seconds": "time_per_output_token_seconds",
}


class _Histogram:
    """Counts per bucket; cheap to add to, cumulated when it is shown."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def shown(self) -> tuple[list[tuple[str, float]], float]:
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True)), self._sum


class Metrics(Collector):
    """Counts what happens in one server, and shows it.

    Args:
        spec: the server.
        driver: its engine, once it is there.
        unix: seconds since 1970.
    """

    def __init__(self, spec: ServerSpec, unix: Callable[[], float] = time.time) -> None:
        self.driver: Driver | None = None
        self.rejected = 0  # for want of room in the queue
        self._spec = spec
        self._unix = unix
        self._totals: Counter[str] = Counter()
        self._ended: Counter[str] = Counter(dict.fromkeys(_REASONS, 0))
        self._adapter_sets: dict[tuple[str, str], float] = {("", ""): unix()} if spec.engine.max_adapters else {}
        self._histograms = {
            "time_to_first_token_seconds": (_Histogram(_TTFT), "Histogram of time to first token in seconds."),
            "inter_token_latency_seconds": (_Histogram(_TPOT), "Histogram of inter-token latency in seconds."),
            "request_time_per_output_token_seconds": (
                _Histogram(_TPOT), "Histogram of time_per_output_token_seconds per request.",
            ),
            "e2e_request_latency_seconds": (_Histogram(_REQUEST), "Histogram of e2e request latency in seconds."),
            "request_queue_time_seconds": (_Histogram(_REQUEST), "Histogram of time spent in WAITING phase for request."),
            "request_inference_time_seconds": (
                _Histogram(_REQUEST), "Histogram of time spent in RUNNING phase for request.",
            ),
            "request_prefill_time_seconds": (
                _Histogram(_REQUEST), "Histogram of time spent in PREFILL phase for request.",
            ),
            "request_decode_time_seconds": (_Histogram(_REQUEST), "Histogram of time spent in DECODE phase for request."),
            "request_prompt_tokens": (_Histogram(_TOKENS), "Number of prefill tokens processed."),
            "request_generation_tokens": (_Histogram(_TOKENS), "Number of generation tokens processed."),
        }  # fmt: skip
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._page: bytes | None = None

    # --- counting --------------------------------------------------------------------------------------------------

    def first_token(self, sequence: Sequence) -> None:
        """Count a prompt that is computed."""
        assert sequence.first_token is not None
        self._totals["prompt"] += sequence.request.prompt_tokens
        self._totals["cached"] += sequence.cached_tokens
        self._add("time_to_first_token_seconds", self._real(sequence.first_token - sequence.arrived))

    def finished(self, sequence: Sequence) -> None:
        """Count an answer that is complete: each token but the first with the answer's mean time."""
        assert sequence.finished is not None
        assert sequence.first_token is not None
        admitted, tokens = sequence.served.admitted, sequence.request.output_tokens
        decoding = self._real(sequence.finished - sequence.first_token)
        if tokens > 1:
            self._add("inter_token_latency_seconds", decoding / (tokens - 1), tokens - 1)
            self._add("request_time_per_output_token_seconds", decoding / (tokens - 1))
        self._add("e2e_request_latency_seconds", self._real(sequence.finished - sequence.arrived))
        self._add("request_queue_time_seconds", self._real(admitted - sequence.arrived))
        self._add("request_inference_time_seconds", self._real(sequence.finished - admitted))
        self._add("request_prefill_time_seconds", self._real(sequence.first_token - admitted))
        self._add("request_decode_time_seconds", decoding)
        self._add("request_prompt_tokens", sequence.request.prompt_tokens)
        self._add("request_generation_tokens", tokens)
        self._ended[sequence.finish_reason] += 1
        self._totals["generated"] += tokens

    def aborted(self, sequence: Sequence) -> None:
        """Count an answer for which nobody waits any more."""
        self._ended["abort"] += 1
        self._totals["generated"] += sequence.generated

    def changed(self) -> None:
        """Know that the page has to be made anew."""
        self._page = None

    def _add(self, name: str, value: float, times: int = 1) -> None:
        self._histograms[name][0].add(value, times)

    def _real(self, seconds: float) -> float:
        return seconds / self._running().clock.rate

    def _running(self) -> Driver:
        assert self.driver is not None, "the driver is set before there is anything to count"
        return self.driver

    # --- showing ---------------------------------------------------------------------------------------------------

    def page(self) -> bytes:
        """Return the page in Prometheus' text format."""
        if self._page is None:
            self._page = generate_latest(self._registry)
        return self._page

    def collect(self) -> Iterator[Metric]:
        """Yield every family, as prometheus_client asks for them."""
        engine = self._running().engine
        yield self._gauge("num_requests_running", "Number of requests in model execution batches.", len(engine.running))
        yield self._gauge("num_requests_waiting", "Number of requests waiting to be processed.", len(engine.waiting))
        usage = engine.cache.utilization
        yield self._gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", usage)
        yield from self._counters()
        yield from map(self._histogram, self._histograms)
        if self._spec.engine.max_adapters:
            yield self._adapters()
        yield self._cache_config()

    def _counters(self) -> Iterator[Metric]:
        totals, engine = self._totals, self._running().engine
        generated = totals["generated"] + sum(served.generated for served in engine.running)
        for name, text, value in (
            ("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", totals["prompt"]),
            ("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", totals["cached"]),
            ("num_preemptions", "Cumulative number of preemption from the engine.", engine.preemptions),
            ("prompt_tokens", "Number of prefill tokens processed.", totals["prompt"]),
            ("prompt_tokens_cached", "Number of cached prompt tokens (local + external).", totals["cached"]),
            ("generation_tokens", "Number of generation tokens processed.", generated),
        ):
            counter = CounterMetricFamily(self._name(name), text, labels=self._labels)
            counter.add_metric(self._values, value)
            yield counter
        text = "Count of successfully processed requests."
        success = CounterMetricFamily(self._name("request_success"), text, labels=(*self._labels, "finished_reason"))
        for reason, count in self._ended.items():
            success.add_metric((*self._values, reason), count)
        yield success
        text = "Number of admission attempts rejected by a queue limit, by reason."
        rejections = CounterMetricFamily("vllm:admission_rejections", text, labels=("model_name", "reason"))
        rejections.add_metric((self._spec.model, "max_num_queued_reqs"), self.rejected)
        yield rejections

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(self._name(name), text, labels=self._labels)
        gauge.add_metric(self._values, value)
        return gauge

    def _histogram(self, name: str) -> Metric:
        histogram, text = self._histograms[name]
        family = HistogramMetricFamily(self._name(name), text, labels=self._labels)
        buckets, total = histogram.shown()
        family.add_metric(self._values, buckets, total)
        return family

    def _adapters(self) -> Metric:
        """The sets of adapters that were seen, each with when; the newest is the present one."""
        engine = self._running().engine
        present = tuple(
            ",".join(sorted({s.request.adapter for s in those if s.request.adapter is not None}))
            for those in (engine.running, engine.waiting)
        )
        self._adapter_sets.pop((present[0], present[1]), None)
        self._adapter_sets[present[0], present[1]] = self._unix()
        while len(self._adapter_sets) > _ADAPTER_SETS:
            del self._adapter_sets[next(iter(self._adapter_sets))]
        labels = ("max_lora", "running_lora_adapters", "waiting_lora_adapters")
        family = GaugeMetricFamily("vllm:lora_requests_info", "Running stats on lora requests.", labels=labels)
        for (running, waiting), seen in self._adapter_sets.items():
            family.add_metric((str(self._spec.engine.max_adapters), running, waiting), seen)
        return family

    def _cache_config(self) -> Metric:
        engine = self._running().engine
        blocks = engine.cache.capacity
        facts = {
            "block_size": str(engine.block_tokens),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "engine": "0",
            "gpu_memory_utilization": "0.92",
            "num_cpu_blocks": "None",
            "num_gpu_blocks": str(int(blocks)) if blocks != float("inf") else "None",
            "num_gpu_blocks_override": "None",
            "prefix_caching_hash_algo": "xxhash",
        }
        text = "Information of the LLMEngine CacheConfig"
        family = GaugeMetricFamily("vllm:cache_config_info", text, labels=tuple(facts))
        family.add_metric(tuple(facts.values()), 1.0)
        return family

    def _name(self, name: str) -> str:
        return "vllm:" + (_OLD_NAMES.get(name, name) if self._is_old else name)

    @property
    def _is_old(self) -> bool:
        return self._spec.metrics_dialect == "old"

    @property
    def _labels(self) -> tuple[str, ...]:
        return ("model_name",) if self._is_old else ("engine", "model_name")

    @property
    def _values(self) -> tuple[str, ...]:
        return (self._spec.model,) if self._is_old else ("0", self._spec.model)
