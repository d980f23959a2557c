"""Flow control: what a request costs from submit to finish, when the pool has room and when it has to wait; and bytes.

    python bench/flow.py            # the tables of docs/performance/flow-control.md
    python bench/flow.py --quick    # a tenth of the requests

100 flows in 3 bands, 8 endpoints, a profile that only draws lots, so that what is measured beyond `Scheduler.schedule`
is the dispatcher's. CPU time of the thread, the best of several rounds; other processes share the machine. The last
column of the second table is what Python's collector took of the first one's time: it looks through whatever is queued.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import time
import tracemalloc
from collections.abc import Callable

from inferencesched import Assigned, Dispatcher, Profile, Registry, Request, Scheduler
from inferencesched.flow import BandSettings, RoundRobinFairnessPolicy, Settings, TokenWeightedFairnessPolicy

BANDS, FLOWS, ENDPOINTS, ROUNDS = (10, 0, -10), 100, 8, 9
FAIRNESS = {
    "global-strict": BandSettings().fairness,
    "round-robin": RoundRobinFairnessPolicy(),
    "token-weighted": TokenWeightedFairnessPolicy(),
}


def scheduler() -> Scheduler:
    """Return a scheduler that places by lot."""
    return Scheduler(Profile(picker=Registry().create("random-picker")), rng=random.Random(1))


def dispatcher(fairness: str = "global-strict") -> Dispatcher:
    """Return a dispatcher over 8 idle endpoints, with queues as long as anybody likes."""
    band = BandSettings(max_requests=10**9, max_bytes=10**15, fairness=FAIRNESS[fairness])
    made = Dispatcher(scheduler(), flow=Settings(bands=dict.fromkeys(BANDS, band)))
    for i in range(ENDPOINTS):
        made.add_endpoint(f"e{i}", now=0.0)
    return made


def requests(n: int) -> list[Request]:
    """Return `n` requests, spread over flows and bands."""
    return [Request(f"r{i}", flow=f"f{i % FLOWS}", priority=BANDS[i % len(BANDS)]) for i in range(n)]


def fill(subject: Dispatcher, work: list[Request], waiting: float) -> None:
    """Say how long the engines' queues are, then submit everything."""
    for i in range(ENDPOINTS):
        subject.update(f"e{i}", {"waiting_requests": waiting}, now=1.0)
    for request in work:
        subject.submit(request, now=1.0)


def drain(subject: Dispatcher) -> int:
    """Place and finish everything that waits."""
    for i in range(ENDPOINTS):
        subject.update(f"e{i}", {"waiting_requests": 0.0}, now=1.0)
    count = 0
    while isinstance(event := subject.next_event(), Assigned):
        subject.finish(event.ticket, now=1.0)
        count += 1
    return count


def with_room(n: int) -> float:
    """Return seconds per request that finds room at once."""
    subject, work = dispatcher(), requests(n)
    start = time.thread_time()
    for request in work:
        subject.submit(request, now=1.0)
        event = subject.next_event()
        assert isinstance(event, Assigned)
        subject.finish(event.ticket, now=1.0)
    return (time.thread_time() - start) / n


def alone(n: int) -> float:
    """Return seconds per request of the scheduler by itself."""
    subject, work = scheduler(), requests(n)
    for i in range(ENDPOINTS):
        subject.add_endpoint(f"e{i}", now=0.0)
    start = time.thread_time()
    for request in work:
        subject.finish(subject.schedule(request, now=1.0).leases, now=1.0)  # type: ignore[union-attr]
    return (time.thread_time() - start) / n


def through_the_queue(n: int, fairness: str) -> float:
    """Return seconds per request that is queued behind up to `n` others, placed and finished."""
    subject, work = dispatcher(fairness), requests(n)
    gc.collect()
    start = time.thread_time()
    fill(subject, work, waiting=50.0)
    count = drain(subject)
    assert count == n
    return (time.thread_time() - start) / n


def collecting(n: int) -> float:
    """Return what the collector takes of the same, in seconds per request."""
    spent, since = 0.0, 0.0

    def note(phase: str, _: object) -> None:
        nonlocal spent, since
        if phase == "start":
            since = time.thread_time()
        else:
            spent += time.thread_time() - since

    subject, work = dispatcher(), requests(n)
    gc.collect()
    gc.callbacks.append(note)
    fill(subject, work, waiting=50.0)
    drain(subject)
    gc.callbacks.remove(note)
    return spent / n


def timer(n: int) -> float:
    """Return seconds that `next_timer` takes with so many queued."""
    subject, calls = dispatcher(), 20_000
    fill(subject, requests(n), waiting=50.0)
    start = time.thread_time()
    for _ in range(calls):
        subject.next_timer()
    return (time.thread_time() - start) / calls


def bytes_queued(n: int) -> float:
    """Return what a queued request costs, the request itself not counted."""
    subject, work = dispatcher(), requests(n)
    fill(subject, [], waiting=50.0)
    subject.submit(work[0], now=1.0)
    gc.collect()
    tracemalloc.start()
    for request in work[1:]:
        subject.submit(request, now=1.0)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert subject.queued == n
    return used / (n - 1)


def best(call: Callable[[], float], rounds: int = ROUNDS) -> float:
    """Return the best of several measurements, in microseconds."""
    return min(call() for _ in range(rounds)) * 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests")
    scale = 10 if parser.parse_args().quick else 1
    print(f"{platform.python_implementation()} {platform.python_version()}")
    direct, bare = best(lambda: with_room(20_000 // scale)), best(lambda: alone(20_000 // scale))
    print("| submit → assign → finish | µs | per second |\n|---|---|---|")
    print(f"| the scheduler alone | {bare:.1f} | {1e6 / bare:,.0f} |")
    print(f"| a dispatcher with room | {direct:.1f} | {1e6 / direct:,.0f} |")
    print(f"\n`next_timer` with 10,000 queued: {best(lambda: timer(10_000 // scale)):.1f} µs")
    print(f"\n| queued | {' | '.join(f'{name}, µs' for name in FAIRNESS)} | bytes each | collector, µs |")
    print(f"|---|{'---|' * (len(FAIRNESS) + 2)}")
    for n in (1_000, 10_000, 100_000):
        size = n // scale
        rounds = ROUNDS if n < 100_000 else 3
        times = [best(lambda: through_the_queue(size, name), rounds) for name in FAIRNESS]
        row = [f"{size:,}", *(f"{each:.1f}" for each in times), f"{bytes_queued(size):,.0f}"]
        print(f"| {' | '.join(row)} | {best(lambda: collecting(size), 2):.1f} |")


if __name__ == "__main__":
    main()
