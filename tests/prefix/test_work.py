"""How much work the index does, in nodes visited and bytes: what a stop-watch on a shared machine cannot say."""

from __future__ import annotations

import gc
import os
import random
import tracemalloc
from array import array
from itertools import pairwise

import pytest

from inferencesched.endpoints import Endpoint
from inferencesched.prefix import radix
from inferencesched.prefix.hashing import PrefixKeys
from inferencesched.prefix.index import MEGABYTE, PrefixIndex
from inferencesched.prefix.radix import RadixTree
from inferencesched.prefix.table import KeyTable

DOCUMENTS = 40 if os.environ.get("PREFIX_STEPS") != "long" else 4000


class CountingKeys:
    """Keys that count how many of them were asked for."""

    def __init__(self, keys: array[int]) -> None:
        self._keys = keys
        self.asked = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        self.asked += 1 if isinstance(index, int) else len(self._keys[index])
        return self._keys[index]


def keys(dice: random.Random, blocks: int) -> array[int]:
    return array("Q", [dice.getrandbits(64) for _ in range(blocks)])


@pytest.mark.parametrize("holders", [1, 16, 1000])
@pytest.mark.parametrize("blocks", [10, 1000])
def test_a_match_costs_nodes_and_not_blocks_nor_holders(blocks: int, holders: int) -> None:
    """A shared prefix and a tail of one's own: two nodes and a handful of keys, however long and however many."""
    dice = random.Random(1)
    tree = RadixTree()
    slots = [tree.open() for _ in range(1000)]
    shared, tails = keys(dice, blocks), [keys(dice, blocks) for _ in range(5)]
    for slot in slots[:holders]:
        tree.insert(shared, slot)
    for tail in tails:
        tree.insert(shared + tail, slots[0])
    asked = CountingKeys(shared + tails[3])
    before = tree.visits

    assert tree.depths(asked).max() == 2 * blocks
    assert tree.visits - before == 2
    assert asked.asked <= 4


def test_a_prompt_that_parts_inside_a_run_is_found_by_bisection() -> None:
    """Ten questions for a run of a thousand blocks."""
    dice = random.Random(2)
    tree = RadixTree()
    slot = tree.open()
    run = keys(dice, 1000)
    tree.insert(run, slot)
    asked = CountingKeys(run[:617] + keys(dice, 383))

    assert tree.match(asked) == [(617, 1)]
    assert asked.asked <= 13


def test_splitting_what_a_thousand_endpoints_hold_touches_none_of_them() -> None:
    """Recency is kept per path used, so a split adds one node, and no claim."""
    dice = random.Random(3)
    tree = RadixTree()
    slots = [tree.open() for _ in range(1000)]
    run = keys(dice, 100)
    for slot in slots:
        tree.insert(run, slot)
    claims, nodes = len(tree._claims), tree.nodes
    tree.insert(run[:50] + keys(dice, 10), slots[0])

    assert tree.nodes - nodes == 2
    assert len(tree._claims) - claims == 2


def test_what_parted_is_joined_again_when_nothing_parts_it() -> None:
    """A tree that has seen everything come and go is as small as one that has not."""
    dice = random.Random(4)
    tree = RadixTree()
    stays, goes = tree.open(), tree.open()
    run = keys(dice, 500)
    tree.insert(run, stays)
    for at in range(10, 500, 10):
        tree.insert(run[:at] + keys(dice, 5), goes)
    assert tree.nodes == 2 * 49 + 1
    tree.clear(goes)

    assert tree.nodes == 1
    tree.check()


def test_a_conversation_is_one_node_per_endpoint_that_served_it() -> None:
    """Turn by turn a leaf grows; it does not become a chain."""
    dice = random.Random(5)
    tree = RadixTree()
    slot = tree.open()
    run = keys(dice, 600)
    for turn in range(1, 61):
        tree.insert(run[: turn * 10], slot)

    assert (tree.nodes, len(tree._claims)) == (1, 1)


@pytest.mark.parametrize(("blocks", "expected"), [(5, 24), (38, 12), (307, 10)])
def test_bytes_per_block(blocks: int, expected: float) -> None:
    """What a block costs at eight endpoints, digests included, by the number of blocks that prompts add."""
    dice = random.Random(6)
    tree = RadixTree()
    slots = [tree.open() for _ in range(8)]
    prefixes = [keys(dice, blocks * 2) for _ in range(16)]
    for prefix in prefixes:
        for slot in dice.sample(slots, 2):
            tree.insert(prefix, slot)
    while len(tree) < 30_000:
        tree.insert(dice.choice(prefixes) + keys(dice, blocks), dice.choice(slots))

    assert tree.nbytes / len(tree) <= expected + 90_000 / len(tree), "but for the arena's last segments"


def test_the_table_neither_pauses_nor_doubles() -> None:
    """Linear hashing: each addition splits one bucket at most, and memory follows the entries."""
    dice = random.Random(7)
    column = array("Q", [0])
    table = KeyTable(column)
    sizes = []
    for row in range(1, 20_000):
        column.append(dice.getrandbits(64))
        table.add(row)
        sizes.append(table.nbytes)

    table.check()
    assert sizes[-1] / len(table) < 8
    assert max(after / before for before, after in pairwise(sizes[2000:])) < 1.05
    for row in range(1, 20_000, 2):
        table.discard(row)
    table.check()
    assert [bool(table.find(column[row])) for row in range(1, 9)] == [False, True] * 4


class CountedTree(RadixTree):
    """Counts how often the bytes are counted."""

    counts = 0

    @property
    def nbytes(self) -> int:
        self.counts += 1
        return super().nbytes


def test_an_insertion_takes_over_the_walk_of_the_match_before_it() -> None:
    """One visit of each node on the path for both, unless the tree has changed in between."""
    dice = random.Random(9)
    content, other = dice.randbytes(64 * 8), dice.randbytes(64 * 8)
    tree = RadixTree()
    slot, another = tree.open(), tree.open()
    tree.insert(PrefixKeys(content, width=8), slot)
    keys = PrefixKeys(content[:256] + other, width=8)
    before = tree.visits
    tree.match(keys)
    tree.insert(keys, slot)
    assert tree.visits - before == 1

    tree.match(keys)
    tree.insert(PrefixKeys(other, width=8), another)
    before = tree.visits
    tree.insert(keys, slot)
    assert tree.visits - before == 2


@pytest.mark.parametrize("segment_keys", [16, 64, 4096])
def test_counting_the_bytes_now_and_then_decides_as_counting_them_every_time(
    segment_keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trees with the same limit and the same prompts, far from it, near it and at it: the same blocks stay."""
    contents = [bytes(random.Random(n % 400).choices(range(9), k=n % 60 + 1)) for n in range(3000)]
    limit = RadixTree(segment_keys=segment_keys).nbytes + 4 * 9 * segment_keys + 60_000

    def filled(steps: int) -> CountedTree:
        monkeypatch.setattr(radix, "_STEPS", steps)
        tree = CountedTree(max_bytes=limit, segment_keys=segment_keys)
        slots = [tree.open() for _ in range(5)]
        for number, content in enumerate(contents):
            tree.insert(PrefixKeys(bytes((number % 7,)) + content, width=1), slots[number % 5])
            assert super(CountedTree, tree).nbytes <= limit
            if not number % 500:
                tree.clear(slots[number // 500 % 5])
        return tree

    often, seldom = filled(1), filled(64)

    assert (len(seldom), seldom.nodes, seldom.evicted_blocks) == (len(often), often.nodes, often.evicted_blocks)
    assert seldom.evicted_blocks > 10_000, "the limit was felt"
    assert seldom.counts < often.counts
    for number, content in enumerate(contents):
        keys = PrefixKeys(bytes((number % 7,)) + content, width=1)
        assert seldom.match(keys) == often.match(keys)
    seldom.check()


def test_far_from_the_limit_the_bytes_are_counted_once_in_sixty_four_insertions() -> None:
    """Counting touches thirty lists; what the next insertions can take at most is known beforehand."""
    dice = random.Random(10)
    tree = CountedTree(max_bytes=64 * MEGABYTE)
    slot = tree.open()
    tree.counts = 0
    for _ in range(640):
        tree.insert(keys(dice, 4), slot)

    assert tree.counts <= 12


def test_soak_two_hours_of_long_documents_stay_within_the_bound() -> None:
    """Long documents, asked about a few times each, on endpoints that come and go: never a byte over max_memory_mb."""
    dice = random.Random(8)
    fleet = [Endpoint(f"e{i}", instance=i + 1) for i in range(32)]
    gc.collect()
    tracemalloc.start()
    try:
        index = PrefixIndex(max_memory_mb=2, capacity=20_000)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(DOCUMENTS):
            document = dice.randbytes(256 * 1024)
            for _ in range(dice.randrange(1, 6)):
                question = PrefixKeys(document + dice.randbytes(4096), width=64, seed=number % 7)
                index.insert(question, dice.choice(fleet))
                assert index.nbytes <= 2 * MEGABYTE
            if not number % 10:
                gone = dice.randrange(len(fleet))
                index.remove(fleet[gone])
                fleet[gone] = Endpoint(fleet[gone].name, instance=100 + number)
            kept_by_the_test = 2 * 260 * 1024 + 20_000  # the document, and the last question about it
            assert tracemalloc.get_traced_memory()[0] - before <= 2 * MEGABYTE + kept_by_the_test
    finally:
        tracemalloc.stop()

    index.check()
    assert len(index) * 8 > MEGABYTE, "the memory is used"
