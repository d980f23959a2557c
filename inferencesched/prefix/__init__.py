"""Which endpoint holds which prefix: keys, a radix tree, an index bounded to the byte, and the producers that feed it.

>>> from inferencesched import Endpoint, Request
>>> index, endpoint = PrefixIndex(max_memory_mb=16), Endpoint("gpu-0")
>>> system = "You are a careful assistant. " * 20
>>> index.insert(request_keys(Request("r-1", prompt=system + "Hello"), block_size_tokens=16), endpoint)
9
>>> index.held(request_keys(Request("r-2", prompt=system + "Why?"), block_size_tokens=16), endpoint)
9
"""

from inferencesched.prefix.calibration import Accuracy
from inferencesched.prefix.chained import chained_hashes
from inferencesched.prefix.engines import Engines, EngineStats
from inferencesched.prefix.events import EventBatch, parse_batch
from inferencesched.prefix.hashing import KeyMaker, Keys, PrefixKeys, prompt_content, request_keys, space_seed
from inferencesched.prefix.index import IndexStats, PrefixIndex, estimate_memory
from inferencesched.prefix.precise import PrecisePrefixCacheProducer
from inferencesched.prefix.precise_parameters import KvEventsConfig
from inferencesched.prefix.producer import ApproxPrefixCacheProducer
from inferencesched.prefix.radix import RadixTree
from inferencesched.prefix.stream import Trust

__all__ = [
    "Accuracy",
    "ApproxPrefixCacheProducer",
    "EngineStats",
    "Engines",
    "EventBatch",
    "IndexStats",
    "KeyMaker",
    "Keys",
    "KvEventsConfig",
    "PrecisePrefixCacheProducer",
    "PrefixIndex",
    "PrefixKeys",
    "RadixTree",
    "Trust",
    "chained_hashes",
    "estimate_memory",
    "parse_batch",
    "prompt_content",
    "request_keys",
    "space_seed",
]
