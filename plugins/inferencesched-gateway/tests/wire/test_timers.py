"""Deadlines: told on time, once, and nearly free to move."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from hypothesis import given, strategies as st
from inferencesched_gateway.wire.timers import Timers

from inferencesched.testing import VirtualLoop

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run


class Watched:
    """Something with a deadline, which writes down when it is told."""

    def __init__(self) -> None:
        self.deadline = self.slot = math.inf
        self.told: list[float] = []

    def expired(self, now: float) -> None:
        self.told.append(now)


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.integers(0, 3), st.none() | st.floats(0, 3, allow_subnormal=False)), max_size=20
    )
)
def test_a_deadline_is_told_once_never_early_and_within_its_slot(moves: list[tuple[float, int, float | None]]) -> None:
    """Whatever is set, moved and taken back: beside a model with a plain number for each."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = Timers(loop)
        watched = [Watched() for _ in range(4)]
        due: dict[int, float] = {}
        expected: list[list[float]] = [[] for _ in watched]

        async def wait(seconds: float) -> None:
            await asyncio.sleep(seconds)
            for i, each in enumerate(watched):
                if i in due and due[i] + 0.051 < loop.time():
                    expected[i].append(due.pop(i))
                if len(each.told) > len(expected[i]):
                    expected[i].append(due.pop(i))

        for pause, which, after in moves:
            await wait(pause)
            if after is None:
                timers.discard(watched[which])
                due.pop(which, None)
            else:
                due[which] = loop.time() + after
                timers.set(watched[which], due[which])
        await wait(10)

        for each, times in zip(watched, expected, strict=True):
            assert len(each.told) == len(times)
            for told, time in zip(each.told, times, strict=True):
                assert time <= told <= time + 0.051
            assert each.slot == each.deadline == math.inf

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_a_deadline_that_moves_later_again_and_again_costs_no_callbacks(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        timers, watched = Timers(lab.loop), [Watched() for _ in range(1000)]
        before = lab.loop.callbacks  # type: ignore[attr-defined]
        for i in range(10_000):
            timers.set(watched[i % 1000], lab.loop.time() + 60 + i / 10_000)

        assert lab.loop.callbacks - before <= 1  # type: ignore[attr-defined]
        timers.close()

    virtual(main)


def test_one_that_fails_does_not_stop_the_others(virtual: Run) -> None:
    class Failing(Watched):
        def expired(self, now: float) -> None:
            raise ZeroDivisionError

    async def main(lab: Lab) -> None:
        timers, failing, watched = Timers(lab.loop), Failing(), [Watched() for _ in range(5)]
        for each in (*watched[:2], failing, *watched[2:]):
            timers.set(each, 1.0)
        await asyncio.sleep(2)

        assert all(each.told for each in watched)
        assert isinstance(lab.problems.pop()["exception"], ZeroDivisionError)

    virtual(main)


def test_after_closing_nobody_is_told(virtual: Run) -> None:
    async def main(lab: Lab) -> None:
        timers, watched = Timers(lab.loop), Watched()
        timers.set(watched, 1.0)
        timers.close()
        await asyncio.sleep(2)

        assert not watched.told

    virtual(main)
