"""Where an upstream is: scheme, host and port. Knows no connection."""

from __future__ import annotations

import ipaddress
import re
from typing import Self

import attrs

__all__ = ["Origin"]

_FORM = re.compile(r"(?:(https?)://)?(\[[0-9A-Fa-f:.%\w]+\]|[^\s:/@\[\]?#]+)(?::(\d{1,5}))?/?", re.IGNORECASE)
_DEFAULT_PORTS = {False: 80, True: 443}


@attrs.frozen(cache_hash=True)
class Origin:
    """An upstream's address; requests to equal origins share connections.

    Attributes:
        host: A name or an IP literal (IPv6 without brackets).
        port: 1…65535.
        tls: Whether it is spoken to over TLS.
        authority: What is sent as ``Host``.
    """

    host: str
    port: int
    tls: bool = False
    authority: bytes = attrs.field(kw_only=True)

    @authority.default
    def _authority(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == _DEFAULT_PORTS[self.tls] else f"{host}:{self.port}").encode("ascii")

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, for which nobody has to be asked."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the origin that a configuration calls ``10.0.0.1:8000``, ``[::1]:8000`` or ``https://host``.

        Without a scheme it is plain HTTP; without a port, the scheme's.

        Raises:
            ValueError: It is none of these, or has a path, a query or credentials.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None or not text.isascii():
            raise ValueError(f"'{_without_credentials(text)}' is not an origin; write HOST:PORT or http://HOST:PORT")
        scheme, host, port_text = match.groups()
        tls = (scheme or "http").lower() == "https"
        port = int(port_text) if port_text else _DEFAULT_PORTS[tls]
        if not 1 <= port <= 65535:
            raise ValueError(f"'{text}': a port is 1…65535")
        return cls(host.strip("[]"), port, tls)


def _without_credentials(text: str) -> str:
    return text.rpartition("@")[2]
