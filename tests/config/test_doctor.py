"""Each rule finds what it is about, in a configuration that is valid, and nothing in one that is well."""

import re
from pathlib import Path
from typing import Any

import pytest

from inferencesched import Config, load_config
from inferencesched.config.doctor import diagnose
from inferencesched.resources import resolve
from tests.config.short import load, profile

POOL = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "llama"},
    "spec": {"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": 8000}]},
}
FULL = {"metric": "waiting-queue", "maxValue": 5}
REF = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llama"}


def objective(priority: int) -> dict[str, Any]:
    spec = {"priority": priority, "poolRef": {"name": "llama"}}
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": f"p{priority}"},
        "spec": spec,
    }


def route(*weights: int) -> dict[str, Any]:
    backends = [{**REF, "weight": weight} for weight in weights]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }


def weighed(*entries: tuple[str, float]) -> dict[str, Any]:
    return profile(*({"pluginRef": name, "weight": weight} for name, weight in entries))


def severities(config: Config, *resources: Any, endpoints: int | None = None) -> dict[str, str]:
    """Return the severity of each finding by its name."""
    return {f.name: f.severity for f in diagnose(config, resolve(*resources), endpoints=endpoints)}


def test_the_default_is_well() -> None:
    assert severities(load_config()) == {"index-memory": "hint"}


@pytest.mark.parametrize(
    ("plugins", "keys", "name", "severity"),
    [
        (["prefix-cache-scorer"], {}, "prefix-without-load", "danger"),
        (["queue-scorer"], {}, "herd-between-scrapes", "warning"),
        (["queue-scorer", "random-picker"], {}, "scores-ignored", "warning"),
        (["max-score-picker"], {}, "nothing-scored", "warning"),
        (["token-producer", {"type": "token-producer", "name": "again"}], {}, "column-made-twice", "warning"),
        (["queue-scorer", "header-based-testing-filter"], {}, "filter-for-tests", "danger"),
        (["kv-cache-scorer"], {}, "deprecated", "hint"),
        (["queue-scorer", "k8s-notification-source"], {}, "no-effect", "warning"),
        (["queue-scorer", "session-affinity-filter"], {}, "client-decides", "hint"),
        (["queue-scorer"], {"dataLayer": {"injectDefaults": False}}, "blind-plugin", "warning"),
        (
            ["queue-scorer", "running-requests-size-scorer"],
            {"schedulingProfiles": [weighed(("queue-scorer", 1), ("running-requests-size-scorer", 0))]},
            "zero-weight",
            "warning",
        ),
        (
            ["queue-scorer", "running-requests-size-scorer"],
            {"schedulingProfiles": [weighed(("queue-scorer", 100), ("running-requests-size-scorer", 1))]},
            "drowned-weight",
            "hint",
        ),
        (
            [
                {
                    "type": "utilization-filter",
                    "parameters": {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
                }
            ],
            {},
            "filter-can-drain",
            "warning",
        ),
        (
            ["disagg-profile-handler", "queue-scorer"],
            {"schedulingProfiles": [profile("queue-scorer", name="decoding")]},
            "missing-profile",
            "danger",
        ),
        (
            ["queue-scorer"],
            {"featureGates": ["flowControl"], "flowControl": {"defaultRequestTTL": "0s"}},
            "waits-for-ever",
            "warning",
        ),
    ],
)
def test_a_rule_finds_what_it_is_about(plugins: list[Any], keys: dict[str, Any], name: str, severity: str) -> None:
    assert severities(load(*plugins, **keys)).get(name) == severity


@pytest.mark.parametrize(
    ("plugins", "name"),
    [
        (["prefix-cache-scorer", "queue-scorer"], "prefix-without-load"),
        (["queue-scorer", "active-request-scorer"], "herd-between-scrapes"),
        (["queue-scorer", "weighted-random-picker"], "scores-ignored"),
        (["random-picker"], "nothing-scored"),
        (["queue-scorer"], "blind-plugin"),
    ],
)
def test_a_rule_finds_nothing_where_all_is_well(plugins: list[str], name: str) -> None:
    assert name not in severities(load(*plugins))


def test_a_column_that_only_a_gpu_exporter_supplies_is_missed_where_there_is_none() -> None:
    scorer = {
        "type": "endpoint-attribute-scorer",
        "parameters": {
            "attributeKey": "accelerator_utilization",
            "algorithm": {"type": "linear_lower_is_better"},
        },
    }

    blind = severities(load(scorer))
    seeing = severities(load(scorer, "dcgm-extractor"))

    assert "blind-plugin" in blind
    assert "blind-plugin" not in seeing


def test_an_index_that_cannot_hold_what_its_endpoints_hold_is_told_with_the_size_it_needs() -> None:
    config = load("prefix-cache-scorer", "queue-scorer")

    assert severities(config, endpoints=16)["index-memory"] == "hint"
    assert severities(config, endpoints=1000)["index-too-small"] == "warning"


def test_a_band_that_no_objective_reaches_is_told() -> None:
    flow = {"priorityBands": [{"priority": 10}, {"priority": 0}, {"priority": 99}]}
    config = load("queue-scorer", featureGates=["flowControl"], flowControl=flow)

    found = [f.where for f in diagnose(config, resolve(POOL, objective(10))) if f.name == "unreachable-band"]

    assert found == ["the band of priority 99"]


def test_priorities_without_flow_control_and_priorities_that_clients_claim_are_told() -> None:
    found = severities(load("queue-scorer"), POOL, objective(10))

    assert found["priority-without-queue"] == "warning"
    assert found["client-claims-priority"] == "hint"


def test_a_route_whose_backends_have_no_weight_is_a_danger() -> None:
    assert severities(load("queue-scorer"), POOL, route(0))["route-to-nowhere"] == "danger"
    assert "route-to-nowhere" not in severities(load("queue-scorer"), POOL, route(0, 1))


def test_a_pool_that_no_route_sends_to_is_told() -> None:
    other = {**POOL, "metadata": {"name": "other"}}

    assert severities(load("queue-scorer"), POOL, other, route(1))["unrouted-pool"] == "hint"
    assert "unrouted-pool" not in severities(load("queue-scorer"), POOL)


def test_the_worst_comes_first_and_everything_says_why_and_what_to_do() -> None:
    findings = diagnose(load("prefix-cache-scorer", "k8s-notification-source"))

    assert [f.severity for f in findings] == ["danger", "warning", "hint"]
    assert all(f.where and f.what and f.why.endswith(".") and f.advice.endswith(".") for f in findings)


def test_every_finding_is_explained_in_the_reference() -> None:
    root = Path(__file__).parent.parent.parent
    source = "".join(page.read_text() for page in (root / "inferencesched/config/doctor").glob("*.py"))
    names = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)",?\s+"(?:danger|warning|hint)"', source))
    reference = (root / "docs/reference/configuration.md").read_text()

    assert len(names) > 12
    assert [name for name in sorted(names) if f"| `{name}` |" not in reference] == []
