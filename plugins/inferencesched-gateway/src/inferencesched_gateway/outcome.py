"""Outcome: how one request ended and what it took. A value without any text of prompt or answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs

from inferencesched.apis import Usage

__all__ = ["Outcome"]


class Outcome(NamedTuple):
    """What is known of a request when it has ended.

    Attributes:
        request_id: as forwarded in ``x-request-id``.
        pool: the pool's name; empty when no route matched.
        endpoint: where it ended up; empty when nowhere.
        model: as the client asked.
        priority: that it had.
        status: that the client got; 499 when it left before there was one.
        result: ``success``, ``error``, ``cancelled``, ``rejected`` for want of a place, or ``refused`` for what it is.
        duration: seconds from the whole request to the end of the answer.
        waited: seconds until there was a place; None when there never was.
        ttft: seconds to the first byte of a streamed answer; None for an answer in one piece.
        tpot: seconds per further output token of a streamed answer; None where tokens are not known.
        usage: tokens, as the engine counted them.
        attempts: how many endpoints were tried.
    """

    request_id: str
    pool: str = ""
    endpoint: str = ""
    model: str = ""
    priority: int = 0
    status: int = 0
    result: str = ""
    duration: float = 0.0
    waited: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    usage: Usage | None = None
    attempts: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, seconds to the microsecond."""
        fields = {
            name: round(value, 6) if isinstance(value, float) else value for name, value in self._asdict().items()
        }
        return fields | {"usage": None if self.usage is None else attrs.asdict(self.usage)}
