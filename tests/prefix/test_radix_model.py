"""The tree against a naive model, step by step: rule machines that call `check()` after every rule."""

from __future__ import annotations

import os

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inferencesched.prefix.hashing import PrefixKeys
from inferencesched.prefix.radix import UNLIMITED, RadixTree
from tests.prefix.naive import NaiveIndex

LONG = os.environ.get("PREFIX_STEPS") == "long"
STEPS = settings(max_examples=2000 if LONG else 100, stateful_step_count=120 if LONG else 50, deadline=None)

# Two letters and few lengths: prompts share prefixes, part, end inside runs and repeat all the time.
short = st.lists(st.sampled_from([b"\0", b"\1"]), min_size=1, max_size=10).map(b"".join)
long = st.tuples(st.sampled_from([b"\0", b"\0\1", b"\1"]), st.integers(1, 9), st.sampled_from([b"", b"\2", b"\3\3"]))
contents = short | long.map(lambda parts: parts[0] * parts[1] + parts[2])


def keys_of(content: bytes) -> PrefixKeys:
    return PrefixKeys(content, width=1)


class TreeMachine(RuleBasedStateMachine):
    """No byte limit: every block must be where the model says, exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.model = NaiveIndex()
        self.tree = RadixTree()
        self.seen: set[bytes] = set()
        self.looked_up: list[tuple[bytes, PrefixKeys]] = []

    @initialize(segment=st.sampled_from([16, 32, 4096]), max_run=st.sampled_from([1, 2, 3, None]))
    def begin(self, segment: int, max_run: int | None) -> None:
        self.tree = RadixTree(segment_keys=segment, max_run=max_run)
        for _ in range(2):
            self.open(UNLIMITED)

    def slot(self, pick: int) -> int:
        return sorted(self.model.held)[pick % len(self.model.held)]

    @precondition(lambda self: len(self.model.held) < 5)
    @rule(capacity=st.sampled_from([0, 1, 4, 9, 20, UNLIMITED]))
    def open(self, capacity: int) -> None:
        slot = self.tree.open(capacity)
        assert slot not in self.model.held
        self.model.open(slot, capacity)

    @precondition(lambda self: self.model.held)
    @rule(content=contents, pick=st.integers(0, 4))
    def insert(self, content: bytes, pick: int) -> None:
        slot = self.slot(pick)
        absent = len(content) - self.model.depth(content, slot)
        new = self.tree.insert(keys_of(content), slot)
        self.model.insert(content, slot)
        self.seen.add(content)
        if len(content) <= self.model.capacities[slot]:
            assert new == absent

    @rule(content=contents)
    def look_up(self, content: bytes) -> None:
        keys = keys_of(content)
        self.tree.match(keys)
        self.looked_up.append((content, keys))

    @precondition(lambda self: self.model.held and self.looked_up)
    @rule(which=st.integers(-3, -1), pick=st.integers(0, 4))
    def insert_what_was_looked_up(self, which: int, pick: int) -> None:
        """Whatever happened in between: the walk is taken over if it still holds, and no result shows it."""
        content, keys = self.looked_up[max(which, -len(self.looked_up))]
        slot = self.slot(pick)
        self.tree.insert(keys, slot)
        self.model.insert(content, slot)
        self.seen.add(content)

    @precondition(lambda self: self.model.held)
    @rule(content=contents, pick=st.integers(0, 4))
    def touch(self, content: bytes, pick: int) -> None:
        slot = self.slot(pick)
        assert self.tree.touch(keys_of(content), slot) == self.model.depth(content, slot)
        self.model.touch(content, slot)

    @precondition(lambda self: self.model.held)
    @rule(pick=st.integers(0, 4), blocks=st.integers(0, 12))
    def evict(self, pick: int, blocks: int) -> None:
        slot = self.slot(pick)
        self.tree.evict(slot, blocks)
        self.model.shrink(slot, max(0, len(self.model.held[slot]) - blocks))

    @precondition(lambda self: self.model.held)
    @rule(pick=st.integers(0, 4), capacity=st.sampled_from([0, 3, 8, UNLIMITED]))
    def resize(self, pick: int, capacity: int) -> None:
        slot = self.slot(pick)
        self.tree.resize(slot, capacity)
        self.model.capacities[slot] = capacity
        self.model.shrink(slot, capacity)

    @precondition(lambda self: self.model.held)
    @rule(pick=st.integers(0, 4))
    def close(self, pick: int) -> None:
        slot = self.slot(pick)
        assert self.tree.close(slot) == len(self.model.held[slot])
        self.model.close(slot)

    @precondition(lambda self: self.model.held)
    @rule(pick=st.integers(0, 4))
    def clear(self, pick: int) -> None:
        slot = self.slot(pick)
        self.tree.clear(slot)
        self.model.shrink(slot, 0)

    @rule(content=contents)
    def match(self, content: bytes) -> None:
        self.agree_on(content)

    def agree_on(self, content: bytes) -> None:
        depths = self.tree.depths(keys_of(content))
        for slot in range(self.tree.slots):
            expected = self.model.depth(content, slot) if slot in self.model.held else 0
            assert depths[slot] == expected
            assert self.tree.held(keys_of(content), slot) == expected

    @invariant()
    def sound(self) -> None:
        self.tree.check()
        assert len(self.tree) == len(self.model.prefixes())
        for slot, held in self.model.held.items():
            assert self.tree.size(slot) == len(held)
        for content in self.seen:
            self.agree_on(content)


class BoundedTreeMachine(RuleBasedStateMachine):
    """A byte limit: never exceeded, and what goes is the least recently used of all endpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = RadixTree(segment_keys=16, max_run=3, max_bytes=25000)
        self.model = NaiveIndex()
        self.tick = 0
        self.used: dict[tuple[int, bytes], int] = {}
        for _ in range(3):
            self.model.open(self.tree.open(), UNLIMITED)

    @rule(content=contents, slot=st.integers(0, 2), salt=st.binary(max_size=1))
    def insert(self, content: bytes, slot: int, salt: bytes) -> None:
        content = salt + content
        self.tree.insert(keys_of(content), slot)
        kept = self.tree.held(keys_of(content), slot)
        assert kept, "at least the beginning of what was used last is kept"
        self.model.insert(content[:kept], slot)
        self.tick += 1
        for end in range(1, kept + 1):
            self.used[slot, content[:end]] = self.tick
        self.follow()

    def follow(self) -> None:
        """Let each endpoint of the model lose as much as the tree took; then ask whether the order was right."""
        lost = [0]
        for slot, held in self.model.held.items():
            while len(held) > self.tree.size(slot):
                prefix, _ = held.popitem(last=False)
                lost.append(self.used[slot, prefix])
        kept = [self.used[slot, prefix] for slot, held in self.model.held.items() for prefix in held]
        assert max(lost) <= min(kept, default=self.tick), "something was evicted before something older"

    @invariant()
    def sound(self) -> None:
        self.tree.check()
        assert self.tree.nbytes <= 25000
        for slot, held in self.model.held.items():
            for prefix in held:
                assert self.tree.held(keys_of(prefix), slot) == len(prefix)


TreeMachine.TestCase.settings = STEPS
BoundedTreeMachine.TestCase.settings = STEPS
TestTree = TreeMachine.TestCase
TestBoundedTree = BoundedTreeMachine.TestCase
