"""Passive health: who is ejected, for how long, and what brings an endpoint back."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched import Decision, Endpoint, Profile, Registry, Request, Scheduler
from inferencesched.testing import make_batch

create = Registry().create


class Fleet:
    """A scheduler with the filter, whose endpoints do as they are told."""

    def __init__(self, n: int = 4, **parameters: Any) -> None:
        self.filter = create("outlier-ejection-filter", parameters)
        profile = Profile(
            filters=[self.filter],
            scorers=[(create("active-request-scorer"), 1.0)],
            picker=create("max-score-picker"),
        )
        self.scheduler = Scheduler(profile, rng=random.Random(1))
        self.endpoints = [self.scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:1", now=0.0) for i in range(n)]

    def send(self, to: str | None = None, *, now: float = 0.0, id: str = "r") -> Decision:
        decision = self.scheduler.schedule(Request(id), now=now, subset=None if to is None else [to])
        assert isinstance(decision, Decision)
        return decision

    def end(self, outcome: str, to: str = "e0", *, times: int = 1, now: float = 0.0) -> None:
        """Let `times` requests end on one endpoint, whatever the filter thinks of it."""
        for i in range(times):
            decision = self.send(to, now=now, id=f"r-{i}")
            self.scheduler.finish(decision, now=now, outcome=outcome)

    def answer(self, after: float, to: str, *, times: int = 1, now: float = 0.0) -> None:
        """Let `times` requests have their first token `after` seconds."""
        for i in range(times):
            decision = self.send(to, now=now, id=f"r-{i}")
            self.scheduler.first_token(decision, now=now + after)
            self.scheduler.finish(decision, now=now + after)

    def kept(self, *, now: float = 0.0) -> list[str]:
        batch = self.scheduler.candidates(now=now)
        mask = self.filter.keep(Request("r"), batch)
        return [name for name, is_kept in zip(batch.names, mask, strict=True) if is_kept]


OTHERS = ["e1", "e2", "e3"]
ALL = ["e0", *OTHERS]


def test_five_errors_in_a_row_eject() -> None:
    fleet = Fleet()

    fleet.end("error", times=4)
    assert fleet.kept() == ALL
    fleet.end("error")
    assert fleet.kept() == OTHERS
    assert fleet.filter.ejected == {"e0": "5 errors in a row"}


def test_a_success_ends_the_row() -> None:
    fleet = Fleet()

    for _ in range(5):
        fleet.end("error", times=2)
        fleet.end("success", times=3)

    assert fleet.kept() == ALL


def test_a_share_of_errors_ejects_when_there_are_enough_requests() -> None:
    fleet = Fleet(minRequests=20)

    for _ in range(9):
        fleet.end("error")
        fleet.end("success")
    assert fleet.kept() == ALL
    fleet.end("success")
    fleet.end("error")

    assert fleet.kept() == OTHERS
    assert fleet.filter.ejected == {"e0": "50% of its requests failed"}


def test_errors_of_long_ago_do_not_count() -> None:
    fleet = Fleet(windowSeconds=10.0, consecutiveErrors=100)
    fleet.end("error", times=19, now=0.0)

    fleet.end("success", times=20, now=100.0)
    fleet.end("error", times=5, now=100.0)

    assert fleet.kept(now=100.0) == ALL


def test_counts_halve_with_every_window() -> None:
    fleet = Fleet(windowSeconds=10.0)
    fleet.end("error", times=4, now=100.0)

    fleet.end("success", now=110.0)

    health = fleet.filter._fleet[1]
    assert (health.requests, health.errors) == pytest.approx((3.0, 2.0))


@pytest.mark.parametrize("outcome", ["cancelled", "success"])
def test_i9_only_failures_of_the_server_count(outcome: str) -> None:
    fleet = Fleet()

    fleet.end(outcome, times=100)

    assert fleet.kept() == ALL


def test_i9_a_request_that_was_lost_says_nothing() -> None:
    fleet = Fleet()
    for i in range(20):
        fleet.send("e0", id=f"r-{i}")

    fleet.scheduler.handle_timer(now=10_000.0)

    assert fleet.scheduler.ledger.reaped_total == 20
    assert fleet.kept(now=10_000.0) == ALL


@given(st.integers(1, 9), st.floats(0, 1), st.lists(st.integers(0, 8), max_size=200))
def test_i9_never_more_than_the_cap_is_ejected(n: int, share: float, failing: list[int]) -> None:
    fleet = Fleet(n, maxEjectedShare=share, consecutiveErrors=2, panicShare=0.0)

    for row in failing:
        fleet.end("error", f"e{row % n}")
        assert len(fleet.filter.ejected) <= int(share * n)


def test_i9_the_cap_holds_when_the_fleet_shrinks() -> None:
    """Who would have come back first does so now."""
    fleet = Fleet(4)
    fleet.end("error", "e0", times=5, now=0.0)
    fleet.end("error", "e0", now=30.0)  # the probe: out until 90
    fleet.end("error", "e1", times=5, now=31.0)  # out until 61

    fleet.scheduler.remove_endpoint("e3", now=32.0)

    assert list(fleet.filter.ejected) == ["e0"]
    assert fleet.kept(now=32.0) == ["e1", "e2"]


def test_a_panic_keeps_everything() -> None:
    """Where most of what a request could use is ejected, the fault is likely elsewhere."""
    fleet = Fleet(4, maxEjectedShare=1.0, panicShare=0.5)
    fleet.end("error", "e0", times=5)
    fleet.end("error", "e1", times=5)
    assert fleet.kept() == ["e2", "e3"]

    fleet.end("error", "e2", times=5)

    assert fleet.kept() == ALL
    assert fleet.filter.keep(Request("r"), fleet.scheduler.candidates(now=0.0, subset=["e0"])).tolist() == [True]


def test_one_request_at_a_time_probes_an_endpoint_that_comes_back() -> None:
    fleet = Fleet(baseEjectionSeconds=30.0)
    fleet.end("error", times=5)
    assert fleet.kept(now=29.9) == OTHERS

    assert fleet.kept(now=30.0) == ALL
    probe = fleet.send("e0", now=30.0, id="probe")
    assert fleet.kept(now=31.0) == OTHERS

    fleet.scheduler.finish(probe, now=32.0)
    assert fleet.kept(now=32.0) == ALL
    assert fleet.filter.ejected == {}


def test_a_probe_that_fails_ejects_for_twice_as_long() -> None:
    fleet = Fleet(baseEjectionSeconds=10.0, maxEjectionSeconds=25.0)
    fleet.end("error", times=5)
    out = []

    now = 0.0
    for _ in range(4):
        start = now
        while "e0" not in fleet.kept(now=now):
            now += 1.0
        out.append(now - start)
        fleet.scheduler.finish(fleet.send("e0", now=now, id="probe"), now=now, outcome="error")

    assert out == [10.0, 20.0, 25.0, 25.0]


def test_a_probe_without_a_verdict_is_taken_again() -> None:
    fleet = Fleet(baseEjectionSeconds=10.0)
    fleet.end("error", times=5)

    probe = fleet.send("e0", now=10.0, id="probe")
    fleet.scheduler.finish(probe, now=11.0, outcome="cancelled")

    assert fleet.kept(now=11.0) == ALL
    assert list(fleet.filter.ejected) == ["e0"]


def test_requests_from_before_the_ejection_are_no_probe() -> None:
    fleet = Fleet(baseEjectionSeconds=10.0)
    late = fleet.send("e0", id="late")
    fleet.end("error", times=5)

    fleet.scheduler.finish(late, now=1.0)

    assert fleet.kept(now=1.0) == OTHERS


def test_who_fails_again_soon_is_out_for_longer() -> None:
    fleet = Fleet(baseEjectionSeconds=10.0, maxEjectionSeconds=100.0)
    fleet.end("error", times=5, now=0.0)
    fleet.end("success", now=10.0)

    fleet.end("error", times=5, now=95.0)

    assert fleet.kept(now=114.9) == OTHERS
    assert fleet.kept(now=115.0) == ALL


def test_who_was_well_for_long_starts_again_from_the_base() -> None:
    fleet = Fleet(baseEjectionSeconds=10.0, maxEjectionSeconds=100.0)
    for start in (0.0, 500.0):
        fleet.end("error", times=5, now=start)
        assert fleet.kept(now=start + 9.9) == OTHERS
        fleet.end("success", now=start + 10.0)

    assert fleet.kept(now=510.0) == ALL


def test_an_endpoint_far_slower_than_the_others_is_ejected() -> None:
    fleet = Fleet(minRequests=10, latencyFactor=5.0)
    for name in OTHERS:
        fleet.answer(0.5, name, times=10, now=1000.0)

    fleet.answer(2.4, "e0", times=10, now=1000.0)
    assert fleet.kept(now=1000.0) == ALL
    fleet.answer(9.0, "e0", times=9, now=1000.0)
    assert fleet.kept(now=1000.0) == ALL
    fleet.answer(9.0, "e0", now=1000.0)

    assert fleet.kept(now=1000.0) == OTHERS
    assert fleet.filter.ejected == {"e0": "first token after 8.29 s on average, elsewhere after 0.50 s"}


def test_a_mean_follows_what_happens_now() -> None:
    fleet = Fleet()

    fleet.answer(10.0, "e0")
    fleet.answer(0.0, "e0")

    assert fleet.filter._fleet[1].ttft == pytest.approx(8.0)


def test_who_has_answered_too_little_or_is_ejected_is_no_measure_of_the_others() -> None:
    fleet = Fleet(minRequests=10)
    fleet.answer(0.1, "e1", times=9)
    fleet.answer(0.1, "e2", times=10)
    fleet.end("error", "e2", times=5)

    fleet.answer(60.0, "e0", times=20)

    assert list(fleet.filter.ejected) == ["e2"]


@pytest.mark.parametrize(
    ("parameters", "others", "slow"),
    [
        ({"latencyFactor": 0.0}, 0.1, 60.0),
        ({"latencyFloorSeconds": 1.0}, 0.01, 0.9),
        ({"minRequests": 50}, 0.1, 60.0),
    ],
    ids=["switched off", "below the floor", "too few to judge"],
)
def test_slowness_that_does_not_eject(parameters: dict[str, Any], others: float, slow: float) -> None:
    fleet = Fleet(**{"minRequests": 10, **parameters})
    for name in OTHERS:
        fleet.answer(others, name, times=20)

    fleet.answer(slow, "e0", times=20)

    assert fleet.kept() == ALL


def test_a_fleet_that_is_slow_as_a_whole_ejects_nobody() -> None:
    fleet = Fleet(minRequests=5)

    for _ in range(4):
        for name in ALL:
            fleet.answer(30.0, name, times=5)

    assert fleet.kept() == ALL


def test_leaving_for_a_fallback_is_an_error_of_the_endpoint_that_was_left() -> None:
    fleet = Fleet()
    for i in range(5):
        request = Request(f"r-{i}")
        decision = fleet.scheduler.schedule(request, now=0.0, n=4, subset=["e0", "e1"] if i % 2 else ["e0", "e2"])
        assert isinstance(decision, Decision)
        while decision.endpoint.name != "e0":
            fleet.scheduler.finish(decision, now=0.0)
            decision = fleet.scheduler.schedule(request, now=0.0, n=4, subset=["e0", "e1"])
            assert isinstance(decision, Decision)
        assert fleet.scheduler.fallback(request, decision, now=0.0) is not None

    assert fleet.kept() == OTHERS


def test_b15_an_endpoint_that_fails_at_once_does_not_attract_traffic_by_looking_idle() -> None:
    fleet = Fleet(4)
    sent: Counter[str] = Counter()
    busy: list[tuple[float, Decision]] = []

    for step in range(2000):
        now = step / 100
        while busy and busy[0][0] <= now:
            fleet.scheduler.finish(busy.pop(0)[1], now=now)
        decision = fleet.send(now=now, id=f"r-{step}")
        sent[decision.endpoint.name] += 1
        if decision.endpoint.name == "e0":
            fleet.scheduler.finish(decision, now=now, outcome="error")
        else:
            busy.append((now + 1.0, decision))

    assert sent["e0"] <= 0.01 * 2000
    assert max(sent[name] for name in OTHERS) - min(sent[name] for name in OTHERS) < 100


def test_a_new_instance_inherits_no_ejection() -> None:
    fleet = Fleet()
    fleet.end("error", times=5)

    fleet.scheduler.add_endpoint("e0", "10.9.9.9:1", now=1.0)

    assert sorted(fleet.kept(now=1.0)) == ALL
    assert fleet.filter.ejected == {}


def test_what_is_known_of_an_endpoint_goes_with_it_and_what_is_known_of_a_request_too() -> None:
    fleet = Fleet(2)
    fleet.answer(0.1, "e0", times=50)
    fleet.end("error", "e1", times=50)

    assert all(not health.placed for health in fleet.filter._fleet.values())
    for endpoint in fleet.endpoints:
        fleet.scheduler.remove_endpoint(endpoint.name, now=1.0)
    assert fleet.filter._fleet == fleet.filter._ejected == {}


def test_an_ejection_outlives_a_new_configuration() -> None:
    fleet = Fleet(baseEjectionSeconds=30.0)
    fleet.end("error", times=5, now=10.0)
    later = create("outlier-ejection-filter", {"baseEjectionSeconds": 30.0})

    fleet.send(now=20.0)
    fleet.scheduler.reconfigure(Profile(filters=[later], picker=create("max-score-picker")), now=20.0)
    fleet.filter = later

    assert fleet.kept(now=39.9) == OTHERS
    assert fleet.kept(now=40.0) == ALL
    assert fleet.filter.ejected == {"e0": "5 errors in a row"}


def test_how_often_an_endpoint_was_ejected_outlives_a_new_configuration_too() -> None:
    fleet = Fleet(baseEjectionSeconds=10.0)
    fleet.end("error", times=5, now=0.0)
    fleet.end("error", now=10.0)  # the probe: out until 30
    later = create("outlier-ejection-filter", {"baseEjectionSeconds": 10.0})
    fleet.scheduler.reconfigure(Profile(filters=[later], picker=create("max-score-picker")), now=10.0)
    fleet.filter = later

    assert fleet.kept(now=29.9) == OTHERS
    fleet.end("error", now=30.0)  # out until 70

    assert fleet.kept(now=69.9) == OTHERS
    assert fleet.kept(now=70.0) == ALL


def test_endpoints_it_was_never_told_of_are_healthy() -> None:
    stranger = create("outlier-ejection-filter")
    stranger.finished("r", Endpoint("x", instance=9), "error", now=0.0)

    assert stranger.keep(Request("r"), make_batch(n=3)).all()
