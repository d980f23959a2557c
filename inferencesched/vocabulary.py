"""The names of the facts that endpoints have, with their units; nothing here knows who measures or who reads them.

A *column* is one number per endpoint (float64, NaN means unknown). A *set column* is one set of strings per endpoint
(None means unknown); read as a column it is its size. Any other name is allowed too: a source or producer may add
attributes of its own, and a scorer that names one in `consumes` receives it. The names here are those that the library
itself reads or writes.

The upstream field each one stands for (Endpoint Picker, `core-metrics-extractor` and its data keys) is given in
parentheses.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["COLUMNS", "PRODUCED", "RANK_HEADER", "SET_COLUMNS", "UPSTREAM_ATTRIBUTES"]

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "waiting_requests": "requests queued in the engine, not yet running (WaitingQueueSize)",
        "running_requests": "requests in the engine's current batch (RunningRequestsSize)",
        "kv_cache_utilization": "share of KV-cache blocks in use, 0–1 (KVCacheUsagePercent)",
        "accelerator_utilization": "share of time the accelerator was busy, 0–1 (GPUUtilization)",
        "max_active_adapters": "LoRA adapters the engine can run at once (MaxActiveModels)",
        "cache_block_size_tokens": "tokens per KV-cache block (CacheBlockSize)",
        "cache_num_blocks": "KV-cache blocks of the engine (CacheNumBlocks)",
        "in_flight_requests": "requests this scheduler placed and that have not ended (InFlightLoad.Requests)",
        "in_flight_tokens": "tokens of work reserved by them (InFlightLoad.Tokens)",
    }
)
"""Facts of an endpoint: supplied by a source, or (the ``in_flight_`` pair) by the ledger."""

PRODUCED: Mapping[str, str] = MappingProxyType(
    {
        "prompt_tokens": "tokens of the request's prompt, equal in every row (TokenizedPrompt)",
        "prefix_matched_tokens": "leading prompt tokens this endpoint holds in cache (MatchBlocks × BlockSizeTokens)",
        "prefix_cached_tokens": "the same, whatever tier of memory holds them (CachedBlockCount × BlockSizeTokens)",
        "prefix_total_tokens": "prompt tokens that could match, in whole blocks (TotalBlocks × BlockSizeTokens)",
        "uncached_request_tokens": "work this request would add here (UncachedRequestTokens)",
        "estimated_output_tokens": "the part of it that is output still to be decoded",
        "predicted_ttft": "seconds to the first token if the request went here now (LatencyPredictionInfo.TTFT)",
        "encoder_cache_matched_items": "media of the request that this endpoint has encoded before (matched items)",
        "encoder_cache_request_items": "different media in the request, equal in every row (request items)",
    }
)
"""Facts about one request on each endpoint: made by a Producer, for that decision only."""

SET_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "active_adapters": "LoRA adapters running or resident (ActiveModels)",
        "waiting_adapters": "LoRA adapters with queued requests (WaitingModels)",
        "served_models": "models and adapters that the endpoint answers to (/v1/models)",
        "served_adapters": "those of them that are adapters of another (their Parent)",
    }
)

UPSTREAM_ATTRIBUTES: Mapping[str, str] = MappingProxyType(
    {
        "WaitingQueueSize": "waiting_requests",
        "RunningRequestsSize": "running_requests",
        "KVCacheUsagePercent": "kv_cache_utilization",
        "GPUUtilization": "accelerator_utilization",
        "MaxActiveModels": "max_active_adapters",
        "CacheBlockSize": "cache_block_size_tokens",
        "CacheNumBlocks": "cache_num_blocks",
    }
)
"""The columns that the Endpoint Picker knows under another name; an attribute that is not here is a column itself."""

RANK_HEADER = "x-data-parallel-host-port"
"""Names the data-parallel rank to the server in front of it, where the ranks share one port."""
