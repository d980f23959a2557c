"""What is in force when no configuration is given: prefix and load in one unit, and the KV caches as reported.

The Endpoint Picker's own default weighs the queue 2, the KV cache 2 and the prefix 3. All of those but the prefix are
as old as the last scrape, so a burst between two scrapes lands on one endpoint; and a prefix is worth the same whether
it saves fifty tokens or fifty thousand. ``expected-work-scorer`` counts what is in flight and what a hit saves in
tokens, and knows both without a scrape; the KV caches' utilization brings in the load that others have placed. The
comparison of the two, on a real trace, is in docs/performance/policies.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferencesched.config.schema import API_VERSION, KIND

__all__ = ["DEFAULT"]

_WEIGHTS = {
    "expected-work-scorer": 4,
    "kv-cache-utilization-scorer": 1,
}

DEFAULT: Mapping[str, Any] = MappingProxyType(
    {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "plugins": [{"type": t} for t in _WEIGHTS],
        "schedulingProfiles": [
            {"name": "default", "plugins": [{"pluginRef": t, "weight": w} for t, w in _WEIGHTS.items()]}
        ],
    }
)
"""The built-in default, as a document."""
