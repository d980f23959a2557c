"""What each engine calls the facts we want: one value per engine, and how to tell which engine wrote a page.

Names change from release to release, so a fact has a list of names, the newest first. The tables are the whole of what
is known of an engine; how a fact is read is in `inferencesched.signals.parts`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType

import attrs

from inferencesched.interfaces import Reading
from inferencesched.signals.exposition import Layout
from inferencesched.signals.parts import AdapterInfo, CacheInfo, Number, Part
from inferencesched.signals.specs import MetricSpec

__all__ = ["DCGM", "DIALECTS", "Dialect", "recognise"]


@attrs.frozen
class Dialect:
    """How one engine speaks.

    Attributes:
        name: of the engine, as the label ``llm-d.ai/engine-type`` has it.
        parts: what it tells.
    """

    name: str
    parts: tuple[Part, ...]

    def read(self, page: bytes, columns: Collection[str], *, rank: int = 0, layout: Layout | None = None) -> Reading:
        """Return those of `columns` that a page of this engine has; what the engine never tells is not absent.

        Args:
            rank: data-parallel rank; above 0, of a page that has several ranks only its own series count.
            layout: of the pages of this server, if it will be read again.

        Complexity: one search through the page for each part that is wanted.
        """
        facts: dict[str, object] = {}
        absent: dict[str, str] = {}
        for part in self.parts:
            if any(column in columns for column in part.columns):
                found = part.read(page, rank=rank, layout=layout)
                facts.update(found.facts)
                absent.update(found.absent)
        absent = {column: why for column, why in absent.items() if column not in facts and column in columns}
        return Reading({column: value for column, value in facts.items() if column in columns}, absent)

    def wrote(self, page: bytes) -> bool:
        """Return whether the page has one of this engine's metrics."""
        return any(name.key in page for part in self.parts for name in part.names)


def recognise(page: bytes, dialects: Iterable[Dialect]) -> Dialect | None:
    """Return the first dialect that a page is written in, or None. Complexity: a search through the page per metric."""
    return next((dialect for dialect in dialects if dialect.wrote(page)), None)


def _metrics(*names: str) -> tuple[MetricSpec, ...]:
    return tuple(map(MetricSpec.parse, names))


def _waiting(*names: str) -> Number:
    return Number("waiting_requests", _metrics(*names))


def _running(*names: str) -> Number:
    return Number("running_requests", _metrics(*names))


def _usage(*names: str) -> Number:
    return Number("kv_cache_utilization", _metrics(*names), combine="max")


def _blocks(size: str, number: str) -> tuple[Number, Number]:
    return (
        Number("cache_block_size_tokens", _metrics(size), combine="max"),
        Number("cache_num_blocks", _metrics(number)),
    )


DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (
            Dialect(
                "vllm",
                (
                    _waiting("vllm:num_requests_waiting"),
                    _running("vllm:num_requests_running"),
                    _usage("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # the second until V0 ended
                    AdapterInfo(MetricSpec("vllm:lora_requests_info")),
                    CacheInfo(
                        MetricSpec("vllm:cache_config_info"), "block_size", "num_gpu_blocks", "kv_cache_size_tokens"
                    ),
                ),
            ),
            Dialect(
                "sglang",
                (
                    _waiting("sglang:num_queue_reqs"),
                    _running("sglang:num_running_reqs"),
                    _usage("sglang:token_usage"),
                    CacheInfo(MetricSpec("sglang:cache_config_info"), "page_size", "num_pages"),
                ),
            ),
            Dialect(
                "trtllm-serve",
                (
                    _waiting("trtllm_num_requests_waiting"),
                    _running("trtllm_num_requests_running"),
                    _usage("trtllm_kv_cache_utilization"),
                    *_blocks("trtllm_kv_cache_tokens_per_block", "trtllm_kv_cache_max_blocks"),
                ),
            ),
            Dialect(
                "triton-tensorrt-llm",
                (
                    _waiting("nv_trt_llm_request_metrics{request_type=waiting}"),
                    _running("nv_trt_llm_request_metrics{request_type=scheduled}"),
                    _usage("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}"),
                    *_blocks(
                        "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
                        "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
                    ),
                ),
            ),
            Dialect(  # the plain server, that also answers beside TensorRT-LLM: to be recognised after it
                "triton",
                (_waiting("nv_inference_pending_request_count"), _running("nv_inference_exec_count")),
            ),
        )
    }
)
"""The engines that are known by name, in the order in which a page is compared with them."""

DCGM = Number("accelerator_utilization", _metrics("DCGM_FI_DEV_GPU_UTIL"), combine="max", scale=0.01)
"""How busy the accelerators are, as NVIDIA's exporter says it: the busiest of those that a page is about."""
