"""What other schedulers got wrong with configuration, each as a fact; letters and numbers are the catalogue's."""

import collections
import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest

from inferencesched import Config, ConfigError, Decision, Request, Scheduler, load_config
from inferencesched.cli.files import read
from tests.config.short import HEAD, document, load, profile, wrong


def picks(config: Config, requests: int = 40) -> list[str]:
    """Return where requests of a few prefixes go on four endpoints of different load."""
    scheduler = config.scheduler(rng=random.Random(3))
    fleet(scheduler)
    decisions = [scheduler.schedule(Request(f"r{i}", prompt=f"{i % 5}" * 900), now=1.0) for i in range(requests)]
    return [decision.endpoint.name for decision in decisions if isinstance(decision, Decision)]


def fleet(scheduler: Scheduler) -> None:
    for i, name in enumerate("abcd"):
        scheduler.add_endpoint(name, f"10.0.0.{i}:80", now=0.0)
        scheduler.update(name, {"waiting_requests": i, "running_requests": 4 - i, "kv_cache_utilization": i / 8}, now=0)


def test_b1_a_burst_between_two_scrapes_spreads_under_the_default() -> None:
    scheduler = load_config().scheduler(rng=random.Random(1))
    for i in range(8):
        scheduler.add_endpoint(f"e{i}", now=0.0)
        scheduler.update(f"e{i}", {"waiting_requests": 0, "kv_cache_utilization": 0.0}, now=0.0)

    decisions = [scheduler.schedule(Request(f"r{i}", prompt=f"{i} {'x' * 400}"), now=0.1) for i in range(64)]

    counts = collections.Counter(each.endpoint.name for each in decisions if isinstance(each, Decision))
    assert max(counts.values()) <= 1.5 * 64 / 8


def test_e3_priority_band_limits_and_times_to_live_have_explicit_defaults() -> None:
    written = load("queue-scorer", featureGates=["flowControl"]).to_mapping()

    assert written["flowControl"] == {
        "defaultRequestTTL": "60s",
        "noEndpointRequestTTL": "60s",
        "defaultPriorityBand": {
            "maxBytes": 1_000_000_000,
            "maxRequests": 5_000,
            "fairnessPolicyRef": "global-strict-fairness-policy",
            "orderingPolicyRef": "fcfs-ordering-policy",
        },
        "priorityBands": [],
        "usageLimitPolicyPluginRef": "static-usage-limit-policy",
        "saturationDetector": {"pluginRef": "utilization-detector"},
        "enableEviction": False,
    }


def test_e3_a_band_shows_what_it_takes_from_its_template() -> None:
    flow = load(
        "queue-scorer",
        featureGates=["flowControl"],
        flowControl={
            "defaultPriorityBand": {"maxRequests": 10},
            "defaultNegativePriorityBand": {"maxRequests": 1},
            "priorityBands": [{"priority": 5, "maxBytes": "1Ki"}, {"priority": -5}],
        },
    ).flow_control

    assert (flow.band(5).max_bytes, flow.band(5).max_requests) == (1024, 10)
    assert flow.band(-5).max_requests == 1
    assert flow.band(0).max_requests == 10
    assert flow.band(0).priority == 0


@pytest.mark.parametrize("weight", [-1, -0.5, math.nan, math.inf, -math.inf, "2", True, [1]])
def test_h1_a_weight_that_is_no_finite_number_of_at_least_zero_fails_with_its_path(weight: object) -> None:
    problems = wrong("queue-scorer", schedulingProfiles=[profile({"pluginRef": "queue-scorer", "weight": weight})])

    assert list(problems) == ["schedulingProfiles[0].plugins[0].weight"]


def test_h1_everything_wrong_in_a_file_is_told_at_once_with_file_line_path_and_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "epp.yaml"
    file.write_text(
        "apiVersion: llm-d.ai/v1alpha1\n"
        "kind: EndpointPickerConfig\n"
        "plugins:\n"
        "- type: queue-scorrer\n"
        "- type: queue-scorer\n"
        "  paramters: {}\n"
        "- type: max-score-picker\n"
        "  parameters: {maxNumOfEndpoints: two}\n"
        "schedulingProfiles:\n"
        "- name: default\n"
        "  plugins:\n"
        "  - pluginRef: queue-scorer\n"
        "    weight: .nan\n"
        "  - pluginRef: queue\n"
    )

    with pytest.raises(ConfigError) as caught:
        load_config(*read(file))

    assert [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems] == [
        "4: plugins[0].type: unknown plugin type 'queue-scorrer' — did you mean 'queue-scorer'?",
        "6: plugins[1].paramters: unknown key 'paramters' — did you mean 'parameters'?",
        "8: plugins[2].parameters.maxNumOfEndpoints: expected an integer, got 'two'",
        "13: schedulingProfiles[0].plugins[0].weight: expected a number, got nan",
        "14: schedulingProfiles[0].plugins[1].pluginRef: no plugin 'queue' is declared",
    ]


def test_h1_a_key_that_stands_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "epp.yaml"
    file.write_text("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: []\nplugins: []\n")

    with pytest.raises(ConfigError, match=r"epp.yaml:4: plugins: 'plugins' stands here for the second time, first in"):
        read(file)


@pytest.mark.parametrize("seed", range(6))
def test_h2_the_order_of_plugins_and_of_their_places_in_a_profile_does_not_matter(seed: int) -> None:
    weights = {"prefix-cache-scorer": 3, "queue-scorer": 2, "active-request-scorer": 2}
    plugins = [{"type": name} for name in (*weights, "max-score-picker", "label-selector-filter")]
    entries: list[dict[str, Any]] = [{"pluginRef": name, "weight": weight} for name, weight in weights.items()]
    entries += [{"pluginRef": "max-score-picker"}, {"pluginRef": "label-selector-filter"}]
    in_order = load(*plugins, schedulingProfiles=[profile(*entries)])
    shuffle = random.Random(seed)
    shuffle.shuffle(plugins)
    shuffle.shuffle(entries)

    shuffled = load(*plugins, schedulingProfiles=[profile(*entries)])

    assert picks(shuffled) == picks(in_order)


def test_h3_two_pickers_in_one_profile_is_a_clear_error() -> None:
    pickers = ("max-score-picker", "random-picker")

    message = "profile 'default' has 'max-score-picker' and 'random-picker'; a profile picks once"
    assert wrong(*pickers, schedulingProfiles=[profile(*pickers)]) == {"schedulingProfiles[0].plugins": message}
    assert wrong(*pickers) == {"plugins": message}


@pytest.mark.parametrize(
    ("type", "parameter", "default"),
    [
        ("max-score-picker", "maxNumOfEndpoints", 1),
        ("token-load-scorer", "queueThresholdTokens", 4_194_304),
        ("active-request-scorer", "maxBusyScore", 1.0),
        ("prefix-cache-scorer", "matchLengthScaleTokens", 8192),
        ("approx-prefix-cache-producer", "lruCapacityPerServer", 31_250),
        ("inflight-load-producer", "outputRatio", 1.5),
    ],
)
@pytest.mark.parametrize("parameters", [{}, None])
def test_h4_a_value_that_is_not_set_takes_the_documented_default(
    type: str, parameter: str, default: float, parameters: None
) -> None:
    written = load({"type": type, "parameters": parameters}).to_mapping()

    (shown,) = (plugin["parameters"] for plugin in written["plugins"] if plugin["type"] == type)
    assert shown[parameter] == default


def test_h4_parsers_and_sources_that_are_not_set_are_those_of_the_field() -> None:
    config = load("queue-scorer")
    own = load("metrics-data-source", dataLayer={"sources": [{"pluginRef": "metrics-data-source"}]})
    none = load("queue-scorer", dataLayer={"injectDefaults": False})

    assert [parser.plugin_ref for parser in config.request_handler.parsers] == [
        "openai-parser",
        "anthropic-parser",
        "vllmhttp-parser",
        "passthrough-parser",
    ]
    (source,) = config.data_layer.all_sources
    assert (source.plugin_ref, source.extractors[0].plugin_ref) == ("metrics-data-source", "core-metrics-extractor")
    assert own.data_layer.all_sources == own.data_layer.sources
    assert none.data_layer.all_sources == ()


def test_h5_a_configuration_that_does_not_load_leaves_the_one_in_force_as_it_was() -> None:
    scheduler = load("queue-scorer").scheduler(rng=random.Random(3))
    fleet(scheduler)
    decision = scheduler.schedule(Request("r1"), now=1.0)
    profiles, leases, generation = scheduler.profiles, len(scheduler.ledger), scheduler.generation

    with pytest.raises(ConfigError):
        load("queue-scorrer").apply_to(scheduler, now=2.0)

    assert isinstance(decision, Decision)
    assert (scheduler.profiles, len(scheduler.ledger), scheduler.generation) == (profiles, leases, generation)
    assert isinstance(scheduler.schedule(Request("r2"), now=3.0), Decision)


def test_h5_a_configuration_that_loads_is_in_force_from_the_next_decision_on() -> None:
    scheduler = load("queue-scorer").scheduler(rng=random.Random(3))
    fleet(scheduler)

    generation = load("running-requests-size-scorer").apply_to(scheduler, now=2.0)

    decision = scheduler.schedule(Request("r1"), now=3.0)
    assert isinstance(decision, Decision)
    assert (decision.generation, decision.endpoint.name) == (generation, "d")


def test_h5_a_reload_keeps_what_the_prefix_index_has_learned() -> None:
    config = load("prefix-cache-scorer")
    scheduler = config.scheduler(rng=random.Random(3))
    fleet(scheduler)
    first = scheduler.schedule(Request("r1", prompt="p" * 4000), now=1.0)

    load("prefix-cache-scorer", "random-picker", schedulingProfiles=[profile("prefix-cache-scorer")]).apply_to(
        scheduler, now=2.0
    )
    config.apply_to(scheduler, now=3.0)

    again = [scheduler.schedule(Request(f"r{i}", prompt="p" * 4000), now=4.0) for i in range(2, 8)]
    assert {each.endpoint.name for each in again if isinstance(each, Decision)} == {
        first.endpoint.name if isinstance(first, Decision) else None
    }


def test_k8_a_selector_that_is_absent_empty_or_matches_nothing_is_three_different_things() -> None:
    """An absent and an empty selector keep everybody, one that matches nothing keeps nobody."""
    kept = []
    selectors: list[dict[str, Any] | None] = [None, {"matchLabels": {}}, {"matchLabels": {"role": "none"}}]
    for parameters in selectors:
        entry: dict[str, Any] = {"type": "label-selector-filter", "parameters": parameters}
        scheduler = load(entry, "queue-scorer").scheduler(rng=random.Random(1))
        fleet(scheduler)
        kept.append(isinstance(scheduler.schedule(Request("r"), now=1.0), Decision))

    assert kept == [True, True, False]


@pytest.mark.parametrize("keys", list(itertools.permutations(["plugins", "schedulingProfiles", "featureGates"])))
def test_h2_the_order_of_keys_in_a_document_does_not_matter(keys: tuple[str, ...]) -> None:
    whole = document("queue-scorer", schedulingProfiles=[profile("queue-scorer")], featureGates=[])

    assert load_config({**{key: whole[key] for key in keys}, **HEAD}) == load_config(whole)
