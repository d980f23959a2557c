"""The scheduler: placements and their endings, a fleet that changes, configurations that replace each other."""

import gc
import random
import weakref
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched import (
    ConfigError,
    Decision,
    Endpoint,
    EndpointBatch,
    Observer,
    Profile,
    Registry,
    Rejection,
    Request,
    Scheduler,
    load_config,
)
from inferencesched.decision import Pass
from inferencesched.interfaces import Conclusion

create = Registry().create


def least_in_flight(**options: Any) -> Profile:
    return Profile(scorers=[(create("active-request-scorer"), 1.0)], picker=create("max-score-picker"), **options)


def default_profile() -> Profile:
    """What `load_config` gives without a configuration."""
    (profile,) = load_config().profiles.values()
    return profile


def scheduler_of(profile: Profile, endpoints: int = 3, seed: int = 1, **options: Any) -> Scheduler:
    scheduler = Scheduler(profile, rng=random.Random(seed), **options)
    for i in range(endpoints):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
    return scheduler


def place(scheduler: Scheduler, request: Request | str = "r", **how: Any) -> Decision:
    request = Request(request) if isinstance(request, str) else request
    outcome = scheduler.schedule(request, **{"now": 0.0, **how})
    assert isinstance(outcome, Decision), outcome
    return outcome


def refused(scheduler: Scheduler, **how: Any) -> Rejection:
    outcome = scheduler.schedule(Request("r", "m"), **{"now": 0.0, **how})
    assert isinstance(outcome, Rejection)
    return outcome


class Recorder(Observer):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def endpoint_added(self, endpoint: Endpoint, *, now: float) -> None:
        self.told.append(("added", endpoint.name))

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        self.told.append(("removed", endpoint.name))

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self.told.append(("assigned", request.id, decision.endpoint.name))

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        self.told.append(("moved", request.id, origin.name, decision.endpoint.name))

    def rejected(self, request: Request, rejection: Rejection, *, now: float) -> None:
        self.told.append(("rejected", request.id, rejection.reason))

    def first_token(self, request_id: str, endpoint: Endpoint, *, now: float) -> None:
        self.told.append(("first_token", request_id, endpoint.name))

    def finished(self, request_id: str, endpoint: Endpoint, outcome: str, *, now: float) -> None:
        self.told.append(("finished", request_id, endpoint.name, outcome))


# --- placing and its accounts ---


def test_a_pick_is_seen_by_the_very_next_pick() -> None:
    """In flight counts rise before `schedule` returns."""
    scheduler = scheduler_of(least_in_flight(), endpoints=2)

    first, second = place(scheduler), place(scheduler)

    assert {first.endpoint.name, second.endpoint.name} == {"e0", "e1"}
    assert second.passes["default"].candidates["in_flight_requests"].sum() == 1


@pytest.mark.parametrize("prompt", ["# a prompt of its own " * 300, "# short", "the same for all " * 300, "hello"])
def test_b1_a_burst_in_one_tick_spreads(prompt: str) -> None:
    """64 picks over 8 idle endpoints: within 1 by least in flight, within 1.5 × the mean by the default profile.

    So do 64 equal prompts: a prefix hit is worth the tokens it saves, and no more.
    """
    for profile, limit in ((least_in_flight(), 8), (default_profile(), 12)):
        scheduler = scheduler_of(profile, endpoints=8)
        for i in range(8):
            scheduler.update(f"e{i}", {"waiting_requests": 0, "kv_cache_utilization": 0.0}, now=0.0)

        picks = Counter(
            place(scheduler, Request(f"r{i}", "m", prompt.replace("#", str(i)))).endpoint.name for i in range(64)
        )

        assert len(picks) == 8
        assert max(picks.values()) <= limit, picks


def test_b10_a_cache_miss_goes_to_low_load_not_to_the_emptiest_cache() -> None:
    """The endpoint with nothing cached is the busiest: a prompt nobody knows goes elsewhere."""
    scheduler = scheduler_of(default_profile(), endpoints=2)
    for i in range(20):
        warm = place(scheduler, Request("w", "m", f"warm prompt number {i} " * 300), subset=["e0"])
        scheduler.finish(warm, now=0.0)
    for _ in range(5):
        place(scheduler, Request("busy", "m", "x"), subset=["e1"])

    assert place(scheduler, Request("r", "m", "never seen before " * 300)).endpoint.name == "e0"


def test_a_prefix_is_worth_what_it_saves() -> None:
    """With a long prefix cached a server that is a little busier wins; with a short one it does not."""
    chosen = {}
    for words in (40, 4000):
        scheduler = scheduler_of(default_profile(), endpoints=2)
        for _ in range(3):
            held = place(scheduler, Request("held", "m", "word " * words), subset=["e0"])
            scheduler.first_token(held, now=0.0)
        chosen[words] = place(scheduler, Request("r", "m", "word " * words)).endpoint.name

    assert chosen == {40: "e1", 4000: "e0"}


def test_b3_independent_schedulers_do_not_herd() -> None:
    """16 schedulers that know nothing of each other, one pool of 8, 20 picks each: skew ≤ 1.5 (ties are random)."""
    total: Counter[str] = Counter()
    for seed in range(16):
        scheduler = scheduler_of(least_in_flight(), endpoints=8, seed=seed)
        total.update(place(scheduler).endpoint.name for _ in range(20))

    assert max(total.values()) / (320 / 8) <= 1.5, total


def test_b6_an_endpoint_without_metrics_is_not_taken_for_idle() -> None:
    """Between a busy, an idle and an unknown server, the idle one wins and the unknown one is second."""
    profile = Profile(
        scorers=[
            (create(f"{name}-scorer"), 1.0) for name in ("queue", "running-requests-size", "kv-cache-utilization")
        ],
        picker=create("max-score-picker"),
    )
    scheduler = scheduler_of(profile)
    scheduler.update("e0", {"waiting_requests": 9, "running_requests": 9, "kv_cache_utilization": 0.9}, now=0.0)
    scheduler.update("e1", {"waiting_requests": 0, "running_requests": 0, "kv_cache_utilization": 0.0}, now=0.0)

    decision = place(scheduler, n=3)

    assert [decision.endpoint.name, *(e.name for e in decision.fallbacks)] == ["e1", "e2", "e0"]


@pytest.mark.parametrize("prompt", [None, "", b"", (), "hi"], ids=repr)
def test_b13_requests_without_a_usable_prompt_are_balanced(prompt: Any) -> None:
    """B12 too: nothing to match and no session: they spread over all endpoints and never stick."""
    scheduler = scheduler_of(default_profile(), endpoints=4)

    picks = Counter(place(scheduler, Request(f"r{i}", "m", prompt)).endpoint.name for i in range(40))

    assert set(picks.values()) == {10}


def test_a8_every_kind_of_request_takes_and_releases_a_lease() -> None:
    """Tokens, text, bytes, nothing at all, an unknown model: one lease each, given back."""
    scheduler = scheduler_of(default_profile())
    prompts = [None, "text", b"bytes", [1, 2, 3], np.arange(5), range(100)]

    for prompt in prompts:
        decision = place(scheduler, Request("r", "whatever", prompt))
        assert len(scheduler.ledger) == 1
        assert scheduler.finish(decision, now=1.0)

    assert len(scheduler.ledger) == 0
    assert scheduler.ledger.reserved_total == len(prompts)


def test_a11_a_request_object_used_twice_starts_clean() -> None:
    """The accounts are in the ledger, not in the request: placing one object twice takes two leases."""
    scheduler, request = scheduler_of(least_in_flight()), Request("r")

    first = place(scheduler, request)
    scheduler.first_token(first, now=1.0)
    scheduler.finish(first, now=2.0)
    second = place(scheduler, request)

    assert scheduler.ledger.requests(second.endpoint) == 1
    assert scheduler.finish(second, now=3.0)


def test_reservations_are_the_uncached_work_and_prefill_ends_at_the_first_token() -> None:
    """A prompt that is cached costs less; A10: its prefill is given back at the first output."""
    scheduler = scheduler_of(default_profile(), endpoints=1)
    prompt = "x" * 4096

    first = place(scheduler, Request("r1", "m", prompt))
    second = place(scheduler, Request("r2", "m", prompt))

    assert first.lease.prefill_tokens == 1024
    assert second.lease.prefill_tokens == 0
    scheduler.first_token(first, now=1.0)
    assert scheduler.ledger.tokens(first.endpoint) == 0
    assert scheduler.ledger.requests(first.endpoint) == 2


def test_estimated_output_is_held_to_the_end() -> None:
    """With addEstimatedOutputTokens the output's share stays reserved after the first token."""
    producers = [create("token-producer"), create("inflight-load-producer", {"addEstimatedOutputTokens": True})]
    scheduler = scheduler_of(least_in_flight(producers=producers), endpoints=1)

    decision = place(scheduler, Request("r", "m", prompt_tokens=100, max_output_tokens=40))
    assert scheduler.ledger.tokens(decision.endpoint) == 140
    scheduler.first_token(decision, now=1.0)
    assert scheduler.ledger.tokens(decision.endpoint) == 40
    scheduler.finish(decision, now=2.0)
    assert scheduler.ledger.tokens(decision.endpoint) == 0


def test_finish_counts_once_whoever_calls_it() -> None:
    """Success, then error, then cancel: one ending, and observers are told of that one."""
    recorder = Recorder()
    scheduler = scheduler_of(least_in_flight(), endpoints=1, observers=[recorder])
    decision = place(scheduler)

    answers = [scheduler.finish(decision, now=1.0, outcome=o) for o in ("success", "error", "cancelled")]

    assert answers == [True, False, False]
    assert [t for t in recorder.told if t[0] == "finished"] == [("finished", "r", "e0", "success")]
    assert scheduler.ledger.underflow_total == 2


def test_the_leases_alone_are_enough_to_finish() -> None:
    """A host need not keep receipts for the life of a stream."""
    scheduler = scheduler_of(least_in_flight())
    leases = place(scheduler).leases

    assert scheduler.finish(leases, now=1.0)
    assert len(scheduler.ledger) == 0


def test_a_placement_nobody_mentions_is_reaped_and_one_that_lives_is_not() -> None:
    """The timer says when; observers are told; a later finish changes nothing."""
    recorder = Recorder()
    scheduler = scheduler_of(least_in_flight(), endpoints=1, lease_ttl=60.0, observers=[recorder])
    lost, alive = place(scheduler, "lost"), place(scheduler, "alive")
    scheduler.touch(alive, now=50.0)

    assert scheduler.next_timer() == 60.0
    scheduler.handle_timer(now=60.0)

    assert recorder.told[-1] == ("finished", "lost", "e0", "reaped")
    assert not scheduler.finish(lost, now=61.0)
    assert scheduler.next_timer() == 110.0


# --- fallbacks ---


def test_f10_the_lease_follows_the_endpoint_that_serves() -> None:
    """Before the first byte a failed endpoint is left for the next ranked one; counts move along."""
    recorder = Recorder()
    scheduler = scheduler_of(least_in_flight(), observers=[recorder])
    request = Request("r")
    decision = place(scheduler, request, n=3)

    moved = scheduler.fallback(request, decision, now=1.0)

    assert moved is not None
    assert moved.endpoint == decision.fallbacks[0]
    assert moved.fallbacks == decision.fallbacks[1:]
    assert scheduler.ledger.requests(decision.endpoint) == 0
    assert scheduler.ledger.requests(moved.endpoint) == 1
    assert recorder.told[-1] == ("moved", "r", decision.endpoint.name, moved.endpoint.name)
    assert scheduler.finish(moved, now=2.0)
    assert len(scheduler.ledger) == 0


def test_a_fallback_that_has_gone_is_stepped_over_and_the_last_one_ends_the_placement() -> None:
    """None says that nothing is left: the placement has ended in error and holds nothing."""
    recorder = Recorder()
    scheduler = scheduler_of(least_in_flight(), observers=[recorder])
    request = Request("r")
    decision = place(scheduler, request, n=3)
    scheduler.remove_endpoint(decision.fallbacks[0].name, now=0.5)

    moved = scheduler.fallback(request, decision, now=1.0)
    assert moved is not None
    assert moved.endpoint == decision.fallbacks[1]

    assert scheduler.fallback(request, moved, now=2.0) is None
    assert recorder.told[-1] == ("finished", "r", moved.endpoint.name, "error")
    assert scheduler.fallback(request, moved, now=3.0) is None
    assert len(scheduler.ledger) == 0


# --- rejections ---


def test_f2_filters_that_drain_the_fleet_are_named_and_typed() -> None:
    """By labels: none exists, 503. By load: contended, 429. Both say which filter, how many, and its condition."""
    labels = create("label-selector-filter", {"matchLabels": {"gpu": "h100"}})
    load = create("utilization-filter", {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]})
    by_labels = refused(scheduler_of(least_in_flight(filters=[labels])))
    busy = scheduler_of(least_in_flight(filters=[load]))
    for i in range(3):
        busy.update(f"e{i}", {"waiting_requests": 6}, now=0.0)
    by_load = refused(busy)

    assert (by_labels.http_status, by_labels.reason, by_labels.transient) == (503, "rejected-no-endpoints", False)
    assert (by_load.http_status, by_load.reason, by_load.transient) == (429, "rejected-saturated", True)
    assert "3 removed by label-selector-filter (gpu = h100)" in str(by_labels)
    assert "3 removed by utilization-filter (waiting_requests ≤ 5)" in by_load.explain()


def test_f4_every_429_and_503_of_the_scheduler_tells_when_to_retry() -> None:
    """At least one second."""
    assert (refused(scheduler_of(least_in_flight(), endpoints=0)).retry_after or 0) >= 1


def test_k8_absent_empty_and_unmatched_subsets_are_three_outcomes() -> None:
    """No subset: anyone. Empty: nobody, 503. Naming nobody present: nobody, 503, and it says so. Names or addresses."""
    scheduler = scheduler_of(least_in_flight())

    assert place(scheduler, subset=None).passes["default"].candidates.names == ("e0", "e1", "e2")
    assert refused(scheduler, subset=[]).message == "the subset given with the request is empty"
    assert "none of the 2 endpoints" in refused(scheduler, subset=["x", "y"]).message
    assert place(scheduler, subset=["e1"]).endpoint.name == "e1"
    assert place(scheduler, subset={"10.0.0.2:8000"}).endpoint.name == "e2"
    assert refused(scheduler_of(least_in_flight(), endpoints=0), subset=["e1"]).message == "the fleet is empty"


# --- a fleet that changes ---


def test_a3_a_restart_ends_what_was_in_flight_and_starts_at_zero() -> None:
    """The same name under a new address: old placements end in error, late endings touch nothing."""
    recorder = Recorder()
    scheduler = scheduler_of(least_in_flight(), endpoints=1, observers=[recorder])
    old = place(scheduler)

    endpoint = scheduler.add_endpoint("e0", "10.9.9.9:8000", now=1.0)
    fresh = place(scheduler, "fresh")
    assert not scheduler.finish(old, now=2.0)

    assert scheduler.ledger.requests(endpoint) == 1
    assert recorder.told[-4:] == [
        ("finished", "r", "e0", "error"),
        ("removed", "e0"),
        ("added", "e0"),
        ("assigned", "fresh", "e0"),
    ]
    assert scheduler.finish(fresh, now=3.0)


def test_a7_metrics_probes_and_reloads_never_alter_live_counters() -> None:
    """Facts, announcements and new configurations leave what is in flight alone."""
    scheduler = scheduler_of(least_in_flight(), endpoints=1)
    decisions = [place(scheduler, f"r{i}") for i in range(5)]

    scheduler.update("e0", {"running_requests": 0, "waiting_requests": 0, "in_flight_requests": 0}, now=1.0)
    scheduler.add_endpoint("e0", "10.0.0.0:8000", labels={"new": "label"}, now=2.0)
    scheduler.reconfigure(default_profile(), now=3.0)

    assert place(scheduler, "next").passes["default"].candidates["in_flight_requests"].tolist() == [5.0]
    assert all(scheduler.finish(decision, now=4.0) for decision in decisions)


def test_a9_selection_sees_persistent_state() -> None:
    """Load is that of the endpoint, not of a copy made for the request."""
    scheduler = scheduler_of(least_in_flight(), endpoints=2)
    for i in range(10):
        place(scheduler, f"r{i}", now=float(i))

    assert scheduler.candidates(now=10.0)["in_flight_requests"].tolist() == [5.0, 5.0]


def test_engines_that_have_less_cached_than_predicted_are_believed_less() -> None:
    """The usage of answers corrects the index: an endpoint that never has what is predicted loses its affinity."""
    scheduler = scheduler_of(default_profile(), endpoints=1)
    request = Request("r", "m", "a system prompt that everybody shares " * 200)

    def predicted() -> float:
        decision = place(scheduler, request)
        scheduler.report_cached_tokens(decision, 0, now=1.0)
        scheduler.finish(decision, now=2.0)
        return decision.passes["default"].kept.at("prefix_matched_tokens", 0)

    predictions = [predicted() for _ in range(40)]

    assert predictions[1] > 1800
    assert predictions[-1] < predictions[1] / 2


# --- several profiles ---


@attrs.frozen
class PrefillThenDecode:
    """Runs decode, then prefill; leases both."""

    def choose(self, request: Request, profiles: Any, passes: Mapping[str, Pass], /) -> tuple[str, ...]:
        return ("decode",) if not passes else ("prefill", "decode")  # asking for one twice must not loop

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        target = passes["prefill"].endpoints[0].address
        return Conclusion("decode", ("prefill",), {"x-prefiller-host-port": target})


@attrs.frozen
class NotWherePicked:
    """Keeps the endpoints that no earlier profile of this request picked."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        taken = {e.name for e in request.attributes.get("picked", {}).values()}
        return np.array([name not in taken for name in endpoints.names], np.bool_)


def test_h12_profile_selection_terminates_and_stages_are_leased_together() -> None:
    """A profile runs once; both picks hold a lease; prefill ends at the first token, the whole at the end."""
    decode, prefill = (
        Profile("decode", picker=create("random-picker")),
        Profile("prefill", filters=[NotWherePicked()], picker=create("random-picker")),
    )
    scheduler = Scheduler({"decode": decode, "prefill": prefill}, handler=PrefillThenDecode(), rng=random.Random(1))
    for i in range(2):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)

    decision = place(scheduler)

    (other,) = decision.others
    assert (other.stage, decision.primary) == ("prefill", "decode")
    assert other.endpoint != decision.endpoint
    assert decision.headers == {"x-prefiller-host-port": other.endpoint.address}
    assert list(decision.passes) == ["decode", "prefill"]
    assert len(scheduler.ledger) == 2
    scheduler.first_token(decision, now=1.0)
    assert len(scheduler.ledger) == 1
    assert scheduler.finish(decision, now=2.0)
    assert len(scheduler.ledger) == 0
    assert scheduler.ledger.underflow_total == 0


def test_several_profiles_without_a_handler_are_a_configuration_error() -> None:
    """And so are none."""
    one = least_in_flight()
    with pytest.raises(ConfigError, match="several profiles \\('a', 'b'\\) need a profile handler"):
        Scheduler({"a": one, "b": one}, rng=random.Random(1))
    with pytest.raises(ConfigError, match="at least one profile"):
        Scheduler({}, rng=random.Random(1))


# --- generations and memory ---


def test_generations_count_configurations_and_stand_in_every_receipt() -> None:
    """A decision says which configuration made it."""
    scheduler = scheduler_of(least_in_flight())
    assert place(scheduler).generation == 1

    assert scheduler.reconfigure(default_profile(), now=1.0) == 2

    assert place(scheduler).generation == 2
    assert place(scheduler).to_dict()["generation"] == 2


def test_h5_a_bad_configuration_leaves_the_old_one_in_force() -> None:
    """Whole or not at all: an error while it is put together changes nothing."""
    recorder = Recorder()
    scheduler = scheduler_of(least_in_flight(), observers=[recorder])
    before = scheduler.profiles

    with pytest.raises(ConfigError):
        scheduler.reconfigure({}, now=1.0)

    assert scheduler.profiles is before
    assert scheduler.generation == 1


def test_memory_passes_to_the_new_configuration_and_through_a_restart() -> None:
    """The prefix index survives a reload, and a snapshot taken to another process that has the same endpoints."""
    prompt = "a long and much loved system prompt " * 200
    scheduler = scheduler_of(default_profile(), endpoints=4)
    home = place(scheduler, Request("r", "m", prompt)).endpoint.name

    def matched(where: Scheduler) -> dict[str, float]:
        candidates = place(where, Request("q", "m", prompt)).passes["default"].candidates
        return dict(zip(candidates.names, candidates["prefix_matched_tokens"].tolist(), strict=True))

    scheduler.reconfigure(default_profile(), now=1.0)
    assert matched(scheduler)[home] > 1000

    restarted = scheduler_of(default_profile(), endpoints=4)
    restarted.restore(scheduler.snapshot(), now=0.0)
    assert matched(restarted)[home] > 1000


def test_an_observer_that_joins_later_is_told_who_is_there() -> None:
    """A new configuration's observers start from the fleet as it is."""

    class Listening(Recorder):
        type = "listening"

        def score(self, request: Request, endpoints: EndpointBatch, /) -> Any:
            return np.ones(len(endpoints))

    scheduler, listening = scheduler_of(least_in_flight(), endpoints=2), Listening()

    scheduler.reconfigure(Profile(scorers=[(listening, 1.0)], picker=create("max-score-picker")), now=1.0)

    assert listening.told == [("added", "e0"), ("added", "e1")]


# --- life cycle and cost ---


def test_m11_nothing_of_a_request_is_retained_after_it_ended() -> None:
    """Prompt, request and decision are collected once the host lets go; a plugin's exception too."""

    class Prompt(list[int]):
        """A list that can be watched."""

    class Failing:
        def score(self, request: Request, endpoints: EndpointBatch, /) -> Any:
            raise ValueError(request)

    profile = default_profile()
    profile = Profile(
        producers=profile.producers, scorers=[(create("queue-scorer"), 1.0), (Failing(), 1.0)], picker=profile.picker
    )
    scheduler = scheduler_of(profile)
    prompt = Prompt(range(1000))
    decision: Decision | None = place(scheduler, Request("r", "m", prompt))
    assert decision is not None
    watched: list[weakref.ref[Any]] = [weakref.ref(prompt), weakref.ref(decision)]
    scheduler.first_token(decision, now=1.0)
    scheduler.finish(decision, now=2.0)
    place(scheduler, Request("another", "m", "text"))  # whoever remembers the last request remembers this one now

    del prompt, decision
    gc.collect()

    assert [ref() for ref in watched] == [None, None]


def test_m12_a_decision_reads_the_columns_it_needs_and_copies_no_others() -> None:
    """With forty columns in the table, a pass over two scorers loads two: cost follows what is read."""
    scheduler = scheduler_of(
        Profile(
            scorers=[(create("queue-scorer"), 1.0), (create("kv-cache-utilization-scorer"), 1.0)],
            picker=create("max-score-picker"),
        ),
        endpoints=50,
    )
    for i in range(50):
        scheduler.update(f"e{i}", {f"attribute_{k}": k for k in range(40)}, now=0.0)

    candidates = place(scheduler).passes["default"].candidates

    assert set(candidates._cache) <= {
        *("in_flight_requests", "in_flight_tokens", "waiting_requests", "kv_cache_utilization"),
        *("uncached_request_tokens", "prompt_tokens", "estimated_output_tokens"),
    }


class SchedulerMachine(RuleBasedStateMachine):
    """A15 through the scheduler: whatever happens in whatever order, the books balance and endings are told once."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.scheduler = Scheduler(default_profile(), rng=random.Random(5), observers=[self.recorder], lease_ttl=40.0)
        self.live: list[tuple[Request, Decision]] = []
        self.past: list[Decision] = []
        self.now = 0.0

    @rule(name=st.sampled_from("abc"), address=st.sampled_from("12"))
    def add(self, name: str, address: str) -> None:
        self.scheduler.add_endpoint(name, address, now=self.now)

    @precondition(lambda self: len(self.scheduler.table) > 0)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.scheduler.table)))
        self.scheduler.remove_endpoint(name, now=self.now)

    @rule(prompt=st.sampled_from([None, "short", "long " * 300, range(700)]), n=st.integers(1, 4))
    def schedule(self, prompt: Any, n: int) -> None:
        request = Request("same-id", "m", prompt)
        outcome = self.scheduler.schedule(request, now=self.now, n=n)
        if isinstance(outcome, Decision):
            self.live.append((request, outcome))
        else:
            assert not len(self.scheduler.table)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), how=st.sampled_from(["success", "error", "cancelled"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        request, decision = data.draw(st.sampled_from(self.live))
        self.live.remove((request, decision))
        self.scheduler.finish(decision, now=self.now, outcome=how)
        self.past.append(decision)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        self.scheduler.first_token(data.draw(st.sampled_from(self.live))[1], now=self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def fall_back(self, data: st.DataObject) -> None:
        request, decision = data.draw(st.sampled_from(self.live))
        self.live.remove((request, decision))
        moved = self.scheduler.fallback(request, decision, now=self.now)
        if moved is not None:
            self.live.append((request, moved))
        self.past.append(decision)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        assert not self.scheduler.finish(data.draw(st.sampled_from(self.past)), now=self.now)

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.handle_timer(now=self.now)

    @rule()
    def reconfigure(self) -> None:
        self.scheduler.reconfigure(default_profile(), now=self.now)

    @invariant()
    def books_balance(self) -> None:
        audit = self.scheduler.ledger.audit()
        assert audit.balanced, audit.problems
        told = Counter(entry[0] for entry in self.recorder.told)
        assert told["assigned"] - told["finished"] == audit.open_leases == audit.requests


TestSchedulerMachine = SchedulerMachine.TestCase
TestSchedulerMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
