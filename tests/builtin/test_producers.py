"""Producers: what a request would cost on each endpoint, and what each endpoint was sent before."""

import math
import random
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, strategies as st

from inferencesched import ConfigError, Decision, Profile, Registry, Request, Scheduler
from inferencesched.testing import make_batch

create = Registry().create
UNKNOWN = math.nan


def scheduler_of(producer: Any, *scorers: Any, endpoints: int = 3) -> Scheduler:
    weighed = [(scorer, 1.0) for scorer in scorers or (create("active-request-scorer"),)]
    profile = Profile(producers=[producer], scorers=weighed, picker=create("max-score-picker"))
    scheduler = Scheduler(profile, rng=random.Random(1))
    for i in range(endpoints):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
    return scheduler


def place(scheduler: Scheduler, request: Request, now: float = 0.0, **how: Any) -> Decision:
    decision = scheduler.schedule(request, now=now, **how)
    assert isinstance(decision, Decision)
    return decision


def column(decision: Decision, name: str) -> list[float]:
    return [float(value) for value in decision.passes["default"].candidates[name]]


def knows(decision: Decision, name: str) -> bool:
    return not all(map(math.isnan, column(decision, name)))


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        (Request("r", prompt="abcdefgh"), 2),
        (Request("r", prompt="abcdefghi"), 3),
        (Request("r", prompt=""), 0),
        (Request("r", prompt="äöü"), 2),
        (Request("r", prompt="\ud800"), 1),
        (Request("r", prompt=b"abcde"), 2),
        (Request("r", prompt=[1, 2, 3]), 3),
        (Request("r", prompt=np.arange(5)), 5),
        (Request("r", prompt="abcdefgh", prompt_tokens=77), 77),
        (Request("r", prompt_tokens=0), 0),
    ],
    ids=["text", "tail", "empty", "utf-8", "lone surrogate", "bytes", "ids", "array", "counted", "counted zero"],
)
def test_tokens_are_counted_by_the_host_or_estimated_at_four_bytes(request_: Request, tokens: int) -> None:
    made = create("token-producer").produce(request_, make_batch(n=2))

    assert made["prompt_tokens"].tolist() == [tokens, tokens]


def test_a_request_without_prompt_has_an_unknown_number_of_tokens() -> None:
    assert create("token-producer").produce(Request("r"), make_batch(n=2)) == {}


# --- work ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "prefix", "limit", "parameters", "work"),
    [
        (1000, (UNKNOWN, UNKNOWN), None, {}, 1000),
        (1000, (0, 960), None, {}, 1000),
        (1000, (640, 960), None, {}, 360),
        (1000, (960, 960), None, {}, 40),
        (1000, (960, 1024), None, {}, 64),
        (UNKNOWN, (UNKNOWN, UNKNOWN), None, {}, UNKNOWN),
        (100, (0, 0), None, {"addEstimatedOutputTokens": True}, 250),
        (100, (64, 64), None, {"addEstimatedOutputTokens": True}, 186),
        (100, (0, 0), 10, {"addEstimatedOutputTokens": True}, 110),
        (100, (0, 0), 500, {"addEstimatedOutputTokens": True, "maxEstimatedOutputTokens": 20}, 120),
        (100, (0, 0), None, {"addEstimatedOutputTokens": True, "outputRatio": 0.0}, 100),
        (0, (0, 0), None, {"addEstimatedOutputTokens": True}, 0),
    ],
)
def test_work_is_what_is_not_cached_and_the_output_if_counted(
    prompt: float, prefix: tuple[float, float], limit: int | None, parameters: dict[str, Any], work: float
) -> None:
    matched, total = prefix
    facts = make_batch(prompt_tokens=[prompt], prefix_matched_tokens=[matched], prefix_total_tokens=[total])

    made = create("inflight-load-producer", parameters).produce(Request("r", max_output_tokens=limit), facts)

    assert made["uncached_request_tokens"] == pytest.approx([work], nan_ok=True)


facts = st.one_of(st.just(UNKNOWN), st.integers(0, 5000).map(float))


@given(st.lists(st.tuples(facts, facts, facts), min_size=1, max_size=6))
def test_work_is_the_formula_whatever_is_unknown(rows: list[tuple[float, float, float]]) -> None:
    """(total - matched) + max(0, prompt - total), and the prompt where a prefix column is unknown."""
    prompt, matched, total = (list(each) for each in zip(*rows, strict=True))
    batch = make_batch(prompt_tokens=prompt, prefix_matched_tokens=matched, prefix_total_tokens=total)

    work = create("inflight-load-producer").produce(Request("r"), batch)["uncached_request_tokens"]

    for got, (p, m, t) in zip(work.tolist(), rows, strict=True):
        wanted = max(t - m, 0.0) + max(p - t, 0.0) if not math.isnan(p + m + t) else p
        assert got == wanted or (math.isnan(got) and math.isnan(wanted))


def test_output_that_is_not_counted_is_not_estimated() -> None:
    made = create("inflight-load-producer").produce(Request("r"), make_batch(prompt_tokens=[10]))

    assert "estimated_output_tokens" not in made


# --- encoder cache ---------------------------------------------------------------------------------------------------


def test_an_endpoint_holds_the_media_it_was_sent() -> None:
    scheduler = scheduler_of(create("mm-embeddings-cache-producer"), create("mm-embeddings-cache-scorer"))
    first = place(scheduler, Request("a", media=(b"cat", b"dog", b"cat")))

    second = place(scheduler, Request("b", media=(b"dog", b"cow")))

    assert column(first, "encoder_cache_request_items") == [2, 2, 2]
    assert second.endpoint == first.endpoint
    assert sorted(column(second, "encoder_cache_matched_items")) == [0, 0, 1]


def test_media_without_a_digest_match_nothing_and_text_gets_no_columns() -> None:
    scheduler = scheduler_of(create("mm-embeddings-cache-producer"))
    place(scheduler, Request("a", media=(b"",)))

    assert column(place(scheduler, Request("b", media=(b"",))), "encoder_cache_matched_items") == [0, 0, 0]
    assert not knows(place(scheduler, Request("c")), "encoder_cache_matched_items")


def test_the_encoder_cache_is_bounded_and_forgets_what_was_sent_longest_ago() -> None:
    producer = create("mm-embeddings-cache-producer", {"cacheSizeInMBPerServer": 4})
    scheduler = scheduler_of(producer, endpoints=1)
    for item in (b"1", b"2", b"1", b"3"):
        place(scheduler, Request("r", media=(item,)))

    held = {
        item: column(place(scheduler, Request("q", media=(item,))), "encoder_cache_matched_items") for item in [b"2"]
    }

    assert producer.capacity == 2
    assert held == {b"2": [0]}
    assert {item: len(held) for item, held in producer._cached.items()} == {1: 2}
    assert len(producer._holders) == 2


def test_a_restarted_endpoint_has_encoded_nothing() -> None:
    producer = create("mm-embeddings-cache-producer")
    scheduler = scheduler_of(producer, endpoints=1)
    place(scheduler, Request("a", media=(b"cat",)))
    scheduler.add_endpoint("e0", "10.0.0.9:8000", now=1.0)

    assert column(place(scheduler, Request("b", media=(b"cat",))), "encoder_cache_matched_items") == [0]
    assert producer._cached.keys() == {2}


@pytest.mark.parametrize(("configured", "items"), [(4096, 2048), (0, 2048), (-1, 2048), (1, 1), (5, 2)])
def test_an_encoder_cache_item_is_two_mebibytes(configured: int, items: int) -> None:
    assert create("mm-embeddings-cache-producer", {"cacheSizeInMBPerServer": configured}).capacity == items


# --- bursts ----------------------------------------------------------------------------------------------------------


def burst(id: str, *blocks: str) -> Request:
    """Return a request whose prompt has one block of 64 tokens for each letter."""
    return Request(id, "m", "".join(letter * 256 for letter in blocks))


BURST = ("burst-prefix-cache-producer", "prefix-cache-scorer")


def burst_scheduler(endpoints: int = 4, **parameters: Any) -> Scheduler:
    return scheduler_of(create(BURST[0], parameters), create(BURST[1]), endpoints=endpoints)


def test_equal_prompts_of_one_window_go_where_the_first_went() -> None:
    scheduler = burst_scheduler()

    first, second, third = (place(scheduler, burst(f"r-{i}", "a", "b"), now=i / 100) for i in range(3))

    assert first.endpoint == second.endpoint == third.endpoint
    assert not knows(first, "prefix_matched_tokens")
    assert sorted(column(third, "prefix_matched_tokens")) == [0, 0, 0, 128]
    assert column(third, "prefix_total_tokens") == [128] * 4


def test_prompts_that_differ_in_a_block_do_not_follow_each_other() -> None:
    scheduler = burst_scheduler()
    place(scheduler, burst("a", "a", "b"))

    assert not knows(place(scheduler, burst("b", "a", "c")), "prefix_matched_tokens")


def test_a_window_closes_and_forgets_and_the_next_one_opens() -> None:
    scheduler = burst_scheduler(windowDurationMs=50)
    place(scheduler, burst("a", "a"), now=0.0)

    inside, outside, after = (place(scheduler, burst("b", "a"), now=now) for now in (0.049, 0.05, 0.06))

    assert [knows(each, "prefix_matched_tokens") for each in (inside, outside, after)] == [True, False, True]
    assert after.endpoint == outside.endpoint


def test_a_group_goes_on_to_another_endpoint_when_one_has_its_fill() -> None:
    scheduler = burst_scheduler(endpoints=2, maxPerReplica=2)

    first, second, third = (place(scheduler, burst(f"r-{i}", "a")) for i in range(3))
    elsewhere = place(scheduler, burst("r-3", "a"), subset=[e for e in ("e0", "e1") if e != first.endpoint.name])
    last = place(scheduler, burst("r-4", "a"))

    assert [knows(each, "prefix_matched_tokens") for each in (first, second, third)] == [False, True, False]
    assert elsewhere.endpoint in {third.endpoint, last.endpoint}


def test_prompts_with_a_prefix_in_common_follow_each_other_up_to_a_fair_share() -> None:
    level, full = (burst_scheduler(endpoints=2, minColocateBlocks=2) for _ in range(2))
    for name in ("e0", "e1"):
        place(level, burst(name, "a", "b", name[1]), subset=[name])
        place(full, burst(name, "a", "b", name[1]), subset=["e0"])

    assert column(place(level, burst("c", "a", "b", "c")), "prefix_matched_tokens") == [192, 192]
    assert not knows(place(full, burst("c", "a", "b", "c")), "prefix_matched_tokens")


def test_the_longest_prefix_in_common_is_followed() -> None:
    scheduler = burst_scheduler(endpoints=3, minColocateBlocks=1)
    place(scheduler, burst("a", "a", "b", "c"), subset=["e0"])
    place(scheduler, burst("b", "a", "x"), subset=["e1"])

    third = place(scheduler, burst("c", "a", "b", "z"), subset=["e0", "e1"])

    assert column(third, "prefix_matched_tokens") == [192, 0]
    assert third.endpoint.name == "e0"


def test_too_few_blocks_in_common_are_not_followed() -> None:
    scheduler = burst_scheduler(endpoints=2, minColocateBlocks=2)
    place(scheduler, burst("a", "a", "b"), subset=["e0"])
    place(scheduler, burst("b", "x", "y"), subset=["e1"])

    assert not knows(place(scheduler, burst("c", "a", "z")), "prefix_matched_tokens")


def test_balancing_by_tokens_charges_an_endpoint_for_what_it_has_to_compute() -> None:
    producer = create(BURST[0], {"minColocateBlocks": 1, "balanceBy": "tokens"})
    scheduler = scheduler_of(producer, endpoints=2)
    place(scheduler, burst("a", "a", "b"), subset=["e0"])
    place(scheduler, burst("b", "a", "b", "c"), subset=["e0"])

    assert producer._window.load == {1: 3}


def test_prompts_that_are_not_equal_stay_apart_where_nothing_is_to_be_colocated() -> None:
    producer = create(BURST[0], {"balanceBy": "tokens"})
    scheduler = scheduler_of(producer)
    place(scheduler, burst("a", "a", "b"))

    assert not knows(place(scheduler, burst("b", "a", "c")), "prefix_matched_tokens")


def test_blocks_are_remembered_only_where_somebody_asks_for_them() -> None:
    producer = create(BURST[0])
    place(scheduler_of(producer), burst("a", "a", "b"))

    assert producer._window.holders == {}


def test_the_smallest_limits_are_limits() -> None:
    assert create(BURST[0], {"maxPerReplica": 1, "maxBatchSize": 1, "maxPrefixTokensToMatch": 64})


def test_a_window_is_bounded() -> None:
    producer = create(BURST[0], {"maxBatchSize": 3})
    scheduler = scheduler_of(producer)
    for i in range(10):
        place(scheduler, burst(f"r-{i}", chr(97 + i)))

    assert len(producer._window.groups) == 3


def test_a_prompt_shorter_than_a_block_takes_no_part() -> None:
    producer = create(BURST[0])
    scheduler = scheduler_of(producer)
    for prompt in ("short", None):
        place(scheduler, Request("r", "m", prompt))

    assert producer._window.groups == {}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"windowDurationMs": 0}, "≥ 1"),
        ({"windowDurationMs": 10_001}, "≤ 10000"),
        ({"maxPerReplica": 0}, "-1 for no limit"),
        ({"maxBatchSize": -2}, "-1 for no limit"),
        ({"blockSizeTokens": 0}, "≥ 1"),
        ({"maxPrefixTokensToMatch": 63}, "blockSizeTokens"),
        ({"minColocateBlocks": -1}, "≥ 0"),
        ({"balanceBy": "weight"}, "one of requests, tokens"),
    ],
)
def test_wrong_parameters_of_a_burst_are_refused(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create(BURST[0], parameters)


def test_a_request_is_not_changed_by_what_is_produced_for_it() -> None:
    request = burst("a", "a")

    for name in ("token-producer", "inflight-load-producer", "mm-embeddings-cache-producer", BURST[0]):
        before = attrs.asdict(request, recurse=False)
        create(name).produce(request, make_batch(n=2))
        assert attrs.asdict(request, recurse=False) == before
