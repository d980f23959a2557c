"""Header fields: lists of pairs, names in lower case, in the order received. Knows no message and no connection.

A name or value is written as it is given, so writing checks it: whoever can put a line end into a header can put a
whole second message there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["HOP_BY_HOP", "LOWER", "Block", "Headers", "encode", "end_to_end", "first"]

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
_LINE_END = re.compile(rb"[\r\n\0]")
_USUAL = frozenset({b"keep-alive", b"close"})
# Named in `connection`, these stay: dropping them would change what the message is, or for whom.
_KEPT = frozenset({b"content-length", b"content-type", b"content-encoding", b"host", b"authorization"})

# Names are few and come again and again, and asking here costs less than looking at their letters. Bounded, since
# anybody can make up names.
_REMEMBERED = 1024
_REMEMBERED_BYTES = 64
_TOKENS: set[bytes] = set()  # known to be lower-case tokens
_PASSED: set[bytes] = set()  # known to be end-to-end


class _Names(dict[bytes, bytes]):
    """From a name as received to the same in lower case."""

    def __missing__(self, name: bytes) -> bytes:
        known = name.lower()
        if len(self) < _REMEMBERED and len(name) <= _REMEMBERED_BYTES:
            self[name] = known
        return known


LOWER: Mapping[bytes, bytes] = _Names()


class Block:
    """Fields made ready to be written: checked and encoded once, for all messages that repeat them.

    Made by `answer_block` and `request_block`, which know what the wire writes itself, or by `line`; they can be added.

    Attributes:
        lines: The fields that are written as they were given.
        length: The content-length that was among them.
        closes: Whether ``connection: close`` was.
    """

    __slots__ = ("closes", "length", "lines")

    def __init__(self, lines: bytes, length: bytes | None = None, closes: bool = False) -> None:
        self.lines = lines
        self.length = length
        self.closes = closes

    def __add__(self, other: Block) -> Block:
        """Return the fields of both."""
        length = self.length if other.length is None else other.length
        return Block(self.lines + other.lines, length, self.closes or other.closes)

    @classmethod
    def line(cls, name: bytes, value: bytes) -> Block:
        """Return a single field, for names that say nothing about a message's frame, address or connection.

        Raises:
            ValueError: It cannot be written.
        """
        if name not in _TOKENS:
            _check_name(name)
        if _LINE_END.search(value):
            raise _forging(name)
        return cls(b"%b: %b\r\n" % (name, value))


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
    kept = [pair for pair in headers if pair[0] in _PASSED or _passes(pair[0])]
    if len(kept) == len(headers):
        return kept
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection" and value not in _USUAL:
            named.update(each.strip(b" \t") for each in value.lower().split(b","))
    return [pair for pair in kept if pair[0] not in named or pair[0] in _KEPT] if named else kept


def encode(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return the fields as lines.

    Raises:
        ValueError: A name is not a lower-case token, or a value holds CR, LF or NUL.
    """
    if not headers:
        return b""
    for name, _ in headers:
        if name not in _TOKENS:
            _check_name(name)
    block = b"\r\n".join(map(b": ".join, headers))
    # A look at all lines instead of one at each value: the only line ends are those between them.
    ends = len(headers) - 1
    if block.count(b"\n") != ends or block.count(b"\r") != ends or 0 in block:
        culprit = next(name for name, value in headers if _LINE_END.search(value))
        raise _forging(culprit)
    return block + b"\r\n"


def _passes(name: bytes) -> bool:
    if name in HOP_BY_HOP or name.startswith(b"proxy-"):
        return False
    if len(_PASSED) < _REMEMBERED and len(name) <= _REMEMBERED_BYTES:
        _PASSED.add(name)
    return True


def _forging(name: bytes) -> ValueError:
    return ValueError(f"the value of header '{name.decode()}' holds CR, LF or NUL; it would end the line")


def _check_name(name: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"header name {name!r} is not a lower-case token")
    if len(_TOKENS) < _REMEMBERED and len(name) <= _REMEMBERED_BYTES:
        _TOKENS.add(name)
