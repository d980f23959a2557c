"""How full the pool is: the field's golden figures, what is unknown, and gates that neither flap nor stick."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from inferencesched import Endpoint, EndpointBatch, EndpointTable, Lease, Request
from inferencesched.flow import (
    CombinedDetector,
    ConcurrencyDetector,
    PriorityHoldbackPolicy,
    Saturation,
    StaticUsageLimitPolicy,
    UtilizationDetector,
)
from inferencesched.flow.gates import Gates
from inferencesched.flow.meter import Meter
from inferencesched.flow.saturation import Gauge
from inferencesched.ledger import Ledger

NAN = math.nan


def utilized(*facts: tuple[float, float]) -> EndpointBatch:
    names = [f"e{i}" for i in range(len(facts))]
    queue, cache = [q for q, _ in facts], [kv for _, kv in facts]
    return EndpointBatch.build(names, {"waiting_requests": queue, "kv_cache_utilization": cache})


def loaded(*facts: tuple[float, float]) -> EndpointBatch:
    names = [f"e{i}" for i in range(len(facts))]
    return EndpointBatch.build(
        names, {"in_flight_requests": [r for r, _ in facts], "in_flight_tokens": [t for _, t in facts]}
    )


def level(detector: Any, batch: EndpointBatch) -> float:
    report = Gauge(detector).read(batch)
    assert report is not None
    return report.level


# --- detectors ---


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([(2, 0.5)], 0.5556),
        ([(10, 0.1)], 2.0),
        ([(1, 0.1), (15, 0.2)], 1.6),
        ([(1, 0.1), (NAN, NAN)], 0.2),  # upstream: 0.6, the unknown counted as full
        ([(NAN, 0.45)], 0.5),
        ([(NAN, NAN)], 0.0),
    ],
)
def test_the_golden_figures_of_utilization(facts: list[tuple[float, float]], expected: float) -> None:
    detector = UtilizationDetector(queue_depth_threshold=5, kv_cache_util_threshold=0.9)

    assert level(detector, utilized(*facts)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("mode", "facts", "expected"),
    [
        ("requests", [(10, 0), (0, 0)], 0.5),
        ("requests", [(15, 0), (5, 0)], 1.0),
        ("requests", [(15, 0), (15, 0)], 1.5),
        ("requests", [(NAN, NAN)], 0.0),
        ("hybrid", [(2, 80)], 0.8),
        ("hybrid", [(9, 10)], 0.9),
        ("tokens", [(9, 10)], 0.1),
    ],
)
def test_the_golden_figures_of_concurrency(mode: Any, facts: list[tuple[float, float]], expected: float) -> None:
    detector = ConcurrencyDetector(max_concurrency=10, max_token_concurrency=100, concurrency_mode=mode)

    assert level(detector, loaded(*facts)) == pytest.approx(expected)


def test_as_filters_one_fails_open_and_the_other_does_not() -> None:
    """Upstream's behaviour of each: the second may leave nobody, which is answered 429."""
    full = utilized((9, 0.1), (9, 0.1))

    assert UtilizationDetector().keep(Request("r"), full).tolist() == [True, True]
    assert UtilizationDetector().keep(Request("r"), utilized((9, 0.1), (4, 0.1))).tolist() == [False, True]
    assert UtilizationDetector(headroom=0.5).keep(Request("r"), utilized((7, 0), (8, 0))).tolist() == [True, False]
    assert ConcurrencyDetector(max_concurrency=5).keep(Request("r"), loaded((5, 0), (4, 0))).tolist() == [False, True]
    limit = ConcurrencyDetector(max_concurrency=5, headroom=0.5)  # int(7.5)
    assert limit.keep(Request("r"), loaded((7, 0), (6, 0))).tolist() == [False, True]


def test_both_together_is_whichever_is_fuller() -> None:
    batch = EndpointBatch.build(
        ["a", "b"], {"waiting_requests": [10.0, NAN], "in_flight_requests": [1.0, 50.0], "in_flight_tokens": [0, 0]}
    )

    assert CombinedDetector().load(batch).tolist() == [2.0, 0.5]
    assert CombinedDetector().fresh_for == 0.2


# --- the pool ---


def test_e11_no_endpoints_is_unavailable_and_not_full() -> None:
    assert Gauge(UtilizationDetector()).read(utilized()) is None


def test_e12_stale_metrics_are_left_out_and_the_report_says_so() -> None:
    """One server was last heard of a second ago: the fresh one speaks for the pool, the report names the other."""
    table = EndpointTable()
    for name, queue, now in (("slow", 50.0, 0.0), ("fresh", 1.0, 1.0)):
        table.add(name, now=0.0)
        table.update(name, {"waiting_requests": queue}, now=now)

    report = Gauge(UtilizationDetector()).read(table.snapshot(now=1.1))

    assert report is not None
    assert (report.level, report.unknown) == (0.2, 1)
    assert report.contributions == {"slow": None, "fresh": 0.2}


def test_an_idle_decode_stage_does_not_hide_a_full_prefill_stage() -> None:
    fleet = [
        Endpoint(n, labels={"llm-d.ai/role": role}) for n, role in (("p", "prefill"), ("d", "decode"), ("e", "encode"))
    ]
    batch = EndpointBatch.build(fleet, {"waiting_requests": [10.0, 0.0, 100.0]})

    report = Gauge(UtilizationDetector()).read(batch)

    assert report is not None
    assert (report.level, dict(report.stages)) == (2.0, {"prefill": 2.0, "decode": 0.0})


def test_a_server_in_its_slow_start_counts_by_degrees() -> None:
    """An empty newcomer does not halve the pool's saturation at once; it does when it has warmed up."""
    table, gauge = EndpointTable(), Gauge(ConcurrencyDetector(max_concurrency=10), slow_start=10.0)
    for name, now in (("old", -100.0), ("new", 0.0)):
        gauge.joined(table.add(name, now=now), now=now)

    def at(now: float) -> float:
        batch = table.snapshot(now=now).with_columns({"in_flight_requests": np.array([10.0, 0.0])})
        report = gauge.read(batch)
        assert report is not None
        return report.level

    assert [at(0.0), at(5.0), at(10.0)] == pytest.approx([1.0, 2 / 3, 0.5])


def test_a_pool_of_newcomers_is_as_full_as_it_is() -> None:
    table, gauge = EndpointTable(), Gauge(ConcurrencyDetector(max_concurrency=10), slow_start=10.0)
    gauge.joined(table.add("new", now=0.0), now=0.0)

    report = gauge.read(table.snapshot(now=0.0).with_columns({"in_flight_requests": np.array([5.0])}))

    assert report is not None
    assert report.level == 0.5


@given(st.lists(st.floats(0, 3) | st.just(NAN), max_size=6))
def test_more_load_is_never_less_saturation(loads: list[float]) -> None:
    """And the level is always between the least and the greatest load that is known, or 0."""
    batch = loaded(*((10 * each, 0.0) for each in loads))
    report = Gauge(ConcurrencyDetector(max_concurrency=10)).read(batch)

    known = [each for each in loads if not math.isnan(each)]
    assert (report is None) == (not loads)
    if report is not None:
        assert min(known, default=0.0) - 1e-9 <= report.level <= max(known, default=0.0) + 1e-9


# --- reading it seldom ---


def test_a_reading_is_kept_while_nothing_changes() -> None:
    """Facts, the fleet and time outdate it; placements do only where they are what is counted."""
    batch = utilized((1, 0.1))
    meter = Meter(UtilizationDetector())
    for now in (0.0, 0.05, 0.1):
        meter.load_changed()
        meter.read(lambda **_: batch, now=now)
    assert meter.looks_total == 1

    meter.read(lambda **_: batch, now=0.2)
    meter.facts_changed()
    meter.read(lambda **_: batch, now=0.2)
    assert meter.looks_total == 3

    counting = Meter(ConcurrencyDetector())
    for _ in range(3):
        counting.load_changed()
        counting.read(lambda **_: loaded((1, 1)), now=0.0)
    assert counting.looks_total == 3
    assert counting.next_look() is None


@given(
    st.sampled_from(("requests", "tokens", "hybrid")),
    st.integers(1, 12),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40), st.booleans()), max_size=40),
)
def test_a_reading_that_is_brought_up_to_date_equals_a_new_one(
    mode: Any, size: int, staged: bool, steps: list[tuple[int, int, bool]]
) -> None:
    """To the last bit, after any placements and endings, in any pool: so a gate closes at the same request."""
    roles = ("prefill", "decode", "encode", "both")
    ledger, table, leases = Ledger(), EndpointTable(), list[Lease]()
    for i in range(size):
        labels = {"llm-d.ai/role": roles[i % len(roles)]} if staged else {}
        ledger.add(table.add(f"e{i}", labels=labels, now=0.0))

    def candidates(*, now: float) -> EndpointBatch:
        batch = table.snapshot(now=now)
        return batch.with_columns(ledger.columns(batch.endpoints))

    detector = ConcurrencyDetector(max_concurrency=7, max_token_concurrency=1100, concurrency_mode=mode)
    kept = Meter(detector, count=lambda endpoint: (ledger.requests(endpoint), ledger.tokens(endpoint)))
    for place, tokens, ends in steps:
        if ends and leases:
            lease = leases.pop(place % len(leases))
            ledger.release(lease)
        else:
            endpoint = table[f"e{place % size}"]
            lease = ledger.reserve("r", endpoint, prefill_tokens=tokens * 10.0, output_tokens=tokens / 3, now=0.0)
            leases.append(lease)
        kept.load_changed(lease)
        found, anew = kept.read(candidates, now=0.0), Gauge(detector).read(candidates(now=0.0))
        assert found is not None
        assert anew is not None
        assert (found.level, dict(found.stages)) == (anew.level, dict(anew.stages))
        assert found.load.tolist() == anew.load.tolist()

    assert kept.looks_total <= 1


# --- gates ---


def at(level: float) -> Saturation:
    batch = utilized((0, 0))
    return Saturation(level, {}, batch, np.zeros(1), np.ones(1))


def test_e13_a_signal_that_trembles_at_the_threshold_does_not_open_the_gate_each_time() -> None:
    gates, bands = Gates(StaticUsageLimitPolicy().ceilings, hysteresis=0.05), (0,)
    states = []
    for level in (0.99, 1.0, 0.99, 1.01, 0.97, 1.0, 0.96, 0.94, 0.99, 1.0):
        gates.look(at(level), bands)
        states.append(gates.is_open(0))

    assert states == [True, False, False, False, False, False, False, True, True, False]
    assert gates.closings_total == 2


def test_each_band_has_its_gate() -> None:
    gates, bands = Gates(PriorityHoldbackPolicy(0.5).ceilings, hysteresis=0.0), (10, 0, -1)

    gates.look(at(0.8), bands)

    assert [gates.is_open(band) for band in bands] == [True, False, False]
    gates.look(None, bands)
    assert not any(gates.is_open(band) for band in bands)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=50), st.floats(0, 0.5))
def test_e14_a_gate_never_sticks(levels: list[float], hysteresis: float) -> None:
    """Whatever happened before: idle is open, full is closed."""
    gates, bands = Gates(StaticUsageLimitPolicy().ceilings, hysteresis=hysteresis), (0,)
    for level in levels:
        gates.look(at(level), bands)
        assert not gates.is_open(0) or level < 1.0

    gates.look(at(0.0), bands)

    assert gates.is_open(0)
