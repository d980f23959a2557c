"""Waiting: one submission as flow control sees it, and what it weighs."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from inferencesched.request import BYTES_PER_TOKEN, Request

__all__ = ["Waiting", "flow_of", "size_of", "tokens_of"]

_OUTPUT_TOKENS = 256
"""What an answer without a limit is taken for: the median answer of public chat traces is of this order."""


@attrs.define(eq=False)
class Waiting:
    """A request on its way through the queue.

    Attributes:
        request: what waits.
        number: counts submissions; the order of arrival.
        arrived: when.
        size_bytes: counts against limits in bytes.
        subset: endpoints that may be used; None for all.
        n: how many ranked endpoints are wanted.
        priority: the band it waits in.
        flow: its flow.
        rank: its place in the flow; smaller is sooner.
        with_endpoints: how long the pool had endpoints when it was queued (see `Patience`).
    """

    request: Request
    number: int
    arrived: float
    size_bytes: int
    subset: Collection[str] | None = None
    n: int = 1
    priority: int = 0
    flow: str = ""
    rank: float = 0.0
    with_endpoints: float = 0.0


def size_of(request: Request) -> int:
    """Return the bytes that a queued request counts for: its body's as received, else its prompt's."""
    if request.size_bytes is not None:
        return int(request.size_bytes)
    prompt = request.prompt
    if prompt is None:
        return 0
    return len(prompt) if isinstance(prompt, str | bytes) else len(prompt) * BYTES_PER_TOKEN


def tokens_of(request: Request) -> float:
    """Return the work that a request is worth between flows: its prompt, and its answer at the longest."""
    tokens = request.prompt_tokens
    prompt = tokens if tokens is not None else size_of(request) / BYTES_PER_TOKEN
    output = request.max_output_tokens
    return float(prompt + (_OUTPUT_TOKENS if output is None else output))


def flow_of(request: Request) -> str:
    """Return the flow to queue a request in: its authenticated principal, if the host names one, else its flow.

    A client that makes up a fairness id for every request gets one share all the same, where the host says who it is
    (``request.attributes["principal"]``).
    """
    principal = request.attributes.get("principal")
    return principal if isinstance(principal, str) else request.flow
