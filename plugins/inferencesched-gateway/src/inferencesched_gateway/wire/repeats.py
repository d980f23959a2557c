"""Heads that come again: a client repeats nearly the same one with each request, a server with each answer.

Reading a head costs more than most of what is done with it. So a connection remembers the latest one that it has read,
and takes bytes that are the same, but for the digits of their content-length, for the same head with another length.
That is all that may differ: digits cannot change where lines and names end, so a reader would find the same there. (The
tests hold it against one.)

Heads hold credentials. A connection remembers one head, of no more than `_LONGEST` bytes, and forgets it with its end;
it is never compared with what another connection sends.
"""

from __future__ import annotations

import re
from typing import Generic, Protocol, Self, TypeVar

__all__ = ["Repeats"]

_LONGEST = 4_096
_DIGITS = 15  # as many as cannot be too many for a reader
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,%d})\r\n" % _DIGITS, re.IGNORECASE)


class _Head(Protocol):
    def with_length(self, digits: bytes, /) -> Self:
        """Return the same head with another content-length."""


_H = TypeVar("_H", bound=_Head)


class Repeats(Generic[_H]):
    """The latest head of one connection."""

    __slots__ = ("_after", "_before", "_digits", "_head")

    def __init__(self) -> None:
        self._head: _H | None = None
        self._before = self._after = b""  # the digits of the length
        self._digits = b""  # without a length: none, and all of the head is before them

    def find(self, data: bytes) -> tuple[_H, int] | None:
        """Return the head that data begins with and where it ends, if it is like the latest one."""
        head, before = self._head, self._before
        if head is None or not data.startswith(before):
            return None
        begin = len(before)
        if not self._digits:
            return head, begin
        end = data.find(b"\r", begin, begin + _DIGITS + 1)
        digits = data[begin:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        if digits != self._digits:
            self._digits = digits
            head = self._head = head.with_length(digits)
        return head, end + len(self._after)

    def keep(self, head: _H, data: bytes) -> None:
        """Remember a head, and the bytes that it was read from."""
        if len(data) > _LONGEST:
            self._head = None
            return
        self._head = head
        found = _LENGTH.search(data)
        if found is None:
            self._before, self._digits, self._after = data, b"", b""
        else:
            begin, end = found.span(1)
            self._before, self._digits, self._after = data[:begin], data[begin:end], data[end:]
