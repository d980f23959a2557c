"""The approximate producer: what it tells of its picks, of engines' figures, and of answers that say it was wrong."""

from __future__ import annotations

import random

import numpy as np
import pytest

from inferencesched.builtin.pickers import MaxScorePicker
from inferencesched.builtin.scorers import PrefixCacheScorer
from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.prefix.calibration import Accuracy, Calibration
from inferencesched.prefix.chained import chained_hashes
from inferencesched.prefix.producer import ApproxPrefixCacheProducer
from inferencesched.prefix.radix import RadixTree
from inferencesched.profile import Profile
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler
from tests.prefix.test_field_bugs_c import BLOCK_BYTES, fleet, matched, place, text


def one_endpoint(**parameters: object) -> tuple[Scheduler, ApproxPrefixCacheProducer]:
    return fleet("a", producer=ApproxPrefixCacheProducer(**parameters))  # type: ignore[arg-type]


def test_the_columns_are_tokens() -> None:
    """Matched and total are counted in tokens of whole blocks."""
    scheduler, producer = fleet("a", "b")
    place(scheduler, text(3.5))
    columns = producer.produce(Request("r", prompt=text(3) + text(2.9, of="b")), scheduler.table.snapshot(now=0.0))

    assert sorted(columns["prefix_matched_tokens"].tolist()) == [0, 3 * 64]
    assert columns["prefix_total_tokens"].tolist() == [5 * 64, 5 * 64]


def test_a_request_without_prompt_gets_no_columns() -> None:
    """Nothing to match is unknown, and not a miss."""
    scheduler, producer = fleet("a")

    assert producer.produce(Request("r"), scheduler.table.snapshot(now=0.0)) == {}


def test_every_stage_of_a_placement_learns() -> None:
    """Prefill and decode both end with the prompt in their caches."""
    scheduler, producer = fleet("a", "b")
    decision = place(scheduler, text(4))
    prefill = scheduler.ledger.reserve("r", scheduler.table["b"], stage="prefill", now=0.0)
    both = Decision(
        decision.request_id, "", scheduler.table["a"], (), decision.lease, decision.passes, decision.primary, 1, 0.0,
        (prefill,),
    )  # fmt: skip
    producer.assigned(Request("r", prompt=text(4)), both, now=0.0)

    assert matched(scheduler, producer, text(4))[1] == 4


def test_the_limit_in_tokens_cuts_long_prompts() -> None:
    """What is beyond it is neither remembered nor counted."""
    scheduler, producer = one_endpoint(max_prefix_tokens_to_match=128)
    place(scheduler, text(10))
    columns = producer.produce(Request("r", prompt=text(10)), scheduler.table.snapshot(now=0.0))

    assert columns["prefix_total_tokens"].tolist() == [128]
    assert len(producer.index) == 2


def test_the_deprecated_limit_in_blocks_counts_only_without_the_other() -> None:
    """Upstream's rule: blocks where tokens are 0, none where both are."""
    for blocks, expected in ((3, 3), (0, 10)):
        scheduler, producer = one_endpoint(max_prefix_tokens_to_match=0, max_prefix_blocks_to_match=blocks)
        place(scheduler, text(10))

        assert len(producer.index) == expected


def test_the_block_size_follows_the_engines() -> None:
    """The smallest that an engine reports, never below 64; what was learned with another size is not mixed in."""
    scheduler, producer = fleet("a", "b")
    place(scheduler, text(8))
    scheduler.table.update("a", {"cache_block_size_tokens": 256.0}, now=0.0)
    scheduler.table.update("b", {"cache_block_size_tokens": 128.0}, now=0.0)

    assert matched(scheduler, producer, text(8)) == [0, 0]
    assert producer.block_tokens == 128

    scheduler.table.update("b", {"cache_block_size_tokens": 16.0}, now=0.0)
    matched(scheduler, producer, text(8))

    assert producer.block_tokens == 64


def test_the_capacity_follows_the_engines_whenever_they_say() -> None:
    """Engine blocks are converted to ours, and a figure that comes late or changes is not missed."""
    scheduler, producer = fleet("a")
    place(scheduler, text(40))
    scheduler.table.update("a", {"cache_block_size_tokens": 16.0, "cache_num_blocks": 80.0}, now=0.0)
    matched(scheduler, producer, text(1))

    assert producer.index.size(scheduler.table["a"]) == 80 * 16 // 64

    scheduler.table.update("a", {"cache_num_blocks": 120.0}, now=0.0)
    matched(scheduler, producer, text(1))
    place(scheduler, text(40))

    assert producer.index.size(scheduler.table["a"]) == 30


def test_without_auto_tune_the_engines_figures_are_ignored() -> None:
    """Configured is configured."""
    scheduler, producer = one_endpoint(auto_tune=False, block_size_tokens=96)
    scheduler.table.update("a", {"cache_block_size_tokens": 256.0, "cache_num_blocks": 1.0}, now=0.0)
    place(scheduler, text(6))

    assert (producer.block_tokens, len(producer.index)) == (96, 4)


def test_the_deprecated_block_size_counts_where_the_other_is_left_alone() -> None:
    """Upstream's alias."""
    assert ApproxPrefixCacheProducer(block_size=128).block_tokens == 128
    assert ApproxPrefixCacheProducer(block_size=128, block_size_tokens=256).block_tokens == 256


def test_state_survives_a_restart() -> None:
    """What was learned is taken over, for the endpoints that are still there, by name."""
    scheduler, producer = fleet("a", "b")
    for prompt in (text(4), text(6, of="b"), text(3, of="c")):
        place(scheduler, prompt)
    before = [matched(scheduler, producer, p) for p in (text(4), text(6, of="b"), text(3, of="c"))]
    successor, again = fleet("a", "b")
    successor.restore(scheduler.snapshot(), now=1.0)

    assert [matched(successor, again, p) for p in (text(4), text(6, of="b"), text(3, of="c"))] == before


def test_what_engines_report_corrects_an_endpoint_that_promises_too_much() -> None:
    """First its entries are halved; while that does not help, its predictions are discounted; and it can recover."""
    scheduler, producer = fleet("a")
    endpoint = scheduler.table["a"]
    place(scheduler, text(40))
    sizes = set()
    for _ in range(20):
        decision = place(scheduler, text(40))
        producer.cached_tokens_reported(decision, 0.0, now=0.0)
        sizes.add(producer.index.size(endpoint))

    assert producer.accuracy[endpoint].share < 0.1
    assert min(sizes) <= 20
    assert matched(scheduler, producer, text(40))[0] <= 40 / 16

    for _ in range(40):
        decision = place(scheduler, text(10))
        producer.cached_tokens_reported(decision, 640.0, now=0.0)

    assert matched(scheduler, producer, text(10)) == [10]


def test_one_wrong_prediction_changes_nothing() -> None:
    """Consistently wrong is what counts."""
    cut: list[Endpoint] = []
    calibration, endpoint = Calibration(cut_down=cut.append, let_grow=cut.append), Endpoint("a")
    for cached in [0.0] + [100.0] * 30:
        calibration.report(endpoint, predicted=100.0, cached=cached)

    assert cut == []
    assert calibration.doubted == {}
    assert calibration.accuracy[endpoint].reports == 31


def test_a_prediction_of_nothing_teaches_nothing() -> None:
    """That an engine had more than was promised is no fault of its entries."""
    calibration, endpoint = Calibration(cut_down=print, let_grow=print), Endpoint("a")

    assert calibration.report(endpoint, predicted=0.0, cached=500.0) == Accuracy()
    assert calibration.accuracy == {}


def test_a_removed_endpoint_takes_its_accuracy_along() -> None:
    """The next one of that name is another machine."""
    scheduler, producer = fleet("a")
    place(scheduler, text(4))
    producer.cached_tokens_reported(place(scheduler, text(4)), 0.0, now=0.0)
    scheduler.remove_endpoint("a", now=1.0)

    assert producer.accuracy == {}


def test_hits_and_misses_are_counted() -> None:
    """Figures for metrics: lookups, hits, blocks matched of blocks looked up."""
    scheduler, producer = fleet("a")
    place(scheduler, text(4))
    place(scheduler, text(6))
    stats = producer.stats()

    assert (stats.lookups, stats.hits, stats.looked_up_blocks, stats.matched_blocks) == (2, 1, 10, 4)
    assert (stats.blocks, stats.placements) == (6, 6)
    assert stats.memory_bytes <= (stats.max_memory_bytes or 0)


def test_affinity_holds_through_a_scheduler() -> None:
    """A conversation stays where it began, and another one is free to go elsewhere."""
    producer = ApproxPrefixCacheProducer()
    profile = Profile(producers=[producer], scorers=[(PrefixCacheScorer(), 1.0)], picker=MaxScorePicker())
    scheduler = Scheduler(profile, rng=random.Random(3))
    for name in "abcdefgh":
        scheduler.add_endpoint(name, name, now=0.0)
    homes = [{place(scheduler, text(turns, of=who)).endpoint.name for turns in range(2, 9)} for who in "xyzuvw"]

    assert all(len(home) == 1 for home in homes)
    assert len(set.union(*homes)) > 1


@pytest.mark.parametrize("form", ["list", "array", "bytes"])
def test_tokens_in_any_form_are_the_same_prompt(form: str) -> None:
    """The host hands over what it has."""
    tokens = list(range(256))
    forms = {"list": tokens, "array": np.array(tokens), "bytes": np.array(tokens, "<u4").tobytes()}
    scheduler, producer = fleet("a")
    place(scheduler, tokens)

    assert matched(scheduler, producer, forms[form]) == [4]


def test_the_tree_works_with_upstreams_hashes_too() -> None:
    """Chained hashes are prefix keys: a tool that has only those can use the tree."""
    tree = RadixTree()
    slot = tree.open()
    prompt, other = text(6), text(3) + text(3, of="b")
    tree.insert(chained_hashes(prompt, block_size_tokens=64, model="m"), slot)

    assert tree.held(chained_hashes(other, block_size_tokens=64, model="m"), slot) == 3
    assert tree.held(chained_hashes(other, block_size_tokens=64, model="n"), slot) == 0
    assert len(chained_hashes(prompt[: BLOCK_BYTES + 1], block_size_tokens=64)) == 2, "the tail is hashed"
    with pytest.raises(ValueError, match="must be > 0"):
        chained_hashes(prompt, block_size_tokens=0)


def test_a_batch_of_strangers_holds_nothing() -> None:
    """A profile may be run without a scheduler, on endpoints that nobody announced."""
    producer = ApproxPrefixCacheProducer()
    columns = producer.produce(Request("r", prompt=text(4)), EndpointBatch.build(["x", "y"]))

    assert columns["prefix_matched_tokens"].tolist() == [0, 0]
