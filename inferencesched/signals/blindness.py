"""Who is blind: plugins that read a fact which nobody has brought, where, and why not.

A scorer whose fact is unknown everywhere gives every endpoint the same score, and nobody notices. So a host asks, once
its sources had time to look, and says what it hears.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch

__all__ = ["BlindSpot", "blind_spots", "wanted_columns"]

_LEDGER = ("in_flight_requests", "in_flight_tokens")


@attrs.frozen
class BlindSpot:
    """One fact that a plugin reads and that is unknown on some endpoints, for one reason.

    Attributes:
        plugin: its name.
        column: the fact.
        endpoints: where it is unknown, by name, in the order of the batch.
        everywhere: whether that is every endpoint there is: then the plugin decides nothing.
        reason: why, if a source said so.
    """

    plugin: str
    column: str
    endpoints: tuple[str, ...]
    everywhere: bool
    reason: str = ""

    def __str__(self) -> str:
        """Say it in a line: ``queue-scorer at gpu-3: column waiting_requests unknown: … answered 404``."""
        place = "every endpoint" if self.everywhere and len(self.endpoints) > 1 else ", ".join(self.endpoints)
        return f"{self.plugin} at {place}: column {self.column} unknown: {self.reason or 'nobody has reported it'}"


def wanted_columns(plugins: Iterable[object]) -> frozenset[str]:
    """Return every column that one of the plugins reads: what a host lends its sources as `Fleet.columns`."""
    return frozenset(column for plugin in plugins for column in getattr(plugin, "consumes", ()))


def blind_spots(
    plugins: Mapping[str, object], endpoints: EndpointBatch, sources: Iterable[object] = ()
) -> list[BlindSpot]:
    """Return what the plugins read in vain, those that are blind everywhere first.

    Args:
        plugins: by name. What they read as ``optional``, and what one of them or the ledger makes, is left out.
        endpoints: the fleet, after the sources had time to look.
        sources: are asked for reasons (`Source`, ``explain``).

    Complexity: O(columns × endpoints).
    """
    asked = [explain for source in sources if (explain := getattr(source, "explain", None)) is not None]
    made = {column for plugin in plugins.values() for column in getattr(plugin, "produces", ())}
    found: list[BlindSpot] = []
    for name, plugin in plugins.items():
        read = set(getattr(plugin, "consumes", ())).difference(made, _LEDGER, getattr(plugin, "optional", ()))
        for column in sorted(read):
            rows = np.isnan(endpoints[column]).nonzero()[0].tolist()
            unknown = [endpoints.endpoint(row).name for row in rows]
            is_blind = len(unknown) == len(endpoints)
            for reason, where in _by_reason(unknown, column, asked):
                found.append(BlindSpot(name, column, where, is_blind and len(where) == len(unknown), reason))
    return sorted(found, key=lambda spot: not spot.everywhere)


def _by_reason(unknown: list[str], column: str, asked: list[Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    reasons: dict[str, list[str]] = {}
    for endpoint in unknown:
        reason = next((why for explain in asked if (why := explain(endpoint, column))), "")
        reasons.setdefault(reason, []).append(endpoint)
    yield from ((reason, tuple(where)) for reason, where in reasons.items())
