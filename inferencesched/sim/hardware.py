"""Engines to simulate: numbers for `EngineSpec`, each with where it comes from. Trust ratios of results, not results.

Both stand for vLLM serving Llama 3.1 8B in bfloat16 on one accelerator. From the model's published shape (32 layers,
hidden size 4096, 8 key-value heads of 128, 8.03e9 weights):

* a token costs 2 × 8.03e9 = 16.06e9 floating-point operations, and attending to one earlier token 4 × 32 × 4096 =
  524,288 more, so that attention doubles the cost at position 30,632;
* a token in the cache takes 2 × 32 × 8 × 128 × 2 = 131,072 bytes, all of which a decoding step reads;
* the weights are 16.06e9 bytes, and every step reads them.

Rates follow from the accelerators' data sheets, and from how much of them is reached:

* compute: 55 % of the dense bfloat16 peak (A100: 312e12/s, H100 SXM: 989e12/s) in prefill: an assumption. Pope et al.
  report 76 % as their best, for large batches of prompts ("Efficiently Scaling Transformer Inference", 2022);
* memory: 77 % of the bandwidth in decoding: measured by J. Musgrave for this model under vLLM (75 tokens/s on an A100
  40GB of 1.555e12 B/s; johnmusgrave.com/p/vllm-throughput-latency-sweep-on). On an H100 (3.35e12 B/s) that makes 6.2 ms
  a step, against 6.5 ms measured at concurrency 1 (yobitelcomm.github.io/bench/recipes/concurrency-sweep);
* 18 and 6 µs for each decoding sequence, and a cache of 29,205 blocks of 16 tokens on both 80 GB cards: fits and facts
  of the inference-sim project for this model (github.com/inference-sim/inference-sim, defaults.yaml).

Batch and budget are vLLM's own defaults for its server on these cards: 256 sequences and 2,048 tokens on an A100, 1,024
and 8,192 on an H100 (vllm/engine/arg_utils.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inferencesched.sim.engine import EngineSpec

__all__ = ["ENGINES"]

_TOKEN_OPERATIONS = 2 * 8.03e9
_ATTENTION_OPERATIONS = 4 * 32 * 4096
_TOKEN_BYTES = 2 * 32 * 8 * 128 * 2
_WEIGHT_BYTES = 2 * 8.03e9
_COMPUTE_REACHED = 0.55
_BANDWIDTH_REACHED = 0.77
_CACHE_TOKENS = 29_205 * 16

# A rank-16 adapter of this model is some 80 MB; over PCIe 4.0 x16 at 25e9 B/s that is 3 ms, and an engine also has to
# read and check it. An assumption, of the order that engines log.
_ADAPTER_LOAD_SECONDS = 0.05


def _llama_8b(
    accelerator: str,
    *,
    operations: float,
    bandwidth: float,
    decode_sequence_seconds: float,
    max_running: int,
    step_tokens: int,
) -> EngineSpec:
    return EngineSpec(
        f"Llama 3.1 8B on one {accelerator}",
        step_seconds=_WEIGHT_BYTES / (bandwidth * _BANDWIDTH_REACHED),
        prefill_token_seconds=_TOKEN_OPERATIONS / (operations * _COMPUTE_REACHED),
        attention_doubling_tokens=_TOKEN_OPERATIONS / _ATTENTION_OPERATIONS,
        decode_sequence_seconds=decode_sequence_seconds,
        context_token_seconds=_TOKEN_BYTES / (bandwidth * _BANDWIDTH_REACHED),
        max_running=max_running,
        step_tokens=step_tokens,
        cache_tokens=_CACHE_TOKENS,
        max_adapters=4,
        adapter_load_seconds=_ADAPTER_LOAD_SECONDS,
    )


ENGINES: Mapping[str, EngineSpec] = MappingProxyType(
    {
        "a100": _llama_8b(
            "A100 80GB",
            operations=312e12,
            bandwidth=2.039e12,
            decode_sequence_seconds=18e-6,
            max_running=256,
            step_tokens=2048,
        ),
        "h100": _llama_8b(
            "H100 80GB",
            operations=989e12,
            bandwidth=3.35e12,
            decode_sequence_seconds=6e-6,
            max_running=1024,
            step_tokens=8192,
        ),
    }
)
"""Engines by the name that the command line knows them by."""
