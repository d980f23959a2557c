"""Heads of messages, from complete bytes to values: llhttp reads them, and what llhttp leaves open is decided here.

Where a body ends is decided in this module alone, from the head, before anything of the body is looked at. llhttp's own
opinion on bodies, upgrades and keep-alive is never asked, so there are no two that could differ. llhttp (strict, as
httptools has it) refuses blanks around names, folded lines, bare CR and LF, control characters, several
content-lengths, and content-length beside transfer-encoding; the tests hold it to that. Nothing here knows a
connection.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import httptools

from inferencesched_gateway.wire.errors import Refused
from inferencesched_gateway.wire.headers import LOWER, Headers
from inferencesched_gateway.wire.limits import Limits

__all__ = ["CHUNKED", "UNTIL_CLOSE", "RequestHead", "ResponseHead", "read_request", "read_response"]

CHUNKED = -1
UNTIL_CLOSE = -2

_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)(?:(/.*)|(\?.*))?", re.IGNORECASE)
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z!$&'()*+\-.;=_~%]*)(?::[0-9]{0,5})?")
_ONCE = frozenset({b"content-length", b"expect", b"host", b"transfer-encoding"})


@attrs.define
class RequestHead:
    """A request without its body. ``length`` is that of the body, or `CHUNKED`.

    Requests of one connection share a head if they are alike (see `inferencesched_gateway.wire.repeats`), so nothing in
    it is to be changed but ``note``.

    Attributes:
        path: The target up to the first ``?``, not percent-decoded: what is matched is what is sent on.
        query: The rest, without ``?``.
        note: For whoever handles requests: what follows from the head, whatever its content-length.
    """

    method: str
    target: bytes
    path: str
    query: bytes
    version: str
    headers: Headers
    length: int
    keep_alive: bool
    expects_continue: bool
    note: Any = attrs.field(default=None, eq=False, repr=False)

    def with_length(self, digits: bytes) -> RequestHead:
        """Return the same head with another content-length."""
        return RequestHead(
            self.method,
            self.target,
            self.path,
            self.query,
            self.version,
            _with_length(self.headers, digits),
            int(digits),
            self.keep_alive,
            self.expects_continue,
            self.note,
        )


@attrs.define
class ResponseHead:
    """An answer without its body. ``length`` is that of the body, `CHUNKED` or `UNTIL_CLOSE`.

    Shared by answers that are alike, as a `RequestHead` is.

    Attributes:
        headers: As received, names in lower case, those about the connection included.
        note: For whoever is told of it: what follows from the head, whatever its content-length.
    """

    status: int
    headers: Headers
    length: int
    keep_alive: bool
    note: Any = attrs.field(default=None, eq=False, repr=False)

    def with_length(self, digits: bytes) -> ResponseHead:
        """Return the same head with another content-length; only for one that says where its body ends."""
        return ResponseHead(self.status, _with_length(self.headers, digits), int(digits), self.keep_alive, self.note)


def _with_length(headers: Headers, digits: bytes) -> Headers:
    return [(b"content-length", digits) if pair[0] == b"content-length" else pair for pair in headers]


class _Fields:
    """What llhttp calls while it reads one head."""

    __slots__ = ("complete", "headers")

    # Asked for by every new parser; to find that they are missing costs more than the rest of its making.
    on_body = on_chunk_complete = on_chunk_header = on_message_begin = on_message_complete = on_status = on_url = None

    def __init__(self) -> None:
        self.headers: Headers = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((LOWER[name], value))

    def on_headers_complete(self) -> None:
        self.complete = True


class _Framing:
    """What the fields say about body and connection."""

    __slots__ = ("chunked", "close", "expect", "host", "keep_alive", "length")

    def __init__(self, headers: Headers) -> None:
        fields = dict(headers)
        if len(fields) != len(headers):
            _once_each(headers)
            if b"connection" in fields:
                fields[b"connection"] = b",".join(value for name, value in headers if name == b"connection")
        length = fields.get(b"content-length")
        if length is not None and not length.isdigit():
            raise Refused(400, "content-length is not a number")
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower() != b"chunked":
                raise Refused(400, "the only transfer-encoding is 'chunked'")
            if length is not None:
                raise Refused(400, "content-length beside transfer-encoding")
        self.length = None if length is None else int(length)
        self.chunked = coding is not None
        self.host = fields.get(b"host")
        self.expect = fields.get(b"expect")
        connection = fields.get(b"connection")
        self.close = self.keep_alive = False
        if connection is not None:
            options = [each.strip(b" \t") for each in connection.lower().split(b",")]
            self.close = b"close" in options
            self.keep_alive = b"keep-alive" in options


def _once_each(headers: Headers) -> None:
    """Refuse what is given twice and would then mean two things."""
    names = [name for name, _ in headers if name in _ONCE]
    if len(set(names)) != len(names):
        raise Refused(400, "host, content-length, transfer-encoding and expect can be given only once")


def read_request(head: bytes, limits: Limits) -> RequestHead:
    """Read a head, from its first byte to the end of its empty line.

    A target in absolute form becomes one in origin form, and its authority replaces the host field (RFC 9112 §3.2.2).

    Raises:
        Refused: With 400, 405, 414, 417, 431 or 505, and the reason.
    """
    line = head[: head.find(b"\r\n")]
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[0].isalpha():  # llhttp skips line ends before a method
        raise Refused(400, "the first line is not METHOD TARGET VERSION")
    method, target, version = parts
    if len(target) > limits.target_bytes:
        raise Refused(414, f"the request target is longer than {limits.target_bytes} bytes")
    if version not in _VERSIONS:
        raise _bad_version(version)
    headers = _fields(httptools.HttpRequestParser, head, limits)
    framing = _Framing(headers)
    old = version == b"HTTP/1.0"
    if framing.host is None:
        if not old:
            raise Refused(400, "no host field")
    elif not _HOST.fullmatch(framing.host):
        raise Refused(400, "host is not a name and perhaps a port")
    if framing.chunked and old:
        raise Refused(400, "transfer-encoding in HTTP/1.0")
    if not target.startswith(b"/") or target.find(b"#") >= 0:
        target, headers = _origin_form(method, target, headers)
    if framing.expect is not None and framing.expect.lower() != b"100-continue":
        raise Refused(417, "the only expectation that can be met is '100-continue'")
    path, _, query = target.partition(b"?")
    return RequestHead(
        method.decode("ascii"),
        target,
        path.decode("ascii"),
        query,
        _VERSIONS[version],
        headers,
        CHUNKED if framing.chunked else framing.length or 0,
        not framing.close and (framing.keep_alive or not old),
        framing.expect is not None and not old,
    )


def read_response(head: bytes, limits: Limits, *, to_head: bool) -> ResponseHead:
    """Read a head, from its first byte to the end of its empty line; ``to_head`` if the request was a HEAD.

    Raises:
        Refused: The head is not one of HTTP/1.x; its status has no meaning here.
    """
    status_text = head[9:12]
    if not status_text.isdigit() or status_text < b"100":
        raise Refused(400, "the first line is not VERSION STATUS REASON")
    status = int(status_text)
    old = head.startswith(b"HTTP/1.0 ")
    if not old and not head.startswith(b"HTTP/1.1 "):
        raise Refused(505, "not HTTP/1.x")
    headers = _fields(httptools.HttpResponseParser, head, limits)
    framing = _Framing(headers)
    if to_head or status < 200 or status in {204, 304}:
        length = 0
    elif framing.chunked:
        length = CHUNKED
    else:
        length = UNTIL_CLOSE if framing.length is None else framing.length
    keep_alive = not framing.close and (framing.keep_alive or not old) and length != UNTIL_CLOSE
    # Chunks from an HTTP/1.0 server: a relay that did not understand them may stand between; do not read on after it.
    return ResponseHead(status, headers, length, keep_alive and not (old and framing.chunked))


_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}


def _bad_version(version: bytes) -> Refused:
    if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version):
        return Refused(505, "the version is not HTTP/1.0 or HTTP/1.1")
    return Refused(400, "the first line does not end with a version")


def _fields(
    parser: type[httptools.HttpRequestParser | httptools.HttpResponseParser], head: bytes, limits: Limits
) -> Headers:
    fields = _Fields()
    try:
        # A new parser for each head, since it is never fed the body: it would wait for it.
        parser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # told after a good head: an upgrade is not taken up, the request is answered as any other
    except httptools.HttpParserError as error:
        raise Refused(400, f"malformed head: {error}") from None
    if not fields.complete:
        raise Refused(400, "malformed head: it ends elsewhere")
    if len(fields.headers) > limits.header_count:
        raise Refused(431, f"more than {limits.header_count} header fields")
    # llhttp leaves the blanks after a value in it. (`find`, since `in` between bytes costs an exception inside.)
    if head.find(b" \r") >= 0 or head.find(b"\t\r") >= 0:
        return [(name, value.rstrip(b" \t")) for name, value in fields.headers]
    return fields.headers


def _origin_form(method: bytes, target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    if target == b"*" and method == b"OPTIONS":
        return target, headers
    if method == b"CONNECT":
        raise Refused(405, "no tunnels here")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or b"#" in target:
        raise Refused(400, "the request target is neither a path nor a URL")
    authority, path, query = absolute.groups()
    if not _HOST.fullmatch(authority):
        raise Refused(400, "the request target's authority is not a name and perhaps a port")
    headers = [(b"host", authority), *(pair for pair in headers if pair[0] != b"host")]
    return path or b"/" + (query or b""), headers
