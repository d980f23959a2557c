"""Placements per second through the asyncio shell, beside the dispatcher alone, in one run.

    python bench/aio.py             # the table of docs/performance/asyncio.md
    python bench/aio.py --quick     # a tenth of the placements

A *placement* is `async with router.place(request): placement.first_token()`, from the request object to the release of
its lease. *Free*: there is always room, nobody waits. *Contended*: 256 tasks share 64 places, so that three in four
placements go through the queue, a future and the loop. The dispatcher alone does the same work in the same order
without tasks. One process, one core; CPU time, best of twelve.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import time
from collections import deque
from typing import Any

from inferencesched import Request, load_config
from inferencesched.aio import AsyncDispatcher
from inferencesched.dispatcher import Dispatcher
from inferencesched.events import Assigned

ENDPOINTS = 8
FLOWS, PRIORITIES = 100, (10, 0, -10)
TASKS, PLACES = 256, 64
ROUNDS = 12


def dispatcher_of(policy: str, *, places: int) -> Dispatcher:
    """Return a dispatcher with flow control on, and so many places in all."""
    detector = {"type": "concurrency-detector", "parameters": {"maxConcurrency": places // ENDPOINTS}}
    picking: list[dict[str, Any]] = [{"type": "max-score-picker"}]
    if policy == "least-in-flight":
        picking.insert(0, {"type": "active-request-scorer"})
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": ["flowControl"],
        "plugins": [*picking, detector],
        "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": each["type"]} for each in picking]}],
        "flowControl": {
            "saturationDetector": {"pluginRef": "concurrency-detector"},
            "priorityBands": [{"priority": priority} for priority in PRIORITIES],
        },
    }
    dispatcher = Dispatcher.from_config(load_config(document), rng=random.Random(1))
    for i in range(ENDPOINTS):
        dispatcher.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=time.monotonic())
    return dispatcher


def requests(n: int) -> list[Request]:
    """Return requests of all flows and bands, in turn."""
    return [Request(f"r{i}", flow=f"f{i % FLOWS}", priority=PRIORITIES[i % 3], prompt_tokens=100) for i in range(n)]


def alone(dispatcher: Dispatcher, work: list[Request], tasks: int) -> None:
    """Do the work without tasks: as many requests submitted at a time as there would be tasks."""
    coming, running = iter(work), deque[Assigned]()
    open_, left = 0, len(work)
    while left:
        while open_ < tasks and (request := next(coming, None)) is not None:
            dispatcher.submit(request, now=time.monotonic())
            open_ += 1
        while (event := dispatcher.next_event()) is not None:
            assert isinstance(event, Assigned)
            running.append(event)
        dispatcher.next_timer()
        ended = running.popleft()
        dispatcher.first_token(ended.ticket, now=time.monotonic())
        dispatcher.finish(ended.ticket, now=time.monotonic())
        open_, left = open_ - 1, left - 1


async def through_the_shell(dispatcher: Dispatcher, work: list[Request], tasks: int) -> None:
    """Do the work in tasks, each of which takes the next request when it is done with one."""
    router, coming = AsyncDispatcher(dispatcher), iter(work)

    async def client() -> None:
        for request in coming:
            async with router.place(request) as placement:
                placement.first_token()
                if tasks > 1:
                    await asyncio.sleep(0)  # the answer: others have a turn while it lasts

    await asyncio.gather(*(client() for _ in range(tasks)))
    router.close()


def rate(how: str, policy: str, *, tasks: int, placements: int) -> float:
    """Return placements per second of CPU time."""
    dispatcher, work = dispatcher_of(policy, places=PLACES), requests(placements)
    start = time.process_time()
    if how == "asyncio":
        asyncio.run(through_the_shell(dispatcher, work, tasks))
    else:
        alone(dispatcher, work, tasks)
    taken = time.process_time() - start
    assert dispatcher.in_flight == dispatcher.queued == 0
    return placements / taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the placements")
    placements = 200 if parser.parse_args().quick else 2_000
    print(f"{platform.python_implementation()} {platform.python_version()}, {ENDPOINTS} endpoints")
    print("| policy | load | dispatcher alone, 1/s | asyncio, 1/s | the shell adds, µs |")
    print("|---|---|---|---|---|")
    for policy in ("picker only", "least-in-flight"):
        for load, tasks in (("free", 1), ("contended", TASKS)):
            best = {"alone": 0.0, "asyncio": 0.0}
            for _ in range(ROUNDS):  # taking turns, so that both see the same machine
                for how, so_far in best.items():
                    best[how] = max(so_far, rate(how, policy, tasks=tasks, placements=placements))
            sansio, shell = best.values()
            print(f"| {policy} | {load} | {sansio:,.0f} | {shell:,.0f} | {(1 / shell - 1 / sansio) * 1e6:.1f} |")


if __name__ == "__main__":
    main()
