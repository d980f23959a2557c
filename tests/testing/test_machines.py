"""The machines that authors subclass find what they are there to find."""

import random

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from inferencesched import Endpoint, Lease, Profile, Scheduler
from inferencesched.builtin.pickers import MaxScorePicker
from inferencesched.builtin.scorers import ActiveRequestScorer, QueueScorer
from inferencesched.ledger import Ledger
from inferencesched.testing.machines import LedgerMachine, SchedulerMachine

QUICK = settings(max_examples=40, stateful_step_count=30, deadline=None)
FIND = settings(QUICK, phases=[Phase.generate], report_multiple_bugs=False, print_blob=False, database=None)

TestLedger = LedgerMachine.TestCase
TestLedger.settings = QUICK


class LeastInFlight(SchedulerMachine):
    def make_scheduler(self) -> Scheduler:
        profile = Profile(scorers=[(ActiveRequestScorer(), 2.0), (QueueScorer(), 1.0)], picker=MaxScorePicker())
        return Scheduler(profile, rng=random.Random(0))


TestSchedulerThatPicksAnybody = SchedulerMachine.TestCase
TestSchedulerThatPicksAnybody.settings = QUICK
TestSchedulerThatBalances = LeastInFlight.TestCase
TestSchedulerThatBalances.settings = QUICK


class GivesBackTwice(Ledger):
    """Forgets that a lease is closed."""

    def release(self, lease: Lease) -> bool:
        super().release(lease)
        return True


class RemembersByName(Ledger):
    """Takes a server that comes back under its name for the one that went away."""

    def remove(self, endpoint: Endpoint) -> tuple[Lease, ...]:
        return ()


@pytest.mark.parametrize("wrong", [GivesBackTwice, RemembersByName])
def test_a_wrong_ledger_is_found_out(wrong: type[Ledger]) -> None:
    class Machine(LedgerMachine):
        def make_ledger(self) -> Ledger:
            return wrong(ttl=60.0)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=FIND)


def test_a_scheduler_that_leaks_is_found_out() -> None:
    class NeverFinishes(Scheduler):
        def finish(self, *args: object, **kwargs: object) -> bool:
            return True

    class Machine(SchedulerMachine):
        def make_scheduler(self) -> Scheduler:
            return NeverFinishes(Profile(picker=MaxScorePicker()), rng=random.Random(0))

    with pytest.raises(AssertionError):
        run_state_machine_as_test(Machine, settings=FIND)
