"""What a policy makes of sessions, by how long answers are, and of a fleet that several gateways share; simulated.

    python bench/sessions.py            # the tables of docs/performance/policies.md
    python bench/sessions.py --quick    # a tenth of the time

Agents (`inferencesched.sim.AGENTS`: instructions of their sort, then call upon call) on four H100s, with answers of 4,
59 and 300 tokens in the median; chats on eight A100s through four gateways, each of which knows what it has placed
itself and, of the others, what engines report once a second. Simulated time: another machine gives the same numbers.

*With utilization* is the default with a scorer of the KV caches beside it, at a quarter of its weight; *1,024 each*
also counts a request in flight as 1,024 tokens whatever answers are like, and what a request adds once everywhere.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from inferencesched import Decision, Rejection, Request, Scheduler
from inferencesched.sim import (
    AGENTS,
    CHAT,
    ENGINES,
    POLICIES,
    FleetSpec,
    LogNormal,
    Summary,
    Trace,
    Workload,
    build_scheduler,
    replay,
    summarize,
)

WHATEVER_ANSWERS_ARE = {"outputTokenCost": 1e9, "busyRequests": 1e9}


def beside(parameters: Mapping[str, float]) -> dict[str, Any]:
    """Return a policy that weighs expected work 4 and the KV caches' utilization 1."""
    work, cache = "expected-work-scorer", "kv-cache-utilization-scorer"
    return {
        **POLICIES["default"],
        "plugins": [{"type": work, "parameters": dict(parameters)}, {"type": cache}],
        "schedulingProfiles": [
            {"name": "default", "plugins": [{"pluginRef": work, "weight": 4}, {"pluginRef": cache, "weight": 1}]}
        ],
    }


CONTENDERS: Mapping[str, Mapping[str, Any]] = {
    "endpoint-picker": POLICIES["endpoint-picker"],
    "1,024 each, with utilization": beside(WHATEVER_ANSWERS_ARE),
    "with utilization": beside({}),
    "default": POLICIES["default"],
}
ANSWERS = {"4": LogNormal(4, 4), "59": AGENTS.answer, "300": LogNormal(300, 700)}
RATES = {"4": 10.0, "59": 8.0, "300": 3.0}
"""Sessions a second: what four H100s bear without queues that grow."""


class Gateways:
    """Several schedulers over one fleet, whose requests they get in turn; the simulator takes them for one."""

    def __init__(self, several: list[Scheduler]) -> None:
        self._several = several
        self._turns = itertools.cycle(several)
        self._by: dict[str, Scheduler] = {}

    def add_endpoint(self, name: str, address: str, *, now: float) -> None:
        """Add an endpoint to each."""
        for each in self._several:
            each.add_endpoint(name, address, now=now)

    def update(self, name: str, facts: Mapping[str, Any], *, now: float) -> None:
        """Tell each."""
        for each in self._several:
            each.update(name, facts, now=now)

    def schedule(self, request: Request, *, now: float) -> Decision | Rejection:
        """Let the next one place a request."""
        self._by[request.id] = next(self._turns)
        return self._by[request.id].schedule(request, now=now)

    def first_token(self, decision: Decision, *, now: float) -> None:
        """Tell the one that placed it."""
        self._by[decision.request_id].first_token(decision, now=now)

    def report_cached_tokens(self, decision: Decision, tokens: float, *, now: float) -> None:
        """Likewise."""
        self._by[decision.request_id].report_cached_tokens(decision, tokens, now=now)

    def tell(self, hook: str, request_id: str, *what: Any, now: float) -> None:
        """Likewise."""
        self._by[request_id].tell(hook, request_id, *what, now=now)

    def finish(self, decision: Decision, *, now: float) -> None:
        """Likewise."""
        self._by[decision.request_id].finish(decision, now=now)

    def next_timer(self) -> None:
        """Nothing is due: leases do not expire here."""


def several(policy: Mapping[str, Any], count: int) -> Callable[[random.Random], Any]:
    """Return what makes so many gateways with one policy."""
    return lambda rng: Gateways([build_scheduler(policy, rng=random.Random(rng.random())) for _ in range(count)])


def row(name: str, of: Summary) -> str:
    """Return a line of the table: times to first token and, in milliseconds, per output token."""
    times = (
        f"{of.ttft.p50:.3f} | {of.ttft.p90:.3f} | {of.ttft.p99:.3f} | {of.tpot.p50 * 1e3:.1f} | {of.tpot.p90 * 1e3:.1f}"
    )
    return f"| {name} | {times} | {of.hit_ratio_tokens:.3f} | {of.load_skew:.2f} |"


def show(title: str, trace: Trace, fleet: FleetSpec, gateways: int) -> None:
    """Replay a trace with every contender and print a table."""
    print(f"\n{title}: {len(trace):,} requests\n")
    print(
        "| policy | TTFT p50 | p90 | p99 | TPOT p50 | p90 | token hits | load skew |\n" + "| --- " + "| --: " * 7 + "|"
    )
    for name, policy in CONTENDERS.items():
        print(row(name, summarize(replay(trace, fleet, several(policy, gateways), policy=name))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    seconds = 12.0 if parser.parse_args().quick else 120.0
    for tokens, answer in ANSWERS.items():
        agents = attrs.evolve(AGENTS, answer=answer)
        trace = Workload(((agents, RATES[tokens]),), 1.24).generate(seconds, random.Random(3))
        show(f"Agents, answers of {tokens} tokens", trace, FleetSpec((ENGINES["h100"],) * 4), 1)
    chats = Workload(((CHAT, 1.6),), 1.24).generate(4 * seconds, random.Random(3))
    show("Chats through four gateways", chats, FleetSpec((ENGINES["a100"],) * 8), 4)


if __name__ == "__main__":
    main()
