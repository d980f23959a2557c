"""Twice as much work as a fleet can do: who is served, who waits, and whether those who come back make it worse.

Everything is simulated from seeds; the fleet is the one of docs/performance/overload.md, for a shorter time. The tests
named after a letter and a number are behaviours that other projects got wrong.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable

import attrs
import pytest

from inferencesched.apis import ErrorAnswer
from inferencesched.dispatcher import Dispatcher
from inferencesched.sim.fleet import FleetSpec
from inferencesched.sim.flow_policies import FLOW_POLICIES, build_dispatcher
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.overload import BANDS, Band, Clients, Overload, Storm, capacity_of, run_overload

EIGHT = Overload(FleetSpec((ENGINES["a100"],) * 8, scrape_interval=1.0), duration=240.0)
TWO = Overload(FleetSpec((ENGINES["a100"],) * 2, scrape_interval=1.0), duration=240.0)


def run(spec: Overload, policy: str = "default", seed: int = 1) -> Storm:
    capacity = capacity_of(spec, requests=1_000)
    return run_overload(spec, builder(policy), capacity=capacity, seed=seed)


def builder(policy: str) -> Callable[[random.Random], Dispatcher]:
    return lambda rng: build_dispatcher(FLOW_POLICIES[policy], rng=rng)


def with_load(spec: Overload, sheddable: float, clients: Clients) -> Overload:
    bands = (*BANDS[:2], attrs.evolve(BANDS[2], load=sheddable))
    return attrs.evolve(spec, bands=bands, clients=clients)


@pytest.fixture(scope="module")
def alone() -> Storm:
    """The urgent calls, with the fleet to themselves."""
    return run(attrs.evolve(EIGHT, bands=BANDS[:1]))


@pytest.fixture(scope="module")
def overloaded() -> Storm:
    """The same, among twice what the fleet can do."""
    return run(EIGHT)


def test_urgent_calls_hardly_notice_an_overload(alone: Storm, overloaded: Storm) -> None:
    """Their time to first token at the 99th percentile is within 10 % of what it is on an empty fleet."""
    unloaded, loaded = alone.summary("urgent"), overloaded.summary("urgent")

    assert loaded.calls == unloaded.calls
    assert loaded.shed == 0.0
    assert loaded.ttft.p99 <= 1.10 * unloaded.ttft.p99


def test_sheddable_work_absorbs_the_loss(overloaded: Storm) -> None:
    """Nobody else loses a call; what is refused is told so, and the fleet goes on doing two thirds of what it can."""
    normal, sheddable = overloaded.summary("normal"), overloaded.summary("sheddable")

    assert normal.shed == 0.0
    assert 0.85 < sheddable.shed < 1.0
    assert overloaded.goodput > 0.62
    reasons = Counter(reason for call in overloaded.calls for reason in call.refusals)
    assert set(reasons) <= {"rejected-saturated", "rejected-ttl-expired"}


def test_ageing_serves_low_bands_a_little_and_strict_order_does_not(overloaded: Storm) -> None:
    strict, ours = run(EIGHT, "strict").summary("sheddable"), overloaded.summary("sheddable")

    assert ours.shed < strict.shed


def test_every_call_ends_once_and_in_order(overloaded: Storm) -> None:
    """Served or refused, never both; and nothing happens before its cause."""
    for call in overloaded.calls:
        assert call.is_served != (len(call.refusals) == len(call.attempts))
        if call.is_served:
            assert call.attempts[-1] <= call.assigned <= call.first_token <= call.finished


def test_equal_seeds_give_equal_storms_and_policies_see_the_same_calls() -> None:
    spec = attrs.evolve(TWO, duration=30.0, clients=Clients())
    once, again, other = run(spec), run(spec), run(spec, "none")

    assert [repr(call) for call in once.calls] == [repr(call) for call in again.calls]
    assert [call.request for call in once.calls] == [call.request for call in other.calls]


# --- clients that come back ---


def test_f6_half_refused_does_not_double_what_is_offered() -> None:
    """Two retries each: while half of all attempts are refused, they are less than twice the calls in every window."""
    storm = run(attrs.evolve(with_load(TWO, 0.38, Clients()), duration=600.0))
    waits = [b - a for call in storm.calls for a, b in itertools.pairwise(call.attempts)]

    windows = [ratio for ratio in storm.offered(max(waits)) if not math.isnan(ratio)]
    assert 0.4 < storm.refused < 0.6
    windows = windows[: int(storm.duration / max(waits))]  # in the one that the storm's end cuts, few calls begin
    assert len(windows) >= 5
    assert max(windows) < 2.0


def test_a_retry_storm_converges_and_hurts_nobody_else(overloaded: Storm) -> None:
    """Everybody who is refused tries three times; it costs the others nothing, and ends with the overload."""
    storm = run(attrs.evolve(EIGHT, clients=Clients()))
    waits = [b - a for call in storm.calls for a, b in itertools.pairwise(call.attempts)]
    last = max(call.attempts[-1] for call in storm.calls)

    assert storm.summary("sheddable").attempts > 2.0
    assert max(storm.offered(30.0)[:8]) < 3.0
    assert storm.summary("urgent").ttft.p99 <= 1.05 * overloaded.summary("urgent").ttft.p99
    assert storm.summary("urgent").shed == storm.summary("normal").shed == 0.0
    assert storm.goodput > 0.98 * overloaded.goodput
    assert max(waits) <= 120.0
    assert last <= storm.duration + 60.0 + 2 * max(waits)  # 60 s: who waits in the queue may still be refused then


@pytest.mark.parametrize(
    ("headers", "attempts", "least", "most"),
    [
        ({"retry-after": "7"}, 1, 7.0, 7.0),
        ({"retry-after": "7", "retry-after-ms": "6250"}, 2, 6.25, 6.25),
        ({"retry-after": "121"}, 1, None, None),
        ({"retry-after": "7", "x-should-retry": "false"}, 1, None, None),
        ({}, 1, 0.375, 0.5),
        ({}, 2, 0.75, 1.0),
        ({"retry-after": "7"}, 3, None, None),
    ],
)
def test_clients_do_what_the_official_ones_do(
    headers: dict[str, str], attempts: int, least: float | None, most: float | None
) -> None:
    """openai-python 3.54.0, measured with its own client against such answers."""
    wait = Clients().wait(ErrorAnswer(429, headers, {}), attempts, random.Random(1))

    if least is None or most is None:
        assert wait is None
    else:
        assert wait is not None
        assert least <= wait <= most


def test_clients_whose_proxy_drops_headers_back_off_by_themselves() -> None:
    wait = Clients(hear=False).wait(ErrorAnswer(429, {"retry-after": "60"}, {}), 1, random.Random(1))

    assert wait is not None
    assert wait <= 0.5


# --- the unit ---


def test_capacity_is_what_an_engine_serves_when_it_is_never_idle() -> None:
    """Twice the engines, twice the capacity; and a fleet that is offered a little less keeps up."""
    assert capacity_of(EIGHT, requests=500) == pytest.approx(4 * capacity_of(TWO, requests=500))
    calm = attrs.evolve(TWO, bands=(Band("any", 0, 0.5),), duration=60.0)

    storm = run(calm, "none")

    assert storm.summary("any").shed == 0.0
    assert storm.offered(20.0)[:3] == [1.0, 1.0, 1.0]


def test_a_band_without_calls_has_no_numbers() -> None:
    storm = run(attrs.evolve(TWO, bands=(Band("none", 0, 0.0),), duration=10.0))

    assert storm.summary("none").calls == 0
    assert math.isnan(storm.summary("none").shed)
    assert math.isnan(storm.refused)
