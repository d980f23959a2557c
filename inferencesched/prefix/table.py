"""A hash table from 64-bit keys to row numbers, in two flat arrays, that never pauses to rehash.

It grows by linear hashing: each addition beyond the load splits one bucket, so no single addition is slow, and memory
follows the number of entries without doubling. Rows of one bucket are chained through a column, which makes removal a
matter of unlinking. A Python dictionary of two million boxed integers would be faster by 0.3 µs and take ten times the
memory; here an entry costs about seven bytes.

The key of a row is kept by the owner, in a column that is handed in. Row 0 means *none*. Nothing here knows what the
keys stand for.
"""

from __future__ import annotations

import sys
from array import array

__all__ = ["KeyTable"]

_START = 8
"""Buckets of an empty table; a power of two."""


class KeyTable:
    """Finds the row that has a given key.

    Args:
        keys: the owner's column: ``keys[row]`` is the key of each row that was added. Keys should differ in their low
            bits, as hashes do; others are found too, only more slowly.

    >>> keys = array("Q", [0, 77, 88])
    >>> table = KeyTable(keys)
    >>> table.add(2)
    >>> table.find(88), table.find(77)
    (2, 0)

    Complexity: `find`, `add` and `discard` O(1) on average.
    """

    __slots__ = ("_count", "_heads", "_keys", "_mask", "_next", "_split")

    def __init__(self, keys: array[int]) -> None:
        self._keys = keys
        self._heads = array("I", bytes(4 * _START))
        self._next = array("I", bytes(4))
        self._mask = _START - 1  # of the round in progress: buckets below _split already use one bit more
        self._split = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes allocated, as the interpreter counts them."""
        return sys.getsizeof(self._heads) + sys.getsizeof(self._next)

    def growth(self, rows: int) -> int:
        """Return the most that `nbytes` can rise by when `rows` more rows are added. O(1)."""
        spare = rows + 7
        return ((len(self._heads) + rows) // 16 + spare + (len(self._next) + rows) // 16 + spare) * 4

    def find(self, key: int) -> int:
        """Return the row with that key, or 0."""
        bucket = key & self._mask
        if bucket < self._split:
            bucket = key & (2 * self._mask + 1)
        row = self._heads[bucket]
        keys = self._keys
        while row and keys[row] != key:
            row = self._next[row]
        return row

    def add(self, row: int) -> None:
        """Enter `row` under the key that its column says. The key must not be present."""
        chain = self._next
        while len(chain) <= row:
            chain.append(0)
        bucket = self._bucket(self._keys[row])
        chain[row] = self._heads[bucket]
        self._heads[bucket] = row
        self._count += 1
        if 2 * self._count > 3 * len(
            self._heads
        ):  # 1.5 entries a bucket: 1.75 comparisons for a hit, 6.7 bytes an entry
            self._grow()

    def discard(self, row: int) -> None:
        """Take `row` out again; its key must not have changed since it was added."""
        chain, bucket = self._next, self._bucket(self._keys[row])
        found = self._heads[bucket]
        if found == row:
            self._heads[bucket] = chain[row]
        else:
            while chain[found] != row:
                found = chain[found]
            chain[found] = chain[row]
        self._count -= 1

    def check(self) -> None:
        """Assert that every chained row is in the bucket of its key, and that all are counted. O(n)."""
        seen = 0
        for bucket, head in enumerate(self._heads):
            row = head
            while row:
                assert self._bucket(self._keys[row]) == bucket, "a row is in the wrong bucket"
                seen += 1
                row = self._next[row]
        assert seen == self._count, f"{self._count} entries counted, {seen} chained"

    def _bucket(self, key: int) -> int:
        bucket = key & self._mask
        return key & (2 * self._mask + 1) if bucket < self._split else bucket

    def _grow(self) -> None:
        """Split the next bucket of this round in two."""
        heads, chain, keys = self._heads, self._next, self._keys
        low, bit = self._split, self._mask + 1
        row, heads[low], moved = heads[low], 0, 0
        while row:
            following = chain[row]
            if keys[row] & bit:
                chain[row], moved = moved, row
            else:
                chain[row], heads[low] = heads[low], row
            row = following
        heads.append(moved)
        self._split += 1
        if self._split == bit:
            self._mask = 2 * bit - 1
            self._split = 0
