"""Entries under ``plugins`` become objects, or problems, or names that have no effect yet."""

from importlib.metadata import EntryPoint
from typing import Any

import attrs
import pytest

from inferencesched import Registry
from inferencesched.registry import COMES_WITH, NOT_YET, REFUSED
from tests.config.short import load, profile, wrong


def a(type: str, name: str = "", **parameters: Any) -> dict[str, Any]:
    return {"type": type, **({"name": name} if name else {}), **({"parameters": parameters} if parameters else {})}


@attrs.frozen
class Leader:
    """A plugin that refers to others."""

    first: Any = attrs.field(default=None, metadata={"plugin_ref": True})
    second: Any = attrs.field(default=None, metadata={"plugin_ref": True})


REGISTRY = Registry({"leader": Leader})


def test_a_name_defaults_to_the_type() -> None:
    assert list(load("queue-scorer", a("random-picker", "any")).plugins)[:2] == ["queue-scorer", "any"]


def test_parameters_are_those_of_the_type_and_strict() -> None:
    problems = wrong(a("utilization-filter", conditions=[{"metric": "waiting-qeue", "maxValue": "5"}], falback=True))

    assert problems == {
        "plugins[0].parameters.conditions[0].metric": (
            "expected one of active-requests, running-requests, waiting-queue, kv-cache-utilization, "
            "got 'waiting-qeue' — did you mean 'waiting-queue'?"
        ),
        "plugins[0].parameters.conditions[0].maxValue": "expected a number, got '5'",
        "plugins[0].parameters.falback": "unknown parameter 'falback' — did you mean 'fallbackOnEmpty'?",
    }


def test_an_empty_parameter_is_the_same_as_leaving_it_out() -> None:
    picker = load(a("max-score-picker", maxNumOfEndpoints=None)).plugins["max-score-picker"].plugin

    assert picker.max_num_of_endpoints == 1
    assert wrong(a("utilization-filter", conditions=None)) == {
        "plugins[0].parameters.conditions": "required, expected a list of a mapping"
    }


def test_what_else_is_wrong_with_a_plugin_whose_name_is_taken_is_told_too() -> None:
    problems = wrong("max-score-picker", a("max-score-picker", maxNumOfEndpoint=2))

    assert list(problems) == ["plugins[1].type", "plugins[1].parameters.maxNumOfEndpoint"]


def test_two_plugins_cannot_have_one_name() -> None:
    problems = wrong("queue-scorer", a("random-picker", "queue-scorer"), "queue-scorer")

    assert problems == {
        "plugins[1].name": "the name 'queue-scorer' is taken by plugins[0]; give each plugin a name of its own",
        "plugins[2].type": "the name 'queue-scorer' is taken by plugins[0]; give each plugin a name of its own",
    }


def test_a_plugin_that_others_refer_to_is_built_first_wherever_it_stands() -> None:
    config = load(a("leader", first="second", second="queue"), a("leader", "second"), a("queue-scorer", "queue"),
                  "max-score-picker", registry=REGISTRY)  # fmt: skip

    leader = config.plugins["leader"].plugin
    assert leader.first is config.plugins["second"].plugin
    assert leader.second is config.plugins["queue"].plugin


def test_a_reference_to_nothing_is_reported_where_it_stands() -> None:
    problems = wrong(a("leader", first="queue-scorrer"), "queue-scorer", registry=REGISTRY)

    message = "no plugin 'queue-scorrer' is declared — did you mean 'queue-scorer'?"
    assert problems == {"plugins[0].parameters.first": message}


def test_plugins_that_refer_to_each_other_in_a_circle_are_reported_once() -> None:
    problems = wrong(a("leader", "x", first="y"), a("leader", "y", first="x"), registry=REGISTRY)

    assert problems == {"plugins[0].parameters": "'x', 'y' refer to each other in a circle"}


def test_what_refers_to_a_wrong_plugin_is_not_reported_again() -> None:
    problems = wrong(a("leader", first="wrong"), a("random-picker", "wrong", max=1), registry=REGISTRY)

    assert list(problems) == ["plugins[1].parameters.max"]


def test_nothing_can_be_built_on_what_has_no_effect_yet() -> None:
    problems = wrong(a("leader", first="k8s-notification-source"), "k8s-notification-source", registry=REGISTRY)

    assert problems == {
        "plugins[0].parameters.first": "'k8s-notification-source' has no effect yet, so nothing can be built on it"
    }


@pytest.mark.parametrize("type", sorted(REFUSED))
def test_a_type_that_will_not_be_built_is_refused_with_the_reason(type: str) -> None:
    assert wrong(type) == {"plugins[0].type": f"'{type}' is not supported: {REFUSED[type]}"}


@pytest.mark.parametrize("type", sorted(set(NOT_YET) - set(COMES_WITH)))
def test_a_type_that_nothing_implements_yet_is_named_and_its_parameters_are_left_alone(type: str) -> None:
    config = load("queue-scorer", a(type, "mine", whatever={"is": "there"}))

    assert [warning.message for warning in config.warnings] == [
        f"'{type}' ({NOT_YET[type]}) is declared but has no effect yet"
    ]
    assert {"name": "mine", "type": type, "parameters": {"whatever": {"is": "there"}}} in config.to_mapping()["plugins"]


def test_a_type_of_a_distribution_that_is_not_installed_is_named_with_it() -> None:
    config = load("queue-scorer", "metrics-data-source", registry=Registry(installed=()))

    assert [warning.message for warning in config.warnings] == [
        "'metrics-data-source' (data-source) is declared but has no effect yet; it comes with 'inferencesched-sources'"
    ]


def test_an_old_name_is_the_new_type_and_is_told() -> None:
    config = load(a("kv-cache-scorer"), schedulingProfiles=[profile("kv-cache-scorer")])

    assert [warning.message for warning in config.warnings] == [
        "'kv-cache-scorer' is deprecated; write 'kv-cache-utilization-scorer'"
    ]
    assert config.to_mapping()["plugins"][0] == {"name": "kv-cache-scorer", "type": "kv-cache-utilization-scorer"}


def test_an_old_name_of_a_policy_has_no_effect_yet_under_its_new_name() -> None:
    config = load("queue-scorer", "best-head")

    assert {"name": "best-head", "type": "global-strict-fairness-policy"} in config.to_mapping()["plugins"]


def test_a_plugin_of_a_distribution_that_cannot_be_imported_is_a_problem_like_any_other() -> None:
    registry = Registry(installed=[EntryPoint("broken", "no_such_module:Scorer", "inferencesched.plugins")])

    problems = wrong("broken", "queue-scorrer", registry=registry)

    assert list(problems) == ["plugins[0].type", "plugins[1].type"]
    assert "'no_such_module:Scorer' cannot be imported" in problems["plugins[0].type"]


def test_annotations_that_name_what_is_not_there_are_a_problem_like_any_other() -> None:
    @attrs.frozen
    class Vague:
        """Its author imported the type for the checker only."""

        size: "NoSuchType" = None  # type: ignore[name-defined]  # noqa: F821

    problems = wrong("vague", registry=Registry({"vague": Vague}))

    assert problems == {
        "plugins[0].type": "its parameters cannot be read (NameError: name 'NoSuchType' is not defined)"
    }


def test_a_constructor_that_raises_is_a_problem_like_any_other() -> None:
    class Explosive:
        """Cannot be made."""

        def __init__(self) -> None:
            raise KeyError("boom")

    problems = wrong("explosive", registry=Registry({"explosive": Explosive}))

    assert problems == {"plugins[0].parameters": "cannot be built (KeyError: 'boom')"}
