"""The ConfigMap that says which adapters share which base, and endpoints in their pools."""

from pathlib import Path
from typing import Any

import pytest

from inferencesched import ConfigError
from inferencesched.cli.files import read
from inferencesched.resources import AdapterBase, resolve


def config_map(data: dict[str, Any], label: str = "inference.llm-d.ai/ipp-managed") -> dict[str, Any]:
    metadata = {"name": "adapters", "namespace": "serving", "labels": {label: "true"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.mark.parametrize("label", ["inference.llm-d.ai/ipp-managed", "inference.networking.k8s.io/bbr-managed"])
@pytest.mark.parametrize(
    "text",
    ["- english-bot\n- 'spanish-bot'\n", "# both\n -  english-bot \n -\n- spanish-bot", '[english-bot, "spanish-bot"]'],
)
def test_the_adapters_of_a_base_are_a_list_in_a_text(label: str, text: str) -> None:
    found = resolve(config_map({"baseModel": " llm-base ", "adapters": text}, label))

    assert found.adapters == (AdapterBase("adapters", "llm-base", ("english-bot", "spanish-bot"), "serving"),)
    assert found.bases == {"english-bot": "llm-base", "spanish-bot": "llm-base"}


def test_a_base_without_adapters_is_known_too() -> None:
    assert resolve(config_map({"baseModel": "llm-base"})).adapters[0].adapters == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"adapters": "- a"}, "data.baseModel: required, expected a string"),
        ({"baseModel": "b", "adapters": "a: b"}, "data.adapters: expected a list of names, '- name' on each line"),
        ({"baseModel": "b", "adaptors": "- a"}, "data.adaptors: unknown key 'adaptors' — did you mean 'adapters'?"),
    ],
)
def test_what_is_wrong_with_it_is_told(data: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("'", ".")):
        resolve(config_map(data))


def test_any_other_config_map_is_not_read() -> None:
    found = resolve({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "b"}})

    assert found.adapters == ()
    assert [warning.message for warning in found.warnings] == ["'ConfigMap' (v1) is not read here"]


def test_it_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "adapters.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: adapters\n  labels:\n"
        '    inference.llm-d.ai/ipp-managed: "true"\ndata:\n  baseModel: llm-base\n'
        "  adapters: |\n    - english-bot\n    - spanish-bot\n"
    )

    assert resolve(*read(tmp_path)).bases == {"english-bot": "llm-base", "spanish-bot": "llm-base"}


def pool(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "targetPorts": [{"number": 8000}]},
    }


def endpoint(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "address": "10.0.0.1", "port": "8000", "labels": labels}


def test_an_endpoint_belongs_to_the_pools_of_its_namespace_whose_labels_it_has() -> None:
    fleet = [
        endpoint("a", app="vllm"),
        endpoint("b", app="vllm", tier="gold"),
        endpoint("c", "other", app="vllm"),
    ]
    found = resolve(pool("all", app="vllm"), pool("gold", app="vllm", tier="gold"), {"endpoints": fleet})

    names = {each.name: [endpoint.name for endpoint in found.endpoints_of(each)] for each in found.pools}

    assert names == {"all": ["a", "b"], "gold": ["b"]}
    assert [(warning.path, warning.message) for warning in found.warnings] == [
        ("endpoints[2]", "'other/c' belongs to no InferencePool: none of its namespace selects its labels")
    ]


def test_without_pools_endpoints_are_nothing_to_warn_of() -> None:
    assert resolve({"endpoints": [endpoint("a")]}).warnings == ()
