"""One tree of errors; the branch says whose fault it is."""

import pytest

from inferencesched import (
    ConfigError,
    ContractError,
    InferenceschedError,
    LifecycleError,
    PluginError,
    Rejection,
    RequestRejected,
)
from inferencesched.errors import Problem, near_miss


@pytest.mark.parametrize("error", [ConfigError, ContractError, LifecycleError, PluginError, RequestRejected])
def test_everything_is_caught_by_the_root(error: type[Exception]) -> None:
    """`except InferenceschedError` is enough."""
    assert issubclass(error, InferenceschedError)


def test_a_configuration_error_lists_every_problem_with_its_place() -> None:
    """One problem is one line; several are counted."""
    one = Problem("plugins[0].type", "unknown plugin 'x'", "a.yaml", 3)
    two = Problem("", "empty document", "b.yaml")

    assert str(ConfigError([one])) == "a.yaml:3: plugins[0].type: unknown plugin 'x'"
    assert str(ConfigError([one, two])).splitlines() == [
        "2 problems",
        "  a.yaml:3: plugins[0].type: unknown plugin 'x'",
        "  b.yaml: empty document",
    ]


def test_a_plugin_error_names_plugin_and_distribution() -> None:
    """The author can be found."""
    assert str(PluginError("p", "broke")) == "plugin 'p': broke"
    assert str(ContractError("p", "broke", distribution="d")) == "plugin 'p' (from distribution 'd'): broke"


def test_a_near_miss_is_offered_only_when_it_is_near() -> None:
    """No guess is better than a wild one."""
    assert near_miss("quue", ["queue", "random"]) == " — did you mean 'queue'?"
    assert near_miss("zzz", ["queue", "random"]) == ""


def test_a_shell_raises_the_rejection_it_cannot_return() -> None:
    """The exception carries the value."""
    rejection = Rejection("r", "m", "rejected-saturated", 429, True, "full", 2.0, 1, 0.0)

    error = RequestRejected(rejection)

    assert error.rejection is rejection
    assert str(error) == str(rejection)
    assert "may pass later, retry in 2 s" in str(error)
