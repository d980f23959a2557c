"""Which rule of which route holds for a request: the Gateway API's conditions and its precedence, made ready once.

Of all matches that hold, the first counts, by: an exact host name, the longer host name; an exact path, a regular
expression, the longer prefix; a method; more headers; more query parameters; the older route; the earlier route, rule
and match. Where a regular expression stands is for implementations to say: between the two, since behind prefixes a
rule for ``/`` would make it pointless.

A host whose own routes have no match for the path falls back on routes for less specific hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import attrs

from inferencesched.resources.route import HTTPRoute, RouteMatch, ValueMatch

__all__ = ["BASE_MODEL_HEADER", "MODEL_HEADER", "Match", "Seen", "matches_of"]

MODEL_HEADER = "x-gateway-model-name"
"""The header by which routes name the body's model. It is made from the body; a client's own is never looked at."""

BASE_MODEL_HEADER = "x-gateway-base-model-name"
"""The header by which routes name the base model of an adapter; likewise."""

_PATHS = ("Exact", "RegularExpression", "PathPrefix")


@attrs.define
class Seen:
    """A request, as conditions see it. The query is taken apart when the first condition asks for it."""

    host: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    model: str | None
    base: str | None
    _parameters: dict[str, list[str]] | None = attrs.field(default=None, init=False)

    def parameter(self, name: str) -> str | None:
        """Return the first value of a query parameter."""
        if self._parameters is None:
            self._parameters = parse_qs(self.query, keep_blank_values=True) if self.query else {}
        values = self._parameters.get(name)
        return values[0] if values else None


class Match:
    """One match of one rule for one host name.

    Attributes:
        precedence: smaller is earlier.
        rule: what it leads to, as the table knows it.
        model: the model that it asks for by name, None if it does not.
        path: as the route has it.
        prefix: the path prefix that it asks for, without a slash at its end; None if it asks for something else.
    """

    __slots__ = (
        "_base",
        "_headers",
        "_host",
        "_method",
        "_models",
        "_pattern",
        "_query",
        "_slashed",
        "model",
        "path",
        "precedence",
        "prefix",
        "rule",
    )

    def __init__(self, match: RouteMatch, hostname: str, order: tuple[Any, ...], rule: Any) -> None:
        headers = _distinct(match.headers, fold=True)
        self.rule = rule
        self._host = hostname.lower()
        self._method = match.method
        self.path = match.path
        self._slashed = match.path.rstrip("/") + "/" if match.how == "PathPrefix" else ""
        self.prefix = match.path.rstrip("/") if match.how == "PathPrefix" else None
        self._pattern = re.compile(match.path) if match.how == "RegularExpression" else None
        self._models = [(each.name.lower() == MODEL_HEADER, _condition(each)) for each in headers if _is_model(each)]
        self._headers = [(each.name.lower(), _condition(each)) for each in headers if not _is_model(each)]
        self._query = [(each.name, _condition(each)) for each in _distinct(match.query, fold=False)]
        exact = [each.value for each in headers if each.name.lower() == MODEL_HEADER and each.how == "Exact"]
        self.model = exact[0] if exact else None
        self.precedence = (
            -len(hostname) if not hostname.startswith("*") else 0,
            -len(hostname),
            _PATHS.index(match.how),
            -len(match.path.rstrip("/")),
            match.method is None,
            -len(headers),
            -len(self._query),
            *order,
        )

    def holds(self, seen: Seen) -> bool:
        """Whether every condition holds."""
        for is_name, condition in self._models:
            if not _fulfils(condition, seen.model if is_name else seen.base):
                return False
        return self.holds_but_for_the_model(seen)

    def holds_but_for_the_model(self, seen: Seen) -> bool:
        """Whether every condition holds that is not about the model."""
        if not self._has_path(seen.path) or (self._method is not None and self._method != seen.method):
            return False
        if self._host and not _is_host(self._host, seen.host):
            return False
        for name, condition in self._headers:
            if not _fulfils(condition, seen.headers.get(name)):
                return False
        return not self._query or all(_fulfils(condition, seen.parameter(name)) for name, condition in self._query)

    def _has_path(self, path: str) -> bool:
        if self._slashed:
            return f"{path}/".startswith(self._slashed)
        return path == self.path if self._pattern is None else self._pattern.fullmatch(path) is not None


def matches_of(route: HTTPRoute, position: int, rules: list[Any]) -> Iterator[Match]:
    """Yield the matches of a route; `rules` are what its rules lead to, `position` is its place among the routes."""
    age = (not route.created, route.created, f"{route.namespace}/{route.name}" if route.created else "", position)
    for i, (rule, target) in enumerate(zip(route.rules, rules, strict=True)):
        for j, match in enumerate(rule.matches):
            for hostname in route.hostnames or ("",):
                yield Match(match, hostname, (*age, i, j), target)


_Condition = str | re.Pattern[str]


def _condition(match: ValueMatch) -> _Condition:
    return match.value if match.how == "Exact" else re.compile(match.value)


def _fulfils(condition: _Condition, value: str | None) -> bool:
    if value is None:
        return False
    return value == condition if isinstance(condition, str) else condition.fullmatch(value) is not None


def _is_model(match: ValueMatch) -> bool:
    return match.name.lower() in {MODEL_HEADER, BASE_MODEL_HEADER}


def _is_host(hostname: str, host: str) -> bool:
    if hostname.startswith("*"):
        return host.endswith(hostname[1:]) and len(host) > len(hostname) - 1
    return host == hostname


def _distinct(matches: tuple[ValueMatch, ...], *, fold: bool) -> list[ValueMatch]:
    """Return the first match of each name: the Gateway API lets only that one count."""
    first: dict[str, ValueMatch] = {}
    for match in matches:
        first.setdefault(match.name.lower() if fold else match.name, match)
    return list(first.values())
