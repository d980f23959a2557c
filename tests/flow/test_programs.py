"""Program-aware fairness: the least served lately goes next, by what answers took."""

import math
import random
from typing import Any

import pytest

from inferencesched import Assigned, Dispatcher, Request, load_config
from inferencesched.flow import ProgramAwareFairness


def policy_of(usage: dict[str, tuple[float, float, float]], **options: Any) -> ProgramAwareFairness:
    """A policy that was told of these programs: prompt tokens, output tokens, when."""
    policy = ProgramAwareFairness(**options)
    for flow, (prompt, output, now) in usage.items():
        policy.usage_reported("r", flow, prompt, output, now=now)
    return policy


def next_of(policy: ProgramAwareFairness, **ranks: float) -> str:
    turns = policy.turns()
    for number, (flow, rank) in enumerate(ranks.items()):
        turns.ready(flow, (rank, number))
    return turns.next()


def test_output_counts_twice_and_service_halves_with_every_half_life() -> None:
    policy = policy_of({"p": (100.0, 50.0, 0.0)})

    assert [policy.service("p", now=now) for now in (0.0, 60.0, 120.0)] == [200.0, 100.0, 50.0]
    policy.usage_reported("r", "p", 10.0, 0.0, now=60.0)
    assert policy.service("p", now=60.0) == 110.0
    assert policy_of({"p": (8.0, 0.0, 0.0)}, las_half_life_seconds=0.0).service("p", now=1e9) == 8.0


def test_the_least_served_goes_next_and_the_longest_waiting_among_equals() -> None:
    policy = policy_of({"large": (900.0, 0.0, 0.0), "small": (100.0, 0.0, 0.0)})

    assert next_of(policy, large=1.0, small=1.0) == "small"
    assert next_of(policy, small=2.0, new=3.0) == "new"
    assert next_of(policy_of({}), late=2.0, early=1.0) == "early"


def test_waiting_long_enough_outweighs_service_as_the_weights_say() -> None:
    """0.8 × (1 − 0.3) + 0.2 × 1 > 0.8 × 1 + 0.2 × 0 is false at these weights, and true at even ones."""
    usage = {"a": (300.0, 0.0, 0.0), "b": (0.0, 0.0, 0.0), "c": (1000.0, 0.0, 0.0)}
    ranks = {"a": 0.0, "b": 10.0, "c": 10.0}

    assert next_of(policy_of(usage), **ranks) == "b"
    assert next_of(policy_of(usage, las_weight_service=0.5, las_weight_head_wait=0.5), **ranks) == "a"


def test_a_rank_without_end_waits_as_the_last_does() -> None:
    assert next_of(policy_of({}), never=math.inf, soon=1.0, late=5.0) == "soon"
    assert next_of(policy_of({}), never=math.inf, neither=math.inf) == "never"


def test_when_it_is_asked_does_not_matter() -> None:
    """All service decays alike: who comes out ahead is settled by what was told, not by the clock."""
    dice = random.Random(3)
    for _ in range(50):
        told = {flow: (dice.uniform(0, 1000), dice.uniform(0, 1000), dice.uniform(0, 300)) for flow in "abcd"}
        policy = policy_of(dict(sorted(told.items(), key=lambda each: each[1][2])))
        at = {flow: policy.service(flow, now=policy.latest) for flow in told}
        later = {flow: policy.service(flow, now=policy.latest + 90.0) for flow in told}
        assert sorted(at, key=at.__getitem__) == sorted(later, key=later.__getitem__)
        assert later["a"] == pytest.approx(at["a"] * 2.0**-1.5)


def test_an_idle_program_is_forgotten_on_time_and_memory_has_an_end() -> None:
    policy = policy_of({"idle": (1.0, 0.0, 0.0), "busy": (1.0, 0.0, 3600.0)}, las_half_life_seconds=0.0)
    assert policy.service("idle", now=3600.0) == 1.0
    policy.usage_reported("r", "busy", 1.0, 0.0, now=3600.1)
    assert policy.service("idle", now=3600.1) == 0.0

    for number in range(70_000):
        policy.usage_reported("r", f"p{number}", 1.0, 0.0, now=3601.0)
    assert len(policy._attained) == 65_536


def test_a_program_that_took_much_lets_the_others_by() -> None:
    """Through the configuration and the dispatcher: usage is reported, and the queue heeds it."""
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": ["flowControl"],
        "plugins": [
            {"type": "random-picker"},
            {"type": "program-aware-fairness"},
            {"type": "concurrency-detector", "parameters": {"maxConcurrency": 1}},
        ],
        "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "random-picker"}]}],
        "flowControl": {
            "saturationDetector": {"pluginRef": "concurrency-detector"},
            "defaultPriorityBand": {"fairnessPolicyRef": "program-aware-fairness"},
            "priorityBands": [{"priority": 0, "fairnessPolicyRef": "program-aware-fairness"}],
        },
    }
    dispatcher = Dispatcher.from_config(load_config(document), rng=random.Random(1))
    dispatcher.add_endpoint("e0", now=-100.0)
    for number, flow in enumerate(["greedy", "greedy", "greedy", "modest", "modest"]):
        dispatcher.submit(Request(f"{flow}-{number}", flow=flow), now=0.0)

    order = []
    while isinstance(event := dispatcher.next_event(), Assigned):
        order.append(event.request_id)
        tokens = 1000.0 if event.request_id.startswith("greedy") else 10.0
        assert dispatcher.report_usage(event.ticket, prompt_tokens=tokens, output_tokens=tokens, now=1.0)
        dispatcher.finish(event.ticket, now=1.0)

    assert order == ["greedy-0", "modest-3", "modest-4", "greedy-1", "greedy-2"]
    assert not dispatcher.report_usage(event.ticket if event else "modest-4", prompt_tokens=1.0, now=1.0)
    with pytest.raises(ValueError, match="must be finite"):
        dispatcher.report_usage("modest-4", prompt_tokens=math.nan, now=1.0)
