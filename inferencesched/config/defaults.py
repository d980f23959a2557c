"""What is in force when no configuration is given: the Endpoint Picker's default, and one term more.

Upstream weighs the queue 2, the KV cache 2 and the prefix 3, all of them facts that are as old as the last scrape, so a
burst between two scrapes lands on one endpoint. The requests in flight are known without a scrape and change with each
pick; with weight 2 they spread the burst.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferencesched.config.schema import API_VERSION, KIND

__all__ = ["DEFAULT"]

_WEIGHTS = {
    "active-request-scorer": 2,
    "queue-scorer": 2,
    "kv-cache-utilization-scorer": 2,
    "prefix-cache-scorer": 3,
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
