"""Why a request is refused: one table for all hosts, from the cause to status, reason and whether to try again.

429 means that capacity exists and is taken, 503 that there is none; a client that waits is told for how long, one that
must not try again is told nothing. Reasons are the field's words (header ``x-llm-d-request-dropped-reason``).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

import attrs

from inferencesched.decision import Rejection
from inferencesched.request import Request

__all__ = ["ANSWERS", "Answer", "Refusal", "refuse"]


class Refusal(Enum):
    """Why flow control says no."""

    SHED = auto()
    """Without flow control: the pool is saturated, and the request's priority is below 0."""
    QUEUE_FULL = auto()
    """A limit of the band or of all bands is reached, in requests or bytes."""
    QUEUE_FULL_WITHOUT_ENDPOINTS = auto()
    """The same, while there is no endpoint at all."""
    EXPIRED = auto()
    """Its time was over while endpoints were there, but busy."""
    EXPIRED_WITHOUT_ENDPOINTS = auto()
    """Its time was over while there was no endpoint."""
    DISPLACED = auto()
    """More urgent work took its room in the queue."""
    EVICTED = auto()
    """More urgent work took its place on an endpoint."""
    CANCELLED = auto()
    """Its client is gone. Nobody is there to read this; observers are."""
    SHUTTING_DOWN = auto()
    """The dispatcher is draining."""
    INTERNAL = auto()
    """Our own fault."""


@attrs.frozen
class Answer:
    """What a refusal looks like from outside.

    Attributes:
        http_status: the status.
        reason: the machine-readable reason; empty for our own faults, which are no overload.
        transient: whether the same request may succeed a little later; if not, it carries no ``Retry-After``.
        message: one sentence.
    """

    http_status: int
    reason: str
    transient: bool
    message: str


ANSWERS: Mapping[Refusal, Answer] = MappingProxyType(
    {
        Refusal.SHED: Answer(429, "rejected-saturated", True, "system saturated, sheddable request dropped"),
        Refusal.QUEUE_FULL: Answer(429, "rejected-saturated", True, "the queue is full"),
        Refusal.QUEUE_FULL_WITHOUT_ENDPOINTS: Answer(
            503, "rejected-no-endpoints", True, "no endpoints available, and the queue is full"
        ),
        Refusal.EXPIRED: Answer(429, "rejected-ttl-expired", True, "request timed out in queue"),
        Refusal.EXPIRED_WITHOUT_ENDPOINTS: Answer(
            503, "rejected-no-endpoints", True, "request timed out in queue and no endpoints are available"
        ),
        Refusal.DISPLACED: Answer(429, "evicted-priority", True, "displaced from the queue by more urgent work"),
        Refusal.EVICTED: Answer(429, "evicted", True, "request evicted by flow control"),
        Refusal.CANCELLED: Answer(499, "rejected-context-cancelled", False, "client disconnected"),
        Refusal.SHUTTING_DOWN: Answer(503, "rejected-shutting-down", True, "shutting down"),
        Refusal.INTERNAL: Answer(500, "", False, "internal flow control error"),
    }
)
"""Every refusal and its one answer."""


def refuse(
    request: Request, why: Refusal, *, retry_after: float, generation: int, now: float, detail: str = ""
) -> Rejection:
    """Return the rejection that answers `request`.

    Args:
        retry_after: seconds to wait, told only if waiting can help.
        detail: the numbers behind the sentence.
    """
    answer = ANSWERS[why]
    return Rejection(
        request.id,
        request.model,
        answer.reason,
        answer.http_status,
        answer.transient,
        f"{answer.message}: {detail}" if detail else answer.message,
        retry_after if answer.transient else None,
        generation,
        now,
    )
