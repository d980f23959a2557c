"""Policies to compare, in the Endpoint Picker's own configuration language, and a scheduler made of one.

Each is a plain `EndpointPickerConfig`: what stands here can be copied into a file, changed, and replayed.

* `random`, `round-robin` and `least-in-flight` know nothing of caches: what a load balancer does.
* `prefix-only` goes by the cache alone. Where requests have as much as their first block in common it sends them all to
  one endpoint, which is why nobody should run it.
* `endpoint-picker` is what the Endpoint Picker does without a configuration: prefix against two facts that are as old
  as the last scrape.
* `default` is what is in force here without a configuration: prefix and load in one unit, counted here and now.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferencesched.config import DEFAULT, Document, load_config
from inferencesched.scheduler import Scheduler

__all__ = ["POLICIES", "Policy", "build_scheduler"]

Policy = Mapping[str, Any] | Document
"""A decoded ``EndpointPickerConfig``, or one that knows the file it was read from."""


def _config(*plugins: Mapping[str, Any], weights: Mapping[str, float] | None = None) -> Mapping[str, Any]:
    """Return a configuration whose single profile uses every plugin, scorers with their weights."""
    weights = weights or {}
    references = [
        {"pluginRef": plugin["type"], **({"weight": weights[plugin["type"]]} if plugin["type"] in weights else {})}
        for plugin in plugins
    ]
    return MappingProxyType(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "plugins": list(plugins),
            "schedulingProfiles": [{"name": "default", "plugins": references}],
        }
    )


POLICIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "random": _config({"type": "random-picker"}),
        "round-robin": _config({"type": "round-robin-picker"}),
        "least-in-flight": _config({"type": "active-request-scorer"}, {"type": "max-score-picker"}),
        "prefix-only": _config(
            {"type": "prefix-cache-scorer"},
            {"type": "max-score-picker"},
        ),
        "endpoint-picker": _config(
            {"type": "queue-scorer"},
            {"type": "kv-cache-utilization-scorer"},
            {"type": "prefix-cache-scorer"},
            {"type": "max-score-picker"},
            weights={"queue-scorer": 2.0, "kv-cache-utilization-scorer": 2.0, "prefix-cache-scorer": 3.0},
        ),
        "default": DEFAULT,
    }
)


def build_scheduler(policy: Policy, *, rng: random.Random) -> Scheduler:
    """Return a scheduler that follows `policy`. Its leases never expire: simulated answers always end.

    Raises:
        ConfigError: the policy is no configuration, or there is something wrong in it.
    """
    return load_config(policy).scheduler(rng=rng, lease_ttl=math.inf)
