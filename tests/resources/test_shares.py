"""Shares: exact by weight, the same for a key, and no key moves that need not."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from inferencesched.resources.shares import Shares

KEYS = [f"tenant-{i}" for i in range(100_000)]


def chosen(names: list[str], weights: Sequence[float], salt: str = "r", keys: list[str] = KEYS) -> list[str | None]:
    shares, rng = Shares(names, weights, salt), random.Random(0)
    picks = [shares.pick(key, rng) for key in keys]
    return [None if pick is None else names[pick] for pick in picks]


def moved(before: list[str | None], after: list[str | None]) -> Counter[tuple[str | None, str | None]]:
    return Counter((a, b) for a, b in zip(before, after, strict=True) if a != b)


def sigma(n: int, p: float) -> float:
    return math.sqrt(n * p * (1 - p))


def test_l1_moving_a_canary_from_5_to_10_percent_moves_5_percent_of_the_keys_and_all_of_them_to_it() -> None:
    moves = moved(chosen(["current", "canary"], [95, 5]), chosen(["current", "canary"], [90, 10]))

    assert set(moves) == {("current", "canary")}
    assert abs(moves.total() - 5_000) < 4.5 * sigma(100_000, 0.05)


def test_l1_of_three_the_one_that_grows_takes_from_both_others_and_those_give_nothing_to_each_other() -> None:
    moves = moved(chosen(["a", "b", "c"], [45, 45, 5]), chosen(["a", "b", "c"], [45, 45, 10]))

    assert set(moves) == {("a", "c"), ("b", "c")}
    assert abs(moves.total() - 100_000 * (0.1 - 5 / 95)) < 4.5 * sigma(100_000, 0.05)


def test_l1_two_weights_that_change_move_no_more_than_one_after_the_other() -> None:
    """50/45/5 → 45/45/10 is a step down for the first and a step up for the last."""
    names = ["a", "b", "c"]
    start, middle, end = (chosen(names, weights) for weights in ([50, 45, 5], [45, 45, 5], [45, 45, 10]))

    together, step, other = moved(start, end), moved(start, middle), moved(middle, end)

    assert together.total() + 4.5 * sigma(100_000, 0.05) >= 5_000
    assert together.total() <= step.total() + other.total()
    assert ("a", "c") in together
    assert ("b", "a") not in together


@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=5),
    st.integers(0, 4),
    st.integers(1, 50),
)
def test_a_weight_that_grows_only_takes(weights: list[float], position: int, more: int) -> None:
    names = [f"pool-{i}" for i in range(len(weights))]
    position %= len(weights)
    grown = [weight + more * (i == position) for i, weight in enumerate(weights)]

    moves = moved(chosen(names, weights, keys=KEYS[:300]), chosen(names, grown, keys=KEYS[:300]))

    assert all(to == names[position] for _, to in moves)


@given(st.lists(st.integers(0, 20), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_order_in_which_choices_stand_moves_no_key(weights: list[float], rng: random.Random) -> None:
    listed = [(f"pool-{i}", weight) for i, weight in enumerate(weights)]
    shuffled = listed.copy()
    rng.shuffle(shuffled)

    one, other = (
        chosen([name for name, _ in each], [weight for _, weight in each], keys=KEYS[:300])
        for each in (listed, shuffled)
    )

    assert one == other


@pytest.mark.parametrize("weights", [[90, 10], [1, 1, 1], [70, 30], [1, 0, 999]])
def test_keys_and_dice_both_give_the_shares_of_the_weights(weights: list[float]) -> None:
    names, rng = [f"pool-{i}" for i in range(len(weights))], random.Random(7)
    shares = Shares(names, weights, "r")

    by_key = Counter(shares.pick(key, rng) for key in KEYS)
    by_dice = Counter(shares.pick(None, rng) for _ in KEYS)

    for position, weight in enumerate(weights):
        share = weight / sum(weights)
        for counted in (by_key, by_dice):
            assert abs(counted[position] - 100_000 * share) <= 4.5 * sigma(100_000, share)


def test_two_salts_choose_independently() -> None:
    one, other = chosen(["a", "b"], [50, 50], "route"), chosen(["a", "b"], [50, 50], "rewrite")

    both = sum(a == b for a, b in zip(one, other, strict=True))

    assert abs(both - 50_000) < 4.5 * sigma(100_000, 0.5)


def test_one_name_twice_has_both_its_shares() -> None:
    shares = Shares(["a", "a", "b"], [1, 1, 2], "r")

    rng = random.Random(0)
    picks = Counter(shares.pick(key, rng) for key in KEYS[:10_000])

    assert all(abs(picks[i] - 10_000 * share) < 4.5 * sigma(10_000, share) for i, share in enumerate((0.25, 0.25, 0.5)))


def test_without_weight_there_is_no_choice_and_with_one_choice_no_dice_are_thrown() -> None:
    rng = random.Random(1)
    before = rng.getstate()

    assert Shares([], [], "r").pick("k", rng) is None
    assert Shares(["a", "b"], [0, 0], "r").pick(None, rng) is None
    assert Shares(["a", "b"], [0, 3], "r").pick(None, rng) == 1
    assert rng.getstate() == before
