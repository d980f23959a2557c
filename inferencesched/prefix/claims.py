"""Who used which prefix last: a claim says *this endpoint holds the path down to this node, and used it at this tick*.

Recency is not kept per block, nor per node and endpoint: a path used as a whole needs one claim, at its end, and a
block is as fresh as the freshest claim at or below it. So a prefix is always fresher than what continues it, and the
oldest claim of an endpoint always ends at a leaf of what that endpoint holds. Splitting a node that a thousand
endpoints hold costs nothing here.

What has to be known when a claim goes is how far up the path nobody else claims it. For that each (node, endpoint) has
a *fan*: how many children of the node the endpoint holds, plus one for a claim at the node itself. A fan of one child
is the rule and is not stored; a row exists where there is a claim, or where the fan is two or more.

Nothing here knows keys, runs or what a node is.
"""

from __future__ import annotations

import sys
from array import array

import numpy as np

from inferencesched.prefix.table import KeyTable

__all__ = ["MAX_SLOTS", "Claims"]

MAX_SLOTS = 1 << 16
"""Endpoints at one time; a slot must fit the low bits of a pair."""

_ODD = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, the usual multiplicative hash
_INVERSE = pow(_ODD, -1, 1 << 64)
_MASK = (1 << 64) - 1
_NEVER = _MASK


def _pair(node: int, slot: int) -> int:
    """Mix (node, slot) into a number that hashes well and can be taken apart again."""
    mixed = (node << 16 | slot) * _ODD & _MASK
    return mixed ^ mixed >> 32


def _apart(pair: int) -> tuple[int, int]:
    mixed = (pair ^ pair >> 32) * _INVERSE & _MASK
    return mixed >> 16, mixed & 0xFFFF


class Claims:
    """Claims and fans of all endpoints, and for each endpoint its claims from the oldest to the newest.

    Rows are numbers; 0 is none. A row has a `stamp` while it is a claim, and 0 while it only counts a fan.

    Complexity: every method O(1), but `oldest_of_all` O(slots), vectorised.
    """

    __slots__ = (
        "_fan", "_free", "_free_count", "_newer", "_newest", "_older", "_oldest",
        "_pairs", "_stamps", "_table", "_tick",
    )  # fmt: skip

    def __init__(self) -> None:
        self._pairs = array("Q", [0])
        self._fan = array("I", [0])
        self._older = array("I", [0])
        self._newer = array("I", [0])
        self._stamps = array("Q", [_NEVER])
        self._oldest = array("I")  # per slot
        self._newest = array("I")
        self._table = KeyTable(self._pairs)
        self._free = 0
        self._free_count = 0
        self._tick = 0

    def __len__(self) -> int:
        """Rows in use."""
        return len(self._pairs) - 1 - self._free_count

    @property
    def nbytes(self) -> int:
        """Bytes allocated, as the interpreter counts them."""
        columns = (self._pairs, self._fan, self._older, self._newer, self._stamps, self._oldest, self._newest)
        return sum(map(sys.getsizeof, columns)) + self._table.nbytes

    def growth(self, rows: int) -> int:
        """Return the most that `nbytes` can rise by when `rows` more rows are needed."""
        if self._free_count >= rows:
            return 0
        return ((len(self._pairs) + rows) // 16 + rows + 8) * 28 + self._table.growth(rows)

    @property
    def tick(self) -> int:
        """The stamp of the latest claim."""
        return self._tick

    def add_slot(self) -> None:
        """Make room for one more endpoint."""
        self._oldest.append(0)
        self._newest.append(0)

    def find(self, node: int, slot: int) -> int:
        """Return the row of a node and an endpoint, or 0."""
        return self._table.find(_pair(node, slot))

    def node(self, row: int) -> int:
        """Return the node of a row."""
        return _apart(self._pairs[row])[0]

    def slot(self, row: int) -> int:
        """Return the endpoint's slot of a row."""
        return _apart(self._pairs[row])[1]

    def stamp(self, row: int) -> int:
        """Return when a claim was last used, in ticks; 0 where the row is no claim."""
        return self._stamps[row]

    def fan(self, row: int) -> int:
        """Return the fan of a row."""
        return self._fan[row]

    def oldest(self, slot: int) -> int:
        """Return the least recently used claim of an endpoint, or 0."""
        return self._oldest[slot]

    def newer(self, row: int) -> int:
        """Return the claim of the same endpoint that was used next after `row`, or 0."""
        return self._newer[row]

    def oldest_of_all(self) -> int:
        """Return the least recently used claim of any endpoint, or 0."""
        heads = np.frombuffer(self._oldest, np.uint32)
        if not heads.size:
            return 0
        return int(heads[np.frombuffer(self._stamps, np.uint64)[heads].argmin()])

    def claim(self, node: int, slot: int, *, held: bool) -> bool:
        """Make (node, slot) the newest claim of the endpoint.

        Args:
            held: whether the endpoint held the node before, so that the fan was at least one.

        Returns:
            Whether there was no claim here before.
        """
        row = self.find(node, slot)
        fresh = True
        if not row:
            row = self._take(node, slot, 2 if held else 1)
        elif self._stamps[row]:
            self._unlink(row, slot)
            fresh = False
        else:
            self._fan[row] += 1
        self._tick += 1
        self._stamps[row] = self._tick
        last = self._newest[slot]
        self._older[row], self._newer[row] = last, 0
        if last:
            self._newer[last] = row
        else:
            self._oldest[slot] = row
        self._newest[slot] = row
        return fresh

    def unclaim(self, node: int, slot: int) -> bool:
        """Take a claim away where a newer one lies below; return whether there was one."""
        row = self.find(node, slot)
        if not row or not self._stamps[row]:
            return False
        self.waive(row)
        return True

    def waive(self, row: int) -> None:
        """Take a claim away that has a fan of children besides."""
        self._unlink(row, self.slot(row))
        self._stamps[row] = 0
        self._shrink(row)

    def move(self, row: int, node: int) -> None:
        """Let a claim rest on another node; its recency stays."""
        slot = self.slot(row)
        self._table.discard(row)
        self._pairs[row] = _pair(node, slot)
        self._table.add(row)

    def drop(self, row: int) -> None:
        """Delete a claim whose fan is nothing but the claim."""
        self._unlink(row, self.slot(row))
        self._release(row)

    def spread(self, node: int, slot: int) -> None:
        """Count one more child of a node that the endpoint holds already."""
        row = self.find(node, slot)
        if row:
            self._fan[row] += 1
        else:
            self._take(node, slot, 2)

    def withdraw(self, row: int) -> None:
        """Count one child less; the row goes when only one child is left and it is no claim."""
        self._shrink(row)

    def rows(self) -> list[int]:
        """Return the rows in use. O(n)."""
        return [row for row in range(1, len(self._fan)) if self._fan[row]]

    def check(self) -> None:
        """Assert that lists, fans and table agree with each other. O(n)."""
        self._table.check()
        claimed = set()
        for slot, head in enumerate(self._oldest):
            row, last, stamp = head, 0, 0
            while row:
                assert self.slot(row) == slot, "a claim is in another endpoint's list"
                assert self._older[row] == last, "the list of claims does not lead back"
                assert self._stamps[row] > stamp, "claims are out of order"
                claimed.add(row)
                last, stamp, row = row, self._stamps[row], self._newer[row]
            assert self._newest[slot] == last, "the newest claim is not at the end of its list"
        rows = self.rows()
        assert len(rows) == len(self) == len(self._table), "rows are miscounted"
        for row in rows:
            assert bool(self._stamps[row]) == (row in claimed), "a claim is in no list"
            assert self._fan[row] >= (1 if self._stamps[row] else 2), "a row says what goes without saying"
            assert self.find(*_apart(self._pairs[row])) == row, "a row cannot be found"

    def _shrink(self, row: int) -> None:
        self._fan[row] -= 1
        if self._fan[row] == 1 and not self._stamps[row]:
            self._release(row)

    def _unlink(self, row: int, slot: int) -> None:
        older, newer = self._older[row], self._newer[row]
        if older:
            self._newer[older] = newer
        else:
            self._oldest[slot] = newer
        if newer:
            self._older[newer] = older
        else:
            self._newest[slot] = older

    def _take(self, node: int, slot: int, fan: int) -> int:
        row = self._free
        if row:
            self._free = self._newer[row]
            self._free_count -= 1
            self._pairs[row] = _pair(node, slot)
            self._fan[row] = fan
        else:
            row = len(self._pairs)
            self._pairs.append(_pair(node, slot))
            self._fan.append(fan)
            self._older.append(0)
            self._newer.append(0)
            self._stamps.append(0)
        self._table.add(row)
        return row

    def _release(self, row: int) -> None:
        self._table.discard(row)
        self._fan[row] = self._stamps[row] = 0
        self._newer[row] = self._free
        self._free = row
        self._free_count += 1
