"""Route inference to where the grid is clean."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched import EndpointBatch, Request

__all__ = ["CarbonAware"]


@attrs.frozen
class CarbonAware:
    """Prefer endpoints in the region with the cleaner grid.

    Args:
        dirty: grams of CO₂ per kilowatt-hour that score nothing.

    Formula: 1 − min(g, dirty) / dirty with g = grid_intensity.
    Unknown: 0.5.
    Source: this package.
    """

    type: ClassVar[str] = "carbon-aware-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("grid_intensity",)

    dirty: float = attrs.field(default=800.0, validator=attrs.validators.gt(0))

    def score(self, request: Request, endpoints: EndpointBatch, /) -> NDArray[np.float64]:
        """Return how clean each endpoint's grid is."""
        grid = endpoints["grid_intensity"]
        return np.where(np.isnan(grid), 0.5, 1.0 - np.clip(grid / self.dirty, 0.0, 1.0))
