"""What is in force when no configuration is given: prefix and load in one unit, and nothing beside it.

The Endpoint Picker's own default weighs the queue 2, the KV cache 2 and the prefix 3. All of those but the prefix are
as old as the last scrape, so a burst between two scrapes lands on one endpoint; and a prefix is worth the same whether
it saves fifty tokens or fifty thousand. ``expected-work-scorer`` counts what is in flight and what a hit saves in
tokens, and knows both without a scrape. What others have placed shows as a queue in the engine, which it counts too. A
cache's utilization is not asked for: short of full it means nothing, and when it is full, requests wait. As a score of
its own beside this one it moved sessions that cost nothing where they were. The comparisons are in
docs/performance/policies.md and real-engines.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferencesched.config.schema import API_VERSION, KIND

__all__ = ["DEFAULT"]

_SCORER = "expected-work-scorer"

DEFAULT: Mapping[str, Any] = MappingProxyType(
    {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "plugins": [{"type": _SCORER}],
        "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": _SCORER}]}],
    }
)
"""The built-in default, as a document."""
