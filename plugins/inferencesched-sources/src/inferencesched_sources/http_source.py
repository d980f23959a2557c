"""What every source that asks endpoints over HTTP has in common: its parameters, its life, and what it can explain."""

from __future__ import annotations

import contextlib
import copy
import random
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import ClassVar, Literal, Self

import aiohttp
import attrs

from inferencesched import ConfigError, Endpoint
from inferencesched.errors import Problem
from inferencesched.interfaces import Extractor, Fleet
from inferencesched.units import duration, format_duration
from inferencesched_sources.scraping import FLOOR_SECONDS, Scraping

__all__ = ["HttpSource"]

_DURATION = {"written": str, "write": format_duration}
_PORT = attrs.validators.optional([attrs.validators.ge(1), attrs.validators.le(65535)])


def _seconds(given: str | float) -> float:
    return duration(given) if isinstance(given, str) else given


def _path(_: object, __: object, value: str) -> None:
    if not value.startswith("/"):
        raise ValueError(f"expected a path that begins with '/', got {value!r}")


@attrs.define(eq=False, kw_only=True)
class HttpSource:
    """Asks every endpoint of the fleet for one page, again and again, and lets extractors read it."""

    type: ClassVar[str]
    default_extractors: ClassVar[tuple[str, ...]]
    accept: ClassVar[str] = "text/plain;version=0.0.4"
    largest: ClassVar[int] = 8 * 1024 * 1024
    """Bytes of one page; a longer one is a failure and is not kept."""

    scheme: Literal["http", "https"] = "http"
    path: str = attrs.field(default="/metrics", validator=_path)
    port: int | None = attrs.field(default=None, validator=_PORT)
    insecure_skip_verify: bool = True
    ca_cert_path: str | None = None
    client_cert_path: str | None = None
    client_key_path: str | None = None
    interval: float = attrs.field(default=0.1, converter=_seconds, metadata=_DURATION)

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
        connector = aiohttp.TCPConnector(
            limit=0,  # nobody waits for another endpoint's connection
            ssl=self._tls(),
            keepalive_timeout=max(15.0, 2 * self.interval),
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"accept": self.accept, "accept-encoding": "identity"},
        ) as session:
            self._scraping = Scraping(self, fleet, session, rng=random.Random())
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
        """Return where the endpoint's page is.

        The endpoint's own address, unless the parameter `port` says otherwise, or the endpoint's labels do.
        """
        scheme, _, rest = endpoint.address.rpartition("://")
        host, port = split_address(rest.partition("/")[0])
        labels: Mapping[str, str] = endpoint.labels
        host = labels.get("metricsAddress", host)
        port = labels.get("metricsPort", port if self.port is None else str(self.port))
        path = labels.get("metricsPath", self.path)
        bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{scheme or self.scheme}://{bracketed}{f':{port}' if port else ''}{path}"

    def _tls(self) -> ssl.SSLContext | bool:
        if self.ca_cert_path is None and self.client_cert_path is None:
            return not self.insecure_skip_verify
        try:
            context = ssl.create_default_context(cafile=self.ca_cert_path)
            if self.client_cert_path is not None:
                context.load_cert_chain(self.client_cert_path, self.client_key_path)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError([Problem(self.type, f"a certificate cannot be read: {error}")]) from error
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def split_address(address: str) -> tuple[str, str]:
    """Return host and port of an address; either may be empty.

    >>> split_address("[::1]:8000"), split_address("gpu-0")
    (('[::1]', '8000'), ('gpu-0', ''))
    """
    host, colon, port = address.rpartition(":")
    return (host, port) if colon and not port.endswith("]") and (":" not in host or "]" in host) else (address, "")
