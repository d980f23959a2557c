"""A configuration in force can be written down, and what is written gives it again."""

import random
from typing import Any

import pytest

from inferencesched import Registry, Request, load_config
from tests.config.short import load, profile

PARAMETERS: dict[str, dict[str, Any]] = {
    "by-label": {"label": "a", "validValues": ["b"]},
    "endpoint-attribute-filter": {
        "attribute": "queue",
        "algorithm": {"type": "threshold", "threshold": {"operator": "LessThan", "value": 3}},
    },
    "endpoint-attribute-scorer": {"attributeKey": "queue", "algorithm": {"type": "linear_lower_is_better"}},
    "header-label-affinity-scorer": {"headerName": "x-zone", "labelKey": "zone"},
    "pd-profile-handler": {"deciderPluginName": "decider"},
    "priority-holdback-policy": {"minCeiling": 0.5},
    "session-id-producer": {"headerName": "x-session"},
    "utilization-filter": {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
}
"""What types that cannot do without parameters are given."""


@pytest.mark.parametrize("type", Registry(installed=()).types)
def test_every_built_in_survives_being_written_and_read(type: str) -> None:
    decider = {"type": "always-disagg-pd-decider", "name": "decider"}
    config = load({"type": type, "name": "it", "parameters": PARAMETERS.get(type)}, "queue-scorer", decider)

    written = config.to_mapping()

    assert load_config(written).to_mapping() == written


def test_defaults_and_what_was_put_in_are_written_out() -> None:
    written = load("queue-scorer", {"type": "utilization-filter", "name": "full", "parameters": {
        "conditions": [{"metric": "waiting-queue", "maxValue": 5}]}}).to_mapping()  # fmt: skip

    assert written == {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": ["flowControl=false", "haPopulateNonLeaderDatastore=true"],
        "plugins": [
            {"name": "queue-scorer", "type": "queue-scorer"},
            {
                "name": "full",
                "type": "utilization-filter",
                "parameters": {
                    "conditions": [{"metric": "waiting-queue", "maxValue": 5}],
                    "fallbackOnEmpty": False,
                },
            },
            {"name": "max-score-picker", "type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 1}},
            {"name": "single-profile-handler", "type": "single-profile-handler"},
        ],
        "schedulingProfiles": [profile("full", {"pluginRef": "queue-scorer", "weight": 1.0}, "max-score-picker")],
        "dataLayer": {"injectDefaults": True, "sources": [], "crossReplicaSyncInterval": "200ms"},
        "requestHandler": {
            "parsers": [
                {"pluginRef": "openai-parser"},
                {"pluginRef": "anthropic-parser"},
                {"pluginRef": "vllmhttp-parser"},
                {"pluginRef": "passthrough-parser"},
            ]
        },
    }


def test_configurations_are_equal_when_the_same_is_in_force() -> None:
    short = load("queue-scorer")
    long = load("queue-scorer", "max-score-picker", "single-profile-handler",
                schedulingProfiles=[profile("queue-scorer", "max-score-picker")])  # fmt: skip

    assert short == long
    assert short != load("running-requests-size-scorer")


def test_no_two_schedulers_of_a_configuration_share_memory() -> None:
    """The same seed and the same calls give the same decisions, however often a scheduler is made."""
    config = load_config()

    def picks() -> list[str]:
        scheduler = config.scheduler(rng=random.Random(7))
        for name in "abc":
            scheduler.add_endpoint(name, now=0.0)
        decisions = [scheduler.schedule(Request(f"r{i}", prompt="hello " * 200), now=1.0) for i in range(20)]
        return [decision.endpoint.name for decision in decisions if hasattr(decision, "endpoint")]

    assert picks() == picks()
    assert len(picks()) == 20
