"""Records: the latest decisions and how they ended, for whoever asks why; and counts of everything. Bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from inferencesched import Decision, Rejection
from inferencesched_gateway.outcome import Outcome

__all__ = ["Record", "Records"]


class Record(NamedTuple):
    """One request that has ended.

    Attributes:
        receipt: the decision or the rejection; None when it never came to either.
        outcome: how it ended.
    """

    receipt: Decision | Rejection | None
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        receipt = None if self.receipt is None else self.receipt.to_dict()
        return {"outcome": self.outcome.to_dict(), "receipt": receipt}

    def explain(self) -> str:
        """Return the receipt for people."""
        return "no place was asked for" if self.receipt is None else self.receipt.explain()


class Records:
    """Keeps the latest requests by their id.

    Args:
        most: how many; the oldest goes first.
        listener: told of every outcome, for an access log or telemetry.
    """

    def __init__(self, *, most: int = 256, listener: Callable[[Outcome], None] | None = None) -> None:
        self.listener = listener
        self.results: Counter[tuple[int, str]] = Counter()
        self._most = most
        self._latest: OrderedDict[str, Record] = OrderedDict()

    def ended(self, outcome: Outcome, receipt: Decision | Rejection | None) -> None:
        """Keep the record of a request that has ended."""
        self.results[outcome.status, outcome.result] += 1
        latest = self._latest
        latest[outcome.request_id] = Record(receipt, outcome)
        latest.move_to_end(outcome.request_id)
        if len(latest) > self._most:
            latest.popitem(last=False)
        if self.listener is not None:
            self.listener(outcome)

    def find(self, request_id: str) -> Record | None:
        """Return the record of a request, if it is among the latest."""
        return self._latest.get(request_id)

    def latest(self) -> list[Record]:
        """Return all that are kept, the latest first."""
        return list(reversed(self._latest.values()))
