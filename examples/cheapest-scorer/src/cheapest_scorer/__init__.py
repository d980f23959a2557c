"""Prefer the endpoints that cost less."""

from typing import ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched import EndpointBatch, Request

__all__ = ["Cheapest"]


@attrs.frozen
class Cheapest:
    """Prefer the endpoints that cost less per hour.

    Args:
        most: dollars per hour that score nothing.

    Formula: 1 − min(p, most) / most with p = price_per_hour; below zero counts as zero.
    Unknown: 0, as if it cost the most: nobody should get traffic for hiding a price.
    """

    type: ClassVar[str] = "cheapest-scorer"
    consumes: ClassVar[tuple[str, ...]] = ("price_per_hour",)

    most: float = attrs.field(default=100.0, validator=attrs.validators.gt(0))

    def score(self, request: Request, endpoints: EndpointBatch, /) -> NDArray[np.float64]:
        """Return how far each endpoint is below the highest price."""
        price = endpoints["price_per_hour"]
        return np.where(np.isnan(price), 0.0, 1.0 - np.clip(price / self.most, 0.0, 1.0))
