"""The parts of an endpoint's address, which may come with a scheme and may be an IPv6 literal in brackets."""

from __future__ import annotations

__all__ = ["split"]


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
