"""Flow controls to compare, in the Endpoint Picker's own configuration language, and a dispatcher made of one."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from inferencesched.config import DEFAULT, load_config
from inferencesched.dispatcher import Dispatcher
from inferencesched.sim.policies import Policy

__all__ = ["FLOW_POLICIES", "build_dispatcher"]


def _with_flow(*plugins: Mapping[str, Any], queues: bool = True, **flow: Any) -> Mapping[str, Any]:
    """Return the default policy with a flow control; the lowest band may queue a hundred requests."""
    document = {**DEFAULT, "plugins": [*DEFAULT["plugins"], *plugins]}
    if not queues:
        return MappingProxyType(document)
    bands = [{"priority": 100}, {"priority": 0}, {"priority": -10, "maxRequests": 100}]
    return MappingProxyType(
        {**document, "featureGates": ["flowControl"], "flowControl": {"priorityBands": bands, **flow}}
    )


_COUNTED: Mapping[str, Any] = {"type": "concurrency-detector", "parameters": {"maxConcurrency": 64}}
_HELD_BACK: Mapping[str, Any] = {"type": "priority-holdback-policy", "parameters": {"minCeiling": 0.3}}
_STRICT: Mapping[str, Any] = {"type": "flow-control-tuning", "parameters": {"strict": True}}
_REFERENCES: Mapping[str, Any] = {
    "saturationDetector": {"pluginRef": "concurrency-detector"},
    "usageLimitPolicyPluginRef": "priority-holdback-policy",
}

FLOW_POLICIES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "none": _with_flow(queues=False),
        "utilization": _with_flow({"type": "utilization-detector"}, _STRICT),
        "strict": _with_flow(_COUNTED, _HELD_BACK, _STRICT, **_REFERENCES),
        "default": _with_flow(_COUNTED, _HELD_BACK, **_REFERENCES),
    }
)
"""Flow controls to compare, each over the default way of placing.

* `none`: the gate ``flowControl`` is off, the Endpoint Picker's default. Nothing queues; priorities below 0 are refused
  while the engines' queues and caches are full.
* `utilization`: the Endpoint Picker's default detector in this dispatcher: the engines' reports say when to stop, one
  scrape later than it was time; order is strict.
* `default`: 64 requests on an endpoint in the mean, of which the lowest band may use three tenths; lower bands age.
* `strict`: the same, without ageing.
"""


def build_dispatcher(policy: Policy, *, rng: random.Random) -> Dispatcher:
    """Return a dispatcher that follows `policy`. Its leases never expire: simulated answers always end.

    Raises:
        ConfigError: the policy is no configuration, or there is something wrong in it.
    """
    return Dispatcher.from_config(load_config(policy), rng=rng, lease_ttl=math.inf)
