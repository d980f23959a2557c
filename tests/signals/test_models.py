"""Lists of models as sets of names."""

from typing import Any

import pytest

from inferencesched.signals import MODEL_COLUMNS, read_models


def test_adapters_are_the_models_that_have_a_parent() -> None:
    answer = {
        "object": "list",
        "data": [
            {"id": "llm-base", "parent": None},
            {"id": "english-bot", "parent": "llm-base"},
            {"id": "spanish-bot", "parent": "llm-base", "root": "/adapters/es"},
        ],
    }

    assert read_models(answer).facts == {
        "served_models": {"llm-base", "english-bot", "spanish-bot"},
        "served_adapters": {"english-bot", "spanish-bot"},
    }


def test_no_models_are_a_fact() -> None:
    assert read_models({"data": []}).facts == {"served_models": frozenset(), "served_adapters": frozenset()}


@pytest.mark.parametrize("answer", [None, [], "models", {}, {"data": None}, {"data": {"id": "m"}}])
def test_what_is_no_list_of_models_leaves_them_unknown(answer: Any) -> None:
    reading = read_models(answer)

    assert not reading.facts
    assert tuple(reading.absent) == MODEL_COLUMNS


def test_entries_that_are_no_models_are_passed_over() -> None:
    assert read_models({"data": [{"id": "m"}, {"id": 7}, "x", {}]}).facts["served_models"] == {"m"}
