"""Few endpoints are placed by lists of numbers, many by arrays; where both could do it, they decide alike."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from inferencesched import Decision, Profile, Registry, Request, Scheduler, load_config
from inferencesched.endpoints import FEW, EndpointBatch
from inferencesched.profile import Named
from inferencesched.testing import make_batch
from inferencesched.weighing import are_shares, shares_of, weighed_few

CONFIGURATIONS: dict[str, list[str]] = {
    "default": [],
    "endpoint-picker": ["queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer"],
    "mixed": ["active-request-scorer", "prefix-cache-scorer", "running-requests-size-scorer"],
}
"""One of each: all in the form for few, and some with and some without."""

PICKER = Registry().create("max-score-picker")
FACTS = ("waiting_requests", "running_requests", "kv_cache_utilization")


def scheduler(scorers: list[str], endpoints: int, facts: list[float]) -> Scheduler:
    config = load_config() if not scorers else load_config(_document(scorers))
    made = config.scheduler(rng=random.Random(7))
    for i in range(endpoints):
        made.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
        for k, column in enumerate(FACTS):
            value = facts[(3 * i + k) % len(facts)]
            made.update(f"e{i}", {column: min(value / 10, 1.0) if k == 2 else value}, now=0.0)
    return made


def _document(scorers: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [{"type": scorer} for scorer in scorers],
        "schedulingProfiles": [
            {"name": "default", "plugins": [{"pluginRef": s, "weight": 1 + i} for i, s in enumerate(scorers)]}
        ],
    }


@contextmanager
def arrays_only() -> Iterator[None]:
    """Let no number of endpoints be few."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("endpoints", "ledger"):
            patch.setattr(f"inferencesched.{module}.FEW", 0)
        yield


def served(subject: Scheduler, prompts: list[int]) -> list[Decision]:
    """Place requests, each ended when the third after it is placed."""
    placed: list[Decision] = []
    for number, prompt in enumerate(prompts):
        text = f"group {prompt % 3} " * 60 + f"question {prompt} " * 20
        outcome = subject.schedule(Request(f"r{number}", "m", text), now=number * 0.1, n=2)
        assert isinstance(outcome, Decision)
        placed.append(outcome)
        if number >= 3:
            subject.finish(placed[number - 3], now=number * 0.1)
    return placed


@pytest.mark.parametrize("scorers", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
@settings(max_examples=40, deadline=None)
@given(
    endpoints=st.integers(1, FEW),
    facts=st.lists(st.sampled_from([0.0, 1.0, 2.5, 7.0, 10.0, math.nan]), min_size=1, max_size=9),
    prompts=st.lists(st.integers(0, 12), min_size=1, max_size=12),
)
def test_lists_and_arrays_decide_alike(
    scorers: list[str], endpoints: int, facts: list[float], prompts: list[int]
) -> None:
    """The same endpoints in the same order, the same reservations, the same receipts up to rounding."""
    by_lists = served(scheduler(scorers, endpoints, facts), prompts)
    with arrays_only():
        by_arrays = served(scheduler(scorers, endpoints, facts), prompts)

    for few, many in zip(by_lists, by_arrays, strict=True):
        assert (few.endpoint.name, [e.name for e in few.fallbacks]) == (
            many.endpoint.name,
            [e.name for e in many.fallbacks],
        )
        assert few.lease.prefill_tokens == many.lease.prefill_tokens
        ours, theirs = few.passes[few.primary], many.passes[many.primary]
        np.testing.assert_allclose(ours.totals, theirs.totals, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-12)
        assert few.explain() == many.explain()


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), max_size=5),
    st.lists(st.floats(0, 9), min_size=5, max_size=5),
)
def test_totals_of_lists_are_those_of_arrays(rows: list[list[float]], weights: list[float]) -> None:
    shares = shares_of(weights[: len(rows)])

    expected = shares @ np.array(rows).reshape(len(rows), 3) if rows else np.zeros(3)
    np.testing.assert_allclose(weighed_few(shares.tolist(), rows, 3), expected, rtol=0, atol=1e-12)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, -1e-9, 1.0 + 1e-9, math.nan, math.inf, -math.inf]), min_size=1))
def test_what_is_no_share_is_found_in_lists_and_in_arrays(row: list[float]) -> None:
    """A NaN at any place, and infinities that add up to one."""
    expected = all(0.0 <= score <= 1.0 for score in row)

    assert are_shares(row) is are_shares(np.array(row)) is expected


def test_one_more_than_few_are_arrays() -> None:
    few, many = make_batch(n=FEW), make_batch(n=FEW + 1)

    assert (few.are_few, many.are_few) == (True, False)


def test_a_list_and_its_array_are_one_column() -> None:
    """Whichever form it was given in; what was read before it was shadowed is not believed any more."""
    batch = make_batch(n=2, waiting_requests=[1.0, 2.0])
    assert (batch.numbers("waiting_requests"), batch["waiting_requests"].tolist()) == ([1.0, 2.0], [1.0, 2.0])

    listed = batch.with_columns({"waiting_requests": [3.0, 4.0]})
    arrayed = listed.with_columns({"waiting_requests": np.array([5.0, 6.0])})

    assert (listed.numbers("waiting_requests"), listed["waiting_requests"].tolist()) == ([3.0, 4.0], [3.0, 4.0])
    assert (arrayed.numbers("waiting_requests"), arrayed["waiting_requests"].tolist()) == ([5.0, 6.0], [5.0, 6.0])
    assert listed.select(np.array([False, True])).numbers("waiting_requests") == [4.0]
    assert listed.at("waiting_requests", 1) == 4.0
    assert not listed["waiting_requests"].flags.writeable
    with pytest.raises(ValueError, match="column 'waiting_requests' is a list of 1, not of 2"):
        batch.with_columns({"waiting_requests": [3.0]})


def test_a_list_follows_the_table_and_its_age() -> None:
    """Kept until somebody writes; too old is unknown, as in the array."""
    subject = scheduler([], 2, [1.0])
    before = subject.table.snapshot(now=0.0).numbers("waiting_requests")
    subject.update("e1", {"waiting_requests": 9.0}, now=1.0)

    assert (before, subject.table.snapshot(now=1.0).numbers("waiting_requests")) == ([1.0, 1.0], [1.0, 9.0])


class Says:
    """Says what it was made with, in the form for few endpoints only."""

    produces = ("tokens",)

    def __init__(self, few: Any) -> None:
        self.few = few

    def score(self, request: Request, endpoints: EndpointBatch) -> Any:
        return np.full(len(endpoints), 0.5)

    def score_few(self, request: Request, endpoints: EndpointBatch) -> Any:
        return self.few

    def produce(self, request: Request, endpoints: EndpointBatch) -> Any:
        return {}

    def produce_few(self, request: Request, endpoints: EndpointBatch) -> Any:
        return {"tokens": self.few}


def skipped(profile: Profile) -> list[str]:
    """Place a request among two, and return why plugins were done without."""
    subject = Scheduler(profile, rng=random.Random(1))
    for name in ("a", "b"):
        subject.add_endpoint(name, now=0.0)
    outcome = subject.schedule(Request("r"), now=0.0)
    assert isinstance(outcome, Decision)
    return [skip.error for skip in (*outcome.skipped, *outcome.passes["default"].skipped)]


@pytest.mark.parametrize(
    ("few", "why"),
    [
        ([0.5], "score_few() must return a list of 2 numbers, got list"),
        (np.array([0.5, 0.5]), "score_few() must return a list of 2 numbers, got float64 of shape (2,)"),
        ([0.5, 1.5], "score 1.5 for endpoint 'b' is not in [0, 1]"),
        ([0.5, math.nan], "score nan for endpoint 'b' is not in [0, 1]"),
        (["much", "little"], "raised TypeError"),
        ([0.5, None], "raised TypeError"),
    ],
)
def test_a_wrong_list_of_scores_is_its_scorers_fault_and_fails_no_request(few: Any, why: str) -> None:
    (error,) = skipped(Profile(scorers=[(Named(Says(few), "says"), 1.0)], picker=PICKER))

    assert error.startswith(why)


@pytest.mark.parametrize(
    ("few", "why"),
    [
        ([8.0], "produce(): column 'tokens' is a list of 1, not of 2"),
        (["many", "few"], "produce(): column 'tokens' is a list of something else than numbers"),
        ([8.0, None], "produce(): column 'tokens' is a list of something else than numbers"),
    ],
)
def test_a_wrong_column_is_its_producers_fault_and_fails_no_request(few: Any, why: str) -> None:
    assert skipped(Profile(producers=[Named(Says(few), "says")], picker=PICKER)) == [why]


class AlwaysLists:
    """Makes lists where arrays are due."""

    produces = ("tokens",)

    def produce(self, request: Request, endpoints: EndpointBatch) -> Any:
        return {"tokens": [8.0] * len(endpoints)}


def test_a_list_where_an_array_is_due_is_a_fault() -> None:
    """However few the endpoints are: the form for few has a name of its own."""
    why = "produce() must return arrays, got a list for 'tokens'"

    assert skipped(Profile(producers=[Named(AlwaysLists(), "lists")], picker=PICKER)) == [why]
