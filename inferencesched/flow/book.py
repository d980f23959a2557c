"""Book: the live submissions of a dispatcher, by ticket and, where that is unambiguous, by request id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from inferencesched.errors import LifecycleError
from inferencesched.events import Ticket

__all__ = ["Book"]


class _Ticketed(Protocol):
    @property
    def ticket(self) -> Ticket: ...


T = TypeVar("T", bound=_Ticketed)


class Book(Generic[T]):
    """Entries that come with tickets and are found by them.

    The index by request id is made when an id is first asked for: a host that keeps its tickets does not pay for it.

    Complexity: O(1); by request id O(live submissions of that id), and once O(live submissions).
    """

    def __init__(self) -> None:
        self._entries: dict[int, T] = {}
        self._numbers: dict[str, list[int]] | None = None  # request id → the numbers of its live submissions

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the entries, the oldest submission first."""
        return iter(tuple(self._entries.values()))

    def __contains__(self, ticket: Ticket) -> bool:
        return ticket.number in self._entries

    def __getitem__(self, number: int) -> T:
        """Return the entry of the ticket with that number."""
        return self._entries[number]

    def add(self, entry: T) -> None:
        """Write down an entry; one with the same ticket is replaced."""
        number = entry.ticket.number
        if self._numbers is not None and number not in self._entries:
            self._numbers.setdefault(entry.ticket.request_id, []).append(number)
        self._entries[number] = entry

    def remove(self, ticket: Ticket) -> None:
        """Strike out the entry of a ticket."""
        del self._entries[ticket.number]
        if self._numbers is not None:
            numbers = self._numbers[ticket.request_id]
            numbers.remove(ticket.number)
            if not numbers:
                del self._numbers[ticket.request_id]

    def find(self, which: Ticket | str) -> T | None:
        """Return the entry of a ticket or a request id; None if there is none (any more).

        Raises:
            LifecycleError: several live submissions carry the id.
        """
        if isinstance(which, Ticket):
            entry = self._entries.get(which.number)
            return entry if entry is not None and entry.ticket is which else None
        if self._numbers is None:
            self._numbers = {}
            for number, entry in self._entries.items():
                self._numbers.setdefault(entry.ticket.request_id, []).append(number)
        numbers = self._numbers.get(which, ())
        if len(numbers) > 1:
            raise LifecycleError(f"{len(numbers)} live submissions have the id '{which}'; say which by its ticket")
        return self._entries[numbers[0]] if numbers else None
