"""Producers that nobody declared are put in where a column is required."""

from typing import ClassVar

import pytest

from inferencesched import Config, Registry
from tests.config.short import load, wrong


def producers(config: Config) -> list[str]:
    return [named.name for named in next(iter(config.profiles.values())).producers]


@pytest.mark.parametrize(
    ("scorer", "made"),
    [
        ("queue-scorer", []),
        ("active-request-scorer", []),
        ("prefix-cache-scorer", ["approx-prefix-cache-producer"]),
        ("token-load-scorer", ["token-producer", "inflight-load-producer"]),
    ],
)
def test_what_a_scorer_requires_is_made_with_all_that_it_takes(scorer: str, made: list[str]) -> None:
    assert producers(load(scorer)) == made


def test_what_is_only_optional_is_not_made() -> None:
    assert "approx-prefix-cache-producer" not in producers(load("token-load-scorer"))


def test_a_declared_producer_is_used_under_any_name() -> None:
    config = load("prefix-cache-scorer", {"type": "approx-prefix-cache-producer", "name": "mine"})

    assert producers(config) == ["mine"]


def test_a_producer_of_somebody_else_will_do() -> None:
    class Elsewhere:
        """Knows prefixes from another source."""

        produces: ClassVar = ("prefix_matched_tokens", "prefix_total_tokens")

        def produce(self, *_: object) -> None: ...

    assert producers(load("prefix-cache-scorer", "elsewhere", registry=Registry({"elsewhere": Elsewhere}))) == [
        "elsewhere"
    ]


def test_a_declared_producer_that_is_wrong_is_not_made_up_for() -> None:
    problems = wrong("prefix-cache-scorer", {"type": "approx-prefix-cache-producer", "parameters": {"blok": 1}})

    assert list(problems) == ["plugins[1].parameters.blok"]


def test_a_producer_that_is_named_and_not_declared_is_reported() -> None:
    parameters = {"prefixMatchInfoProducerName": "aprox-prefix-cache-producer"}

    problems = wrong({"type": "prefix-cache-scorer", "parameters": parameters})

    message = "no plugin 'aprox-prefix-cache-producer' is declared — did you mean 'approx-prefix-cache-producer'?"
    assert problems == {"plugins[0].parameters.prefixMatchInfoProducerName": message}


def test_a_producer_that_can_be_put_in_may_be_named_without_being_declared() -> None:
    parameters = {"prefixMatchInfoProducerName": "approx-prefix-cache-producer"}

    config = load({"type": "prefix-cache-scorer", "parameters": parameters})

    assert producers(config) == ["approx-prefix-cache-producer"]
