"""Addresses: their parts, which may come with a scheme and an IPv6 literal in brackets, and what is asked there."""

from __future__ import annotations

import base64
import re
from typing import Self
from urllib.parse import quote, unquote, urlsplit

import attrs

__all__ = ["Place", "split"]

_VISIBLE = re.compile(r"[!-~]+")
_AS_THEY_ARE = "!$%&'()*+,/:;=?@[]~"
"""Of a path or a query; what is neither among these nor a letter, a digit or one of ``-._`` is written in per cent."""


def split(address: str) -> tuple[str, str, str]:
    """Return scheme, host and port; each may be empty, the host keeps its brackets.

    >>> split("10.0.0.7:8000"), split("https://[::1]:8443/base"), split("gpu-0")
    (('', '10.0.0.7', '8000'), ('https', '[::1]', '8443'), ('', 'gpu-0', ''))
    """
    scheme, _, rest = address.rpartition("://")
    rest = rest.partition("/")[0]
    host, colon, port = rest.rpartition(":")
    has_port = bool(colon) and port.isdigit() and (":" not in host or host.endswith("]"))
    return (scheme, host, port) if has_port else (scheme, rest, "")


@attrs.frozen
class Place:
    """Where a page is, and the request for it, which is the same every time.

    Attributes:
        host: a name or an IP literal (IPv6 without brackets).
        request: the bytes to send.
    """

    host: str
    port: int
    tls: bool
    request: bytes

    @classmethod
    def of(cls, url: str, *, accept: str) -> Self:
        """Return the place that a URL names.

        Raises:
            ValueError: it names none. Nothing of it can become a field of its own in the request.
        """
        parts = urlsplit(url)
        host, tls = parts.hostname or "", parts.scheme == "https"
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        if not _VISIBLE.fullmatch(host):
            raise ValueError(f"'{parts.netloc.rpartition('@')[2]}' is no host")
        usual = 443 if tls else 80
        port = parts.port or usual
        target = quote(parts.path or "/", safe=_AS_THEY_ARE)
        if parts.query:
            target += "?" + quote(parts.query, safe=_AS_THEY_ARE)
        named = f"[{host.partition('%')[0]}]" if ":" in host else host  # a zone means nothing over there
        fields = {
            "host": named if port == usual else f"{named}:{port}",
            "accept": accept,
            "accept-encoding": "identity",
            "user-agent": "inferencesched",
        }
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            fields["authorization"] = f"Basic {base64.b64encode(secret.encode()).decode('ascii')}"
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "\r\n"]
        return cls(host, port, tls, "\r\n".join(lines).encode("ascii"))
