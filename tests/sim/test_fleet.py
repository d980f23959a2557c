"""Facts about a fleet in virtual time: what is told when, that nothing is lost, and that it spreads as it should.

The tests named after a letter and a number are behaviours that other projects got wrong.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from inferencesched.decision import Decision
from inferencesched.errors import ConfigError
from inferencesched.sim.engine import EngineSpec
from inferencesched.sim.fleet import Event, Fleet, FleetSpec
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.policies import POLICIES, build_scheduler
from inferencesched.sim.trace import Trace, TraceRequest
from inferencesched.sim.workload import AGENTS, CHAT, COMPLETIONS, Workload

PLAIN = EngineSpec("plain", step_seconds=1.0, prefill_token_seconds=0.01, max_running=8, step_tokens=100)
BLOCK = 10

# One request in flight per endpoint, then none: what refuses is a filter that looks at load.
ONE_AT_A_TIME = {
    "apiVersion": "llm-d.ai/v1alpha1",
    "kind": "EndpointPickerConfig",
    "plugins": [
        {
            "type": "utilization-filter",
            "parameters": {"conditions": [{"metric": "active-requests", "maxValue": 0}]},
        },
        {"type": "max-score-picker"},
    ],
    "schedulingProfiles": [
        {"name": "default", "plugins": [{"pluginRef": "utilization-filter"}, {"pluginRef": "max-score-picker"}]}
    ],
}


def ask(
    number: int, *, arrival: float = 0.0, prompt: int = 10, output: int = 5, blocks: tuple[int, ...] = ()
) -> TraceRequest:
    """A request that shares nothing unless it is given blocks."""
    own = tuple(1000 * (number + 1) + i for i in range(-(-prompt // BLOCK)))
    return TraceRequest(f"r{number}", arrival, prompt, output, blocks or own)


def run(
    requests: list[TraceRequest],
    *,
    endpoints: int = 2,
    policy: Mapping[str, Any] = POLICIES["least-in-flight"],
    engine: EngineSpec = PLAIN,
    scrape_interval: float = 1.0,
) -> tuple[Fleet, list[Event]]:
    spec = FleetSpec((engine,) * endpoints, scrape_interval)
    fleet = Fleet(spec, build_scheduler(policy, rng=random.Random(1)), block_tokens=BLOCK)
    return fleet, list(fleet.run(Trace("t", BLOCK, tuple(requests))))


def places(events: list[Event]) -> dict[str, str]:
    return {event.request.id: event.endpoint for event in events if event.kind == "assigned" and event.endpoint}


def test_a_request_is_assigned_on_arrival_then_begins_then_ends() -> None:
    """On a plain engine: 10 tokens of prompt are 1.1 s, each further token 1 s."""
    _, events = run([ask(0, arrival=2.0, output=3)], endpoints=1)

    assert [(event.kind, round(event.time, 6), event.endpoint) for event in events] == [
        ("assigned", 2.0, "e0"),
        ("first_token", 3.1, "e0"),
        ("finished", 5.1, "e0"),
    ]


def test_events_come_in_the_order_of_time_across_endpoints() -> None:
    """Eight endpoints, one stream."""
    _, events = run([ask(i, arrival=i / 7, output=1 + i % 5) for i in range(60)], endpoints=8)

    assert [event.time for event in events] == sorted(event.time for event in events)


@pytest.mark.parametrize(("interval", "age"), [(1.0, 0.75), (0.5, 0.25), (10.0, 2.75), (0.0, 0.0)])
def test_a_decision_sees_metrics_as_old_as_the_last_scrape(interval: float, age: float) -> None:
    """A decision at 2.75 s."""
    requests = [ask(0), ask(1, arrival=2.75)]

    _, events = run(requests, policy=POLICIES["endpoint-picker"], scrape_interval=interval)

    decision = next(event.outcome for event in events if event.request.id == "r1")
    assert isinstance(decision, Decision)
    assert decision.passes["default"].candidates.age("waiting_requests").tolist() == pytest.approx([age, age])


def test_a_scrape_tells_how_things_were_then_not_how_they_are() -> None:
    """At 2.0 the first request runs; at 2.9, when the second decision falls, it has ended (at 2.1)."""
    _, events = run([ask(0, output=2), ask(1, arrival=2.9)], policy=POLICIES["endpoint-picker"], endpoints=1)

    decision = next(event.outcome for event in events if event.request.id == "r1")
    assert isinstance(decision, Decision)
    assert decision.passes["default"].candidates["running_requests"].tolist() == [1.0]


def test_what_nobody_will_see_is_not_scraped() -> None:
    """An interval of a microsecond costs no more than the arrivals there are."""
    fleet, events = run([ask(0), ask(1, arrival=3600.0)], scrape_interval=1e-6)

    assert len(events) == 6
    assert fleet.scheduler.ledger.audit().balanced


def test_a_rejected_request_ends_there() -> None:
    """Two endpoints that take one request each: the third is told to come back."""
    _, events = run([ask(0), ask(1), ask(2)], policy=ONE_AT_A_TIME)

    (rejected,) = [event for event in events if event.kind == "rejected"]
    assert [event.kind for event in events if event.request.id == "r2"] == ["rejected"]
    assert rejected.to_dict() == {"t": 0.0, "event": "rejected", "request": "r2", "reason": "rejected-saturated"}


def test_an_event_is_one_line_of_json() -> None:
    """With what a reader of logs wants to know, and no prompt."""
    _, events = run([ask(0, output=1)], endpoints=1)

    assert [json.loads(event.to_json()) for event in events] == [
        {"t": 0.0, "event": "assigned", "request": "r0", "endpoint": "e0", "total": 1.0, "tied": 1},
        {"t": 1.1, "event": "first_token", "request": "r0", "endpoint": "e0"},
        {"t": 1.1, "event": "finished", "request": "r0", "endpoint": "e0", "matched_blocks": 0, "preemptions": 0},
    ]


def test_a_request_that_no_engine_could_ever_hold_is_refused_before_anything_runs() -> None:
    """By name, with the engine."""
    small = attrs.evolve(PLAIN, cache_tokens=100)

    with pytest.raises(ConfigError, match="request r0: has 105 tokens, more than plain can hold"):
        run([ask(0, prompt=100)], engine=small)


def test_an_adapter_that_no_engine_has_slots_for_is_refused_before_anything_runs() -> None:
    """The same way."""
    with pytest.raises(ConfigError, match="request r0: wants adapter 'x', and plain has no slots"):
        run([attrs.evolve(ask(0), adapter="x")])


def test_names_of_endpoints_sort_as_they_count() -> None:
    """Ten and more get a leading zero."""
    assert FleetSpec((PLAIN,) * 2).names == ("e0", "e1")
    assert FleetSpec((PLAIN,) * 11).names[::10] == ("e00", "e10")


traffic = st.lists(
    st.tuples(
        st.floats(0, 60),
        st.integers(1, 80),
        st.integers(1, 20),
        st.integers(0, 3),
        st.sampled_from(["", "", "x", "y", "z"]),
    ),
    max_size=30,
).map(
    lambda rows: [
        TraceRequest(
            f"r{n}",
            at,
            prompt,
            out,
            tuple(range(100 * topic, 100 * topic - (-prompt // BLOCK))),
            adapter=adapter or None,
        )
        for n, (at, prompt, out, topic, adapter) in enumerate(sorted(rows))
    ]
)


@settings(max_examples=40)
@given(
    traffic, st.sampled_from([*POLICIES.values(), ONE_AT_A_TIME]), st.integers(1, 4), st.sampled_from([0.0, 1.0, 9.0])
)
def test_every_request_ends_exactly_once_and_the_books_balance(
    requests: list[TraceRequest], policy: Mapping[str, Any], endpoints: int, interval: float
) -> None:
    """Under every policy, with too small a cache, too few slots for adapters, and with requests refused."""
    engine = attrs.evolve(PLAIN, cache_tokens=150, max_adapters=2, adapter_load_seconds=0.5)

    fleet, events = run(requests, policy=policy, endpoints=endpoints, engine=engine, scrape_interval=interval)

    kinds = {request.id: [e.kind for e in events if e.request.id == request.id] for request in requests}
    assert all(each in (["assigned", "first_token", "finished"], ["rejected"]) for each in kinds.values())
    audit = fleet.scheduler.ledger.audit()
    assert audit.balanced
    assert (audit.open_leases, audit.requests, audit.tokens) == (0, 0, 0.0)
    assert fleet.scheduler.ledger.underflow_total == 0
    assert not fleet.scheduler.faults
    assert all(engine.next_time() is None and engine.cache.held == 0 for engine in fleet.engines.values())


@pytest.mark.parametrize("policy", ["least-in-flight", "default"])
def test_b2_load_spreads_by_local_counts_while_metrics_are_frozen(policy: str) -> None:
    """One scrape at the beginning, then a minute of traffic: what this scheduler counts itself is enough."""
    requests = [ask(i, arrival=i / 4, output=20) for i in range(240)]

    _, events = run(requests, endpoints=8, policy=POLICIES[policy], scrape_interval=math.inf)

    placed = Counter(places(events).values())
    assert len(placed) == 8
    assert max(placed.values()) <= 1.5 * 240 / 8


def test_b10_a_cache_miss_goes_to_low_load_not_to_the_smallest_cache() -> None:
    """One endpoint holds one block and answers at length; the other has twenty prompts in its cache and is idle."""
    long_answer = ask(0, prompt=10, output=2000)
    misses = [ask(i, arrival=10.0 * i, prompt=40) for i in range(1, 21)]

    _, events = run([long_answer, *misses], policy=POLICIES["default"])

    where = places(events)
    assert {where[request.id] for request in misses} == {"e0", "e1"} - {where["r0"]}


def test_b11_single_turn_traffic_without_reuse_uses_every_endpoint() -> None:
    """No prefix is worth anything, so nothing may attract."""
    trace = Workload(((COMPLETIONS, 10.0),)).generate(60.0, random.Random(3))
    fleet = Fleet(
        FleetSpec((ENGINES["h100"],) * 8),
        build_scheduler(POLICIES["default"], rng=random.Random(1)),
        block_tokens=trace.block_tokens,
    )

    placed = Counter(places(list(fleet.run(trace))).values())

    assert len(placed) == 8
    assert max(placed.values()) <= 1.5 * len(trace) / 8


def test_prompts_that_begin_alike_do_not_pile_up_on_one_endpoint() -> None:
    """Everybody shares the first block, and still no endpoint does more than 1.2 times its share under `default`."""
    trace = Workload(((CHAT, 4.0), (AGENTS, 0.5))).generate(120.0, random.Random(3))
    fleet = Fleet(
        FleetSpec((ENGINES["h100"],) * 8),
        build_scheduler(POLICIES["default"], rng=random.Random(1)),
        block_tokens=trace.block_tokens,
    )

    assert sum(event.kind == "finished" for event in fleet.run(trace)) == len(trace)

    work = [engine.computed_tokens for engine in fleet.engines.values()]
    assert max(work) <= 1.2 * sum(work) / len(work)


def test_policies_learn_from_answers_what_they_would_from_a_gateway() -> None:
    """The simulator reports each answer's usage, so that a policy that goes by it is judged as it would run."""
    requests = tuple(TraceRequest(f"r-{n}", float(n), BLOCK, 5, (n,)) for n in range(3))
    scheduler = build_scheduler(POLICIES["default"], rng=random.Random(1))

    list(Fleet(FleetSpec((PLAIN,)), scheduler, block_tokens=BLOCK).run(Trace("short answers", BLOCK, requests)))

    scorer = next(named.plugin for named in scheduler.plugins if named.name == "expected-work-scorer")
    assert scorer.request_work == 15.0
