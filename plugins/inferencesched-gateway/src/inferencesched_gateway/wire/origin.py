"""Where an upstream is: scheme, host and port. Knows no connection."""

from __future__ import annotations

import ipaddress
import re
from typing import Self

import attrs

__all__ = ["Origin"]

_FORM = re.compile(r"(?:(https?)://)?(\[[^\]]*:[^\]]*\]|[^:/@\[\]?#]+)(?::(\d{1,5}))?/?", re.IGNORECASE)
_NAME = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_.\-]*[0-9A-Za-z_.])?")
_AUTHORITY = re.compile(rb"[\x21-\x7e]+")
_DEFAULT_PORTS = {False: 80, True: 443}


@attrs.frozen
class Origin:
    """An upstream's address; requests to equal origins share connections.

    Attributes:
        host: A name or an IP literal (IPv6 without brackets).
        port: 1…65535.
        tls: Whether it is spoken to over TLS.
        authority: What is sent as ``Host``.
        key: All of these, for look-ups: hashing it takes no call.
    """

    host: str = attrs.field()
    port: int = attrs.field()
    tls: bool = False
    authority: bytes = attrs.field(kw_only=True)
    key: tuple[str, int, bool, bytes] = attrs.field(init=False, eq=False, repr=False)

    @host.validator
    def _check_host(self, _: object, host: str) -> None:
        # It is written into every request, so that what could be read as something else must not get here.
        if not _is_literal(host) and not _NAME.fullmatch(host):
            raise ValueError("the host of an origin must be a name or an IP address")

    @port.validator
    def _check_port(self, _: object, port: int) -> None:
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port} is not in 1…65535")

    @authority.default
    def _authority(self) -> bytes:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == _DEFAULT_PORTS[self.tls] else f"{host}:{self.port}").encode("ascii")

    @key.default
    def _key(self) -> tuple[str, int, bool, bytes]:
        return self.host, self.port, self.tls, self.authority

    @authority.validator
    def _check_authority(self, _: object, authority: bytes) -> None:
        if not _AUTHORITY.fullmatch(authority):
            raise ValueError("the authority of an origin must be visible ASCII")

    @property
    def is_literal(self) -> bool:
        """Whether the host is an IP address, for which nobody has to be asked."""
        return _is_literal(self.host)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the origin that a configuration calls ``10.0.0.1:8000``, ``[::1]:8000`` or ``https://host``.

        Without a scheme it is plain HTTP; without a port, the scheme's.

        Raises:
            ValueError: It is none of these, or has a path, a query or credentials.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise _no_origin(text)
        scheme, host, port = match.groups()
        tls = (scheme or "http").lower() == "https"
        try:
            return cls(host.strip("[]"), int(port) if port else _DEFAULT_PORTS[tls], tls)
        except ValueError as error:
            raise _no_origin(text) from error


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _no_origin(text: str) -> ValueError:
    without_credentials = text.rpartition("@")[2]
    return ValueError(f"'{without_credentials}' is not an origin; write HOST:PORT, http://HOST:PORT or https://HOST")
