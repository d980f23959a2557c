"""Wrong saturation detectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.testing.wrong.enlisted import breaks, thousandfold


class _ByQueue:
    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        return endpoints["waiting_requests"] / 5.0


@breaks("saturation-detector", "shape")
@attrs.frozen
class HalfAsLarge(_ByQueue):
    """Saves memory."""

    def load(self, endpoints: EndpointBatch, /) -> Any:
        return super().load(endpoints).astype(np.float32)


@breaks("saturation-detector", "positive")
@attrs.frozen
class RoomLeft(_ByQueue):
    """Tells how much room is left and not how much is taken."""

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        return 1.0 - super().load(endpoints)


@breaks("saturation-detector", "pure")
@attrs.frozen
class FullerEachTime(_ByQueue):
    """Takes it that something was placed whenever it is asked about the same endpoints again."""

    _last: ClassVar[list[EndpointBatch]] = []

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        again = bool(self._last) and self._last[0] is endpoints
        self._last[:] = [endpoints]
        return super().load(endpoints) + 0.1 * again


@breaks("saturation-detector", "subset")
@attrs.frozen
class ComparedToOthers(_ByQueue):
    """Takes the busiest endpoint for full."""

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        queue = endpoints["waiting_requests"]
        return queue / max(float(np.nanmax(queue, initial=0.0)), 1.0)


@breaks("saturation-detector", "unknown")
@attrs.frozen
class TakesItForKnown(_ByQueue):
    """Leaves the unknown endpoints out of its answer."""

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        load = super().load(endpoints)
        return load[~np.isnan(load)]


@breaks("saturation-detector", "consumes")
@attrs.frozen
class LooksAtTheCache(_ByQueue):
    """Reads a column that it does not name."""

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        load: FloatArray = np.fmax(super().load(endpoints), endpoints["kv_cache_utilization"])
        return load


@breaks("saturation-detector", "load-of")
@attrs.frozen
class CountsOtherwise:
    """Rounds in one place and not in the other."""

    consumes: ClassVar[tuple[str, ...]] = ("in_flight_requests",)

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        return endpoints["in_flight_requests"] / 7.0

    def load_of(self, requests: float, tokens: float, /) -> float:
        return round(requests / 7.0, 2)


@breaks("saturation-detector", "printable")
@attrs.frozen(repr=False)
class AnonymousDetector(_ByQueue):
    """Has the default `repr`."""


@breaks("saturation-detector", "comparable")
@attrs.frozen(eq=False)
class IncomparableDetector(_ByQueue):
    """Is equal to itself alone."""


@breaks("saturation-detector", "travels")
@attrs.frozen
class DetectorAtHome(_ByQueue):
    """Holds a lambda, which no other process can have."""

    measure: Callable[[float], float] = attrs.field(default=lambda value: value, repr=False)


@breaks("saturation-detector", "rebuilt")
@attrs.frozen
class DetectorInOtherUnits(_ByQueue):
    """Converts what it is given, and converts it again when it is rebuilt."""

    seconds: float = attrs.field(default=1.0, converter=thousandfold)
