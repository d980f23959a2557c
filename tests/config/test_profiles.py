"""Who stands in a profile, with which weight, and what is put in where something is missing."""

import random

import pytest

from inferencesched import Observer, Registry, load_config
from tests.config.short import load, profile, wrong


def test_without_profiles_there_is_one_with_everything_of_weight_one() -> None:
    default = load("queue-scorer", "random-picker", "utilization-detector", "running-requests-size-scorer").profiles[
        "default"
    ]

    assert [named.name for named in default.scorers] == ["queue-scorer", "running-requests-size-scorer"]
    assert default.weights == (1, 1)
    assert default.picker.name == "random-picker"


def test_a_scorer_without_a_weight_weighs_one() -> None:
    config = load("queue-scorer", schedulingProfiles=[profile("queue-scorer")])

    assert config.profiles["default"].weights == (1.0,)


def test_a_weight_of_zero_stays_zero() -> None:
    config = load("queue-scorer", schedulingProfiles=[profile({"pluginRef": "queue-scorer", "weight": 0})])

    assert config.profiles["default"].weights == (0.0,)


def test_a_profile_without_a_picker_takes_the_declared_one() -> None:
    config = load("queue-scorer", "random-picker", schedulingProfiles=[profile("queue-scorer")])

    assert config.profiles["default"].picker.name == "random-picker"


def test_a_profile_without_a_picker_gets_one_when_none_is_declared() -> None:
    config = load("queue-scorer", schedulingProfiles=[profile("queue-scorer")])

    assert config.profiles["default"].picker.name == "max-score-picker"


def test_a_plugin_that_has_the_name_of_the_default_picker_stays_what_it_is() -> None:
    config = load({"type": "queue-scorer", "name": "max-score-picker"})

    assert [named.name for named in config.profiles["default"].scorers] == ["max-score-picker"]
    assert config.profiles["default"].picker.name == "default-max-score-picker"
    assert load_config(config.to_mapping()) == config


@pytest.mark.parametrize("pickers", [("random-picker", "max-score-picker"), ("max-score-picker", "random-picker")])
def test_of_several_declared_pickers_the_first_by_name_is_taken_and_told(pickers: tuple[str, ...]) -> None:
    config = load("queue-scorer", *pickers, schedulingProfiles=[profile("queue-scorer")])

    assert config.profiles["default"].picker.name == "max-score-picker"
    assert [warning.message for warning in config.warnings] == [
        "profile 'default' names no picker, and 'max-score-picker', 'random-picker' are declared; it takes the first"
    ]


def test_one_profile_without_a_handler_gets_the_single_profile_handler() -> None:
    handler = load("queue-scorer").handler

    assert handler is not None
    assert handler.name == "single-profile-handler"


def test_two_profiles_without_a_handler_are_an_error() -> None:
    problems = wrong("queue-scorer", schedulingProfiles=[profile(name="a"), profile(name="b")])

    assert problems == {"schedulingProfiles": "2 profiles (a, b) need a profile handler among the plugins"}


def test_the_single_profile_handler_refuses_two_profiles() -> None:
    problems = wrong("single-profile-handler", schedulingProfiles=[profile(name="a"), profile(name="b")])

    assert problems == {"schedulingProfiles": "'single-profile-handler' runs one profile, and there are 2: a, b"}


def test_two_handlers_are_an_error() -> None:
    problems = wrong("single-profile-handler", {"type": "single-profile-handler", "name": "other"})

    assert problems == {"plugins": "'single-profile-handler' and 'other' are all profile handlers; declare one"}


def test_profiles_of_one_name_are_an_error() -> None:
    problems = wrong("queue-scorer", schedulingProfiles=[profile("queue-scorer"), profile("queue-scorer")])

    assert problems == {"schedulingProfiles[1].name": "a profile 'default' stands above already"}


def test_a_reference_to_nothing_offers_what_is_near() -> None:
    problems = wrong("queue-scorer", schedulingProfiles=[profile("queue-scorrer", "queue-scorer")])

    message = "no plugin 'queue-scorrer' is declared — did you mean 'queue-scorer'?"
    assert problems == {"schedulingProfiles[0].plugins[0].pluginRef": message}


def test_a_plugin_cannot_stand_in_a_profile_twice() -> None:
    problems = wrong("queue-scorer", schedulingProfiles=[profile("queue-scorer", "queue-scorer")])

    message = "'queue-scorer' stands in profile 'default' already"
    assert problems == {"schedulingProfiles[0].plugins[1].pluginRef": message}


def test_a_producer_may_stand_in_a_profile_and_belongs_to_all_of_them_anyway() -> None:
    config = load("token-producer", "queue-scorer", schedulingProfiles=[profile("queue-scorer", "token-producer")])

    assert [named.name for named in config.profiles["default"].producers] == ["token-producer"]
    assert config.warnings == ()


def test_a_weight_on_what_is_no_scorer_has_no_effect_and_is_told() -> None:
    entries = profile("queue-scorer", {"pluginRef": "random-picker", "weight": 3})

    config = load("queue-scorer", "random-picker", schedulingProfiles=[entries])

    assert [str(warning) for warning in config.warnings] == [
        "schedulingProfiles[0].plugins[1].weight: 'random-picker' is no scorer; its weight has no effect"
    ]


def test_a_plugin_with_two_roles_takes_both_through_one_reference() -> None:
    class Both:
        """Filters and scores."""

        def keep(self, *_: object) -> None: ...

        def score(self, *_: object) -> None: ...

    entries = profile({"pluginRef": "both", "weight": 3})

    default = load("both", schedulingProfiles=[entries], registry=Registry({"both": Both})).profiles["default"]

    assert [named.name for named in default.filters] == ["both"]
    assert [named.name for named in default.scorers] == ["both"]


def test_a_plugin_is_active_by_being_declared_even_where_no_profile_names_it() -> None:
    seen: list[str] = []

    class Listener(Observer):
        """Notes who joins."""

        def endpoint_added(self, endpoint: object, *, now: float) -> None:
            seen.append(endpoint.name)  # type: ignore[attr-defined]

    config = load("listener", "queue-scorer", schedulingProfiles=[profile("queue-scorer")],
                  registry=Registry({"listener": Listener}))  # fmt: skip
    scheduler = config.scheduler(rng=random.Random(1))

    scheduler.add_endpoint("a", "10.0.0.1:80", now=0.0)

    assert seen == ["a"]
