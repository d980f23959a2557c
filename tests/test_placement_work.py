"""How much work a placement is, in calls of Python functions: what a stop-watch on a shared machine cannot say.

The bounds are those of docs/performance/request.md. Whoever raises one says there what for.
"""

import random
import sys
from collections import Counter
from types import FrameType

import pytest

from inferencesched import Decision, Request, Scheduler, load_config

CALLS = 150
"""Calls of Python functions for one request: placed by the default policy, its first token and its end reported."""

TEXTS = [f"group {i % 16} " * 170 + f"question {i} " * 70 for i in range(64)]


def default_scheduler(endpoints: int) -> Scheduler:
    scheduler = load_config().scheduler(rng=random.Random(1))
    for i in range(endpoints):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
        scheduler.update(f"e{i}", {"kv_cache_utilization": 0.1 + i / endpoints / 2}, now=0.0)
    return scheduler


def serve(scheduler: Scheduler, requests: int) -> None:
    """Place, answer and end requests one after another, sixteen at a time under way."""
    under_way: list[Decision] = []
    for number in range(requests):
        decision = scheduler.schedule(Request(f"r-{number}", "m", TEXTS[number % len(TEXTS)]), now=1.0)
        assert isinstance(decision, Decision)
        under_way.append(decision)
        if len(under_way) > 16:
            oldest = under_way.pop(0)
            scheduler.first_token(oldest, now=1.0)
            scheduler.finish(oldest, now=1.0)
    for decision in under_way:
        scheduler.finish(decision, now=1.0)


def calls_of(scheduler: Scheduler, requests: int = 256) -> Counter[str]:
    """Return how often each function is called for so many requests, once everything is warm."""
    serve(scheduler, 512)
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    former = sys.getprofile()
    sys.setprofile(count)
    try:
        serve(scheduler, requests)
    finally:
        sys.setprofile(former)
    return calls


@pytest.mark.parametrize("endpoints", [4, 16])
def test_a_request_costs_so_many_calls_and_no_more(endpoints: int) -> None:
    """From `schedule` to `finish` under the default policy; array operations are not calls of Python functions."""
    assert calls_of(default_scheduler(endpoints)).total() / 256 <= CALLS


def test_a_larger_fleet_costs_no_more_calls() -> None:
    """What grows with the endpoints are arrays: at 512, a placement makes hardly more calls than by lists at 16."""
    small, large = (calls_of(default_scheduler(n)).total() for n in (16, 512))

    assert large <= 1.15 * small


def test_a_placement_has_one_batch_and_opens_one_lease() -> None:
    """The ledger's columns and each producer's go to one batch, the prompt is hashed and walked once."""
    calls = calls_of(default_scheduler(4))

    per_request = {name: count / 256 for name, count in calls.items()}
    assert per_request["EndpointBatch.grow"] == 4
    assert "EndpointBatch._derive" not in per_request
    assert per_request["Ledger.reserve"] == per_request["Ledger.release"] == 1
    assert per_request["KeyMaker.keys"] == per_request["RadixTree.match"] == per_request["RadixTree.insert"] == 1
    assert per_request["RadixTree._walk"] <= 1.1
    assert per_request["RadixTree.nbytes"] <= 0.1
