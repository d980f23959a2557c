"""One document in, one Config or one complete list of problems out."""

from typing import Any

import pytest

from inferencesched import Config, ConfigError, Registry, load_config
from inferencesched.config import DEFAULT
from inferencesched.documents import Document
from tests.config.short import HEAD


def test_without_a_document_the_default_is_in_force() -> None:
    assert load_config() == load_config(DEFAULT)
    assert load_config().warnings == ()


def test_documents_of_other_kinds_are_passed_over() -> None:
    pool = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool"}

    config = load_config(pool, {"endpoints": []}, {**HEAD, "plugins": [{"type": "queue-scorer"}]})

    assert "queue-scorer" in config.plugins


def test_both_api_groups_are_read_and_the_old_one_is_told() -> None:
    config = load_config({**HEAD, "apiVersion": "inference.networking.x-k8s.io/v1alpha1"})

    assert [str(warning) for warning in config.warnings] == [
        "apiVersion: 'inference.networking.x-k8s.io/v1alpha1' is deprecated; write 'llm-d.ai/v1alpha1'"
    ]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"plugins": []}, "apiVersion: required, expected 'llm-d.ai/v1alpha1'"),
        ({"plugins": []}, "kind: required, expected 'EndpointPickerConfig'"),
        ({**HEAD, "apiVersion": "llm-d.ai/v1alpha2"}, "apiVersion: expected one of llm-d.ai/v1alpha1,"),
        ({**HEAD, "kind": "EndpointPickerConfg"}, "— did you mean 'EndpointPickerConfig'?"),
        ({**HEAD, "pluggins": []}, "pluggins: unknown key 'pluggins' — did you mean 'plugins'?"),
        ({**HEAD, "plugins": {"type": "queue-scorer"}}, "plugins: expected a list, got dict"),
        ({**HEAD, "plugins": ["queue-scorer"]}, "plugins[0]: expected a mapping, got str 'queue-scorer'"),
        ({**HEAD, "featureGates": "flowControl"}, "featureGates: expected a list of a string, got 'flowControl'"),
        ({**HEAD, "plugins": [{"type": 5}]}, "plugins[0].type: expected a string, got 5"),
        ({**HEAD, "plugins": [{"type": ""}]}, "plugins[0].type: required, expected a name"),
        ({**HEAD, "plugins": [{"name": "x"}]}, "plugins[0].type: required, expected a string"),
        ({3: None, "kind": "EndpointPickerConfig"}, "3: unknown key '3'"),
    ],
)
def test_a_wrong_shape_is_named_with_its_path(document: dict[Any, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(document)

    assert any(problem in str(each) for each in caught.value.problems)


@pytest.mark.parametrize("content", [{"router": {}}, [], "text", 5])
def test_a_document_that_is_nothing_of_the_kind_is_one_problem(content: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Document(content))

    assert len(caught.value.problems) == 1


def test_an_empty_value_is_the_same_as_none() -> None:
    config = load_config({**HEAD, "plugins": None, "schedulingProfiles": None, "dataLayer": None, "flowControl": {}})

    assert config == load_config(HEAD)
    assert config.warnings == ()


def test_everything_wrong_in_every_document_is_in_one_error() -> None:
    first = Document(
        {**HEAD, "plugins": [{"type": "queue-scorrer"}], "flowControll": 1}, "a.yaml", {"kind": 2, "flowControll": 9}
    )
    second = Document({**HEAD, "plugins": [{"type": "queue-scorer", "nme": "q"}]}, "b.yaml", {"kind": 2})

    with pytest.raises(ConfigError) as caught:
        load_config(first, second)

    assert [str(problem) for problem in caught.value.problems] == [
        "a.yaml: plugins[0].type: unknown plugin type 'queue-scorrer' — did you mean 'queue-scorer'?",
        "a.yaml:9: flowControll: unknown key 'flowControll' — did you mean 'flowControl'?",
        "b.yaml: plugins[0].nme: unknown key 'nme' — did you mean 'name'?",
        "b.yaml:2: kind: a second EndpointPickerConfig, besides the one at a.yaml:2; only one can be in force",
    ]


def test_deprecated_fields_move_where_they_belong_and_are_told() -> None:
    config = load_config(
        {**HEAD, "parser": {"pluginRef": "openai-parser"}, "saturationDetector": {"pluginRef": "utilization-detector"}}
    )

    assert [parser.plugin_ref for parser in config.request_handler.parsers] == ["openai-parser"]
    assert config.flow_control.saturation_detector.plugin_ref == "utilization-detector"
    assert [warning.path for warning in config.warnings] == ["saturationDetector", "parser"]


def test_a_deprecated_field_does_not_override_the_one_that_replaced_it() -> None:
    config = load_config(
        {
            **HEAD,
            "plugins": [{"type": "concurrency-detector"}],
            "parser": {"pluginRef": "openai-parser"},
            "requestHandler": {"parsers": [{"pluginRef": "passthrough-parser"}]},
            "saturationDetector": {"pluginRef": "utilization-detector"},
            "flowControl": {"saturationDetector": {"pluginRef": "concurrency-detector"}},
        }
    )

    assert [parser.plugin_ref for parser in config.request_handler.parsers] == ["passthrough-parser"]
    assert config.flow_control.saturation_detector.plugin_ref == "concurrency-detector"


def test_flow_control_behind_a_closed_gate_is_told_and_not_looked_at() -> None:
    flow = {"maxBytes": "1Gi", "priorityBands": [{"priority": 1, "fairnessPolicyRef": "not-declared"}]}

    config = load_config({**HEAD, "flowControl": flow})

    assert [str(warning) for warning in config.warnings] == [
        "flowControl: has no effect: the feature gate 'flowControl' is off"
    ]
    assert config.flow_control.max_bytes is None


def test_what_the_caller_does_to_its_mapping_later_changes_nothing() -> None:
    parameters: dict[str, Any] = {"matchLabels": {"app": "vllm"}}
    config = load_config({**HEAD, "plugins": [{"type": "label-selector-filter", "parameters": parameters}]})
    before = config.to_mapping()

    parameters["matchLabels"]["app"] = "other"

    assert config.to_mapping() == before


def test_a_registry_of_the_host_brings_plugins_of_its_own() -> None:
    class Always:
        """Everybody is as good."""

        def score(self, *_: object) -> None: ...

    config: Config = load_config({**HEAD, "plugins": [{"type": "always"}]}, registry=Registry({"always": Always}))

    assert [named.name for named in config.profiles["default"].scorers] == ["always"]
