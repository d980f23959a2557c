"""Bodies in chunks (RFC 9112 §7.1), read strictly: hexadecimal size, CRLF, data, CRLF, and nothing between.

Chunk extensions are skipped and trailers are read and dropped; both are bounded. What other readers forgive (bare line
feeds, blanks around the size, signs, ``0x``) is an error here: two readers that disagree on where a body ends are how
requests are smuggled.
"""

from __future__ import annotations

import re

__all__ = ["Chunked", "chunk"]

# Size and extension. Fifteen digits are more than any body; a size line longer than this is somebody's attempt.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")
_LINE_LIMIT = 256
_TRAILERS_LIMIT = 8_192


class _Sizes(dict[bytes, int]):
    """From a size line to the size. Streams repeat a few, and looking one up costs less than reading it."""

    def __missing__(self, line: bytes) -> int:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise ValueError("invalid chunk size")
        size = int(match[1], 16)
        if len(line) <= 6 and len(self) < 4096:
            self[line] = size
        return size


_SIZES = _Sizes()


def chunk(data: bytes) -> bytes:
    """Return data as one chunk; it must not be empty, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Chunked:
    """One body, fed as it arrives.

    Attributes:
        done: The last chunk and the trailers have been read.
        rest: What was fed beyond the end.
    """

    __slots__ = ("_held", "_left", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._held = b""  # an unfinished size line, line end or trailer
        self._left = 0  # of the current chunk with its line end; 0 between chunks
        self._trailers = -1  # bytes of trailers so far; -1 before the last chunk

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that is in here, possibly none of it.

        Raises:
            ValueError: This is no chunked body.
        """
        if not self._left and self._trailers < 0 and not self._held:
            begin = data.find(b"\r\n", 0, 8) + 2
            # What a stream nearly always is: one whole chunk in one piece.
            if begin > 2 and data.endswith(b"\r\n") and len(data) - begin - 2 == _SIZES[data[: begin - 2]] > 0:
                return data[begin:-2]
        data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._trailers >= 0:
                at = self._trailer(data, at)
            elif self._left > 2:
                piece = data[at : at + self._left - 2]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self._left:
                at = self._line_end(data, at)
            else:
                at = self._size(data, at)
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _size(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + _LINE_LIMIT)
        if end < 0:
            return self._hold(data, at, _LINE_LIMIT)
        size = _SIZES[data[at:end]]
        if size:
            self._left = size + 2
        else:
            self._trailers = 0
        return end + 2

    def _line_end(self, data: bytes, at: int) -> int:
        if data[at] != b"\r\n"[2 - self._left]:
            raise ValueError("a chunk is longer than its size")
        self._left -= 1
        return at + 1

    def _trailer(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at)
        if end < 0:
            return self._hold(data, at, _TRAILERS_LIMIT - self._trailers)
        if end == at:
            self.done = True
            return end + 2
        self._trailers += end + 2 - at
        if self._trailers > _TRAILERS_LIMIT or _TRAILER.fullmatch(data, at, end) is None:
            raise ValueError("invalid trailer")
        return end + 2

    def _hold(self, data: bytes, at: int, limit: int) -> int:
        """Keep an unfinished line for the next piece, unless it can no longer become a good one."""
        line = data[at:]
        if len(line) >= limit or b"\n" in line:
            raise ValueError("invalid line in a chunked body")
        self._held = line
        return len(data)
