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

    Complexity: O(1), or O(live submissions of the same id).
    """

    def __init__(self) -> None:
        self._entries: dict[int, T] = {}
        self._number_of: dict[str, int] = {}  # request id → the number of its live submission
        self._more: dict[str, list[int]] = {}  # request id → the numbers of further ones, where there are several

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
        number, request_id = entry.ticket.number, entry.ticket.request_id
        if number not in self._entries and self._number_of.setdefault(request_id, number) != number:
            self._more.setdefault(request_id, []).append(number)
        self._entries[number] = entry

    def remove(self, ticket: Ticket) -> None:
        """Strike out the entry of a ticket."""
        number, request_id = ticket.number, ticket.request_id
        del self._entries[number]
        others = self._more.get(request_id)
        if others is None:
            del self._number_of[request_id]
            return
        if self._number_of[request_id] == number:
            self._number_of[request_id] = others.pop(0)
        else:
            others.remove(number)
        if not others:
            del self._more[request_id]

    def find(self, which: Ticket | str) -> T | None:
        """Return the entry of a ticket or a request id; None if there is none (any more).

        Raises:
            LifecycleError: several live submissions carry the id.
        """
        if isinstance(which, Ticket):
            entry = self._entries.get(which.number)
            return entry if entry is not None and entry.ticket is which else None
        if which in self._more:
            count = 1 + len(self._more[which])
            raise LifecycleError(f"{count} live submissions have the id '{which}'; say which by its ticket")
        number = self._number_of.get(which)
        return None if number is None else self._entries[number]
