"""Runs of keys, packed end to end in segments of 32 KiB: eight bytes a block and nothing else.

A run is written once and may later lose keys at either end. What is freed stays behind as garbage until its segment
is the emptiest and a new segment is wanted: then the owner moves the runs that still live there, and the segment is
used again. So memory is given back in steps of at most one segment, there is no free list to fragment, and no pause
grows with the size of the index.

Nothing here knows what a key means or who owns a run; the owner keeps the addresses.
"""

from __future__ import annotations

import sys
from array import array

import numpy as np
from numpy.typing import NDArray

__all__ = ["KeyArena"]

SEGMENT_KEYS = 4096
"""Keys per segment. Small enough that emptying one takes well under a millisecond, large enough for a run of 1,024."""

_SPARE = 2
"""Empty segments that are kept; more are given back, as after an endpoint has left."""

_SEGMENT_OVERHEAD = sys.getsizeof(array("Q")) + 64
"""Bytes of a segment besides its keys: the array, its number, and its places in the lists."""


class KeyArena:
    """Storage for runs of 64-bit keys.

    Args:
        segment_keys: keys per segment; a run may have a quarter of that.

    Complexity: reading one key and allocating are O(1) and O(run); nothing depends on the number of runs.
    """

    __slots__ = ("_cursor", "_empty", "_gone", "_live", "_segment_keys", "_segments", "_used")

    def __init__(self, segment_keys: int = SEGMENT_KEYS) -> None:
        self._segment_keys = segment_keys
        self._segments: list[array[int]] = []
        self._used: list[int] = []  # live keys per segment
        self._empty: list[int] = []  # segments without a live key, ready to be written from the start
        self._gone: list[int] = []  # segments given back; their numbers are used again
        self._cursor = 0  # the address written next
        self._live = 0

    @property
    def longest_run(self) -> int:
        """Keys that one run may have."""
        return self._segment_keys // 4

    @property
    def live(self) -> int:
        """Keys that are in use."""
        return self._live

    @property
    def nbytes(self) -> int:
        """Bytes allocated, as the interpreter counts them."""
        lists = (self._segments, self._used, self._empty, self._gone)
        return (len(self._segments) - len(self._gone)) * self.segment_bytes + sum(map(sys.getsizeof, lists))

    @property
    def segment_bytes(self) -> int:
        """Bytes that one more segment allocates."""
        return self._segment_keys * 8 + _SEGMENT_OVERHEAD

    @property
    def tail(self) -> int:
        """Keys left in the segment that is being written."""
        return -self._cursor % self._segment_keys

    @property
    def spare(self) -> int:
        """Segments without a live key, ready to be written."""
        return len(self._empty)

    @property
    def wasteful(self) -> bool:
        """Whether more than a quarter of what was written is garbage."""
        written = (len(self._segments) - len(self._empty) - len(self._gone)) * self._segment_keys - self.tail
        return 4 * self._live < 3 * written

    def allocate(self, keys: array[int]) -> int:
        """Copy a run in and return its address, taking another segment where the tail is too short."""
        count = len(keys)
        if not count:
            return 0
        if self.tail < count:
            left = self._writing()
            if left is not None and not self._used[left]:
                self._empty.append(left)
            if not self._empty:
                self.extend()
            self._cursor = self._empty.pop() * self._segment_keys
        address = self._cursor
        segment, offset = divmod(address, self._segment_keys)
        self._segments[segment][offset : offset + count] = keys
        self._used[segment] += count
        self._live += count
        self._cursor = address + count
        return address

    def extend(self) -> None:
        """Allocate one more segment."""
        segment = (
            array("Q", [0]) * self._segment_keys
        )  # exactly so long; from bytes it would be allocated a sixteenth more
        if self._gone:
            number = self._gone.pop()
            self._segments[number] = segment
        else:
            number = len(self._segments)
            self._segments.append(segment)
            self._used.append(0)
        self._empty.append(number)

    def give_back(self) -> bool:
        """Return an empty segment to the interpreter; False if there is none."""
        if not self._empty:
            return False
        number = self._empty.pop()
        self._segments[number] = array("Q")
        self._gone.append(number)
        return True

    def free(self, address: int, count: int) -> None:
        """Say that `count` keys at `address` are no longer needed."""
        if not count:
            return
        segment = address // self._segment_keys
        self._used[segment] -= count
        self._live -= count
        if not self._used[segment] and segment != self._writing():
            self._empty.append(segment)
            if len(self._empty) > _SPARE:
                self.give_back()

    def read(self, address: int) -> int:
        """Return the key at `address`."""
        return self._segments[address // self._segment_keys][address % self._segment_keys]

    def run(self, address: int, count: int) -> array[int]:
        """Return a copy of `count` keys from `address` on."""
        segment, offset = divmod(address, self._segment_keys)
        return self._segments[segment][offset : offset + count] if count else array("Q")

    def emptiest(self) -> int | None:
        """Return the segment worth emptying: the one with the fewest live keys, if at most three quarters are live."""
        writing = self._writing()
        candidates = [(used, each) for each, used in enumerate(self._used) if used and each != writing]
        used, segment = min(candidates, default=(self._segment_keys, 0))
        return segment if 4 * used <= 3 * self._segment_keys else None

    def tenants(self, segment: int, starts: array[int], lengths: array[int]) -> NDArray[np.intp]:
        """Return the rows whose run is in `segment`, given all rows' addresses and run lengths. O(rows), vectorised."""
        first = segment * self._segment_keys
        addresses = np.frombuffer(starts, np.uint32)
        inside = (
            (addresses >= first) & (addresses < first + self._segment_keys) & (np.frombuffer(lengths, np.uint16) > 1)
        )
        return np.flatnonzero(inside)

    def check(self, runs: list[tuple[int, int]]) -> None:
        """Assert that the given (address, count) pairs are disjoint and are all that is counted as live. O(n log n)."""
        used = [0] * len(self._segments)
        reached = 0
        for address, count in sorted(run for run in runs if run[1]):
            assert address >= reached, "two runs overlap"
            reached = address + count
            assert address // self._segment_keys == (reached - 1) // self._segment_keys, "a run leaves its segment"
            used[address // self._segment_keys] += count
        assert used == self._used, "the live keys of a segment are miscounted"
        assert sum(used) == self._live, "the live keys are miscounted"
        idle = sorted(self._empty + self._gone)
        writing = self._writing()
        assert idle == [each for each, keys in enumerate(used) if not keys and each != writing], "a segment is lost"

    def _writing(self) -> int | None:
        """The segment that is being written, or None between two."""
        return None if self._cursor % self._segment_keys == 0 else self._cursor // self._segment_keys
