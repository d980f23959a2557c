"""The endpoints file of file-discovery: a fleet written down, where no cluster tells who is there.

Upstream takes IPv4 literals and ports as strings; host names, IPv6 literals and plain numbers are accepted here too.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

import attrs

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem
from inferencesched.resources.metadata import non_empty

__all__ = ["StaticEndpoint", "read_endpoints"]

_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")


@attrs.frozen
class StaticEndpoint:
    """One endpoint of the file.

    Attributes:
        name: unique in its namespace.
        host: an address or a host name.
        port: where it listens.
        labels: as a pod would have them; ``llm-d.ai/role`` and the like work.
        namespace: part of its identity only.
    """

    name: str
    host: str
    port: int
    labels: Mapping[str, str] = attrs.field(factory=dict)
    namespace: str = "default"

    @property
    def id(self) -> str:
        """Its identity: ``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def address(self) -> str:
        """Host and port, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(_: object, __: object, value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        is_number = re.fullmatch(r"[0-9.]+", value)
        if is_number or not _HOST.fullmatch(value) or len(value) > 253:
            raise ValueError(f"expected an IP address or a host name, got {value!r}") from None


def _port(_: object, __: object, value: str | int) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", str(value)) or not 1 <= int(value) <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {value!r}")


@attrs.frozen
class _Entry(Part):
    name: str = attrs.field(validator=non_empty)
    address: str = attrs.field(validator=_address)
    port: str | int = attrs.field(validator=_port)
    namespace: str = attrs.field(default="default", validator=non_empty)
    labels: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class _File(Part):
    endpoints: tuple[_Entry, ...] = ()


def read_endpoints(document: Document, problems: list[Problem]) -> tuple[StaticEndpoint, ...]:
    """Return the endpoints that are right, after appending what is wrong with the others to `problems`."""
    file = decode(_File, document.content, "", problems)
    endpoints: dict[str, StaticEndpoint] = {}
    for entry in file.endpoints if file is not None else ():
        endpoint = StaticEndpoint(entry.name, entry.address, int(entry.port), entry.labels, entry.namespace)
        if endpoint.id in endpoints:
            problems.append(Problem(f"{entry.at}.name", f"'{endpoint.id}' stands above already"))
        endpoints.setdefault(endpoint.id, endpoint)
    return tuple(endpoints.values())
