"""Pickers: who is chosen, how often, and in which order the fallbacks stand."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from inferencesched import Profile, Registry, Request, Scheduler
from inferencesched.testing import make_batch

create = Registry().create
PICKERS = (
    "max-score-picker",
    "power-of-two-choices-picker",
    "random-picker",
    "round-robin-picker",
    "weighted-random-picker",
)


def pick(picker: Any, totals: list[float], n: int = 1, rng: random.Random | None = None) -> list[int]:
    request, batch = Request("r", "m"), make_batch(n=len(totals))
    return [int(row) for row in picker.pick(request, batch, np.array(totals), n, rng or random.Random(1))]


def shares(type: str, totals: list[float], draws: int = 20_000) -> list[float]:
    """Return how often each endpoint comes first, with one seed for all draws."""
    picker, rng = create(type), random.Random(7)
    found = Counter(pick(picker, totals, rng=rng)[0] for _ in range(draws))
    return [found[row] / draws for row in range(len(totals))]


@pytest.mark.parametrize(
    ("type", "totals", "expected"),
    [
        ("max-score-picker", [0.2, 0.9, 0.5], [0, 1, 0]),
        ("max-score-picker", [0.9, 0.1, 0.9, 0.9], [1 / 3, 0, 1 / 3, 1 / 3]),
        ("random-picker", [0.0, 1.0, 0.5, 0.1], [0.25] * 4),
        ("weighted-random-picker", [0.1, 0.2, 0.7], [0.1, 0.2, 0.7]),
        ("weighted-random-picker", [0.5, 0.0, 0.5], [0.5, 0, 0.5]),
        ("weighted-random-picker", [0.0, 0.0], [0.5, 0.5]),
        # Of n endpoints the k-th worst wins 2 (k − 1) of the n (n − 1) ordered pairs.
        ("power-of-two-choices-picker", [0.1, 0.2, 0.3], [0, 1 / 3, 2 / 3]),
        ("power-of-two-choices-picker", [0.5], [1]),
    ],
)
def test_how_often_each_endpoint_is_chosen(type: str, totals: list[float], expected: list[float]) -> None:
    assert shares(type, totals) == pytest.approx(expected, abs=4 * 0.0036)  # four standard deviations, at most


def test_weighted_random_draws_fallbacks_in_proportion_to_what_is_left() -> None:
    """P(1, then 0) = w1/W · w0/(W − w1), as with keys U^(1/w)."""
    picker, rng = create("weighted-random-picker"), random.Random(3)

    found = Counter(tuple(pick(picker, [0.1, 0.3, 0.6], 2, rng)) for _ in range(20_000))

    assert found[1, 0] / 20_000 == pytest.approx(0.3 * 0.1 / 0.7, abs=0.01)
    assert found[2, 1] / 20_000 == pytest.approx(0.6 * 0.3 / 0.4, abs=0.015)


def test_weighted_random_takes_endpoints_without_a_score_only_to_fill_up() -> None:
    picker = create("weighted-random-picker")

    assert all(pick(picker, [0.0, 0.4, 0.0, 0.2], 3, random.Random(i))[:2] in ([1, 3], [3, 1]) for i in range(50))


@given(
    st.sampled_from(PICKERS),
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.integers(1, 15),
    st.integers(0, 2**32),
)
def test_as_many_distinct_endpoints_as_there_are(type: str, totals: list[float], n: int, seed: int) -> None:
    picked = pick(create(type), totals, n, random.Random(seed))

    assert len(set(picked)) == len(picked) == min(n, len(totals))


@pytest.mark.parametrize("type", PICKERS)
@pytest.mark.parametrize(("configured", "expected"), [(3, 3), (1, 1), (0, 1), (-5, 1), (99, 4)])
def test_max_num_of_endpoints_is_what_is_returned_when_the_host_asks_for_one(
    type: str, configured: int, expected: int
) -> None:
    assert len(pick(create(type, {"maxNumOfEndpoints": configured}), [0.1, 0.2, 0.3, 0.4])) == expected


def test_max_score_ranks_fallbacks_by_score() -> None:
    assert pick(create("max-score-picker"), [0.2, 0.9, 0.5, 0.7], 4) == [1, 3, 2, 0]


def test_the_same_seed_picks_the_same() -> None:
    for name in PICKERS:
        assert pick(create(name), [0.4] * 9, 5, random.Random(5)) == pick(create(name), [0.4] * 9, 5, random.Random(5))


def in_turn(endpoints: int = 3) -> Scheduler:
    scheduler = Scheduler(Profile(picker=create("round-robin-picker")), rng=random.Random(0))
    for i in range(endpoints):
        scheduler.add_endpoint(f"e{i}", now=0.0)
    return scheduler


def places(scheduler: Scheduler, times: int, model: str = "m", **how: Any) -> list[str]:
    found = []
    for i in range(times):
        decision = scheduler.schedule(Request(f"r-{i}", model), now=0.0, **how)
        found.append(decision.endpoint.name)  # type: ignore[union-attr]
    return found


def test_round_robin_goes_round() -> None:
    assert places(in_turn(), 7) == ["e0", "e1", "e2", "e0", "e1", "e2", "e0"]


def test_b7_adding_a_model_does_not_reset_the_turn_of_another() -> None:
    scheduler = in_turn()
    places(scheduler, 2, "first")

    assert places(scheduler, 1, "second") == ["e0"]
    assert places(scheduler, 1, "first") == ["e2"]


def test_b7_a_turn_outlives_endpoints_that_come_and_go() -> None:
    scheduler = in_turn()
    places(scheduler, 2)
    scheduler.remove_endpoint("e0", now=0.0)
    scheduler.add_endpoint("new", now=0.0)

    assert places(scheduler, 4) == ["e2", "new", "e1", "e2"]


def test_b7_requests_for_part_of_the_fleet_take_turns_among_that_part() -> None:
    scheduler = in_turn()

    assert places(scheduler, 4, subset=["e0", "e2"]) == ["e0", "e2", "e0", "e2"]
    assert places(scheduler, 1) == ["e1"]


def test_round_robin_remembers_no_endpoint_that_has_gone_and_a_bounded_number_of_models() -> None:
    scheduler = in_turn(2)
    picker = scheduler.profiles["default"].picker.plugin
    for i in range(5000):
        places(scheduler, 1, f"model-{i}")
    scheduler.remove_endpoint("e0", now=0.0)

    gone = 1  # the instance number of the first endpoint of a table
    assert len(picker._turns) == 4096
    assert not any(gone in turns for turns in picker._turns.values())
