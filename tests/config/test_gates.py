"""Feature gates."""

import pytest

from inferencesched.config.gates import GATES, read_gates
from inferencesched.errors import Problem


def test_without_a_word_every_gate_has_its_default() -> None:
    assert read_gates([], "featureGates", []) == GATES


@pytest.mark.parametrize("text", ["flowControl", "flowcontrol=true", " FlowControl = T ", "flowControl=1"])
def test_a_gate_is_opened_in_any_spelling_that_go_takes(text: str) -> None:
    assert read_gates([text], "featureGates", [])["flowControl"] is True


def test_the_last_word_on_a_gate_counts() -> None:
    assert read_gates(["flowControl", "flowControl=F"], "featureGates", [])["flowControl"] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flowControll", "unknown feature gate 'flowControll' — did you mean 'flowControl'?"),
        ("flowControl=maybe", "expected 'flowControl=true' or 'flowControl=false', got 'flowControl=maybe'"),
        ("dataLayer", "the gate 'dataLayer' was removed upstream; delete the line"),
    ],
)
def test_a_gate_that_means_nothing_is_reported(text: str, message: str) -> None:
    problems: list[Problem] = []

    read_gates(["flowControl", text], "featureGates", problems)

    assert problems == [Problem("featureGates[1]", message)]
