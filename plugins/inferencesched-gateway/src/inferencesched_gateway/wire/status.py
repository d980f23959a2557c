"""Status lines, made once."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["BODILESS", "status_line"]

# Answers that end with their head, whoever asked.
BODILESS = frozenset({204, 304})

_LINES = {each.value: b"HTTP/1.1 %d %b\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus if each >= 200}


def status_line(status: int) -> bytes:
    """Return ``HTTP/1.1 200 OK`` and its line end; a status that has no name gets an empty phrase.

    Raises:
        ValueError: Not in 200…999: informational answers are the wire's own business.
    """
    line = _LINES.get(status)
    if line is not None:
        return line
    if not 200 <= status <= 999:
        raise ValueError(f"status {status} cannot end an exchange; take one of 200…999")
    return b"HTTP/1.1 %d \r\n" % status
