"""Idle connections, by origin; the one used last is taken first, since it is the least likely to have been closed.

There is no upper limit: idle ones close after a few seconds, and a limit would make requests wait where nobody looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesched_gateway.wire.origin import Origin

if TYPE_CHECKING:
    from inferencesched_gateway.wire.upstream import Upstream

__all__ = ["Pool"]


class Pool:
    """Connections that wait for a request. Every operation is O(1)."""

    def __init__(self) -> None:
        self._idle: dict[
            tuple[str, int, bool, bytes], dict[Upstream, None]
        ] = {}  # in the order in which they became idle

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def take(self, origin: Origin) -> Upstream | None:
        """Return the one used last, which is not idle any more."""
        idle = self._idle.get(origin.key)
        if not idle:
            return None
        upstream, _ = idle.popitem()
        return upstream

    def put(self, upstream: Upstream) -> None:
        """Keep it for the next request."""
        idle = self._idle.get(upstream.origin.key)
        if idle is None:
            idle = self._idle[upstream.origin.key] = {}
        idle[upstream] = None

    def discard(self, upstream: Upstream) -> None:
        """It has closed. The origin is forgotten with its last idle connection."""
        idle = self._idle.get(upstream.origin.key)
        if idle is not None:
            idle.pop(upstream, None)
            if not idle:
                del self._idle[upstream.origin.key]
