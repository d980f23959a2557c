"""Field bugs C1–C18: what other prefix indexes got wrong, each as a fact about this one, through a scheduler's door."""

from __future__ import annotations

import gc
import inspect
import random
import sys
import tracemalloc
from array import array

import pytest

from inferencesched.builtin.pickers import MaxScorePicker
from inferencesched.builtin.scorers import PrefixCacheScorer, QueueScorer
from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.errors import Problem
from inferencesched.parameters import construct
from inferencesched.prefix.hashing import PrefixKeys
from inferencesched.prefix.index import MEGABYTE, PrefixIndex, estimate_memory
from inferencesched.prefix.producer import ApproxPrefixCacheProducer
from inferencesched.prefix.radix import RadixTree
from inferencesched.profile import Profile
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler

BLOCK = 64  # tokens: the producer's least
BLOCK_BYTES = 4 * BLOCK


def text(blocks: float, *, of: str = "a") -> str:
    """A prompt of so many blocks."""
    return (of * int(blocks * BLOCK_BYTES))[: int(blocks * BLOCK_BYTES)]


def fleet(
    *names: str, producer: ApproxPrefixCacheProducer | None = None
) -> tuple[Scheduler, ApproxPrefixCacheProducer]:
    """A scheduler that goes by cached prefixes first and by queues second."""
    producer = ApproxPrefixCacheProducer() if producer is None else producer
    profile = Profile(
        producers=[producer], scorers=[(PrefixCacheScorer(), 3.0), (QueueScorer(), 1.0)], picker=MaxScorePicker()
    )
    scheduler = Scheduler(profile, rng=random.Random(1))
    for name in names:
        scheduler.add_endpoint(name, name, now=0.0)
        scheduler.table.update(name, {"waiting_requests": 0.0}, now=0.0)
    return scheduler, producer


def place(scheduler: Scheduler, prompt: object, **fields: object) -> Decision:
    decision = scheduler.schedule(Request("r", prompt=prompt, **fields), now=0.0)  # type: ignore[arg-type]
    assert isinstance(decision, Decision)
    return decision


def matched(scheduler: Scheduler, producer: ApproxPrefixCacheProducer, prompt: object, **fields: object) -> list[float]:
    """Matched blocks of each endpoint, in the order they were added."""
    request = Request("probe", prompt=prompt, **fields)  # type: ignore[arg-type]
    columns = producer.produce(request, scheduler.table.snapshot(now=0.0))
    return [tokens / BLOCK for tokens in columns["prefix_matched_tokens"].tolist()]


def test_c1_memory_stays_under_the_bound_for_long_documents() -> None:
    """Long documents without end, and the interpreter's own count of bytes never passes max_memory_mb."""
    dice = random.Random(2)
    endpoints = [Endpoint(f"e{i}", instance=i + 1) for i in range(16)]
    documents = [array("Q", [dice.getrandbits(64) for _ in range(8192)]) for _ in range(60)]
    gc.collect()
    tracemalloc.start()
    try:
        index = PrefixIndex(max_memory_mb=1)
        for document in documents:
            index.insert(document, dice.choice(endpoints))
            assert index.nbytes <= MEGABYTE
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used <= MEGABYTE
    assert len(index) * 8 > MEGABYTE / 2, "the bound is used, and not only kept"


def test_c2_the_configured_capacity_reaches_the_index() -> None:
    """Constructor, configuration and default: a capacity that is accepted and ignored is worse than none."""
    problems: list[Problem] = []
    configured = construct(ApproxPrefixCacheProducer, {"lruCapacityPerServer": 12}, "parameters", problems)
    for producer, capacity in (
        (ApproxPrefixCacheProducer(lru_capacity_per_server=10), 10),
        (configured, 12),
        (ApproxPrefixCacheProducer(), 31_250),
    ):
        scheduler, _ = fleet("a", producer=producer)
        for number in range(capacity // 1000 + 2):
            place(scheduler, bytes([number]) * 1000 * BLOCK_BYTES)

        assert producer.stats().placements == capacity


def test_c2_max_memory_mb_reaches_the_index() -> None:
    """The primary knob is the one that must not be lost on the way."""
    producer = construct(ApproxPrefixCacheProducer, {"maxMemoryMb": 2}, "p", [])

    assert producer.stats().max_memory_bytes == 2 * MEGABYTE


@pytest.mark.parametrize("tokens", [1, 16, 63, -5])
def test_c3_a_tiny_block_size_is_clamped(tokens: int) -> None:
    """One-token blocks would take sixty-four times the memory; and what a full index takes can be printed at start."""
    producer = ApproxPrefixCacheProducer(block_size_tokens=tokens)

    assert producer.block_tokens == 64
    assert producer.estimate_memory_mb(endpoints=8) == 8 * 31_250 * 24 / 1e6


def test_c3_the_estimate_is_an_upper_bound() -> None:
    """Trees of short prompts, where nodes weigh most, take no more than estimated."""
    dice = random.Random(3)
    index = PrefixIndex()
    endpoints = [Endpoint(str(i), instance=i + 1) for i in range(8)]
    while len(index) < 20_000:
        index.insert(array("Q", [dice.getrandbits(64) for _ in range(5)]), dice.choice(endpoints))

    assert index.nbytes <= estimate_memory(8, 20_000 // 8) * 1.1 + 100_000


def test_c4_a_hot_prefix_is_not_evicted_by_unrelated_writes() -> None:
    """What is used again and again stays, however much else passes through."""
    scheduler, producer = fleet("a", producer=ApproxPrefixCacheProducer(lru_capacity_per_server=20))
    for number in range(50):
        place(scheduler, text(4))
        place(scheduler, text(5, of=chr(1000 + number)))

    assert matched(scheduler, producer, text(4)) == [4]


def test_c5_removing_an_endpoint_deletes_its_entries_and_a_new_one_starts_empty() -> None:
    """Same name, new server, cold cache."""
    scheduler, producer = fleet("a", "b")
    place(scheduler, text(4))
    place(scheduler, text(4))
    for name in ("a", "b"):
        scheduler.remove_endpoint(name, now=1.0)

    assert len(producer.index) == 0

    scheduler.add_endpoint("a", "a", now=2.0)

    assert matched(scheduler, producer, text(4)) == [0]


def test_c5_a_restart_under_the_same_name_starts_empty() -> None:
    """Another address is another instance, even if nobody removed the old one."""
    scheduler, producer = fleet("a")
    place(scheduler, text(4))
    scheduler.add_endpoint("a", "elsewhere", now=1.0)

    assert matched(scheduler, producer, text(4)) == [0]


def test_c6_a_fallback_pick_seeds_the_index() -> None:
    """Where a request went in the end is where its prefix is, whoever chose the place."""
    scheduler, producer = fleet("a", "b")
    decision = scheduler.schedule(Request("r", prompt=text(4)), n=2, now=0.0)
    assert isinstance(decision, Decision)
    moved = scheduler.fallback(Request("r", prompt=text(4)), decision, now=1.0)
    assert moved is not None

    assert matched(scheduler, producer, text(4)) == [4, 4]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "m1"}, {"model": "m2"}),
        ({"adapter": "sql"}, {"adapter": "chat"}),
        ({"adapter": "sql"}, {}),
        ({"cache_salt": "tenant-1"}, {"cache_salt": "tenant-2"}),
        ({"media": (b"cat",)}, {"media": (b"dog",)}),
    ],
)
def test_c7_different_spaces_never_share_hits(one: dict[str, object], other: dict[str, object]) -> None:
    """Equal text for another model, adapter, salt or image is another prefix."""
    scheduler, producer = fleet("a")
    place(scheduler, text(4), **one)

    assert matched(scheduler, producer, text(4), **one) == [4]
    assert matched(scheduler, producer, text(4), **other) == [0]


def test_c7_tools_and_system_text_are_part_of_the_prompt() -> None:
    """They come first in the prompt, so two requests that differ in them share nothing."""
    scheduler, producer = fleet("a")
    place(scheduler, '{"tools": "search"}' + text(4))

    assert matched(scheduler, producer, '{"tools": "python"}' + text(4)) == [0]


def test_c8_a_prompt_shorter_than_a_block_matches_nothing() -> None:
    """An empty key would match everything."""
    scheduler, producer = fleet("a")
    place(scheduler, "hello")
    batch = scheduler.table.snapshot(now=0.0)
    columns = producer.produce(Request("r", prompt="hello"), batch)

    assert columns["prefix_matched_tokens"].tolist() == [0]
    assert columns["prefix_total_tokens"].tolist() == [0]
    assert len(producer.index) == 0


def test_c9_nobody_never_appears_in_results() -> None:
    """The index has a place holder for endpoints that it does not know; it never holds anything."""
    index, known, unknown = PrefixIndex(), Endpoint("known"), Endpoint("unknown")
    keys = PrefixKeys(bytes(64), width=4)
    index.insert(keys, known)

    assert index.match(keys) == {known: 16}
    assert index.stats().endpoints == {known: 16}
    batch = EndpointBatch.build(["unknown", "other"])
    assert index.column(keys, batch).tolist() == [0, 0]
    assert unknown not in index


def test_c10_images_tell_prompts_apart_unless_they_are_the_same() -> None:
    """Different images do not collide, identical ones match, and one that was not hashed matches nothing."""
    scheduler, producer = fleet("a")
    place(scheduler, text(4), media=(b"cat", b"dog"))
    batch = scheduler.table.snapshot(now=0.0)

    assert matched(scheduler, producer, text(4), media=(b"cat", b"dog")) == [4]
    assert matched(scheduler, producer, text(4), media=(b"dog", b"cat")) == [0]
    assert matched(scheduler, producer, text(4), media=(b"catdog",)) == [0]
    assert producer.produce(Request("r", prompt=text(4), media=(b"cat", b"")), batch) == {}
    size = len(producer.index)
    place(scheduler, text(4), media=(b"cat", b""))
    assert len(producer.index) == size


def test_c11_prompts_that_differ_in_a_final_image_do_not_collapse_to_one_key() -> None:
    """The text is not even a block beyond what they share; the image tells them apart all the same."""
    scheduler, producer = fleet("a", "b")
    place(scheduler, text(4.5), media=(b"https://host/1.png",))

    assert matched(scheduler, producer, text(4.5), media=(b"https://host/2.png",)) == [0, 0]


def test_c12_a_hundred_thousand_blocks_do_not_overflow_the_stack() -> None:
    """Nothing here recurses: not over one long prompt, and not over a path with a node for every block."""
    depth = 100_000
    tree = RadixTree(max_run=1)
    slot = tree.open()
    keys = array("Q", random.Random(4).sample(range(1, 2**63), depth))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        tree.insert(keys, slot)
        held = tree.held(keys, slot)
        tree.evict(slot, depth // 2)
        left = tree.held(keys, slot)
        tree.close(slot)
    finally:
        sys.setrecursionlimit(limit)

    assert (held, left, len(tree)) == (depth, depth // 2, 0)


def test_c13_interleaved_writes_never_yield_a_removed_endpoint() -> None:
    """Insert, match and evict in any order, endpoints coming and going: answers are about those present."""
    dice = random.Random(5)
    index = PrefixIndex(max_memory_mb=1, capacity=300)
    present: dict[str, Endpoint] = {}
    prompts = [array("Q", [(head << 20) + i for i in range(40)]) for head in range(1, 30)]
    for step in range(3000):
        name = f"e{dice.randrange(12)}"
        if name in present and dice.random() < 0.1:
            index.remove(present.pop(name))
        elif name not in present:
            present[name] = Endpoint(name, instance=step + 1)
            index.add(present[name])
        else:
            index.insert(dice.choice(prompts), present[name])
        assert set(index.match(dice.choice(prompts))) <= set(present.values())
    index.check()


def test_c13_a_column_taken_earlier_is_not_changed_by_later_writes() -> None:
    """Answers are values: whoever keeps one keeps what was true then."""
    index, a = PrefixIndex(), Endpoint("a", instance=1)
    keys = PrefixKeys(bytes(range(256)), width=4)
    batch = EndpointBatch.build([a])
    index.insert(keys, batch.endpoints[0])
    column = index.column(keys, batch)
    index.remove(batch.endpoints[0])

    assert column.tolist() == [64]
    assert index.column(keys, batch).tolist() == [0]


@pytest.mark.parametrize("tokens", [0, -1, -64])
def test_c14_a_block_size_that_is_not_positive_is_rejected(tokens: int) -> None:
    """It must not loop for ever, and not mean something else in silence."""
    with pytest.raises(ValueError, match="block_size_tokens must be > 0"):
        ApproxPrefixCacheProducer(auto_tune=False, block_size_tokens=tokens)
    with pytest.raises(ValueError, match="at least one byte wide"):
        PrefixKeys(b"abc", width=tokens)


def test_c15_reader_and_writer_are_one_index() -> None:
    """The producer that answers is the observer that learns: the same object, told by the scheduler."""
    scheduler, producer = fleet("a")
    index = producer.index
    place(scheduler, text(4))

    assert len(index) == 4
    assert producer.index is index


def test_c16_nothing_is_written_for_what_is_not_used() -> None:
    """No report of cached tokens, no calibration state; no prompt, no entry; and no request is kept."""
    scheduler, producer = fleet("a")
    for prompt in (None, text(4)):
        scheduler.finish(place(scheduler, prompt, model="c16"), now=1.0)

    assert producer.accuracy == {}
    assert len(producer.index) == 4
    gc.collect()
    kept = [each for each in gc.get_objects() if isinstance(each, Request) and each.model == "c16"]
    assert not kept


def test_c17_the_reported_hit_is_the_run_from_the_first_block() -> None:
    """Blocks held beyond a gap do not count, not even where another endpoint fills the gap."""
    scheduler, producer = fleet("a", "b", producer=ApproxPrefixCacheProducer(lru_capacity_per_server=8))
    a, b = scheduler.table.endpoints
    request = Request("r", prompt="".join(text(1, of=c) for c in "abcdefgh"))
    keys = producer._keys(request)
    producer.index.insert(keys, a)
    producer.index.insert(keys, b)
    producer.index.resize(a, 3)

    assert matched(scheduler, producer, request.prompt) == [3, 8]
    assert matched(scheduler, producer, text(1, of="x") + text(7, of="b")) == [0, 0]


def test_c18_the_whole_history_is_hashed() -> None:
    """A conversation matches as far as it has come, turn by turn; a changed first turn changes everything."""
    scheduler, producer = fleet("a")
    turns = [text(2, of=c) for c in "abcd"]
    for length in (1, 2, 3):
        place(scheduler, "".join(turns[:length]))

    assert matched(scheduler, producer, "".join(turns)) == [6]
    assert matched(scheduler, producer, text(2, of="z") + "".join(turns[1:])) == [0]
