"""A plugin that somebody else ships is found by its name, and blamed by its distribution."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
from inferencesched import load_config
config = load_config({
    "apiVersion": "llm-d.ai/v1alpha1",
    "kind": "EndpointPickerConfig",
    "plugins": [
        {"type": "carbon-aware-scorer", "parameters": {"dirty": 500}},
        {"type": "queue-scorer"},
        {"type": "max-score-picker"},
    ],
})
print(config.profiles["default"])
print(config.plugins["carbon-aware-scorer"].plugin, config.plugins["carbon-aware-scorer"].distribution)
"""


@pytest.fixture(scope="session")
def cli(run: Any) -> Callable[..., Any]:
    return lambda *arguments, sites: run(
        "-c", "from inferencesched.cli import main; main(prog_name='inferencesched')", *arguments, sites=sites
    )


def test_an_installed_plugin_is_listed_with_its_distribution(cli: Any, site: Path) -> None:
    listed = json.loads(cli("plugins", "--json", sites=[site]).stdout)["plugins"]

    (entry,) = [entry for entry in listed if entry["type"] == "carbon-aware-scorer"]
    assert (entry["distribution"], entry["roles"]) == ("carbon-aware", ["scorer"])
    assert entry["consumes"] == ["grid_intensity"]
    assert entry["parameters"] == [
        {
            "name": "dirty",
            "kind": "a number",
            "required": False,
            "default": 800.0,
            "help": "grams of CO₂ per kilowatt-hour that score nothing.",
        }
    ]


def test_an_installed_plugin_is_configured_by_its_name(run: Any, site: Path) -> None:
    result = run("-c", CONFIG, sites=[site])

    assert result.stdout.splitlines() == [
        "Profile('default', carbon-aware-scorer, queue-scorer, max-score-picker)",
        "CarbonAware(dirty=500) carbon-aware",
    ], result.stderr


def test_the_package_has_a_test_of_one_line_that_passes(run: Any, site: Path) -> None:
    tests = Path(__file__).parent / "carbon-aware/tests"

    result = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tests), str(tests), sites=[site])

    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_without_it_the_name_is_unknown(cli: Any) -> None:
    result = cli("plugins", "carbon-aware-scorer", sites=[])

    assert (result.returncode, result.stdout) == (1, "")
    assert "unknown plugin 'carbon-aware-scorer'" in result.stderr


@pytest.fixture
def rival(distribution: Callable[..., Path]) -> Path:
    return distribution("carbon-rival", entry_points={"carbon-aware-scorer": "carbon_rival:Rival"}, source="Rival = 1")


def test_two_that_claim_one_name_are_named_when_it_is_used(run: Any, site: Path, rival: Path) -> None:
    result = run("-c", CONFIG, sites=[site, rival])

    assert result.returncode == 1
    assert "'carbon-aware-scorer' is claimed by 'carbon-aware' and by 'carbon-rival'" in result.stderr


def test_two_that_claim_one_name_harm_nobody_who_does_not_use_it(run: Any, site: Path, rival: Path) -> None:
    result = run(
        "-c",
        CONFIG.replace("carbon-aware-scorer", "load-aware-scorer").replace('"dirty": 500', ""),
        sites=[
            site,
            rival,
        ],
    )

    assert result.stdout.startswith("Profile('default', load-aware-scorer"), result.stderr


def test_a_name_of_ours_cannot_be_taken(run: Any, distribution: Any) -> None:
    thief = distribution("thief", entry_points={"queue-scorer": "thief:Queue"}, source="Queue = 1")
    code = "from inferencesched import Registry; Registry().create('queue-scorer')"

    result = run("-c", code, sites=[thief])

    assert "'queue-scorer' is claimed by inferencesched itself and by 'thief'" in result.stderr


@pytest.fixture
def broken(distribution: Callable[..., Path]) -> Path:
    source = "import a_module_that_is_not_there"
    return distribution("broken-plugin", entry_points={"broken-scorer": "broken_plugin:Broken"}, source=source)


def test_one_that_cannot_be_imported_is_reported_with_its_distribution_and_the_cause(run: Any, broken: Path) -> None:
    code = (
        "from inferencesched import PluginError, Registry\n"
        "try: Registry().create('broken-scorer')\n"
        "except PluginError as error: print(error, '|', repr(error.__cause__))"
    )

    printed = run("-c", code, sites=[broken]).stdout

    assert "plugin 'broken-scorer' (from distribution 'broken-plugin')" in printed
    assert "ModuleNotFoundError" in printed.split("|")[1]


def test_one_that_cannot_be_imported_is_listed_and_the_others_too(cli: Any, broken: Path, site: Path) -> None:
    result = cli("plugins", "--json", sites=[broken, site])

    listed = {entry["type"]: entry for entry in json.loads(result.stdout)["plugins"]}
    assert "cannot be imported" in listed["broken-scorer"]["error"]
    assert listed["carbon-aware-scorer"]["roles"] == ["scorer"]
