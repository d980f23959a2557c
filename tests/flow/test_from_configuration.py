"""A configuration in force: the section ``flowControl`` becomes queues, and a reload changes them under way."""

import random
from typing import Any

import pytest

from inferencesched import Assigned, ConfigError, Dispatcher, Registry, Rejected, Request, load_config
from inferencesched.flow import (
    ConcurrencyDetector,
    EdfOrderingPolicy,
    LegacyAdmission,
    PriorityHoldbackPolicy,
    PriorityThenTimeEvictionOrderPolicy,
    RoundRobinFairnessPolicy,
    Settings,
    Tuning,
)

HEAD = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}
PLUGINS: list[dict[str, Any]] = [
    {"type": "random-picker"},
    {"type": "round-robin-fairness-policy"},
    {"type": "edf-ordering-policy"},
    {"type": "priority-holdback-policy", "parameters": {"minCeiling": 0.5}},
    {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}},
    {"type": "flow-control-tuning", "parameters": {"strict": True, "displace": True, "bandTtlSeconds": {"100": 5}}},
]
FLOW: dict[str, Any] = {
    "maxBytes": "1Gi",
    "maxRequests": 0,
    "defaultRequestTTL": "30s",
    "noEndpointRequestTTL": "5m",
    "priorityBands": [
        {"priority": 100, "maxRequests": "10", "fairnessPolicyRef": "round-robin-fairness-policy"},
        {"priority": -1, "maxRequests": 0, "orderingPolicyRef": "edf-ordering-policy"},
    ],
    "usageLimitPolicyPluginRef": "priority-holdback-policy",
    "saturationDetector": {"pluginRef": "concurrency-detector"},
    "enableEviction": True,
}
PROFILES = [{"name": "default", "plugins": [{"pluginRef": "random-picker"}]}]


def document(*gates: str, **flow: Any) -> dict[str, Any]:
    return {
        **HEAD,
        "featureGates": list(gates),
        "plugins": PLUGINS,
        "schedulingProfiles": PROFILES,
        "flowControl": {**FLOW, **flow},
    }


def dispatcher_of(*gates: str) -> Dispatcher:
    dispatcher = Dispatcher.from_config(load_config(document(*gates)), rng=random.Random(1))
    dispatcher.add_endpoint("e0", "10.0.0.1:8000", now=0.0)
    return dispatcher


def test_the_section_becomes_settings() -> None:
    """Quantities, durations, policies by reference; 0 is no limit for all bands, and the default for one."""
    flow = load_config(document("flowControl")).flow()

    assert isinstance(flow, Settings)
    assert (flow.max_bytes, flow.max_requests, flow.ttl, flow.no_endpoint_ttl) == (2**30, None, 30.0, 300.0)
    assert sorted(flow.bands) == [-1, 0, 100]
    assert (flow.bands[100].max_requests, flow.bands[100].fairness) == (10, RoundRobinFairnessPolicy())
    assert (flow.bands[-1].max_requests, flow.bands[-1].ordering) == (5000, EdfOrderingPolicy())
    assert (flow.limits, flow.evict) == (PriorityHoldbackPolicy(0.5), True)
    assert flow.detector == ConcurrencyDetector(max_concurrency=1)
    assert flow.tuning == Tuning(strict=True, displace=True, band_ttl_seconds={"100": 5})


def test_without_the_gate_only_the_detector_counts() -> None:
    assert load_config(document()).flow() == LegacyAdmission(ConcurrencyDetector(max_concurrency=1))


def test_the_gate_decides_whether_requests_wait() -> None:
    for gates, queued in ((("flowControl",), 1), ((), 0)):
        dispatcher = dispatcher_of(*gates)
        for name in ("first", "second"):
            dispatcher.submit(Request(name, priority=100), now=0.0)

        assert (dispatcher.queued, dispatcher.in_flight) == (queued, 2 - queued)


def test_two_dispatchers_of_one_configuration_share_nothing() -> None:
    config = load_config(document("flowControl"))
    first, second = (Dispatcher.from_config(config, rng=random.Random(1)) for _ in range(2))
    first.submit(Request("r"), now=0.0)

    assert (first.queued, second.queued) == (1, 0)


def test_a_reload_keeps_who_waits_and_numbers_what_it_decides() -> None:
    """The new limits hold for newcomers, the new time to live for everybody, the generation is in each receipt."""
    dispatcher = dispatcher_of("flowControl")
    for name in ("placed", "waits", "waits-too"):
        dispatcher.submit(Request(name, priority=100), now=0.0)

    tighter = load_config(document("flowControl", defaultRequestTTL="4s", maxRequests=1))
    assert dispatcher.reload(tighter, now=1.0) == 2
    dispatcher.submit(Request("new"), now=1.0)
    placed, refused = dispatcher.next_event(), dispatcher.next_event()
    dispatcher.finish("placed", now=2.0)
    moved_up = dispatcher.next_event()
    dispatcher.handle_timer(now=4.0)
    expired = dispatcher.next_event()

    assert isinstance(placed, Assigned)
    assert isinstance(moved_up, Assigned)
    assert isinstance(refused, Rejected)
    assert isinstance(expired, Rejected)
    assert [placed.decision.generation, moved_up.decision.generation] == [1, 2]
    assert (refused.request_id, refused.rejection.generation) == ("new", 2)
    assert (expired.request_id, expired.waited) == ("waits-too", 4.0)


def test_turning_the_gate_off_under_way_places_everybody_who_waits() -> None:
    dispatcher = dispatcher_of("flowControl")
    for i in range(5):
        dispatcher.submit(Request(f"r{i}", priority=100), now=0.0)

    dispatcher.reload(load_config(document()), now=1.0)

    assert (dispatcher.queued, dispatcher.in_flight) == (0, 5)


@pytest.mark.parametrize("ref", ["edf-ordering-policy", "random-picker"])
def test_a_policy_of_another_role_is_refused(ref: str) -> None:
    with pytest.raises(ConfigError, match="expected a plugin of role 'usage-limit-policy'"):
        load_config(document("flowControl", usageLimitPolicyPluginRef=ref))


def test_an_eviction_policy_is_in_force_by_being_declared() -> None:
    """No field refers to one; upstream's own stand there anyway, and declaring them changes nothing."""

    class Anybody:
        def is_evictable(self, request: Request, /) -> bool:
            return True

    own = document("flowControl")
    own["plugins"] = [*PLUGINS, {"type": "anybody"}, {"type": "priority-then-time-eviction-order-policy"}]
    flow = load_config(own, registry=Registry({"anybody": Anybody})).flow()

    assert isinstance(flow, Settings)
    assert isinstance(flow.eviction_filter, Anybody)
    assert flow.eviction_order == PriorityThenTimeEvictionOrderPolicy()
