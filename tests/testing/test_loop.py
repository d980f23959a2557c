"""The virtual event loop: time passes as it is slept, in order and at once."""

import asyncio
import threading

import pytest

from inferencesched.testing import VirtualClock, VirtualLoop


def test_sleepers_wake_in_order_and_no_real_time_passes() -> None:
    """A day is slept away; each one wakes at its time exactly."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(sleeper("late", 86_400.0), sleeper("early", 0.1), sleeper("second", 60.0))

    with asyncio.Runner(debug=True, loop_factory=VirtualLoop) as runner:
        runner.run(main())

    assert [name for name, _ in woken] == ["early", "second", "late"]
    assert [at for _, at in woken] == pytest.approx([0.1, 60.0, 86_400.0], abs=1e-6)


def test_the_loop_and_whoever_shares_its_clock_agree() -> None:
    clock = VirtualClock(100.0)

    async def main() -> float:
        await asyncio.sleep(5.0)
        return clock.now

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        assert runner.run(main()) == 105.0


def test_a_deadlock_is_an_error_instead_of_a_test_that_hangs() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    loop = VirtualLoop()
    with pytest.raises(RuntimeError, match="would never end"):
        loop.run_until_complete(main())

    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_what_another_thread_hands_over_is_seen() -> None:
    """Real readiness comes before a leap in time."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(done.set,))
        thread.start()
        thread.join()
        async with asyncio.timeout(10.0):
            await done.wait()
        return loop.time()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(main()) == 0.0


def test_callbacks_are_counted() -> None:
    """Ten sleeps cost a few callbacks each, one long one no more than any of them."""

    async def cost(sleeps: int) -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        before = loop.callbacks
        for _ in range(sleeps):
            await asyncio.sleep(100.0)
        return loop.callbacks - before

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        one, ten = runner.run(cost(1)), runner.run(cost(10))

    assert ten == 10 * one
