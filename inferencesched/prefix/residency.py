"""What one engine holds, block by block, as its events tell it; and what of that is a prefix, for the tree.

An engine names blocks by hashes of its own, says what follows what, stores the same block twice, removes a block and
keeps its children, and may speak of a child before its parent. So all blocks it has mentioned form a forest here:

* a block is *present* in a tier while it was stored there more often than removed;
* its key is *known* once its parent's is; until then it keeps its content (an orphan);
* it is *held* in the tree while it and everything above it is present and known.

A block that is absent stays in the forest while something hangs below it: its children are joined to the tree again
when it comes back, and orphans when their parent comes at last.

Tiers are ranked, the best first; level 0 of the tree's slots has what is in the best tier, level 1 what is in the best
or the next, and so on. The forest is kept in columns, about fifty bytes a block. Nothing here knows sequence numbers,
messages or endpoints' names.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence

from inferencesched.prefix.chain import chained
from inferencesched.prefix.radix import RadixTree
from inferencesched.prefix.table import KeyTable

__all__ = ["Allowance", "Residency"]

_UNKNOWN, _KNOWN = 1, 2
_FREE = 0


class Allowance:
    """Rows that all forests together may allocate, and have."""

    __slots__ = ("blocks", "used")

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.used = 0


class Residency:
    """The blocks of one engine.

    Args:
        tree: where held blocks go.
        slots: the endpoint's slots in the tree, one per tier, the best tier first.
        allowance: blocks that may be kept in mind; stores beyond that are refused and counted.

    Complexity: per block stored or removed O(max_run of the tree) and O(tiers); plus O(1) for each block below it that
    joins or leaves with it.
    """

    def __init__(self, tree: RadixTree, slots: Sequence[int], *, allowance: Allowance) -> None:
        self._tree = tree
        self._slots = tuple(slots)
        self._allowance = allowance
        self.refused_blocks = 0
        self._forget()

    def _forget(self) -> None:
        self._hashes = array("Q", [0])
        self._keys = array("Q", [0])  # the key where known, else the content
        self._state = array("B", [_FREE])
        self._parent = array("I", [0])
        self._child = array("I", [0])  # the first one
        self._left = array("I", [0])  # siblings
        self._right = array("I", [0])
        self._stored = [array("H", [0]) for _ in self._slots]  # per tier: stores less removals
        self._table = KeyTable(self._hashes)
        self._free = 0
        self._blocks = 0

    def __len__(self) -> int:
        """Blocks present in some tier, or kept in mind for those below them. O(1)."""
        return self._blocks

    @property
    def rows(self) -> int:
        """Rows allocated, in use or not: what is charged to the allowance. O(1)."""
        return len(self._hashes) - 1

    @property
    def nbytes(self) -> int:
        """Bytes allocated, as the interpreter counts them. O(1)."""
        columns = (self._hashes, self._keys, self._state, self._parent, self._child, self._left, self._right)
        return sum(map(sys.getsizeof, (*columns, *self._stored))) + self._table.nbytes

    def clear(self) -> None:
        """Everything left. O(nodes held)."""
        for slot in self._slots:
            self._tree.clear(slot)
        self._allowance.used -= self.rows
        self._forget()

    def stored(
        self, hashes: Sequence[int], contents: Sequence[int] | None, *, parent: int | None, seed: int, tier: int
    ) -> None:
        """Blocks came into a tier, each the parent of the next.

        Args:
            contents: content digest of each block; None where the engine only said that known blocks are there too.
            parent: the block before the first; None where a prompt begins.
            seed: of the key space, the parent key of a first block.
            tier: its rank.
        """
        if contents is None:
            known = [row for row in map(self._table.find, hashes) if row]
            self._arrive(known, tier)
            return
        above = 0 if parent is None else self._table.find(parent)
        if parent is not None and not above:
            if not self._has_room():
                self.refused_blocks += len(hashes)
                return
            above = self._take(parent)  # a place holder: it hangs nowhere until it is stored itself
        rows = []
        for position, name in enumerate(hashes):
            row = self._table.find(name)
            if not row:
                if not self._has_room():
                    self.refused_blocks += len(hashes) - position
                    break
                row = self._take(name)
            if self._state[row] == _UNKNOWN and not self._parent[row] and not self._is_above(row, above):
                self._place(row, above, contents[position], seed)
            rows.append(row)
            above = row
        self._arrive(rows, tier)
        self._discard_if_idle(above)

    def removed(self, hashes: Sequence[int], *, tier: int) -> int:
        """Blocks left a tier; return how many of them were not known to be there."""
        strangers = 0
        counts = self._stored[tier]
        for name in hashes:
            row = self._table.find(name)
            if not row or not counts[row]:
                strangers += 1
                continue
            before = self._level(row)
            counts[row] -= 1
            after = self._level(row)
            for level in range(before, min(after, len(self._slots))):
                self._leave(row, level)
            self._discard_if_idle(row)
        return strangers

    def check(self) -> None:
        """Assert that the forest is one, and that the tree holds what is present without a gap. O(everything)."""
        self._table.check()
        rows = [row for row in range(1, len(self._state)) if self._state[row] != _FREE]
        assert len(rows) == self._blocks == len(self._table), "blocks are miscounted"
        for row in rows:
            children = list(self._children(row))
            assert all(self._parent[child] == row for child in children), "a child names another parent"
            assert children or self._level(row) < len(self._slots), "an absent block without children is kept"
            above = self._parent[row]
            assert not above or row in self._children(above), "a parent does not know its child"
            if above and self._state[above] == _UNKNOWN:
                assert self._state[row] == _UNKNOWN, "a key is known but not the one it follows from"

    def _arrive(self, rows: Sequence[int], tier: int) -> None:
        """Count blocks into a tier, and join them to the tree where they are new there."""
        counts, levels = self._stored[tier], len(self._slots)
        before = [self._level(row) for row in rows]
        for row in rows:
            if counts[row] < 0xFFFF:
                counts[row] += 1
        for level in range(tier, levels):
            fresh = {row for row, former in zip(rows, before, strict=True) if former > level}
            for row in rows:
                if row in fresh and self._parent[row] not in fresh:  # the others join with their parents
                    self._join(row, level)

    def _level(self, row: int) -> int:
        """The rank of the best tier that the block is in; the number of tiers if it is in none."""
        for tier, counts in enumerate(self._stored):
            if counts[row]:
                return tier
        return len(self._slots)

    # --- keys ------------------------------------------------------------------------------------------------------

    def _place(self, row: int, above: int, content: int, seed: int) -> None:
        """Hang a new block, or a place holder that came at last, below its parent; tell keys as far as they follow."""
        if above:
            self._parent[row] = above
            first = self._child[above]
            self._right[row], self._left[row] = first, 0
            if first:
                self._left[first] = row
            self._child[above] = row
            if self._state[above] == _UNKNOWN:
                self._keys[row] = content
                return
        self._keys[row] = chained(self._keys[above] if above else seed, content)
        self._state[row] = _KNOWN
        waiting = list(self._children(row))
        while waiting:
            below = waiting.pop()
            self._keys[below] = chained(self._keys[self._parent[below]], self._keys[below])
            self._state[below] = _KNOWN
            waiting.extend(self._children(below))

    def _upwards(self, row: int) -> Iterator[int]:
        """The block's key and those of the blocks before it."""
        while row:
            yield self._keys[row]
            row = self._parent[row]

    # --- the tree ----------------------------------------------------------------------------------------------------

    def _join(self, row: int, level: int) -> None:
        """Let the tree hold a block that came, if it holds its parent, and everything present below it."""
        if self._state[row] != _KNOWN:
            return
        slot = self._slots[level]
        waiting = [row]
        while waiting:
            last = waiting.pop()
            parent = self._parent[last]
            run = array("Q", [self._keys[last]])
            below = self._present_below(last, level)
            while len(below) == 1:
                last = below[0]
                run.append(self._keys[last])
                below = self._present_below(last, level)
            if self._tree.extend(self._upwards(parent) if parent else None, run, slot):
                waiting.extend(below)

    def _leave(self, row: int, level: int) -> None:
        """Let the tree hold the block no longer, nor anything below it."""
        if self._state[row] != _KNOWN:
            return
        slot = self._slots[level]
        family = [row]
        for each in family:  # grows while it is read: parents first
            family.extend(self._present_below(each, level))
        for each in reversed(family):
            self._tree.cut(self._upwards(each), slot)

    def _present_below(self, row: int, level: int) -> list[int]:
        return [child for child in self._children(row) if self._level(child) <= level]

    # --- the forest --------------------------------------------------------------------------------------------------

    def _children(self, row: int) -> Iterator[int]:
        child = self._child[row]
        while child:
            yield child
            child = self._right[child]

    def _has_room(self) -> bool:
        return bool(self._free) or self._allowance.used < self._allowance.blocks

    def _take(self, name: int) -> int:
        row = self._free
        if row:
            self._free = self._right[row]
            self._hashes[row], self._keys[row], self._state[row], self._right[row] = name, 0, _UNKNOWN, 0
        else:
            row = len(self._hashes)
            self._allowance.used += 1
            self._hashes.append(name)
            self._keys.append(0)
            self._state.append(_UNKNOWN)
            for column in (self._parent, self._child, self._left, self._right, *self._stored):
                column.append(0)
        self._table.add(row)
        self._blocks += 1
        return row

    def _is_above(self, row: int, other: int) -> bool:
        """Whether `other` is `row` or hangs below it: an engine that says so contradicts itself."""
        if other == row:
            return True
        while other and self._child[row]:
            other = self._parent[other]
            if other == row:
                return True
        return False

    def _discard_if_idle(self, row: int) -> None:
        """Forget a block that is in no tier and has nothing below it, and its ancestors of which that is then true."""
        while row and not self._child[row] and self._level(row) == len(self._slots):
            above, left, right = self._parent[row], self._left[row], self._right[row]
            if left:
                self._right[left] = right
            elif above:
                self._child[above] = right
            if right:
                self._left[right] = left
            self._table.discard(row)
            self._state[row] = _FREE
            self._parent[row] = self._left[row] = 0
            self._right[row] = self._free
            self._free = row
            self._blocks -= 1
            row = above
