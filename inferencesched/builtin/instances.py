"""Which endpoint instance stands in which row: what plugins with a memory of endpoints ask a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import Endpoint, EndpointBatch

__all__ = ["instances"]


def instances(endpoints: EndpointBatch) -> NDArray[np.int64]:
    """Return each endpoint's instance number, in the order of every column. Computed once per membership."""
    return endpoints.static(("instances",), _instances)


def _instances(endpoints: tuple[Endpoint, ...]) -> NDArray[np.int64]:
    return np.array([endpoint.instance for endpoint in endpoints], np.int64)
