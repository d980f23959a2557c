"""A bad plugin never fails a request: it is skipped, counted, named, and kept out after repeated failure."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from inferencesched import (
    Decision,
    EndpointBatch,
    LifecycleError,
    Observer,
    Profile,
    ProfileHandler,
    Registry,
    Request,
    Scheduler,
)
from inferencesched.endpoints import BoolArray, FloatArray
from inferencesched.isolation import Isolation

create = Registry().create


class Flaky:
    """Every role at once; fails while `broken` holds an exception, answers garbage while it holds a value."""

    produces = ("made",)

    def __init__(self, broken: Any = None) -> None:
        self.broken = broken
        self.calls = 0

    def _answer(self, good: Any) -> Any:
        self.calls += 1
        if isinstance(self.broken, BaseException):
            raise self.broken
        return good if self.broken is None else self.broken

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return self._answer(np.ones(len(endpoints), np.bool_))  # type: ignore[no-any-return]

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return self._answer(np.linspace(0, 1, len(endpoints)))  # type: ignore[no-any-return]

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Any:
        return self._answer([0])

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return self._answer({"made": np.ones(len(endpoints))})  # type: ignore[no-any-return]


GARBAGE = [
    ZeroDivisionError("secret prompt text"),
    None.__class__,  # not an array, not a mapping, not a sequence
    np.array([2.0, 2.0]),
    "nonsense",
]


def scheduler_of(profile: Profile, **options: Any) -> Scheduler:
    scheduler = Scheduler(profile, rng=random.Random(1), **options)
    for name in ("a", "b"):
        scheduler.add_endpoint(name, now=0.0)
    return scheduler


def profile_with(flaky: Flaky, role: str) -> Profile:
    good = (create("active-request-scorer"), 1.0)
    roles: dict[str, dict[str, Any]] = {
        "filter": {"filters": [flaky], "scorers": [good]},
        "scorer": {"scorers": [good, (flaky, 5.0)]},
        "picker": {"scorers": [good], "picker": flaky},
        "producer": {"producers": [flaky], "scorers": [good]},
    }
    return Profile(**{"picker": create("max-score-picker"), **roles[role]})


@pytest.mark.parametrize("role", ["filter", "scorer", "picker", "producer"])
@pytest.mark.parametrize("garbage", GARBAGE, ids=["raises", "a class", "a wrong array", "a string"])
def test_h9_a_plugin_that_raises_or_returns_garbage_never_fails_a_request(role: str, garbage: Any) -> None:
    """The request is placed, the receipt names plugin and role, the fault is counted."""
    scheduler = scheduler_of(profile_with(Flaky(garbage), role))

    decision = scheduler.schedule(Request("r"), now=0.0)

    assert isinstance(decision, Decision)
    skips = [*decision.skipped, *decision.passes["default"].skipped]
    assert [(skip.plugin, skip.role) for skip in skips] == [("Flaky", role)]
    assert scheduler.faults == {"Flaky": 1}
    assert "Flaky skipped" in decision.explain()


def test_k3_a_strangers_error_text_is_not_in_the_receipt() -> None:
    """An exception may quote the prompt: the receipt keeps its type and place only."""
    scheduler = scheduler_of(profile_with(Flaky(ZeroDivisionError("secret prompt text")), "scorer"))

    decision = scheduler.schedule(Request("r", prompt="secret prompt text"), now=0.0)

    assert isinstance(decision, Decision)
    assert "secret" not in decision.explain() + str(decision.to_dict())
    assert "raised ZeroDivisionError at test_isolation.py:" in decision.explain()


def test_a_skipped_scorer_gives_its_share_to_the_others() -> None:
    """Totals stay a weighted mean of the scorers that answered."""
    scheduler = scheduler_of(profile_with(Flaky(ValueError()), "scorer"))

    decision = scheduler.schedule(Request("r"), now=0.0)

    assert isinstance(decision, Decision)
    assert decision.passes["default"].totals.tolist() == [1.0, 1.0]
    assert np.isnan(decision.passes["default"].scores[1]).all()


def test_the_breaker_opens_after_repeated_failure_and_tries_again_later() -> None:
    """Five faults in a row: not called for thirty seconds, then once; a success closes it."""
    flaky = Flaky(ValueError())
    scheduler = scheduler_of(profile_with(flaky, "scorer"))

    def calls(now: float, times: int) -> int:
        before = flaky.calls
        for _ in range(times):
            decision = scheduler.schedule(Request("r"), now=now)
            assert isinstance(decision, Decision)
        return flaky.calls - before

    assert calls(now=0.0, times=20) == 5
    assert calls(now=29.9, times=20) == 0
    assert calls(now=30.0, times=20) == 1
    flaky.broken = None
    assert calls(now=60.0, times=20) == 20
    flaky.broken = ValueError()
    assert calls(now=61.0, times=20) == 5


@pytest.mark.parametrize("wrong", [np.array([0.5, np.nan]), np.array([0.5, 7.0])])
def test_an_answer_out_of_range_opens_the_breaker_too(wrong: FloatArray) -> None:
    """It answered, and what it answered did not hold: that is a failure in a row like any other."""
    flaky = Flaky(wrong)
    scheduler = scheduler_of(profile_with(flaky, "scorer"))

    for _ in range(20):
        scheduler.schedule(Request("r"), now=0.0)

    assert flaky.calls == 5


def test_h10_a_late_result_is_discarded() -> None:
    """With a stopwatch, an answer over budget is not used; the plugin that hangs is soon not called at all."""
    ticks: Iterator[float] = iter(range(10_000))
    flaky = Flaky()
    isolation = Isolation(stopwatch=lambda: float(next(ticks)), budget=0.5)
    profile = Profile(scorers=[(flaky, 1.0)], picker=create("max-score-picker"))
    scheduler = scheduler_of(profile, isolation=isolation)

    decision = scheduler.schedule(Request("r"), now=0.0)

    assert isinstance(decision, Decision)
    assert decision.passes["default"].totals.tolist() == [0.0, 0.0]
    assert "took 1.000 s of its 0.5 s; the late answer was discarded" in decision.explain()
    for _ in range(10):
        scheduler.schedule(Request("r"), now=0.0)
    assert flaky.calls == 5


def test_a_handler_that_fails_leaves_the_first_profile_to_answer() -> None:
    """Profile selection has a way out, and the receipt says that it was taken."""

    class Broken:
        def choose(self, *given: object) -> Any:
            raise RuntimeError

        def conclude(self, *given: object) -> Any:
            raise RuntimeError

    handler: ProfileHandler = Broken()
    profiles = {name: Profile(name, picker=create("max-score-picker")) for name in ("one", "two")}
    scheduler = Scheduler(profiles, handler=handler, rng=random.Random(1))
    scheduler.add_endpoint("a", now=0.0)

    decision = scheduler.schedule(Request("r"), now=0.0)

    assert isinstance(decision, Decision)
    assert decision.primary == "one"
    assert {skip.role for skip in decision.skipped} == {"profile-handler"}


def test_an_observer_that_raises_stops_nobody() -> None:
    """Others are told, the request is placed, the failure is counted."""
    told = []

    class Bad(Observer):
        def assigned(self, *given: object, now: float) -> None:
            raise RuntimeError

    class Good(Observer):
        def assigned(self, *given: object, now: float) -> None:
            told.append(now)

    scheduler = scheduler_of(Profile(picker=create("max-score-picker")), observers=[Bad(), Good()])

    assert isinstance(scheduler.schedule(Request("r"), now=3.0), Decision)
    assert told == [3.0]
    assert scheduler.faults == {"Bad": 1}


def test_observers_are_told_of_plugin_failures_with_the_error_itself() -> None:
    """Who may see the error's text is the host's decision."""
    seen: list[tuple[str, str, str]] = []

    class Watching(Observer):
        def plugin_failed(self, plugin: str, role: str, error: BaseException, *, now: float) -> None:
            seen.append((plugin, role, str(error)))

    scheduler = scheduler_of(profile_with(Flaky(ValueError("details")), "scorer"), observers=[Watching()])
    scheduler.schedule(Request("r"), now=0.0)

    assert seen == [("Flaky", "scorer", "details")]


def test_the_hosts_own_mistakes_are_not_swallowed() -> None:
    """Isolation is for plugins; a wrong call of the host raises."""
    scheduler = scheduler_of(Profile(picker=create("max-score-picker")))

    with pytest.raises(LifecycleError):
        scheduler.update("nobody", {}, now=0.0)


def test_h11_one_slow_producer_does_not_consume_anothers_budget() -> None:
    """Budgets are per call: what the slow one made is discarded, what the next one made is there."""

    class Slow(Flaky):
        produces = ("slow",)

    time = 0.0

    def take(seconds: float) -> None:
        nonlocal time
        time += seconds

    class Taking(Flaky):
        def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
            take(0.4)
            return super().produce(request, endpoints)

    class TakingLong(Slow):
        def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
            take(9.0)
            return {"slow": np.ones(len(endpoints))}

    isolation = Isolation(stopwatch=lambda: time, budget=0.5)
    profile = Profile(producers=[TakingLong(), Taking()], picker=create("max-score-picker"))
    decision = scheduler_of(profile, isolation=isolation).schedule(Request("r"), now=0.0)

    assert isinstance(decision, Decision)
    assert [skip.plugin for skip in decision.skipped] == ["TakingLong"]
    assert "slow" not in decision.passes["default"].candidates
    assert decision.passes["default"].candidates["made"].tolist() == [1.0, 1.0]
