"""The deployment shapes that the field documents load as they are, and say by name what has no effect yet."""

from pathlib import Path

import pytest

from inferencesched import Registry, load_config
from inferencesched.cli.files import read

SHAPES = sorted(Path(__file__).parent.glob("shapes/*.yaml"))


@pytest.fixture(params=SHAPES, ids=lambda path: path.stem)
def shape(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_the_shape_loads_and_every_plugin_is_there_or_named(shape: Path) -> None:
    (document,) = read(shape)
    declared = {plugin["type"] for plugin in document.content["plugins"]}

    config = load_config(document)

    not_yet = {warning.message.split("'")[1] for warning in config.warnings if "no effect yet" in warning.message}
    assert not_yet == declared - set(Registry().types)
    assert all(warning.line for warning in config.warnings)


def test_what_is_in_force_loads_again_and_is_the_same(shape: Path) -> None:
    config = load_config(*read(shape))

    assert load_config(config.to_mapping()) == config


def test_every_key_of_the_schema_stands_in_some_shape() -> None:
    """So that a file written for the upstream meets no key that was never tried."""
    text = "\n".join(path.read_text() for path in SHAPES)
    keys = """apiVersion kind featureGates plugins name type parameters schedulingProfiles pluginRef weight dataLayer
        injectDefaults sources extractors discovery crossReplicaSyncerPluginRef crossReplicaSyncInterval requestHandler
        parsers saturationDetector parser flowControl maxBytes maxRequests defaultRequestTTL noEndpointRequestTTL
        defaultPriorityBand defaultNegativePriorityBand priorityBands priority fairnessPolicyRef orderingPolicyRef
        usageLimitPolicyPluginRef enableEviction"""

    assert [key for key in keys.split() if f"{key}:" not in text] == []
