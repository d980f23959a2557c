"""References of the data layer, the request handler and flow control."""

from typing import Any

import pytest

from tests.config.short import load, wrong

GATE: dict[str, Any] = {"featureGates": ["flowControl"]}


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"dataLayer": {"sources": [{"pluginRef": "x"}]}}, "dataLayer.sources[0].pluginRef"),
        ({"dataLayer": {"discovery": {"pluginRef": "x"}}}, "dataLayer.discovery.pluginRef"),
        ({"dataLayer": {"peerDiscovery": {"pluginRef": "x"}}}, "dataLayer.peerDiscovery.pluginRef"),
        ({"dataLayer": {"crossReplicaSyncerPluginRef": "x"}}, "dataLayer.crossReplicaSyncerPluginRef"),
        ({"requestHandler": {"parsers": [{"pluginRef": "x"}]}}, "requestHandler.parsers[0].pluginRef"),
        ({"parser": {"pluginRef": "x"}}, "parser.pluginRef"),
        ({"saturationDetector": {"pluginRef": "x"}}, "saturationDetector.pluginRef"),
        ({"flowControl": {"saturationDetector": {"pluginRef": "x"}}}, "flowControl.saturationDetector.pluginRef"),
        ({**GATE, "flowControl": {"usageLimitPolicyPluginRef": "x"}}, "flowControl.usageLimitPolicyPluginRef"),
        (
            {**GATE, "flowControl": {"priorityBands": [{"priority": 1, "fairnessPolicyRef": "x"}]}},
            "flowControl.priorityBands[0].fairnessPolicyRef",
        ),
        (
            {**GATE, "flowControl": {"defaultPriorityBand": {"orderingPolicyRef": "x"}}},
            "flowControl.defaultPriorityBand.orderingPolicyRef",
        ),
    ],
)
def test_a_reference_to_nothing_is_reported_where_it_stands(keys: dict[str, Any], path: str) -> None:
    assert wrong("queue-scorer", **keys) == {path: "no plugin 'x' is declared"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"parser": {"pluginRef": "queue-scorer"}}, "expected a plugin of role 'parser', 'queue-scorer' is a scorer"),
        (
            {"saturationDetector": {"pluginRef": "k8s-notification-source"}},
            "expected a plugin of role 'saturation-detector', 'k8s-notification-source' is a data-source",
        ),
    ],
)
def test_a_plugin_of_another_role_is_refused(keys: dict[str, Any], message: str) -> None:
    assert list(wrong("queue-scorer", "k8s-notification-source", **keys).values()) == [message]


def test_defaults_of_the_field_may_be_named_without_being_declared() -> None:
    load(
        "queue-scorer",
        featureGates=["flowControl"],
        requestHandler={"parsers": [{"pluginRef": "openai-parser"}, {"pluginRef": "passthrough-parser"}]},
        flowControl={
            "usageLimitPolicyPluginRef": "static-usage-limit-policy",
            "saturationDetector": {"pluginRef": "utilization-detector"},
            "defaultPriorityBand": {
                "fairnessPolicyRef": "global-strict-fairness-policy",
                "orderingPolicyRef": "fcfs-ordering-policy",
            },
        },
    )


def test_a_source_has_an_extractor_of_a_type_once() -> None:
    twice = [{"pluginRef": "core-metrics-extractor"}, {"pluginRef": "again"}]
    again = {"type": "core-metrics-extractor", "name": "again"}

    problems = wrong(
        "metrics-data-source",
        "core-metrics-extractor",
        again,
        dataLayer={"sources": [{"pluginRef": "metrics-data-source", "extractors": twice}]},
    )

    message = "the source has an extractor of type 'core-metrics-extractor' already"
    assert problems == {"dataLayer.sources[0].extractors[1].pluginRef": message}


def test_bands_of_one_priority_are_an_error() -> None:
    bands = [{"priority": 1}, {"priority": 1}]

    problems = wrong("queue-scorer", **GATE, flowControl={"priorityBands": bands})

    assert problems == {"flowControl.priorityBands[1].priority": "a band of priority 1 stands above already"}
