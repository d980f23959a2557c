"""What can go wrong on the wire, as values: nothing here knows a socket."""

from __future__ import annotations

from typing import Literal

__all__ = ["Phase", "Refused", "UpstreamError"]

Phase = Literal["resolve", "connect", "send", "head", "body"]


class UpstreamError(Exception):
    """An exchange with an upstream that did not come to its end.

    Attributes:
        phase: How far it came: the name was being resolved, the connection made, the request sent, the head of the
            answer awaited, or its body read. After ``body`` part of the answer has already been told.
        timed_out: It took too long; otherwise it broke.
        message: A sentence for people, without headers, bodies or credentials.
    """

    def __init__(self, phase: Phase, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.phase: Phase = phase
        self.timed_out = timed_out
        self.message = message


class Refused(Exception):
    """A message that is not taken: the status to answer with, and a sentence that quotes nothing of it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
