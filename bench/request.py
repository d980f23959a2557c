"""One request as a gateway sees it, under the default policy: submit, next_event, next_timer, first_token, finish.

    python bench/request.py            # the tables of docs/performance/request.md
    python bench/request.py --quick    # a fifth of the repetitions

512 distinct prompts come again and again in 16 groups that share about 70 %; 32 requests are under way at a time.
Times are CPU time of one thread, the best of many short stretches; beside them stands how many Python functions a
request calls, which no neighbour on the machine can change.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from types import FrameType

import numpy as np

from inferencesched import Assigned, Decision, Dispatcher, Request, Scheduler, load_config
from inferencesched.events import Ticket

CELLS = ((4, 1), (16, 1), (64, 1), (256, 1), (4, 16), (16, 16))
"""Endpoints, and KiB of a prompt."""

STRETCH = 256
UNDER_WAY = 32


def prompts(kib: int) -> list[str]:
    """Return 512 prompts of `kib` KiB each."""
    size = kib * 1024
    return [(f"g{i % 16} " * size)[: size * 7 // 10] + (f"u{i} " * size)[: size - size * 7 // 10] for i in range(512)]


def populated(machine: Scheduler | Dispatcher, endpoints: int) -> None:
    """Add endpoints of which the usual facts are known."""
    for i in range(endpoints):
        machine.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
        facts = {"waiting_requests": 0, "running_requests": 1, "kv_cache_utilization": 0.1 + 0.4 * i / endpoints}
        machine.update(f"e{i}", facts, now=0.0)


def through_dispatcher(endpoints: int, texts: list[str]) -> Callable[[], None]:
    """Return a call that serves one more request, and ends the one that came 32 before it."""
    dispatcher = Dispatcher.from_config(load_config(), rng=random.Random(1))
    populated(dispatcher, endpoints)
    under_way: deque[Ticket] = deque()
    number = 0

    def one() -> None:
        nonlocal number
        number += 1
        now = number * 1e-4
        under_way.append(dispatcher.submit(Request(f"r-{number}", "m", texts[number % len(texts)]), now=now))
        assert isinstance(dispatcher.next_event(), Assigned)
        dispatcher.next_timer()
        if len(under_way) > UNDER_WAY:
            ended = under_way.popleft()
            dispatcher.first_token(ended, now=now)
            dispatcher.finish(ended, now=now)
            dispatcher.next_event()
            dispatcher.next_timer()

    return one


def through_scheduler(endpoints: int, texts: list[str]) -> Callable[[], None]:
    """Return the same without the dispatcher: schedule, first_token, finish."""
    scheduler = load_config().scheduler(rng=random.Random(1))
    populated(scheduler, endpoints)
    under_way: deque[Decision] = deque()
    number = 0

    def one() -> None:
        nonlocal number
        number += 1
        now = number * 1e-4
        decision = scheduler.schedule(Request(f"r-{number}", "m", texts[number % len(texts)]), now=now)
        assert isinstance(decision, Decision)
        under_way.append(decision)
        if len(under_way) > UNDER_WAY:
            ended = under_way.popleft()
            scheduler.first_token(ended, now=now)
            scheduler.finish(ended, now=now)

    return one


def stages(endpoints: int, texts: list[str]) -> list[tuple[str, Callable[[], object]]]:
    """Return the stages of a placement up to the pick, each with everything before it."""
    scheduler = load_config().scheduler(rng=random.Random(1))
    populated(scheduler, endpoints)
    for number, text in enumerate(texts * 3):
        decision = scheduler.schedule(Request(f"r-{number}", "m", text), now=0.0)
        assert isinstance(decision, Decision)
        scheduler.finish(decision, now=0.0)
    (profile,) = scheduler.profiles.values()
    rng, number = random.Random(1), 0

    def request() -> Request:
        nonlocal number
        number += 1
        return Request(f"r-{number}", "m", texts[number % len(texts)])

    def candidates() -> object:
        request()
        return scheduler.candidates(now=0.0)

    def produced() -> object:
        asked, batch = request(), scheduler.candidates(now=0.0)
        for producer in profile.producers:
            batch.grow(producer.produce(asked, batch))
        return batch

    def picked() -> object:
        asked, batch = request(), scheduler.candidates(now=0.0)
        return profile.run(asked, batch, rng)

    return [
        ("making the `Request`", request),
        ("candidates, with what is in flight on them", candidates),
        ("producers: prefixes, tokens, work", produced),
        ("scores and pick, with the receipt of the pass", picked),
    ]


def microseconds(repeat: int, *calls: Callable[[], object]) -> list[float]:
    """Return the CPU time of each call: the best stretch of many, the calls taking turns."""
    for call in calls:
        for _ in range(2048):
            call()
    best = [float("inf")] * len(calls)
    for _ in range(repeat):
        for which, call in enumerate(calls):
            start = time.thread_time()
            for _ in range(STRETCH):
                call()
            best[which] = min(best[which], (time.thread_time() - start) / STRETCH * 1e6)
    return best


def calls_of(call: Callable[[], object]) -> float:
    """Return how many Python functions are called, on average."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        for _ in range(STRETCH):
            call()
    finally:
        sys.setprofile(None)
    return count / STRETCH - 1


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the repetitions")
    repeat = 8 if parser.parse_args().quick else 40
    print(f"{platform.python_implementation()} {platform.python_version()}, numpy {np.__version__}\n")
    print("| endpoints | prompt | whole request, CPU µs | of it the scheduler | calls | of the scheduler |")
    print("|---|---|---|---|---|---|")
    for endpoints, kib in CELLS:
        texts = prompts(kib)
        both = through_dispatcher(endpoints, texts), through_scheduler(endpoints, texts)
        whole, alone = microseconds(repeat, *both)
        calls = [calls_of(each) for each in both]
        print(f"| {endpoints} | {kib} KiB | {whole:.1f} | {alone:.1f} | {calls[0]:.0f} | {calls[1]:.0f} |")
    texts = prompts(1)
    named = stages(4, texts)
    everything = [call for _, call in named] + [through_scheduler(4, texts), through_dispatcher(4, texts)]
    names = [name for name, _ in named] + [
        "lease, decision, learning the prefix; first token, end",
        "dispatcher: ticket, event, states, timer",
    ]
    print("\n| stage, at 4 endpoints and 1 KiB | CPU µs | share |")
    print("|---|---|---|")
    before, times = 0.0, microseconds(repeat, *everything)
    for name, until in zip(names, times, strict=True):
        print(f"| {name} | {until - before:.1f} | {(until - before) / times[-1]:.0%} |")
        before = until


if __name__ == "__main__":
    main()
