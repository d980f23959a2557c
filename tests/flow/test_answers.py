"""What is told to those who are refused: one answer for each cause, and a time to come back that can be believed."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched import LifecycleError, Request
from inferencesched.flow import ANSWERS, TRANSITIONS, Refusal, State, Step, diagram, refuse, retry_after
from inferencesched.flow.eviction import (
    COOLING,
    TIMEOUT,
    Evictor,
    PriorityThenTimeEvictionOrderPolicy,
    SheddableEvictionFilter,
)
from inferencesched.flow.retry import DrainRate
from inferencesched.flow.states import TERMINAL, after


@pytest.mark.parametrize(
    ("why", "status", "reason"),
    [
        (Refusal.SHED, 429, "rejected-saturated"),
        (Refusal.QUEUE_FULL, 429, "rejected-saturated"),
        (Refusal.QUEUE_FULL_WITHOUT_ENDPOINTS, 503, "rejected-no-endpoints"),
        (Refusal.EXPIRED, 429, "rejected-ttl-expired"),
        (Refusal.EXPIRED_WITHOUT_ENDPOINTS, 503, "rejected-no-endpoints"),
        (Refusal.DISPLACED, 429, "evicted-priority"),
        (Refusal.EVICTED, 429, "evicted"),
        (Refusal.CANCELLED, 499, "rejected-context-cancelled"),
        (Refusal.SHUTTING_DOWN, 503, "rejected-shutting-down"),
        (Refusal.INTERNAL, 500, ""),
    ],
)
def test_f1_every_outcome_has_one_status_reason_and_hint(why: Refusal, status: int, reason: str) -> None:
    """F3 and F5 too: 503 where there is nothing, and no time to come back where coming back cannot help."""
    answer = refuse(Request("r"), why, retry_after=7.0, generation=1, now=0.0)

    assert (answer.http_status, answer.reason) == (status, reason)
    assert answer.retry_after == (7.0 if status in {429, 503} else None)
    assert answer.transient == (status in {429, 503})


def test_f1_no_cause_is_left_out() -> None:
    assert set(ANSWERS) == set(Refusal)


@given(st.none() | st.floats(0, 1e12), st.text())
def test_f4_a_wait_is_between_one_second_and_two_minutes_and_the_same_each_time(wait: float | None, id: str) -> None:
    told = retry_after(wait, id)

    assert 1.0 <= told <= 120.0
    assert told == retry_after(wait, id)


def test_f4_those_refused_together_do_not_come_back_together() -> None:
    told = sorted(retry_after(10.0, f"r-{i}") for i in range(100))

    assert (told[0] >= 10.0, told[-1] <= 15.0) == (True, True)
    assert max(b - a for a, b in pairwise(told)) < 0.5


def test_the_drain_rate_is_what_was_lately_seen() -> None:
    rate = DrainRate()
    assert rate.per_second(now=0.0) is None
    for i in range(100):
        rate.count(now=i * 0.1)

    assert rate.per_second(now=10.0) == pytest.approx(10.0, rel=0.02)
    for i in range(200):
        rate.count(now=10.0 + i * 0.5)
    assert rate.per_second(now=110.0) == pytest.approx(2.0, rel=0.05)
    assert rate.per_second(now=1e6) == pytest.approx(0.0)


# --- the life of a request ---


def test_every_state_is_reached_and_every_request_can_end() -> None:
    reached = {to for steps in TRANSITIONS.values() for to in steps.values()} | {State.SUBMITTED}
    assert reached == set(State) == set(TRANSITIONS)

    ending = set(TERMINAL)
    while found := {s for s, steps in TRANSITIONS.items() if ending & set(steps.values())} - ending:
        ending |= found
    assert ending == set(State)


def test_every_step_is_taken_somewhere() -> None:
    assert {step for steps in TRANSITIONS.values() for step in steps} == set(Step)


@pytest.mark.parametrize("state", [state for state in State if state in TERMINAL])
def test_what_has_ended_has_ended(state: State) -> None:
    for step in Step:
        with pytest.raises(LifecycleError, match=f"a request that is {state.value} cannot"):
            after(state, step)


def test_the_diagram_has_an_arrow_for_every_step_of_the_table() -> None:
    arrows = diagram().count(" --> ")

    assert arrows == sum(map(len, TRANSITIONS.values())) + 1 + len(TERMINAL)


# --- eviction ---


def evictor_of(*priorities: int, **policies: Any) -> Evictor:
    usual: dict[str, Any] = {"candidates": SheddableEvictionFilter(), "order": PriorityThenTimeEvictionOrderPolicy()}
    evictor = Evictor(**(usual | policies))
    for number, priority in enumerate(priorities):
        evictor.placed(number, Request(f"r{number}", priority=priority, prompt_tokens=number), now=0.0)
    return evictor


def ask(evictor: Evictor, *, level: float = 1.0, now: float = 0.0, priority: int = 0) -> list[int]:
    return evictor.choose(level=level, ceiling=1.0, in_flight=10, priority=priority, now=now)


def test_the_lowest_goes_first_and_among_equals_the_last_that_came() -> None:
    evictor = evictor_of(-1, -2, 0, -2, -1)

    assert ask(evictor, level=2.0) == [3, 1]


def test_nobody_else_is_asked_before_those_asked_have_gone_and_it_has_shown() -> None:
    evictor = evictor_of(-1, -1, -1, -1)
    assert ask(evictor) == [3]
    assert (ask(evictor, now=1.0), evictor.next_timer(now=1.0)) == ([], TIMEOUT)

    evictor.ended(3, now=2.0)

    assert (ask(evictor, now=2.0), evictor.next_timer(now=2.0)) == ([], 2.0 + COOLING)
    assert ask(evictor, now=2.0 + COOLING) == [2]
    assert ask(evictor, now=2.0 + COOLING + TIMEOUT) == [1]
    assert evictor.timed_out_total == 1


def test_nobody_is_asked_for_the_sake_of_his_equals_or_of_a_pool_with_room() -> None:
    evictor = evictor_of(-1)

    assert ask(evictor, priority=-1) == []
    assert ask(evictor, level=0.9) == []


class ShortestFirst:
    """An order of somebody's own: the shortest prompt first, whatever its priority."""

    def regret(self, request: Request, placed: float, /) -> float:
        return float(request.prompt_tokens or 0)


class Anybody:
    def is_evictable(self, request: Request, /) -> bool:
        return True


def test_another_order_and_filter_hold_but_nobody_goes_for_the_less_urgent() -> None:
    evictor = evictor_of(5, 0, -1, -1, candidates=Anybody(), order=ShortestFirst())

    assert ask(evictor, level=2.0, priority=5) == [1, 2]
    evictor.ended(1, now=0.0)
    evictor.ended(2, now=0.0)
    assert ask(evictor, level=2.0, now=COOLING, priority=0) == [3]
