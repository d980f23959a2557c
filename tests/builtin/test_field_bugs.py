"""What other schedulers got wrong, as far as it takes several built-ins together to get it right.

Bugs that one plugin answers for stand in that plugin's own file: B7 (pickers), B12, L9 and L10 (sessions), B15 and I9
(health), H12, K7 and L6 (handlers). L7, the body of the prefill leg, is the business of whoever forwards bodies.
"""

import heapq
import random
import tracemalloc
from collections import Counter
from typing import Any

import pytest

from inferencesched import Decision, Profile, Registry, Request, Scheduler
from inferencesched.testing import make_batch

create = Registry().create


def scheduler_of(endpoints: int = 4, **parts: Any) -> Scheduler:
    scheduler = Scheduler(Profile(picker=create("max-score-picker"), **parts), rng=random.Random(1))
    for i in range(endpoints):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
    return scheduler


def place(scheduler: Scheduler, request: Request, now: float = 0.0, **how: Any) -> Decision:
    decision = scheduler.schedule(request, now=now, **how)
    assert isinstance(decision, Decision)
    return decision


def first_choice(profile: Profile, **columns: Any) -> str:
    return profile.run(Request("r", "m"), make_batch(**columns), random.Random(1)).endpoints[0].name


AFFINITY = Profile(
    filters=[create("prefix-cache-affinity-filter", {"maxTTFTPenaltyMs": 5000.0})],
    scorers=[(create("token-load-scorer"), 1.0)],
    picker=create("max-score-picker"),
)


def test_b8_one_overloaded_endpoint_does_not_disable_affinity_elsewhere() -> None:
    """The request's own endpoint is what counts: idle, it is kept, however full another one is."""
    chosen = first_choice(
        AFFINITY,
        prefix_matched_tokens=[1000, 0, 0],
        prefix_total_tokens=[1000, 1000, 1000],
        in_flight_tokens=[100.0, 900_000.0, 0.0],
    )

    assert chosen == "e0"


def test_b8_an_overloaded_holder_is_passed_over_by_its_own_requests_only() -> None:
    load = {"prefix_total_tokens": [1000, 1000, 1000], "in_flight_tokens": [900_000.0, 100.0, 0.0]}

    assert first_choice(AFFINITY, prefix_matched_tokens=[1000, 0, 0], **load) == "e2"
    assert first_choice(AFFINITY, prefix_matched_tokens=[0, 1000, 0], **load) == "e1"


def test_b9_of_the_endpoints_with_little_load_the_best_cached_one_is_chosen() -> None:
    near_the_least = create("utilization-filter", {"conditions": [{"metric": "active-requests", "maxValue": 4}]})
    profile = Profile(
        filters=[near_the_least],
        scorers=[(create("prefix-cache-scorer"), 1.0)],
        picker=create("max-score-picker"),
    )

    chosen = first_choice(
        profile,
        in_flight_requests=[0, 3, 2, 60],
        prefix_matched_tokens=[0, 512, 256, 1024],
        prefix_total_tokens=[1024] * 4,
    )

    assert chosen == "e1"


@pytest.mark.parametrize("scorer", ["active-request-scorer", "token-load-scorer"])
def test_b14_faster_endpoints_receive_work_in_proportion(scorer: str) -> None:
    """Virtual time; endpoint k takes 1/(k + 1) of a second a request, and the host keeps 40 requests going."""
    producers = [create("token-producer"), create("inflight-load-producer")]
    scheduler = scheduler_of(4, producers=producers, scorers=[(create(scorer), 1.0)])
    served: Counter[str] = Counter()
    free = {f"e{i}": 0.0 for i in range(4)}
    running: list[tuple[float, int, Decision]] = []
    now = 0.0

    for i in range(4000):
        if len(running) >= 40:
            now, _, done = heapq.heappop(running)
            scheduler.finish(done, now=now)
        decision = place(scheduler, Request(f"r-{i}", prompt_tokens=100, prompt=""), now)
        name = decision.endpoint.name
        served[name] += 1
        free[name] = max(free[name], now) + 1.0 / (int(name[1]) + 1)
        heapq.heappush(running, (free[name], i, decision))

    assert [served[f"e{i}"] / 400 for i in range(4)] == pytest.approx([1, 2, 3, 4], rel=0.1)


def test_b16_magnitude_survives_in_the_scorers_that_claim_it() -> None:
    deep = make_batch(waiting_requests=[100, 101], in_flight_requests=[100, 101])
    near = make_batch(prefix_matched_tokens=[510, 520], prefix_total_tokens=[1000, 1000])

    for name, facts in (("load-aware-scorer", deep), ("active-request-scorer", deep), ("prefix-cache-scorer", near)):
        first, second = create(name).score(Request("r"), facts)
        assert 0 < abs(first - second) < 0.02


def test_l4_every_lora_tier_is_reachable_with_the_labels_a_real_vllm_sends() -> None:
    """vLLM lists an adapter under `running` while it runs, under `waiting` while it queues, and under both at once."""
    scorer = create("lora-affinity-scorer")
    facts = make_batch(
        active_adapters=[{"sql"}, {"sql", "chat"}, {"chat"}, {"chat", "code"}, {"chat", "code"}, set()],
        waiting_adapters=[set(), {"sql"}, set(), {"sql"}, {"code"}, set()],
        max_active_adapters=[2, 2, 2, 2, 2, 2],
    )

    assert scorer.score(Request("r", "sql"), facts).tolist() == [1.0, 1.0, 0.8, 0.6, 0.0, 0.8]


def test_l5_ten_thousand_adapters_that_come_and_go_leave_memory_flat() -> None:
    scheduler = scheduler_of(4, scorers=[(create("lora-affinity-scorer"), 1.0)])

    def cycle(adapter: int) -> None:
        name = f"adapter-{adapter}"
        scheduler.update(f"e{adapter % 4}", {"active_adapters": {name}, "max_active_adapters": 1.0}, now=float(adapter))
        decision = place(scheduler, Request(f"r-{adapter}", name), now=float(adapter))
        scheduler.finish(decision, now=float(adapter))

    for adapter in range(2000):  # until caches have the size they are allowed
        cycle(adapter)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for adapter in range(2000, 12_000):
            cycle(adapter)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert after - before < 100_000


def test_l8_prefill_and_decode_keep_separate_turns() -> None:
    stages = ("decode", "prefill")
    turns = create("round-robin-picker")
    profiles = {stage: Profile(stage, filters=[create(f"{stage}-filter")], picker=turns) for stage in stages}
    handler = create("disagg-profile-handler", {"stageOrder": "prefill-first"})
    scheduler = Scheduler(profiles, handler=handler, rng=random.Random(1))
    for stage, size in (("decode", 2), ("prefill", 3)):
        for i in range(size):
            scheduler.add_endpoint(f"{stage}-{i}", labels={"llm-d.ai/role": stage}, now=0.0)

    placed = [place(scheduler, Request(f"r-{i}", "m")) for i in range(6)]

    assert [decision.endpoint.name for decision in placed] == ["decode-0", "decode-1"] * 3
    assert [decision.others[0].endpoint.name for decision in placed] == ["prefill-0", "prefill-1", "prefill-2"] * 2


@pytest.mark.parametrize(
    ("cached", "in_flight", "stays"),
    [(100_000.0, 40_000.0, True), (100_000.0, 400_000.0, False), (0.0, 40_000.0, False)],
    ids=["the wait is shorter than the prefill", "the wait is longer", "there is nothing to lose"],
)
def test_l11_a_long_context_moves_only_when_the_wait_costs_more_than_its_prefill(
    cached: float, in_flight: float, stays: bool
) -> None:
    """The penalty is set to what the prefill of such a context takes at the engine's own speed."""
    throughput, context = 10_000.0, 100_000.0
    profile = Profile(
        filters=[
            create(
                "prefix-cache-affinity-filter",
                {"maxTTFTPenaltyMs": 1000 * context / throughput, "peakPrefillThroughput": throughput},
            )
        ],
        scorers=[(create("token-load-scorer"), 1.0)],
        picker=create("max-score-picker"),
    )

    chosen = first_choice(
        profile,
        prefix_matched_tokens=[cached, 0.0],
        prefix_total_tokens=[context, context],
        in_flight_tokens=[in_flight, 0.0],
    )

    assert (chosen == "e0") is stays


def test_l11_a_session_bound_by_a_filter_does_not_move_while_its_endpoint_is_there() -> None:
    affinity = create("session-affinity-filter", {"strategy": "session_id"})
    scheduler = scheduler_of(2, filters=[affinity], scorers=[(create("active-request-scorer"), 1.0)])
    session = {"x-session-id": "long"}
    home = place(scheduler, Request("r", headers=session)).endpoint

    for i in range(50):
        place(scheduler, Request(f"r-{i}"), subset=[home.name])

    assert place(scheduler, Request("r", headers=session)).endpoint == home


def test_cold_prompts_go_round_and_warm_ones_do_not_count() -> None:
    lru = create("no-hit-lru-scorer")
    scheduler = scheduler_of(4, scorers=[(lru, 1.0)])

    names = [place(scheduler, Request(f"r-{i}")).endpoint.name for i in range(8)]

    assert names == ["e0", "e1", "e2", "e3"] * 2


def test_a_cold_prompt_counts_the_place_among_all_endpoints_remembered() -> None:
    lru = create("no-hit-lru-scorer")
    scheduler = scheduler_of(4, scorers=[(lru, 1.0)])
    for name in ("e3", "e0", "e1"):
        place(scheduler, Request("r"), subset=[name])

    scores = lru.score(Request("r"), scheduler.candidates(now=0.0))
    of_two = lru.score(Request("r"), scheduler.candidates(now=0.0, subset=["e0", "e1"]))

    assert scores == pytest.approx([1 - 2 / 3, 0.0, 1.0, 1 - 1 / 3])
    assert of_two.tolist() == [0.0, 0.0]  # their places are 1 and 2, of which 1 / (2 − 1) is already the worst


def test_an_endpoint_that_was_removed_is_new_again() -> None:
    lru = create("no-hit-lru-scorer", {"lruSize": 2})
    scheduler = scheduler_of(3, scorers=[(lru, 1.0)])
    for name in ("e0", "e1", "e2"):
        place(scheduler, Request("r"), subset=[name])

    assert list(lru._used) == [2, 3]  # bounded: the instances used last
    scheduler.remove_endpoint("e1", now=0.0)
    assert list(lru._used) == [3]
