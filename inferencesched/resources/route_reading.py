"""HTTPRoute as it stands in YAML, and how it becomes values.

The whole of ``gateway.networking.k8s.io/v1`` is accepted. What has no effect here is named in a warning: a filter or a
field that is silently dropped is a hole in somebody's gateway.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem
from inferencesched.resources.metadata import LEGACY_GROUP, POOL_GROUP, Metadata, non_empty, number
from inferencesched.resources.route import (
    Backend,
    HeaderChanges,
    HTTPRoute,
    Mirror,
    PathRewrite,
    RouteMatch,
    RouteRule,
    ValueMatch,
)
from inferencesched.units import duration

__all__ = ["read_route"]

_Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_WRITABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PATH = re.compile(r"(/[\x21\x22\x24-\x3e\x40-\x7e]*)?")  # neither a fragment nor a query; empty cuts a prefix off
_HOST = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]*")
_port = attrs.validators.optional(number(1, 65535))


def _seconds(given: str | float | None) -> float | None:
    return duration(given) if isinstance(given, str) else given


@attrs.frozen
class _Value(Part):
    name: str = attrs.field(validator=non_empty)
    value: str
    type: Literal["Exact", "RegularExpression"] = "Exact"


@attrs.frozen
class _Path(Part):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = "/"


@attrs.frozen
class _Match(Part):
    path: _Path = attrs.field(factory=_Path)
    headers: tuple[_Value, ...] = ()
    query_params: tuple[_Value, ...] = ()
    method: _Method | None = None


def _token(_: object, __: object, value: str) -> None:
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"expected the name of a header, got {value!r}")


def _writable(_: object, __: object, value: str) -> None:
    """Refuse what no header can carry: a request for which it is to be written could not be sent."""
    if not _WRITABLE.fullmatch(value):
        raise ValueError(f"expected printable Latin-1, got {value!r}")


def _new_path(_: object, __: object, value: str) -> None:
    if not _PATH.fullmatch(value):
        raise ValueError(f"expected a path that begins with '/', in printable ASCII without spaces, got {value!r}")


def _new_host(_: object, __: object, value: str) -> None:
    if not _HOST.fullmatch(value):
        raise ValueError(f"expected a host name, got {value!r}")


@attrs.frozen
class _Header(Part):
    name: str = attrs.field(validator=_token)
    value: str = attrs.field(validator=_writable)


@attrs.frozen
class _Headers(Part):
    set: tuple[_Header, ...] = ()
    add: tuple[_Header, ...] = ()
    remove: tuple[str, ...] = ()


@attrs.frozen
class _NewPath(Part):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: str | None = attrs.field(default=None, validator=attrs.validators.optional(_new_path))
    replace_prefix_match: str | None = attrs.field(default=None, validator=attrs.validators.optional(_new_path))


@attrs.frozen
class _Rewrite(Part):
    hostname: str | None = attrs.field(default=None, validator=attrs.validators.optional(_new_host))
    path: _NewPath | None = None


@attrs.frozen
class _Target(Part):
    name: str = attrs.field(validator=non_empty)
    group: str = ""
    kind: str = "Service"
    namespace: str | None = None
    port: int | None = attrs.field(default=None, validator=_port)


@attrs.frozen
class _Fraction(Part):
    numerator: int = attrs.field(validator=attrs.validators.ge(0))
    denominator: int = attrs.field(default=100, validator=attrs.validators.ge(1))


@attrs.frozen
class _Mirror(Part):
    backend_ref: _Target
    percent: int | None = attrs.field(default=None, validator=attrs.validators.optional(number(0, 100)))
    fraction: _Fraction | None = None


@attrs.frozen
class _Filter(Part):
    type: Literal[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "ExtensionRef",
        "CORS",
        "ExternalAuth",
    ]
    request_header_modifier: _Headers | None = None
    response_header_modifier: _Headers | None = None
    request_mirror: _Mirror | None = None
    url_rewrite: _Rewrite | None = None
    request_redirect: Any = None
    extension_ref: Any = None
    cors: Any = None
    external_auth: Any = None


@attrs.frozen
class _Backend(Part):
    name: str = attrs.field(validator=non_empty)
    group: str = ""
    kind: str = "Service"
    namespace: str | None = None
    port: int | None = attrs.field(default=None, validator=_port)
    weight: int = attrs.field(default=1, validator=number(0, 1_000_000))
    filters: tuple[_Filter, ...] = ()


@attrs.frozen
class _Timeouts(Part):
    request: float | None = attrs.field(default=None, converter=_seconds, metadata={"written": str})
    backend_request: float | None = attrs.field(default=None, converter=_seconds, metadata={"written": str})


@attrs.frozen
class _Rule(Part):
    name: str = ""
    matches: tuple[_Match, ...] = attrs.field(factory=lambda: (_Match(),))
    filters: tuple[_Filter, ...] = ()
    backend_refs: tuple[_Backend, ...] = ()
    timeouts: _Timeouts | None = None
    retry: Any = None
    session_persistence: Any = None


@attrs.frozen
class _Spec(Part):
    parent_refs: Any = None
    use_default_gateways: Any = None
    hostnames: tuple[str, ...] = ()
    rules: tuple[_Rule, ...] = attrs.field(factory=lambda: (_Rule(),))


@attrs.frozen
class _Route(Part):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _Spec
    status: Any = None


_SETTINGS = {
    "RequestHeaderModifier": ("request_header_modifier", "requestHeaderModifier"),
    "ResponseHeaderModifier": ("response_header_modifier", "responseHeaderModifier"),
    "RequestMirror": ("request_mirror", "requestMirror"),
    "URLRewrite": ("url_rewrite", "urlRewrite"),
}
"""The filters that mean something here, and where each one's settings stand."""


def read_route(document: Document, problems: list[Problem], warnings: list[Problem]) -> HTTPRoute | None:
    """Return the route of a document, None after appending what is wrong to `problems`."""
    read = decode(_Route, document.content, "", problems)
    if read is None:
        return None
    reader = _Reader(read.metadata.namespace, problems, warnings)
    rules = tuple(map(reader.rule, read.spec.rules))
    metadata = read.metadata
    return HTTPRoute(metadata.name, rules, read.spec.hostnames, metadata.namespace, metadata.creation_timestamp)


@attrs.frozen
class _Reader:
    """Turns the parts of one route into values, and says what none of them can express."""

    namespace: str
    problems: list[Problem]
    warnings: list[Problem]

    def rule(self, rule: _Rule) -> RouteRule:
        for key, value in (("retry", rule.retry), ("sessionPersistence", rule.session_persistence)):
            if value is not None:
                self.warnings.append(Problem(f"{rule.at}.{key}", f"'{key}' has no effect here"))
        filters = [each for each in rule.filters if self.is_usable(each)]
        mirrors = [each.request_mirror for each in filters if each.request_mirror is not None]
        return RouteRule(
            matches=tuple(map(self.match, rule.matches)),
            backends=tuple(self.backend(each) for each in rule.backend_refs if self.is_pool(each)),
            request_headers=_headers(each.request_header_modifier for each in filters),
            response_headers=_headers(each.response_header_modifier for each in filters),
            rewrite=next((_rewrite(each.url_rewrite) for each in filters if each.url_rewrite is not None), None),
            mirrors=tuple(self.mirror(each) for each in mirrors if self.is_pool(each.backend_ref)),
            timeout=None if rule.timeouts is None else rule.timeouts.request,
            name=rule.name,
        )

    def match(self, given: _Match) -> RouteMatch:
        parts: tuple[_Path | _Value, ...] = (given.path, *given.headers, *given.query_params)
        for part in parts:
            if part.type == "RegularExpression":
                try:
                    re.compile(part.value)
                except re.error as error:
                    self.problems.append(Problem(f"{part.at}.value", f"no regular expression: {error}"))
        headers = tuple(ValueMatch(each.name.lower(), each.value, each.type) for each in given.headers)
        query = tuple(ValueMatch(each.name, each.value, each.type) for each in given.query_params)
        return RouteMatch(given.path.value, given.path.type, headers, query, given.method)

    def is_usable(self, given: _Filter) -> bool:
        if given.type not in _SETTINGS:
            self.warnings.append(Problem(f"{given.at}.type", f"the filter '{given.type}' has no effect here"))
            return False
        field, key = _SETTINGS[given.type]
        if getattr(given, field) is None:
            self.problems.append(Problem(f"{given.at}.{key}", f"required for a filter of type '{given.type}'"))
        return True

    def is_pool(self, target: _Backend | _Target) -> bool:
        if target.kind == "InferencePool" and target.group in {POOL_GROUP, LEGACY_GROUP}:
            return True
        if target.kind == "InferencePool":
            message = f"expected '{POOL_GROUP}' for an InferencePool, got '{target.group}'"
            self.problems.append(Problem(f"{target.at}.group", message))
        else:
            self.warnings.append(Problem(f"{target.at}.kind", f"a backend of kind '{target.kind}' has no effect here"))
        return False

    def backend(self, given: _Backend) -> Backend:
        usable = [each for each in given.filters if self.is_usable(each)]
        for each in usable:
            if each.type != "RequestHeaderModifier":
                message = f"the filter '{each.type}' has no effect on a single backend"
                self.warnings.append(Problem(f"{each.at}.type", message))
        headers = _headers(each.request_header_modifier for each in usable)
        return Backend(given.name, given.weight, given.namespace or self.namespace, headers)

    def mirror(self, given: _Mirror) -> Mirror:
        fraction = 1.0 if given.percent is None else given.percent / 100
        if given.fraction is not None:
            fraction = given.fraction.numerator / given.fraction.denominator
            if given.percent is not None:
                self.problems.append(Problem(f"{given.at}.percent", "'percent' and 'fraction' exclude each other"))
        if fraction > 1:
            self.problems.append(Problem(f"{given.at}.fraction", f"expected at most 1, got {fraction:g}"))
        return Mirror(given.backend_ref.name, fraction, given.backend_ref.namespace or self.namespace)


def _headers(given: Iterable[_Headers | None]) -> HeaderChanges:
    first = next((each for each in given if each is not None), None)
    return HeaderChanges() if first is None else HeaderChanges(_by_name(first.set), _by_name(first.add), first.remove)


def _by_name(headers: tuple[_Header, ...]) -> dict[str, str]:
    return {header.name.lower(): header.value for header in headers}


def _rewrite(given: _Rewrite) -> PathRewrite:
    if given.path is None:
        return PathRewrite(given.hostname)
    is_full = given.path.type == "ReplaceFullPath"
    full, prefix = given.path.replace_full_path, given.path.replace_prefix_match
    return PathRewrite(given.hostname, full if is_full else None, None if is_full else prefix)
