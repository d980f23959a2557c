"""One pass over N endpoints, ours against a per-endpoint dictionary implementation of the same profile, in one run.

    python bench/decision.py            # the table of docs/performance/decision.md
    python bench/decision.py --quick    # a tenth of the repetitions

Both do the same work on the same facts: 2 filters (labels, utilization), 5 scorers (queue, running requests, KV cache,
requests in flight, prefix), weights, the best total with random ties. The dictionary implementation is what one writes
first in Python, and what pickers of this field do: loop over endpoint objects, one score map per scorer keyed by
endpoint, min-max in a second loop. `--check` (part of the tests) asserts that both find the same best total.
"""

from __future__ import annotations

import argparse
import platform
import random
import time
from collections.abc import Callable
from typing import Any

from inferencesched import Endpoint, EndpointBatch, Profile, Registry, Request, Scheduler

SIZES = (8, 32, 128, 256, 1024)
WEIGHTS = {"queue": 2.0, "running": 1.0, "kv": 2.0, "active": 1.0, "prefix": 3.0}
COLUMNS = (
    "waiting_requests",
    "running_requests",
    "kv_cache_utilization",
    "in_flight_requests",
    "prefix_matched_tokens",
)


class Server:
    """An endpoint as an object, for the dictionary implementation."""

    def __init__(self, name: str, zone: str, facts: dict[str, float]) -> None:
        self.name = name
        self.labels = {"zone": zone}
        self.facts = facts


def servers(n: int, seed: int) -> list[Server]:
    """Return `n` endpoints with random facts, one in eight in another zone."""
    rng = random.Random(seed)
    return [
        Server(
            f"endpoint-{i}",
            "b" if i % 8 == 7 else "a",
            {
                "waiting_requests": float(rng.randrange(20)),
                "running_requests": float(rng.randrange(64)),
                "kv_cache_utilization": rng.random(),
                "in_flight_requests": float(rng.randrange(80)),
                "prefix_matched_tokens": float(rng.choice([0, 0, 0, 64, 512, 1024])),
            },
        )
        for i in range(n)
    ]


def profile() -> Profile:
    """Return the profile under test."""
    create = Registry().create
    return Profile(
        filters=[
            create("label-selector-filter", {"matchLabels": {"zone": "a"}}),
            create("utilization-filter", {"conditions": [{"metric": "kv-cache-utilization", "maxValue": 0.95}]}),
        ],
        scorers=[
            (create("queue-scorer"), WEIGHTS["queue"]),
            (create("running-requests-size-scorer"), WEIGHTS["running"]),
            (create("kv-cache-utilization-scorer"), WEIGHTS["kv"]),
            (create("active-request-scorer"), WEIGHTS["active"]),
            (create("prefix-cache-scorer"), WEIGHTS["prefix"]),
        ],
        picker=create("max-score-picker"),
    )


def batch_of(fleet: list[Server]) -> EndpointBatch:
    """Return the same fleet as columns."""
    columns = {name: [s.facts[name] for s in fleet] for name in COLUMNS}
    columns["prefix_total_tokens"] = [1024.0] * len(fleet)
    return EndpointBatch.build([Endpoint(s.name, labels=s.labels) for s in fleet], columns)


def by_dictionaries(fleet: list[Server], rng: random.Random) -> tuple[Server, dict[str, float]]:
    """One pass as one writes it first: objects, and a score map per scorer keyed by endpoint."""
    kept = [s for s in fleet if s.labels.get("zone") == "a"]
    kept = [s for s in kept if s.facts["kv_cache_utilization"] <= 0.95]

    def fewest_is_best(fact: str) -> dict[str, float]:
        values = {s.name: s.facts[fact] for s in kept}
        low, high = min(values.values()), max(values.values())
        if low == high:
            return dict.fromkeys(values, 1.0)
        return {name: (high - value) / (high - low) for name, value in values.items()}

    def active() -> dict[str, float]:
        most = max(s.facts["in_flight_requests"] for s in kept)
        return {
            s.name: 1.0 if s.facts["in_flight_requests"] <= 0 else (most - s.facts["in_flight_requests"]) / most
            for s in kept
        }

    scored = {
        "queue": fewest_is_best("waiting_requests"),
        "running": fewest_is_best("running_requests"),
        "kv": {s.name: 1.0 - s.facts["kv_cache_utilization"] for s in kept},
        "active": active(),
        "prefix": {s.name: s.facts["prefix_matched_tokens"] / 1024.0 for s in kept},
    }
    totals = {s.name: 0.0 for s in kept}
    for scorer, scores in scored.items():
        weight = WEIGHTS[scorer]
        for name, score in scores.items():
            totals[name] += weight * min(1.0, max(0.0, score))
    rng.shuffle(kept)
    return max(kept, key=lambda s: totals[s.name]), totals


def medians(repeat: int, *calls: Callable[[], Any]) -> list[float]:
    """Return the median CPU time of each call in microseconds; they take turns, so that all see the same machine."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeat):
        for call, taken in zip(calls, times, strict=True):
            start = time.thread_time()
            for _ in range(10):
                call()
            taken.append((time.thread_time() - start) / 10)
    return [sorted(taken)[len(taken) // 2] * 1e6 for taken in times]


def check() -> None:
    """Assert that both implementations agree on who is best."""
    for n in SIZES:
        fleet = servers(n, seed=n)
        chosen, totals = by_dictionaries(fleet, random.Random(1))
        ours = profile().run(Request("r"), batch_of(fleet), random.Random(1))
        assert abs(totals[ours.endpoints[0].name] - totals[chosen.name]) < 1e-9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the repetitions")
    parser.add_argument("--check", action="store_true", help="only compare the answers")
    options = parser.parse_args()
    check()
    if options.check:
        return
    repeat = 20 if options.quick else 200
    print(f"{platform.python_implementation()} {platform.python_version()}, numpy {__import__('numpy').__version__}")
    print("| endpoints | pass, CPU µs | dictionaries, µs | ratio | schedule + finish, µs |")
    print("|---|---|---|---|---|")
    for n in SIZES:
        fleet = servers(n, seed=n)
        batch, one, rng, request = batch_of(fleet), profile(), random.Random(1), Request("r")
        scheduler = Scheduler(profile(), rng=random.Random(1))
        for server in fleet:
            scheduler.add_endpoint(server.name, labels=server.labels, now=0.0)
            scheduler.update(server.name, {k: v for k, v in server.facts.items() if "in_flight" not in k}, now=0.0)

        def placed() -> None:
            scheduler.finish(scheduler.schedule(request, now=1.0), now=1.0)  # type: ignore[arg-type]

        ours, theirs, whole = medians(
            max(5, repeat * 32 // max(n, 32)),
            lambda: one.run(request, batch.with_columns({}), rng),
            lambda: by_dictionaries(fleet, rng),
            placed,
        )
        print(f"| {n:,} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f}× | {whole:.1f} |")


if __name__ == "__main__":
    main()
