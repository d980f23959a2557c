"""Answers on one connection, from bytes to pages: llhttp reads them, and what it leaves open is decided here.

No socket and no clock: whoever has them feeds what arrives, and is told whether the answer is complete. What is held of
an answer is bounded: the page by its size, everything around it by the page.
"""

from __future__ import annotations

import zlib

import httptools

__all__ = ["Answer", "Refused"]

_AROUND_BYTES = 65_536
"""Of an answer that are not its page: the head, and 8 for every byte of the page, since a chunk of one byte takes 6."""

_ZIPPED = frozenset((b"gzip", b"x-gzip", b"deflate"))
_EITHER = 32 + zlib.MAX_WBITS
"""zlib looks for itself which of the two it is."""


class Refused(ValueError):
    """The server answered, and not with a page."""


class Answer:
    """The answers of a connection, one after the other.

    Attributes:
        begun: whether anything of the current one has come.
        complete: whether all of it has.
        reusable: whether the connection can be used for another one; said once it is complete.
        status: of the current one; 0 until its head has come.
    """

    __slots__ = (
        "_around",
        "_coding",
        "_framed",
        "_largest",
        "_parser",
        "_parts",
        "_size",
        "begun",
        "complete",
        "reusable",
        "status",
    )

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Forget the last answer: a request is sent."""
        self.begun = self.complete = self.reusable = False
        self._around = _AROUND_BYTES
        self._expect()

    def feed(self, data: bytes | memoryview) -> None:
        """Read on.

        Raises:
            Refused: it is too long, or not HTTP.
        """
        self.begun = True
        self._around -= len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.reusable = False
        except httptools.HttpParserError as error:
            self.reusable = False
            if not self.complete:
                raise Refused(f"does not speak HTTP ({error})") from None
        if self._size > self._largest:
            raise self._too_long()
        if self._around + 8 * self._size < 0:
            raise Refused("does not speak HTTP (there is no end to its head)")

    def end(self) -> None:
        """The server has closed the connection in good order: some say so that the page is complete."""
        self.complete = self.complete or (self.status >= 200 and not self._framed)
        self.reusable = False

    def page(self) -> bytes:
        """Return what a complete answer brought.

        Raises:
            Refused: it is no page.
        """
        if self.status != 200:
            raise Refused(f"answered {self.status}")
        parts = self._parts
        page = parts[0] if len(parts) == 1 else b"".join(parts)
        return page if self._coding in {b"", b"identity"} else self._unzipped(page)

    def _unzipped(self, page: bytes) -> bytes:
        """Some zip what they were asked for as it is."""
        coding = self._coding.decode("ascii", "backslashreplace")
        if self._coding not in _ZIPPED:
            raise Refused(f"answered in the encoding '{coding}', which it was not asked for")
        unzip = zlib.decompressobj(_EITHER)
        try:
            page = unzip.decompress(page, self._largest + 1)
        except zlib.error as error:
            raise Refused(f"answered with what is no {coding} ({error})") from None
        if len(page) > self._largest:
            raise self._too_long()
        if not unzip.eof:
            raise Refused(f"answered with what is no {coding} (it is cut off)")
        return page

    def _too_long(self) -> Refused:
        return Refused(f"answered with more than {self._largest} bytes")

    def _expect(self) -> None:
        self.status = self._size = 0
        self._coding = b""
        self._framed = False
        self._parts: list[bytes] = []

    # --- what llhttp calls -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """More than one answer is more than was asked for: what else is wrong with this connection?"""
        if self.complete:
            raise Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how the page ends, and how it is packed; of trailers, nothing."""
        if self.status:
            return
        name = name.lower()
        if name == b"content-length":
            self._framed = True
        elif name == b"transfer-encoding":
            self._framed = value.lower().rstrip(b" \t").endswith(b"chunked")
        elif name == b"content-encoding":
            self._coding = value.strip(b" \t").lower()

    def on_headers_complete(self) -> None:
        """Here it is known what kind of an answer it is."""
        self.status = self._parser.get_status_code()

    def on_body(self, part: bytes) -> None:
        """Keep a part of the page, and none beyond the cap."""
        self._size += len(part)
        if self._size <= self._largest:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        """The answer is complete, unless it was one that only says that there will be one (100 to 103)."""
        if self.status < 200 and self.status != 101:
            self._expect()
            return
        self.complete = True
        self.reusable = self._parser.should_keep_alive()
