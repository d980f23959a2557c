"""Fairness, ordering and usage limits: the golden figures of the field, and the bounds that are promised."""

import math
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched import Request
from inferencesched.flow import (
    BandSettings,
    EdfOrderingPolicy,
    FcfsOrderingPolicy,
    GlobalStrictFairnessPolicy,
    PriorityHoldbackPolicy,
    RoundRobinFairnessPolicy,
    SloDeadlineOrderingPolicy,
    SoftReflectiveCeilingPolicy,
    StaticUsageLimitPolicy,
    TokenWeightedFairnessPolicy,
    Waiting,
)
from inferencesched.flow.bands import Band
from inferencesched.interfaces import FairnessPolicy, OrderingPolicy


def band_of(fairness: FairnessPolicy | None = None, ordering: OrderingPolicy | None = None) -> Band:
    settings = BandSettings(
        fairness=fairness or GlobalStrictFairnessPolicy(), ordering=ordering or FcfsOrderingPolicy()
    )
    return Band(0, settings)


def queue(
    band: Band, number: int, flow: str = "f", *, arrived: float = 0.0, expires: float = 60.0, **about: Any
) -> Waiting:
    waiting = Waiting(Request(f"r{number}", flow=flow, **about), number, arrived, 1, flow=flow)
    band.add(waiting, expires=expires)
    return waiting


# --- which flow ---


def test_global_strict_takes_the_front_of_all_flows() -> None:
    band = band_of(ordering=EdfOrderingPolicy())
    for number, (flow, expires) in enumerate([("a", 9.0), ("b", 5.0), ("a", 7.0), ("c", 6.0)]):
        queue(band, number, flow, expires=expires)

    assert [band.take().number for _ in range(4)] == [1, 3, 2, 0]


def test_round_robin_goes_by_name_after_the_one_served_last() -> None:
    """Also when that one is gone: its successor goes next, and the first after the last."""
    band = band_of(RoundRobinFairnessPolicy())
    for number, flow in enumerate(["a", "a", "b", "c", "a", "c"]):
        queue(band, number, flow)

    assert [band.take().flow for _ in range(6)] == ["a", "b", "c", "a", "c", "a"]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
def test_round_robin_serves_others_at_most_once_between_two_turns(flows: list[str]) -> None:
    band = band_of(RoundRobinFairnessPolicy())
    for number, flow in enumerate(flows):
        queue(band, number, flow)

    served = [band.take().flow for _ in flows]

    for flow in set(flows):
        turns = [place for place, each in enumerate(served) if each == flow]
        for start, end in pairwise(turns):
            between = served[start + 1 : end]
            assert len(between) == len(set(between))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5000), st.booleans()), min_size=1, max_size=120),
    st.fixed_dictionaries({"a": st.sampled_from((0.5, 1.0, 3.0)), "b": st.sampled_from((1.0, 10.0))}),
)
def test_token_weighted_keeps_its_bound(work: list[tuple[str, int, bool]], weights: dict[str, float]) -> None:
    """Over every span in which two flows both wait, tokens per weight differ by at most three largest requests."""
    band = band_of(TokenWeightedFairnessPolicy(weights))
    largest: dict[str, float] = {}
    spans: dict[tuple[str, str], dict[str, float]] = {}
    for number, (flow, tokens, take) in enumerate(work):
        queue(band, number, flow, prompt_tokens=tokens, max_output_tokens=0)
        share = tokens / weights.get(flow, 1.0)
        largest[flow] = max(largest.get(flow, 0.0), share)
        if take:
            check(band, weights, spans, largest)
    while len(band):
        check(band, weights, spans, largest)


def check(band: Band, weights: dict[str, float], spans: dict[Any, dict[str, float]], largest: dict[str, float]) -> None:
    waiting = set(band.flows)
    pairs = {(a, b) for a in waiting for b in waiting if a < b}
    for pair in pairs:
        spans.setdefault(pair, dict.fromkeys(pair, 0.0))
    taken = band.take()
    for (a, b), served in list(spans.items()):
        if taken.flow in served:
            assert taken.request.prompt_tokens is not None
            served[taken.flow] += taken.request.prompt_tokens / weights.get(taken.flow, 1.0)
        if {a, b} <= set(band.flows):
            assert abs(served[a] - served[b]) <= largest[a] + largest[b] + max(largest.values()) + 1e-6
        else:
            del spans[a, b]  # the span in which both wait is over


def test_a_stream_of_new_names_cannot_hold_the_others_up() -> None:
    """A new flow with every request starts where the band stands, so whoever waited before is served before long."""
    band = band_of(TokenWeightedFairnessPolicy())
    for number in range(3):
        queue(band, number, "steady", prompt_tokens=100, max_output_tokens=0)
    served = []
    for number in range(3, 40):
        queue(band, number, f"fresh-{number}", prompt_tokens=100, max_output_tokens=0)
        served.append(band.take().flow)

    assert served.count("steady") == 3


def test_a_flow_that_sleeps_keeps_its_debt_and_earns_no_credit() -> None:
    band = band_of(TokenWeightedFairnessPolicy())
    for number in range(6):
        queue(band, number, "busy", prompt_tokens=100, max_output_tokens=0)
    queue(band, 10, "sly", prompt_tokens=300, max_output_tokens=0)
    order = [band.take().flow for _ in range(2)]
    queue(band, 11, "sly", prompt_tokens=1, max_output_tokens=0)

    order += [band.take().flow for _ in range(6)]

    assert order.index("sly", order.index("sly") + 1) >= 4, order


def test_debts_are_forgotten_when_they_no_longer_matter() -> None:
    """Ten thousand flows that come once leave a memory of no more than a few of them."""
    turns = TokenWeightedFairnessPolicy().turns()
    turns.ready("always", (0.0, 0))
    for number in range(10_000):
        turns.ready(f"f{number}", (0.0, number))
        flow = turns.next()
        turns.served(flow, 10.0)
        if flow != "always":
            turns.idle(flow)

    assert len(turns._debts) < 200


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="that of 'a' is"):
        TokenWeightedFairnessPolicy({"a": weight})


# --- which request ---


def test_fcfs_is_the_order_of_arrival() -> None:
    assert FcfsOrderingPolicy().rank(Request("r"), 3.0, 9.0) == 3.0


def test_edf_ties_go_by_arrival_and_those_that_never_expire_last() -> None:
    band = band_of(ordering=EdfOrderingPolicy())
    for number, expires in enumerate([math.inf, 8.0, 5.0, 8.0]):
        queue(band, number, expires=expires)

    assert [band.take().number for _ in range(4)] == [2, 1, 3, 0]


@pytest.mark.parametrize(
    "header", ["-1", "1e9", "NaN", "soon", "", "9" * 30, "1.5", "٣", "+5", "0x10", "9223372036854775808"]
)
def test_e5_a_header_that_makes_no_sense_moves_nobody_forward(header: str) -> None:
    """Such a request goes after every one with an honest objective, as one without any does."""
    policy = SloDeadlineOrderingPolicy()

    rank = policy.rank(Request("r", headers={"x-llm-d-slo-ttft-ms": header}), 10.0, 70.0)

    assert rank == math.inf == policy.rank(Request("r"), 10.0, 70.0)


def test_the_slo_of_the_host_is_believed_before_the_header() -> None:
    policy = SloDeadlineOrderingPolicy()

    assert policy.rank(Request("r", headers={"X-SLO-TTFT-ms": "500"}), 10.0, 70.0) == 10.5
    assert policy.rank(Request("r", headers={"x-slo-ttft-ms": "500"}, ttft_slo=2.0), 10.0, 70.0) == 12.0


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60), st.randoms())
def test_a_band_is_a_sorted_list_with_exact_removal(steps: list[tuple[float, bool]], dice: random.Random) -> None:
    """Compared with the plainest model: sort by (deadline, arrival), remove anywhere."""
    band, model = band_of(ordering=EdfOrderingPolicy()), []
    for number, (expires, removes) in enumerate(steps):
        model.append((expires, number, queue(band, number, dice.choice("abc"), expires=expires)))
        if removes:
            gone = dice.choice(model)
            model.remove(gone)
            band.remove(gone[2])
        assert (len(band), band.size_bytes) == (len(model), len(model))

    assert [band.take() for _ in model] == [waiting for *_, waiting in sorted(model, key=lambda each: each[:2])]
    assert band.flows == {}


# --- how full for whom ---


def test_the_golden_ceilings_of_priority_holdback() -> None:
    """By rank and by value, as the Endpoint Picker's tests have them."""
    rank, value = PriorityHoldbackPolicy(0.5), PriorityHoldbackPolicy(0.5, domain="value")

    assert rank.ceilings(0.0, (100, 50, 10)) == [1.0, 0.75, 0.5]
    assert value.ceilings(0.0, (100, 50, 10)) == pytest.approx([1.0, 0.7222, 0.5], abs=1e-4)
    assert value.ceilings(0.0, (5, 0, 0)) == [1.0, 0.5, 0.5]
    assert rank.ceilings(0.0, (0,)) == (1.0,) == value.ceilings(0.0, (0,))


@pytest.mark.parametrize("limits", [(0.5, 0.5), (0.9, 0.2)])
def test_a_holdback_that_is_upside_down_is_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be below maxCeiling"):
        PriorityHoldbackPolicy(*limits)


@pytest.mark.parametrize(
    ("saturation", "opens"), [(0.7, [0, 1, 0, 1]), (0.75, [0, 0, 1, 0, 0, 1]), (0.3, [1, 1]), (1.2, [0, 0, 0])]
)
def test_the_golden_rhythm_of_soft_reflective_ceilings(saturation: float, opens: list[int]) -> None:
    policy = SoftReflectiveCeilingPolicy()

    looks = [policy.ceilings(saturation, (1, 0)) for _ in opens]

    assert looks == [[1.0, float(each)] for each in opens]
    assert policy.ceilings(saturation, (1,)) == [1.0]


def test_one_threshold_for_all() -> None:
    assert StaticUsageLimitPolicy(0.8).ceilings(0.0, (1, 0, -1)) == (0.8, 0.8, 0.8)
