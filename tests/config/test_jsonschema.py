"""The JSON Schema for editors: made from the classes, valid itself, and of one mind with the loader."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from inferencesched import ConfigError, Registry, load_config
from inferencesched.config.jsonschema import json_schema
from tests.config.short import document, profile

SCHEMA = json_schema(Registry(installed=()))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SHAPES = sorted(Path(__file__).parent.glob("shapes/*.yaml"))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda path: path.stem)
def test_every_shape_is_valid(shape: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(shape.read_text()))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda path: path.stem)
def test_what_is_in_force_is_valid(shape: Path) -> None:
    VALIDATOR.validate(load_config(yaml.safe_load(shape.read_text())).to_mapping())


@pytest.mark.parametrize(
    "wrong",
    [
        document("queue-scorrer"),
        document({"type": "queue-scorer", "nme": "q"}),
        document({"type": "max-score-picker", "parameters": {"maxNumOfEndpoint": 1}}),
        document({"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": "1"}}),
        document({"type": "utilization-filter"}),
        document({"type": "utilization-filter", "parameters": {"conditions": []}}),
        document({"type": "utilization-filter", "parameters": {"conditions": [{"metric": "queue", "maxValue": 1}]}}),
        document({"type": "prefix-cache-scorer", "parameters": {"matchLengthWeight": 2}}),
        document("queue-scorer", schedulingProfiles=[profile({"pluginRef": "queue-scorer", "weight": -1})]),
        document("queue-scorer", schedulingProfles=[]),
        document("queue-scorer", flowControl={"priorityBands": [{"maxBytes": "1Gi"}]}),
        {"plugins": []},
    ],
)
def test_what_the_loader_refuses_for_its_shape_the_schema_refuses_too(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        load_config(wrong)

    assert list(VALIDATOR.iter_errors(wrong))


def test_a_parameter_is_described_by_its_docstring_and_has_its_default() -> None:
    plugin = SCHEMA["properties"]["plugins"]["anyOf"][0]["items"]
    (rule,) = (each for each in plugin["allOf"] if each["if"]["properties"]["type"]["const"] == "token-load-scorer")

    parameter = rule["then"]["properties"]["parameters"]["properties"]["queueThresholdTokens"]

    assert parameter["default"] == 4_194_304
    assert parameter["description"].startswith("tokens at which an endpoint is full")
