"""Virtual time passes when it is told to, and timers are handled when they are due."""

import random
from typing import Any

import pytest

from inferencesched import Profile, Request, Scheduler
from inferencesched.builtin.pickers import RandomPicker
from inferencesched.testing import VirtualClock


class Ticking:
    def __init__(self, every: float, *, stuck: bool = False) -> None:
        self.every = every
        self.next = every
        self.stuck = stuck

    def next_timer(self) -> float:
        return self.next

    def handle_timer(self, *, now: float) -> None:
        self.next += 0 if self.stuck else self.every


def test_time_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock(5.0)

    assert (clock.now, clock.advance(1.5), clock()) == (5.0, 6.5, 6.5)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_time_does_not_go_back(seconds: float) -> None:
    with pytest.raises(ValueError, match="expected seconds ≥ 0"):
        VirtualClock().advance(seconds)


def test_timers_of_several_machines_are_handled_in_order_of_time() -> None:
    clock = VirtualClock()

    assert clock.run_until(6.0, [Ticking(2.0), Ticking(3.0)]) == [2.0, 3.0, 4.0, 6.0, 6.0]
    assert clock.now == 6.0


def test_a_machine_that_asks_for_the_same_time_for_ever_is_found_out() -> None:
    with pytest.raises(AssertionError, match="keeps asking for"):
        VirtualClock().run_until(10.0, [Ticking(1.0, stuck=True)])


def test_a_lost_placement_is_reaped_when_its_time_has_come() -> None:
    clock, anybody = VirtualClock(), Profile(picker=RandomPicker())
    scheduler: Any = Scheduler(anybody, rng=random.Random(0), lease_ttl=30.0)
    scheduler.add_endpoint("a", now=clock.now)
    scheduler.schedule(Request("lost"), now=clock.advance(1.0))

    assert clock.run_until(100.0, [scheduler]) == [31.0]
    assert len(scheduler.ledger) == 0
