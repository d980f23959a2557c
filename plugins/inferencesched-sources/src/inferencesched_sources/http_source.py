"""What every source that asks endpoints over HTTP has in common: its parameters, its life, and what it can explain."""

from __future__ import annotations

import contextlib
import copy
import random
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar, Literal, Self

import attrs

from inferencesched import ConfigError, Endpoint
from inferencesched.errors import Problem
from inferencesched.interfaces import Extractor, Fleet
from inferencesched.units import duration, format_duration
from inferencesched_sources.addresses import split
from inferencesched_sources.client import Client
from inferencesched_sources.scraping import FLOOR_SECONDS, Scraping

__all__ = ["HttpSource", "interval_field", "path_field", "port_field"]

_DURATION = {"written": str, "write": format_duration}
_PORT = attrs.validators.optional(attrs.validators.and_(attrs.validators.ge(1), attrs.validators.le(65535)))


def _seconds(given: str | float) -> float:
    return duration(given) if isinstance(given, str) else given


def _path(_: object, __: object, value: str) -> None:
    if not value.startswith("/"):
        raise ValueError(f"expected a path that begins with '/', got {value!r}")


def path_field(default: str) -> Any:
    """Return the field of the parameter ``path``."""
    return attrs.field(default=default, validator=_path, kw_only=True)


def port_field(default: int | None) -> Any:
    """Return the field of the parameter ``port``."""
    return attrs.field(default=default, validator=_PORT, kw_only=True)


def interval_field(default: float) -> Any:
    """Return the field of the parameter ``interval``."""
    return attrs.field(default=default, converter=_seconds, kw_only=True, metadata=_DURATION)


@attrs.define(eq=False, kw_only=True)
class HttpSource:
    """Asks every endpoint of the fleet for one page, again and again, and lets extractors read it."""

    type: ClassVar[str]
    default_extractors: ClassVar[tuple[str, ...]]
    accept: ClassVar[str] = "text/plain;version=0.0.4"
    largest: ClassVar[int] = 8 * 1024 * 1024
    """Bytes of one page; a longer one is a failure and is not kept."""
    moved_by_labels: ClassVar[bool] = True
    """Whether an endpoint's labels may say that its page is elsewhere."""

    scheme: Literal["http", "https"] = "http"
    path: str = path_field("/metrics")
    port: int | None = port_field(None)
    insecure_skip_verify: bool = True
    ca_cert_path: str | None = None
    client_cert_path: str | None = None
    client_key_path: str | None = None
    interval: float = interval_field(0.1)

    _extractors: tuple[Extractor, ...] = attrs.field(init=False, repr=False, default=())
    _scraping: Scraping | None = attrs.field(init=False, repr=False, default=None)

    def __attrs_post_init__(self) -> None:
        if (self.client_cert_path is None) != (self.client_key_path is None):
            raise ValueError("clientCertPath and clientKeyPath go together: one is given and the other is not")

    def read_by(self, extractors: Iterable[Extractor], /) -> Self:
        """Return the same source, its pages read by these extractors."""
        other = copy.copy(self)
        other._extractors = tuple(extractors)
        other._scraping = None
        return other

    @contextlib.asynccontextmanager
    async def open(self, fleet: Fleet, /) -> AsyncIterator[Scraping]:
        """Ask while the context is entered.

        Raises:
            ConfigError: a certificate cannot be read.
        """
        client = Client(accept=self.accept, largest=self.largest, tls=self._tls())
        self._scraping = Scraping(self, fleet, client, rng=random.Random())
        async with self._scraping:
            yield self._scraping

    def explain(self, endpoint: str, column: str) -> str | None:
        """Return why the endpoint's page did not give that column lately; None if it did, or never could."""
        brings = [column in getattr(extractor, "brings", (column,)) for extractor in self._extractors]
        return self._scraping.explain(endpoint, column) if any(brings) and self._scraping is not None else None

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """What reads the pages."""
        return self._extractors

    @property
    def pause(self) -> float:
        """Seconds from one look to the next, not less than the floor."""
        return max(self.interval, FLOOR_SECONDS)

    def url(self, endpoint: Endpoint) -> str:
        """Return where the endpoint's page is: at its own address, unless parameters or its labels say otherwise."""
        scheme, host, port = split(endpoint.address)
        port = port if self.port is None else str(self.port)
        host, path = self.host(endpoint, host), self.path
        if self.moved_by_labels:
            labels = endpoint.labels
            host, port = labels.get("metricsAddress", host), labels.get("metricsPort", port)
            path = labels.get("metricsPath", path)
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{scheme or self.scheme}://{host}{f':{port}' if port else ''}{path}"

    def host(self, endpoint: Endpoint, host: str) -> str:
        """Return the host to ask about an endpoint whose own host is `host`."""
        return host

    def _tls(self) -> ssl.SSLContext:
        bare = self.insecure_skip_verify and self.ca_cert_path is None  # the system's authorities take 20 ms to read
        try:
            context = (
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                if bare
                else ssl.create_default_context(cafile=self.ca_cert_path)
            )
            if self.client_cert_path is not None:
                context.load_cert_chain(self.client_cert_path, self.client_key_path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError([Problem(self.type, f"a certificate cannot be read: {error}")]) from error
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        return context
