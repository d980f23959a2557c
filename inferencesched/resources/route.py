"""HTTPRoute: which requests go to which pools, in which shares, and what is done to them on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

__all__ = [
    "Backend",
    "HTTPRoute",
    "HeaderChanges",
    "Headers",
    "Mirror",
    "PathRewrite",
    "RouteMatch",
    "RouteRule",
    "ValueMatch",
]

Headers = list[tuple[bytes, bytes]]
"""Names and values, as they stand on the wire."""


@attrs.frozen
class ValueMatch:
    """A header or a query parameter by name, and what its value must be."""

    name: str
    value: str
    how: Literal["Exact", "RegularExpression"] = "Exact"


@attrs.frozen
class RouteMatch:
    """Conditions that must all hold; header names compare without case."""

    path: str = "/"
    how: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()
    method: str | None = None


@attrs.frozen
class HeaderChanges:
    """Headers to overwrite, to append to, and to remove; names compare without case."""

    set: Mapping[str, str] = attrs.field(factory=dict)
    add: Mapping[str, str] = attrs.field(factory=dict)
    remove: tuple[str, ...] = ()

    def applied(self, headers: Headers) -> Headers:
        """Return the headers with these changes; what is added stands behind what there is under its name.

        >>> HeaderChanges(set={"x-a": "1"}, remove=("x-b",)).applied([(b"x-a", b"0"), (b"x-b", b"0")])
        [(b'x-a', b'1')]
        """
        gone = {name.lower().encode() for name in (*self.set, *self.remove)}
        kept = [pair for pair in headers if pair[0].lower() not in gone]
        return kept + [
            (name.lower().encode(), value.encode())
            for changes in (self.set, self.add)
            for name, value in changes.items()
        ]


@attrs.frozen
class PathRewrite:
    """A new host name, and a new path: the whole of it, or its matched prefix."""

    hostname: str | None = None
    full_path: str | None = None
    prefix: str | None = None


@attrs.frozen
class Backend:
    """Where a request can go: a pool with a share; a pool of weight 0 gets nothing."""

    pool: str
    weight: int = 1
    namespace: str = "default"
    request_headers: HeaderChanges = attrs.field(factory=HeaderChanges)


@attrs.frozen
class Mirror:
    """A pool that gets a copy of some of the requests; its answers are thrown away."""

    pool: str
    fraction: float = 1.0
    namespace: str = "default"


@attrs.frozen
class RouteRule:
    """What happens to requests that any of the matches holds for.

    Attributes:
        matches: at least one.
        backends: shares; with none that has weight, requests are answered with 500.
        request_headers: changes on the way in.
        response_headers: changes on the way out.
        rewrite: changes to host name and path.
        mirrors: who gets copies.
        timeout: seconds for the whole answer; 0 or None for no limit.
        name: as the route names it.
    """

    matches: tuple[RouteMatch, ...]
    backends: tuple[Backend, ...]
    request_headers: HeaderChanges = attrs.field(factory=HeaderChanges)
    response_headers: HeaderChanges = attrs.field(factory=HeaderChanges)
    rewrite: PathRewrite | None = None
    mirrors: tuple[Mirror, ...] = ()
    timeout: float | None = None
    name: str = ""


@attrs.frozen
class HTTPRoute:
    """Rules for some host names.

    Attributes:
        name: unique in its namespace.
        rules: in their order.
        hostnames: exact, or ``*.`` and a suffix; for all hosts when there are none.
        namespace: where pools are that a rule names without one.
        created: when, as the cluster wrote it; empty if it did not. The older route wins where two match equally.
    """

    name: str
    rules: tuple[RouteRule, ...]
    hostnames: tuple[str, ...] = ()
    namespace: str = "default"
    created: str = ""
