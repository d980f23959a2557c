"""Header fields: lists of pairs, names in lower case, in the order received. Knows no message and no connection.

A name or value is written as it is given, so writing checks it: whoever can put a line end into a header can put a
whole second message there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

__all__ = ["HOP_BY_HOP", "Headers", "encode", "end_to_end", "first"]

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"
# Names are few, and checking one costs more than finding it here. Bounded, since names may come from anywhere.
_SEEN: set[bytes] = set()
_SEEN_LIMIT = 1024


def first(headers: Sequence[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Return the first value of the field with this lower-case name."""
    for each, value in headers:
        if each == name:
            return value
    return None


def end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Return what a proxy passes on: all but the fields about this one connection (RFC 9110 §7.6.1).

    Those are ``connection`` and every field that it names, ``keep-alive``, ``proxy-*``, ``te``, ``trailer``,
    ``transfer-encoding`` and ``upgrade``. Fields that frame or address a message cannot be named away: ``connection:
    content-length, host`` is a known trick to have a proxy drop them.

    >>> end_to_end([(b"connection", b"X-Trace"), (b"x-trace", b"1"), (b"te", b"trailers"), (b"accept", b"*/*")])
    [(b'accept', b'*/*')]
    """
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(each.strip(b" \t") for each in value.lower().split(b","))
    if not named or named <= _USUAL:
        return [pair for pair in headers if pair[0] not in HOP_BY_HOP and not pair[0].startswith(b"proxy-")]
    named -= _KEPT
    return [
        pair
        for pair in headers
        if pair[0] not in HOP_BY_HOP and pair[0] not in named and not pair[0].startswith(b"proxy-")
    ]


_USUAL = frozenset({b"keep-alive", b"close", b""})
_KEPT = frozenset({b"content-length", b"content-type", b"content-encoding", b"host", b"authorization"})


def encode(headers: Sequence[tuple[bytes, bytes]], without: Collection[bytes]) -> bytes:
    """Return the fields as lines, leaving out those named in ``without``.

    Raises:
        ValueError: A name is not a lower-case token, or a value holds a control character (CR, LF and NUL among them).
    """
    lines: list[bytes] = []
    for name, value in headers:
        if name not in without:
            if name not in _SEEN:
                _check_name(name)
            lines += (name, b": ", value, b"\r\n")
    block = b"".join(lines)
    # One pass over all lines instead of one for each value: what is left must be the line ends, four parts a line.
    if len(block.translate(None, _FORBIDDEN)) != len(block) - len(lines) // 2:
        raise ValueError(f"the value of header '{_culprit(headers)}' holds a control character; it would end the line")
    return block


def _check_name(name: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a lower-case token")
    if len(_SEEN) < _SEEN_LIMIT:
        _SEEN.add(name)


def _culprit(headers: Sequence[tuple[bytes, bytes]]) -> str:
    return next((name.decode() for name, value in headers if value.translate(None, _FORBIDDEN) != value), "")
