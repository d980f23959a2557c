"""What engines hold, against a model that keeps one set of counts: a rule machine with `check()` after every rule."""

from __future__ import annotations

from array import array
from collections import Counter

import xxhash
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferencesched.prefix.chain import chained
from inferencesched.prefix.radix import RadixTree
from inferencesched.prefix.residency import Allowance, Residency
from tests.prefix.test_radix_model import STEPS

SEED = 99
TIERS = 2
Path = tuple[int, ...]

paths = st.lists(st.integers(0, 1), min_size=1, max_size=7).map(tuple)


def name_of(path: Path) -> int:
    return xxhash.xxh3_64_intdigest(bytes(path), 1)


def content_of(path: Path) -> int:
    return xxhash.xxh3_64_intdigest(bytes([path[-1]]), 2)


def keys_of(path: Path) -> array[int]:
    keys, key = array("Q"), SEED
    for end in range(1, len(path) + 1):
        key = chained(key, content_of(path[:end]))
        keys.append(key)
    return keys


class ResidencyMachine(RuleBasedStateMachine):
    """Two engines on one tree; blocks come in any order, in two tiers, twice, and go from the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = RadixTree(max_run=3, segment_keys=32)
        self.slots = [[self.tree.open() for _ in range(TIERS)] for _ in range(2)]
        self.engines = [Residency(self.tree, slots, allowance=Allowance(1000)) for slots in self.slots]
        self.counts: list[list[Counter[Path]]] = [[Counter() for _ in range(TIERS)] for _ in range(2)]
        self.seen: set[Path] = set()

    @rule(path=paths, start=st.integers(0, 6), engine=st.integers(0, 1), tier=st.integers(0, 1))
    def stored(self, path: Path, start: int, engine: int, tier: int) -> None:
        start = min(start, len(path) - 1)
        blocks = [path[:end] for end in range(start + 1, len(path) + 1)]
        self.engines[engine].stored(
            [name_of(block) for block in blocks],
            [content_of(block) for block in blocks],
            parent=name_of(path[:start]) if start else None,
            seed=SEED,
            tier=tier,
        )
        self.counts[engine][tier].update(blocks)
        self.seen.add(path)

    @rule(path=paths, engine=st.integers(0, 1), tier=st.integers(0, 1))
    def removed(self, path: Path, engine: int, tier: int) -> None:
        known = self.counts[engine][tier][path] > 0
        assert self.engines[engine].removed([name_of(path)], tier=tier) == (not known)
        if known:
            self.counts[engine][tier][path] -= 1

    @rule(engine=st.integers(0, 1), tier=st.integers(0, 1), path=paths)
    def moved(self, engine: int, tier: int, path: Path) -> None:
        """Said of a block only where it is; unknown ones are passed over."""
        present = any(self.counts[engine][each][path] for each in range(TIERS))
        if present:
            self.engines[engine].stored([name_of(path)], None, parent=None, seed=SEED, tier=tier)
            self.counts[engine][tier][path] += 1

    @rule(engine=st.integers(0, 1))
    def cleared(self, engine: int) -> None:
        self.engines[engine].clear()
        self.counts[engine] = [Counter() for _ in range(TIERS)]

    def held(self, path: Path, engine: int, level: int) -> int:
        depth = 0
        while depth < len(path) and any(self.counts[engine][tier][path[: depth + 1]] for tier in range(level + 1)):
            depth += 1
        return depth

    @invariant()
    def sound(self) -> None:
        self.tree.check()
        for engine, residency in enumerate(self.engines):
            residency.check()
            for path in self.seen:
                for level, slot in enumerate(self.slots[engine]):
                    assert self.tree.held(keys_of(path), slot) == self.held(path, engine, level)


ResidencyMachine.TestCase.settings = STEPS
TestResidency = ResidencyMachine.TestCase
