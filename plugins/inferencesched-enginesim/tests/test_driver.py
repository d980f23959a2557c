"""The engine in an event loop's time, which is virtual here: what a client would measure, to the last digit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from inferencesched_enginesim.driver import Driver, Sequence
from inferencesched_enginesim.text import Words

from inferencesched.sim import (
    CHAT,
    ENGINES,
    POLICIES,
    EngineSpec,
    FleetSpec,
    TraceRequest,
    Workload,
    build_scheduler,
    replay,
)
from inferencesched.testing import VirtualLoop

PLAIN = EngineSpec("plain", step_seconds=1.0, prefill_token_seconds=0.01, max_running=2, step_tokens=100)


class Diary:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    def submitted(self, sequence: Sequence) -> None:
        self.entries.append(("submitted", sequence.request.id))

    def first_token(self, sequence: Sequence) -> None:
        self.entries.append(("first_token", sequence.request.id))

    def finished(self, sequence: Sequence) -> None:
        self.entries.append(("finished", sequence.request.id))

    def aborted(self, sequence: Sequence) -> None:
        self.entries.append(("aborted", sequence.request.id))

    def stepped(self) -> None: ...


def sequence(name: str, prompt_tokens: int = 50, output_tokens: int = 3, *, is_streamed: bool = False) -> Sequence:
    blocks = tuple(int.from_bytes(name.encode()) * 1000 + place for place in range(prompt_tokens // 10))
    request = TraceRequest(name, 0.0, prompt_tokens, output_tokens, blocks)
    return Sequence(request, np.zeros(prompt_tokens, dtype=np.uint32), Words(0, 3), "stop", is_streamed=is_streamed)


def in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def driver(spec: EngineSpec = PLAIN, *, rate: float = 1.0, listener: Diary | None = None) -> Driver:
    loop = asyncio.get_running_loop()
    return Driver(spec, block_tokens=10, rate=rate, loop=loop, listener=listener or Diary())


def test_a_trace_in_real_time_takes_as_long_as_in_the_simulation_to_the_last_token() -> None:
    """One engine, thirty seconds of chat: each request's first and last token, its hits, and the work done."""
    trace = Workload(((CHAT, 6.0),)).generate(30.0, random.Random(4))
    fleet = FleetSpec((ENGINES["a100"],))
    simulated = replay(trace, fleet, lambda rng: build_scheduler(POLICIES["round-robin"], rng=rng))
    rate = 8.0

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        engine = Driver(ENGINES["a100"], block_tokens=trace.block_tokens, rate=rate, loop=loop, listener=Diary())
        sequences: list[Sequence] = []
        for request in trace.requests:
            await asyncio.sleep(request.arrival / rate - loop.time())
            sequences.append(
                Sequence(request, trace.prompt(request), Words(0, 1), "stop", is_streamed=len(sequences) % 2 == 0)
            )
            engine.submit(sequences[-1])
        await asyncio.sleep(600)  # virtual: long enough for whatever is left
        assert engine.live == 0
        for run, real in zip(simulated.runs, sequences, strict=True):
            assert real.served.matched_blocks == run.matched_blocks
            assert real.first_token is not None
            assert real.first_token - real.arrived == pytest.approx(run.ttft, rel=1e-6, abs=1e-6)
            assert real.finished == pytest.approx(run.finished, rel=1e-6)
        assert engine.engine.computed_tokens == simulated.endpoints[0].computed_tokens
        assert sum(run.matched_blocks for run in simulated.runs) > 100, "a trace without hits would show nothing"

    in_virtual_time(drive())


def test_time_is_scaled() -> None:
    """50 tokens are 1.5 s and two more tokens 2 s; ten times as fast, that is 0.35 s."""

    async def drive() -> None:
        engine, one, done = driver(rate=10.0), sequence("a"), asyncio.Event()
        one.wake = done.set
        engine.submit(one)
        await done.wait()
        assert asyncio.get_running_loop().time() == pytest.approx(0.35)
        assert one.finished == pytest.approx(3.5)

    in_virtual_time(drive())


def test_each_token_of_a_stream_wakes_its_reader_when_it_is_there() -> None:
    async def drive() -> None:
        engine, one, loop = driver(), sequence("a", is_streamed=True), asyncio.get_running_loop()
        seen: list[tuple[float, int]] = []

        def woken() -> None:
            seen.append((round(loop.time(), 6), one.generated))
            one.told = one.generated

        one.wake = woken
        engine.submit(one)
        await asyncio.sleep(10)
        assert seen == [(1.5, 1), (2.5, 2), (3.5, 3)]

    in_virtual_time(drive())


def test_only_the_end_wakes_whoever_waits_for_the_whole() -> None:
    async def drive() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        engine, one = driver(), sequence("a", output_tokens=1000)
        wakes: list[int] = []
        one.wake = lambda: wakes.append(one.generated)
        engine.submit(one)
        before = loop.callbacks
        await asyncio.sleep(2000)
        assert wakes == [1000]
        assert loop.callbacks - before < 10, "a thousand tokens must not cost a thousand looks"

    in_virtual_time(drive())


def test_who_hangs_up_makes_room_for_who_waits() -> None:
    """Two places; the third comes in after the step in which the first goes, and nothing is left held."""

    async def drive() -> None:
        diary = Diary()
        engine = driver(listener=diary)
        first, second, third = sequence("a", output_tokens=100), sequence("b"), sequence("c")
        for one in (first, second, third):
            engine.submit(one)
        assert len(engine.engine.running) + len(engine.engine.waiting) == 3
        await asyncio.sleep(2.2)
        engine.abort(first)
        engine.abort(first)  # twice is once
        await asyncio.sleep(30)
        assert diary.entries.count(("aborted", "a")) == 1
        assert ("finished", "a") not in diary.entries
        assert ("finished", "c") in diary.entries
        assert engine.live == 0
        assert engine.engine.cache.held == 0

    in_virtual_time(drive())


def test_an_abort_after_the_end_changes_nothing() -> None:
    async def drive() -> None:
        diary = Diary()
        engine, one = driver(listener=diary), sequence("a")
        engine.submit(one)
        await asyncio.sleep(10)
        engine.abort(one)
        assert [kind for kind, _ in diary.entries] == ["submitted", "first_token", "finished"]

    in_virtual_time(drive())


def test_an_engine_that_becomes_slower_finishes_what_is_left_more_slowly() -> None:
    """1 s of 3.5 passes at full speed, the rest at a quarter."""

    async def drive() -> None:
        engine, one, done = driver(), sequence("a"), asyncio.Event()
        one.wake = done.set
        engine.submit(one)
        await asyncio.sleep(1.0)
        engine.set_rate(0.25)
        await done.wait()
        assert asyncio.get_running_loop().time() == pytest.approx(1.0 + 2.5 * 4)

    in_virtual_time(drive())
