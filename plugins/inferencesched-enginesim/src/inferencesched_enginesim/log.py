"""What a server received lately: so that a test can see which request arrived where, and what became of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

__all__ = ["Received", "RequestLog"]


@attrs.define
class Received:
    """One request. Token counts and times are there as far as it got; the prompt is not.

    Attributes:
        time: of arrival, unix seconds.
        method: of HTTP.
        path: with its query.
        headers: as received, names in lower case; several of one name are joined by commas.
        model: that it asked for.
        is_streamed: whether it asked for a stream.
        status: of the answer, None before it begins.
        outcome: ``open``, ``done``, ``gone`` (the client hung up), or the kind of the fault that hit it.
        prompt_tokens, cached_tokens, output_tokens: of all its sequences together.
        ttft: from arrival to the first token, in simulated seconds; of the first sequence.
        duration: from arrival to the last token, likewise.
    """

    time: float
    method: str
    path: str
    headers: Mapping[str, str]
    model: str | None = None
    is_streamed: bool = False
    status: int | None = None
    outcome: str = "open"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    ttft: float | None = None
    duration: float | None = None


class RequestLog:
    """The last requests, at most `limit`; the oldest go first.

    Attributes:
        total: how many there were.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._kept: deque[Received] = deque(maxlen=limit)

    def __iter__(self) -> Iterator[Received]:
        return iter(tuple(self._kept))

    @property
    def last(self) -> Received:
        """The newest one.

        Raises:
            IndexError: none is kept.
        """
        return self._kept[-1]

    def add(self, received: Received) -> None:
        """Remember one more."""
        self.total += 1
        self._kept.append(received)

    def clear(self) -> None:
        """Forget all, and count anew."""
        self.total = 0
        self._kept.clear()

    def to_dict(self) -> dict[str, Any]:
        """Return the log as plain JSON values."""
        return {"total": self.total, "requests": [attrs.asdict(one) for one in self._kept]}
