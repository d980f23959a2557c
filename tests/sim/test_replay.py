"""Facts about replays: their numbers by hand, and how policies compare on the real trace."""

import functools
import json
import math
import random
from collections.abc import Callable

import attrs
import pytest

from inferencesched.scheduler import Scheduler
from inferencesched.sim.engine import EngineSpec
from inferencesched.sim.fleet import Event, FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.policies import POLICIES, build_scheduler
from inferencesched.sim.replay import Result, replay
from inferencesched.sim.report import Quantiles, Summary, summarize
from inferencesched.sim.trace import Trace, TraceRequest

# 1 s a step, 10 ms a prompt token, and blocks of 64 tokens: the smallest that the prefix index looks at.
PLAIN = EngineSpec("plain", step_seconds=1.0, prefill_token_seconds=0.01, max_running=8, step_tokens=1000)
BLOCK = 64


def policy(name: str) -> Callable[[random.Random], Scheduler]:
    return lambda rng: build_scheduler(POLICIES[name], rng=rng)


def small_replay(**options: object) -> Result:
    requests = (
        TraceRequest("a", 0.0, 300, 3, (1, 2, 3, 4, 5)),
        TraceRequest("b", 10.0, 300, 1, (1, 2, 3, 4, 6)),
        TraceRequest("c", 20.0, 100, 1, (7, 8)),
    )
    return replay(Trace("t", BLOCK, requests), FleetSpec((PLAIN,) * 2), policy("prefix-only"), seed=3, **options)  # type: ignore[arg-type]


def test_the_numbers_are_those_of_arithmetic() -> None:
    """b finds four of its five blocks where a was; everything else is computed."""
    result = small_replay()
    a, b, c = result.runs
    summary = summarize(result)

    assert (a.ttft, a.tpot) == pytest.approx((4.0, 1.0))
    assert b.endpoint == a.endpoint
    assert (b.matched_blocks, b.matched_tokens) == (4, 256)
    assert b.ttft == pytest.approx(1.44)
    assert math.isnan(b.tpot)
    assert (summary.requests, summary.rejected, summary.preemptions) == (3, 0, 0)
    assert summary.hit_ratio_blocks == pytest.approx(4 / 12)
    assert summary.hit_ratio_tokens == pytest.approx(256 / 700)
    assert summary.makespan == c.finished == pytest.approx(22.0)
    assert sum(endpoint.computed_tokens for endpoint in result.endpoints) == 300 + 44 + 100
    assert sum(endpoint.generated_tokens for endpoint in result.endpoints) == 5
    assert sum(endpoint.requests for endpoint in result.endpoints) == 3


def test_skew_is_the_busiest_over_the_mean() -> None:
    """Everything on one of two endpoints is 2."""
    same = tuple(TraceRequest(f"r{i}", float(i), 300, 1, (1, 2, 3, 4, 5)) for i in range(9))

    result = replay(Trace("t", BLOCK, same), FleetSpec((PLAIN,) * 2), policy("prefix-only"))

    assert summarize(result).load_skew == 2.0


def test_an_empty_trace_has_no_numbers() -> None:
    """Unknown is not zero."""
    summary = summarize(replay(Trace("t", BLOCK, ()), FleetSpec((PLAIN,)), policy("random")))

    assert summary.to_dict()["ttft_seconds"] == {"p50": None, "p90": None, "p99": None}
    assert summary.to_dict()["load_skew_max_over_mean"] is None
    assert summary.to_dict()["makespan_seconds"] is None


def test_percentiles_leave_out_what_never_was() -> None:
    """Of 1…100 and a NaN."""
    quantiles = Quantiles.of([math.nan, *map(float, range(1, 101))])

    assert (quantiles.p50, quantiles.p90, quantiles.p99) == pytest.approx((50.5, 90.1, 99.01))


def test_the_log_begins_with_what_was_replayed_and_has_a_line_per_event() -> None:
    """Three events for each of three requests."""
    lines: list[str] = []
    seen: list[Event] = []

    small_replay(policy="prefix-only", log=lines.append, watch=seen.append)

    assert json.loads(lines[0]) == {
        "event": "replay",
        "trace": "t",
        "requests": 3,
        "policy": "prefix-only",
        "seed": 3,
        "engines": ["plain", "plain"],
        "scrape_interval": 1.0,
    }
    assert lines[1:] == [event.to_json() for event in seen]
    assert len(seen) == 9


@functools.cache
def on_the_slice(trace: Trace, name: str, engine: str, endpoints: int) -> Summary:
    return summarize(replay(trace, FleetSpec((ENGINES[engine],) * endpoints), policy(name), policy=name))


FLEETS = [("h100", 8), ("a100", 8), ("a100", 16)]


def test_one_endpoint_without_limit_hits_what_arithmetic_says(real_slice: Trace) -> None:
    """The same 0.334 as the engine alone: scheduler, leases and scrapes lose nothing on the way."""
    unlimited = attrs.evolve(ENGINES["h100"], cache_tokens=math.inf)

    summary = summarize(replay(real_slice, FleetSpec((unlimited,)), policy("default")))

    assert summary.hit_ratio_blocks == pytest.approx(0.334, abs=0.001)
    assert summary.requests - summary.rejected == 4665


@pytest.mark.parametrize(("engine", "endpoints"), FLEETS)
@pytest.mark.parametrize("baseline", ["random", "round-robin", "least-in-flight"])
def test_default_beats_what_knows_nothing_of_caches(
    real_slice: Trace, baseline: str, engine: str, endpoints: int
) -> None:
    """First tokens come sooner, at the median and at the 90th percentile, and more is found in caches."""
    ours, theirs = (on_the_slice(real_slice, name, engine, endpoints) for name in ("default", baseline))

    assert ours.ttft.p50 < theirs.ttft.p50
    assert ours.ttft.p90 < theirs.ttft.p90
    assert ours.hit_ratio_blocks > 1.5 * theirs.hit_ratio_blocks


def test_prefix_alone_loses_to_chance(real_slice: Trace) -> None:
    """Every request shares its first block, so one endpoint does everything, and its cache is too small for that."""
    alone, chance = (on_the_slice(real_slice, name, "h100", 8) for name in ("prefix-only", "random"))

    assert alone.load_skew == pytest.approx(8.0)
    assert alone.ttft.p50 > 100 * chance.ttft.p50
    assert alone.hit_ratio_blocks < chance.hit_ratio_blocks
