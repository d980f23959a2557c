"""Bitmaps of endpoints as numpy masks: one bit per slot becomes a number per slot, 1 or 0.

Python integers are the best sets of small numbers there are (a thousand endpoints and'ed in 70 ns), and columns are
what scorers work on; this is the bridge. The bitmaps of hot prefixes come again and again, so the last few masks are
kept. Nothing here knows what a slot stands for.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

__all__ = ["MASKS_KEPT", "Masks", "bitmap_bytes"]

MASKS_KEPT = 16
"""Masks remembered; at the limit all are forgotten, for making one takes two microseconds."""

_MASK_OVERHEAD = 400
"""Bytes of one remembered mask besides a float and a bit per slot: array, integer, place in the dictionary."""


def bitmap_bytes(bits: int) -> int:
    """Return the bytes that a bitmap costs its node: nothing with one bit, for those are shared by all leaves."""
    return sys.getsizeof(bits) if bits & (bits - 1) else 0


class Masks:
    """Makes masks of one width.

    >>> Masks(5).mask(0b10010)
    array([0., 1., 0., 0., 1.])

    Complexity: `mask` O(1) for a bitmap seen lately, else O(slots), vectorised.
    """

    __slots__ = ("_kept", "_slots")

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._kept: dict[int, NDArray[np.float64]] = {}

    @property
    def nbytes(self) -> int:
        """The most that the remembered masks can take."""
        return MASKS_KEPT * (8 * self._slots + self._slots // 7 + _MASK_OVERHEAD)

    def mask(self, bits: int) -> NDArray[np.float64]:
        """Return a read-only array with 1 where `bits` has a bit and 0 elsewhere."""
        mask = self._kept.get(bits)
        if mask is None:
            if len(self._kept) >= MASKS_KEPT:
                self._kept.clear()
            packed = np.frombuffer(bits.to_bytes(self._slots + 7 >> 3, "little"), np.uint8)
            mask = np.unpackbits(packed, count=self._slots, bitorder="little").astype(np.float64)
            self._kept[bits] = mask
            mask.flags.writeable = False
        return mask
