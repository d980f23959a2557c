"""Bitmaps of endpoints as numpy wants them: the positions of the bits.

Python integers are the best sets of small numbers there are (a thousand endpoints and'ed in 70 ns), and columns are
what scorers work on; this is the bridge. The bitmaps of hot prefixes come again and again, so the positions of the last
few are kept. Nothing here knows what a slot stands for.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITMAPS_KEPT", "Positions", "bitmap_bytes"]

BITMAPS_KEPT = 16
"""Bitmaps remembered; at the limit all are forgotten, for taking one apart takes two microseconds."""

_OVERHEAD = 400
"""Bytes of one remembered bitmap besides a number and a bit per slot: array, integer, place in the dictionary."""


def bitmap_bytes(bits: int) -> int:
    """Return the bytes that a bitmap costs its node: nothing with one bit, for those are shared by all leaves."""
    return sys.getsizeof(bits) if bits & (bits - 1) else 0


class Positions:
    """Takes bitmaps of one width apart.

    >>> Positions(5).of(0b10010)
    array([1, 4])

    Complexity: `of` O(1) for a bitmap seen lately, else O(slots), vectorised.
    """

    __slots__ = ("_kept", "_slots")

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._kept: dict[int, NDArray[np.intp]] = {}

    @property
    def nbytes(self) -> int:
        """The most that the remembered bitmaps can take."""
        return BITMAPS_KEPT * (8 * self._slots + self._slots // 7 + _OVERHEAD)

    def of(self, bits: int) -> NDArray[np.intp]:
        """Return the positions of the bits that are set, in ascending order, read-only."""
        positions = self._kept.get(bits)
        if positions is None:
            if len(self._kept) >= BITMAPS_KEPT:
                self._kept.clear()
            packed = np.frombuffer(bits.to_bytes(self._slots + 7 >> 3, "little"), np.uint8)
            positions = self._kept[bits] = np.unpackbits(packed, count=self._slots, bitorder="little").nonzero()[0]
            positions.flags.writeable = False
        return positions
