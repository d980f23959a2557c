"""One pass: order, weights, contracts and receipts."""

import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, strategies as st

from inferencesched import ConfigError, ContractError, Endpoint, EndpointBatch, Profile, Registry, Request
from inferencesched.endpoints import BoolArray, FloatArray
from inferencesched.profile import Named, in_order

create = Registry().create


@attrs.frozen
class Fixed:
    """Scores what it is told."""

    scores: Any
    type: str = "fixed"

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return self.scores  # type: ignore[no-any-return]


@attrs.frozen
class Keeping:
    """Keeps the endpoints it names."""

    names: tuple[str, ...]
    type: str = "keeping"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.array([name in self.names for name in endpoints.names], np.bool_)


@attrs.frozen
class Making:
    """Produces one column out of others."""

    makes: str
    needs: tuple[str, ...] = ()

    @property
    def produces(self) -> tuple[str, ...]:
        return (self.makes,)

    @property
    def consumes(self) -> tuple[str, ...]:
        return self.needs

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {self.makes: 1.0 + sum((endpoints[name] for name in self.needs), np.zeros(len(endpoints)))}


def run(profile: Profile, n: int = 3, picks: int = 1, seed: int = 1) -> Any:
    batch = EndpointBatch.build([f"e{i}" for i in range(n)])
    return profile.run(Request("r"), batch, random.Random(seed), n=picks)


def profile_of(*scorers: tuple[Any, float], **more: Any) -> Profile:
    return Profile(scorers=scorers, picker=create("max-score-picker"), **more)


def test_the_total_is_the_weighted_mean_of_the_scores() -> None:
    """Totals are in [0, 1] whatever the weights are."""
    result = run(profile_of((Fixed(np.array([1.0, 0.0, 0.5])), 3.0), (Fixed(np.array([0.0, 1.0, 0.5])), 1.0)))

    assert result.totals.tolist() == [0.75, 0.25, 0.5]
    assert [e.name for e in result.endpoints] == ["e0"]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.sampled_from([2, 3, 5, 7, 0.5]),
    st.integers(0, 2**32),
)
def test_h8_weights_matter_by_their_ratio_only(weights: list[int], factor: float, seed: int) -> None:
    """[3, 2, 2] and [6, 4, 4] give identical totals and identical picks, for every picker."""
    dice = np.random.default_rng(seed)
    rows = dice.random((len(weights), 6))
    for picker in ("max-score-picker", "weighted-random-picker", "power-of-two-choices-picker"):
        results = [
            Profile(
                scorers=[(Fixed(row), scale * weight) for row, weight in zip(rows, weights, strict=True)],
                picker=create(picker),
            ).run(Request("r"), EndpointBatch.build("abcdef"), random.Random(seed), n=2)
            for scale in (1.0, factor)
        ]
        assert results[0].picked == results[1].picked
        assert results[0].totals.tolist() == results[1].totals.tolist()


def test_without_scorers_every_endpoint_is_as_good() -> None:
    """All totals are zero and chance decides."""
    result = run(profile_of())

    assert result.totals.tolist() == [0.0, 0.0, 0.0]
    assert result.tied == 3


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_h1_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    """Negative, NaN and infinite weights are configuration errors that name the scorer."""
    with pytest.raises(ConfigError, match=r"default.scorers\[1\].weight: expected a finite number ≥ 0"):
        profile_of((Fixed(np.ones(1)), 1.0), (Fixed(np.ones(1)), weight))


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.array([0.5, 1.5, 0.0]), "score 1.5 for endpoint 'e1' is not in [0, 1]"),
        (np.array([0.5, 0.5, -0.1]), "score -0.1 for endpoint 'e2' is not in [0, 1]"),
        (np.array([math.nan, 0.5, 0.5]), "score nan for endpoint 'e0' is not in [0, 1]"),
        (np.array([0.5, 0.5]), "float64 array of shape (3,), got float64 of shape (2,)"),
        (np.array([0.5, 0.5, 0.5], np.float32), "float64 array of shape (3,), got float32 of shape (3,)"),
        ([0.5, 0.5, 0.5], "float64 array of shape (3,), got list"),
        (np.float64(0.5), "float64 array of shape (3,), got float64"),
        (None, "got NoneType"),
    ],
)
def test_h7_a_wrong_score_is_attributed_to_plugin_endpoint_and_value(scores: Any, says: str) -> None:
    """Out of range, NaN, missing endpoints, broadcasts: nothing is clamped, the culprit is named."""
    good = Fixed(np.array([0.1, 0.2, 0.3]), "good-one")
    bad = Named(Fixed(scores), "bad-one", "bad-dist")

    with pytest.raises(ContractError) as caught:
        run(profile_of((good, 1.0), (bad, 1.0)))

    assert says in str(caught.value)
    assert str(caught.value).startswith("plugin 'bad-one' (from distribution 'bad-dist'): ")


def test_two_wrong_scores_that_cancel_out_are_still_found() -> None:
    """The look is at every score, not at the totals."""
    with pytest.raises(ContractError, match=r"1\.5"):
        run(profile_of((Fixed(np.array([1.5, 0.0, 0.0])), 1.0), (Fixed(np.array([0.0, 0.5, 0.5])), 1.0)))


@pytest.mark.parametrize("mask", [np.ones(3), np.ones(2, np.bool_), [True, True, True], np.bool_(True)])
def test_a_filter_must_return_a_mask_of_the_right_kind(mask: Any) -> None:
    """Numbers, lists, scalars and short masks are refused."""

    class Wrong:
        def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
            return mask  # type: ignore[no-any-return]

    with pytest.raises(ContractError, match=r"keep\(\) must return a bool array of shape \(3,\)"):
        run(profile_of(filters=[Wrong()]))


@pytest.mark.parametrize("picked", [[], [3], [-1], [0, 0]])
def test_a_picker_must_return_positions_that_exist(picked: list[int]) -> None:
    """Nothing, out of range, twice the same: refused."""

    class Wrong:
        def pick(self, *given: object) -> Sequence[int]:
            return picked

    with pytest.raises(ContractError, match="distinct positions in 0…2"):
        run(Profile(picker=Wrong()))


def test_a_producer_may_only_make_what_it_declares() -> None:
    """Undeclared columns, wrong shapes and wrong types are refused by name."""

    class Wrong:
        produces = ("mine",)

        def __init__(self, columns: Any) -> None:
            self.columns = columns

        def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
            return self.columns  # type: ignore[no-any-return]

    for columns, says in [
        ({"theirs": np.ones(3)}, "'theirs', which is not in its produces"),
        ({"mine": np.ones(2)}, r"shape \(2,\)"),
        ({"mine": np.ones(3, np.int64)}, "int64"),
        ({"mine": 3.0}, "mine|shape"),
    ]:
        with pytest.raises(ContractError, match=says):
            run(profile_of(producers=[Wrong(columns)]))


def test_producers_run_after_those_whose_columns_they_consume() -> None:
    """The order given does not matter; the same object twice runs once."""
    base, middle, top = Making("base"), Making("middle", ("base",)), Making("top", ("middle", "base"))

    assert [named.plugin for named in in_order([top, middle, base, top])] == [base, middle, top]
    result = run(profile_of(producers=[top, middle, base]))
    assert result.candidates["top"].tolist() == [4.0, 4.0, 4.0]


def test_producers_in_a_circle_are_refused_by_name() -> None:
    """A circle of columns is a configuration error."""
    with pytest.raises(ConfigError, match="'Making', 'Making' consume each other's columns in a circle"):
        in_order([Making("a", ("b",)), Making("b", ("a",))])


def test_filters_are_anded_and_each_drop_is_kept_with_its_reason() -> None:
    """The receipt says who removed whom; a filter that removed nobody is not mentioned."""
    keep = [Keeping(("e0", "e1")), Keeping(("e0", "e1", "e2")), Keeping(("e1", "e2"))]

    result = run(profile_of(filters=keep))

    assert [(d.filter, d.endpoints) for d in result.drops] == [("keeping", ("e2",)), ("keeping", ("e0",))]
    assert result.kept.names == ("e1",)
    assert "Keeping(names=('e0', 'e1')" in result.drops[0].why


def test_a_pass_that_keeps_nobody_picks_nobody() -> None:
    """Filters after the last endpoint, scorers and the picker are not called."""
    result = run(profile_of((Fixed(None), 1.0), filters=[Keeping(()), Keeping(("e0",))]))

    assert (result.picked, result.endpoints, len(result.kept)) == ((), (), 0)
    assert len(result.drops) == 1
    assert math.isnan(result.margin)


@pytest.mark.parametrize(
    "picker", ["max-score-picker", "random-picker", "weighted-random-picker", "round-robin-picker"]
)
def test_pick_n_gives_ranked_distinct_fallbacks(picker: str) -> None:
    """As many as asked for, no more than there are."""
    profile = Profile(scorers=[(Fixed(np.array([0.2, 0.9, 0.4])), 1.0)], picker=create(picker))

    assert sorted(run(profile, picks=3).picked) == [0, 1, 2]
    assert len(run(profile, picks=2).picked) == 2
    assert len(run(profile, picks=9).picked) == 3
    if picker == "max-score-picker":
        assert run(profile, picks=3).picked == (1, 2, 0)


def test_a_pass_is_a_pure_function() -> None:
    """The same arguments and dice give the same pass, again and again."""
    profile = profile_of((Fixed(np.array([0.5, 0.5, 0.5])), 1.0))

    assert {run(profile, picks=2, seed=7).picked for _ in range(20)} == {run(profile, picks=2, seed=7).picked}


def test_b4_ties_are_decided_by_chance_not_by_place() -> None:
    """All endpoints tied: 8,000 picks are uniform (chi-square at 0.1 %), for every picker that scores."""
    for picker in ("max-score-picker", "weighted-random-picker", "power-of-two-choices-picker", "random-picker"):
        profile = Profile(scorers=[(Fixed(np.full(8, 0.5)), 1.0)], picker=create(picker))
        batch, rng, counts = EndpointBatch.build([f"e{i}" for i in range(8)]), random.Random(4), [0] * 8
        for _ in range(8000):
            counts[profile.run(Request("r"), batch, rng).picked[0]] += 1

        chi_square = sum((count - 1000) ** 2 / 1000 for count in counts)
        assert chi_square < 24.3, (picker, counts)


def test_b5_dice_are_seeded_once_not_per_pick() -> None:
    """Two picks in a row differ often; two schedules with one seed are the same."""
    profile, batch = Profile(picker=create("random-picker")), EndpointBatch.build([f"e{i}" for i in range(8)])
    rng, again = random.Random(3), random.Random(3)

    first = [profile.run(Request("r"), batch, rng).picked[0] for _ in range(100)]
    second = [profile.run(Request("r"), batch, again).picked[0] for _ in range(100)]

    assert first == second
    assert sum(a != b for a, b in pairwise(first)) > 70


def test_b16_magnitude_survives_in_the_scorers_that_claim_it() -> None:
    """Depths 100 and 101 in flight, hits of 50 and 51 %, caches 50 and 51 % full do not become 0 and 1."""
    batch = EndpointBatch.build(
        ["a", "b"],
        {
            "in_flight_requests": [100, 101],
            "in_flight_tokens": [100_000, 101_000],
            "kv_cache_utilization": [0.50, 0.51],
            "prefix_matched_tokens": [510, 500],
            "prefix_total_tokens": [1000, 1000],
        },
    )
    for scorer in ("active-request-scorer", "token-load-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer"):
        better, worse = create(scorer).score(Request("r"), batch)
        assert 0 < better - worse < 0.02, scorer


def test_plugins_are_named_by_their_type_their_given_name_or_their_class() -> None:
    """What a receipt calls a plugin is what its user calls it."""
    assert Named.of(create("queue-scorer")).name == "queue-scorer"
    assert Named.of(Named(create("queue-scorer"), "mine")).name == "mine"
    assert Named.of(object()).name == "object"
    assert "queue-scorer" in repr(profile_of((create("queue-scorer"), 1.0)))


def test_endpoints_given_directly_keep_labels_and_addresses() -> None:
    """`Profile.run` needs no table."""
    batch = EndpointBatch.build([Endpoint("a", "10.0.0.1:80", labels={"zone": "x"})])
    profile = profile_of(filters=[create("label-selector-filter", {"matchLabels": {"zone": "x"}})])

    assert profile.run(Request("r"), batch, random.Random(1)).endpoints[0].address == "10.0.0.1:80"
