"""Slots for LoRA adapters on one engine: who is resident, who may come in, who has to go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Set as AbstractSet

__all__ = ["AdapterSlots"]


class AdapterSlots:
    """Adapters in memory. One that a running sequence uses stays; of the others, the one admitted longest ago goes.

    The base model (None) needs no slot.

    >>> slots = AdapterSlots(1)
    >>> slots.take("x", in_use=set()), slots.take("x", in_use={"x"})
    (1, 0)
    >>> slots.has_room("y", in_use={"x"}), slots.has_room("y", in_use=set())
    (False, True)
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._resident: OrderedDict[str, None] = OrderedDict()  # admitted longest ago first

    @property
    def resident(self) -> frozenset[str]:
        """The adapters in memory."""
        return frozenset(self._resident)

    def has_room(self, adapter: str | None, in_use: AbstractSet[str | None]) -> bool:
        """Return whether a sequence with `adapter` could run beside those whose adapters are `in_use`."""
        if adapter is None or adapter in self._resident or len(self._resident) < self._slots:
            return True
        return not in_use >= self._resident.keys()

    def take(self, adapter: str | None, in_use: AbstractSet[str | None]) -> int:
        """Bring `adapter` in, which has room; return how many adapters had to be loaded: 0 or 1."""
        if adapter is None:
            return 0
        loads = int(adapter not in self._resident)
        if loads and len(self._resident) == self._slots:
            del self._resident[next(other for other in self._resident if other not in in_use)]
        self._resident[adapter] = None
        self._resident.move_to_end(adapter)
        return loads
