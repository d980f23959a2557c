"""Sessions: which one a request belongs to, and how its requests stay on one endpoint.

A session is bound to an endpoint *instance*. A server that restarts under its old name has lost the session's cache and
is not the one that was meant; the session is bound anew. Bindings are made when a request is placed, not when it is
looked at; they live in the plugin, are forgotten when idle, and never number more than 65,536.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import attrs
import numpy as np

from inferencesched.builtin.instances import instances
from inferencesched.decision import Decision
from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray
from inferencesched.interfaces import Observer
from inferencesched.request import Request

__all__ = [
    "AGENT_IDENTITY",
    "SESSION_ID",
    "AgentIdentity",
    "EncodedEndpointHeaderConfig",
    "SessionAffinityFilter",
    "SessionAffinityScorer",
    "SessionIdConfig",
    "SessionIdProducer",
    "SessionSource",
]

SESSION_ID = "SessionIDDataKey"
"""The request attribute that ``session-id-producer`` gives, under upstream's name."""

AGENT_IDENTITY = "agent-identity"
"""The request attribute that ``agent-identity`` gives; a host takes it for the flow of a request that names none."""

_BINDINGS = 65_536
"""Sessions remembered at most, about 16 MB; beyond that the one idle longest is forgotten."""


# --- which session ---------------------------------------------------------------------------------------------------


@attrs.frozen
class SessionIdProducer:
    """Say which session a request belongs to: the value of one header, or of one cookie.

    Args:
        header_name: the header.
        cookie_name: the cookie; exactly one of the two must be given.

    Formula: request attribute ``SessionIDDataKey`` = the value, trimmed.
    Unknown: no attribute where there is no value, or an empty one.
    Source: Endpoint Picker ``session-id-producer``.
    """

    type: ClassVar[str] = "session-id-producer"

    header_name: str = ""
    cookie_name: str = ""

    def __attrs_post_init__(self) -> None:
        if bool(self.header_name.strip()) == bool(self.cookie_name.strip()):
            raise ValueError("expected exactly one of headerName and cookieName")

    def annotate(self, request: Request, /) -> Mapping[str, object]:
        """Return the session, if the request names one."""
        if self.header_name.strip():
            session = request.headers.get(self.header_name.strip().lower(), "")
        else:
            session = _cookie(request.headers.get("cookie", ""), self.cookie_name.strip())
        return {SESSION_ID: session.strip()} if session.strip() else {}


def _cookie(header: str, name: str) -> str:
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


@attrs.frozen
class AgentIdentity:
    """Tell coding agents apart by the session header that each of them sends.

    Args:
        additional_session_headers: headers to look at before the known ones.

    Formula: request attribute ``agent-identity`` = the first of them that is not empty; known are
        x-claude-code-session-id, x-session-affinity, session-id and session_id.
    Unknown: no attribute where none is sent.
    Source: Endpoint Picker ``agent-identity``. These headers come from the client: fairness by them can be gamed.
    """

    type: ClassVar[str] = "agent-identity"

    additional_session_headers: tuple[str, ...] = ()

    def annotate(self, request: Request, /) -> Mapping[str, object]:
        """Return the agent's session, if it sends one."""
        known = ("x-claude-code-session-id", "x-session-affinity", "session-id", "session_id")
        sent = (request.headers.get(name.lower()) for name in (*self.additional_session_headers, *known))
        found = next(filter(None, sent), None)
        return {} if found is None else {AGENT_IDENTITY: found}


@attrs.frozen
class SessionSource:
    """One place to read a session from; exactly one of `header` and `attribute`.

    Args:
        header: a request header.
        attribute: a request attribute.
        producer: the plugin that gave the attribute, where several give one of that name.
    """

    header: str = ""
    attribute: str = ""
    producer: str = ""

    def __attrs_post_init__(self) -> None:
        if bool(self.header) == bool(self.attribute):
            raise ValueError("expected exactly one of header and attribute")

    def read(self, request: Request) -> str:
        """Return the session, or an empty string."""
        if self.header:
            return request.headers.get(self.header.strip().lower(), "").strip()
        found = request.attributes.get(f"{self.attribute}/{self.producer}" if self.producer else self.attribute)
        return found.strip() if isinstance(found, str) else ""


# --- which endpoint --------------------------------------------------------------------------------------------------


def _or_default_sources(given: tuple[SessionSource, ...]) -> tuple[SessionSource, ...]:
    return given or (SessionSource(header="x-session-id"),)


def _or_five_minutes(given: float) -> float:
    return given or 300.0


@attrs.frozen
class SessionIdConfig:
    """For the strategy ``session_id``.

    Args:
        sources: where to read the session, the first that has one is believed; the header x-session-id by default.
        eviction_ttl_seconds: how long a binding survives unused; 0 is the default.
        eviction_sweep_seconds: accepted for compatibility: a binding ends on time here, not at the next sweep.
    """

    sources: tuple[SessionSource, ...] = attrs.field(default=(), converter=_or_default_sources)
    eviction_ttl_seconds: float = attrs.field(
        default=300.0, converter=_or_five_minutes, validator=attrs.validators.gt(0)
    )
    eviction_sweep_seconds: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))


def _header_or_default(given: str) -> str:
    return given.strip().lower() or "x-session-token"


@attrs.frozen
class EncodedEndpointHeaderConfig:
    """For the strategy ``encoded_endpoint_header``.

    Args:
        header: carries the token, on the response and then on every request of the session.
    """

    header: str = attrs.field(default="x-session-token", converter=_header_or_default)


class _Bindings:
    """Sessions and the endpoint instances they are bound to, the one idle longest first."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._bound: OrderedDict[str, tuple[Endpoint, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bound)

    def get(self, session: str, *, now: float) -> Endpoint | None:
        endpoint, used = self._bound.get(session, (None, now))
        return endpoint if now - used <= self._ttl else None

    def bind(self, session: str, endpoint: Endpoint, *, now: float) -> None:
        self._bound[session] = (endpoint, now)
        self._bound.move_to_end(session)
        while len(self._bound) > _BINDINGS or now - next(iter(self._bound.values()))[1] > self._ttl:
            self._bound.popitem(last=False)

    def items(self) -> dict[str, str]:
        return {session: endpoint.name for session, (endpoint, _) in self._bound.items()}


def _bindings(affinity: Any) -> _Bindings:
    return _Bindings(affinity.session_id_config.eviction_ttl_seconds)


@attrs.define(eq=False)
class _SessionAffinity(Observer):
    """What the filter and the scorer share: which candidate a request's session belongs to, if any."""

    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header"
    encoded_endpoint_header_config: EncodedEndpointHeaderConfig = EncodedEndpointHeaderConfig()
    session_id_config: SessionIdConfig = SessionIdConfig()
    profile_name: str = ""
    _bound: _Bindings = attrs.field(init=False, repr=False, default=attrs.Factory(_bindings, takes_self=True))

    @property
    def why(self) -> str:
        """The condition in words."""
        return "the endpoint of the request's session"

    def response_headers(self, request: Request, decision: Decision, /) -> Mapping[str, str]:
        """Return the token that brings the session's next request back; none where sessions are known by id."""
        endpoint = self._placed(decision)
        if self.strategy == "session_id" or endpoint is None:
            return {}
        return {self.encoded_endpoint_header_config.header: base64.b64encode(endpoint.name.encode()).decode()}

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """Bind the session: when it is not bound, or when its endpoint was not there to be chosen."""
        session, endpoint = self._session(request), self._placed(decision)
        if not session or endpoint is None:
            return
        bound = self._bound.get(session, now=now)
        chosen = decision.passes[self.profile_name or decision.primary]
        if bound is None or bound == endpoint or bound.instance not in instances(chosen.kept):
            self._bound.bind(session, endpoint, now=now)

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        """Take the session along when its request leaves a failing endpoint."""
        session, endpoint = self._session(request), self._placed(decision)
        if session and endpoint is not None and self._bound.get(session, now=now) == origin:
            self._bound.bind(session, endpoint, now=now)

    def snapshot(self) -> Mapping[str, Any]:
        """Return the bindings, the one idle longest first."""
        return {"sessions": self._bound.items()}

    def restore(self, state: Mapping[str, Any], endpoints: Mapping[str, Endpoint], /, *, now: float) -> None:
        """Take back the bindings to endpoints that are present, as if used now."""
        for session, name in state.get("sessions", {}).items():
            if name in endpoints:
                self._bound.bind(session, endpoints[name], now=now)

    def _candidate(self, request: Request, endpoints: EndpointBatch) -> BoolArray | None:
        """Return which candidate the session belongs to; None where there is no session, or no such candidate."""
        if self.strategy == "session_id":
            session = self._session(request)
            bound = self._bound.get(session, now=endpoints.now) if session else None
            found: BoolArray | None = None if bound is None else instances(endpoints) == bound.instance
        else:
            name = _decoded(request.headers.get(self.encoded_endpoint_header_config.header, ""))
            found = endpoints.static(("names",), _names) == name if name else None
        return found if found is not None and found.any() else None

    def _session(self, request: Request) -> str:
        """Return the session by the first source that knows it, or else as the host does."""
        if self.strategy != "session_id":
            return ""
        named = (source.read(request) for source in self.session_id_config.sources)
        return next(filter(None, named), "") or request.session or ""

    def _placed(self, decision: Decision) -> Endpoint | None:
        if not self.profile_name:
            return decision.endpoint
        return next((lease.endpoint for lease in decision.leases if lease.stage == self.profile_name), None)


def _decoded(token: str) -> str:
    try:
        return base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _names(endpoints: tuple[Endpoint, ...]) -> Any:
    return np.array([endpoint.name for endpoint in endpoints], dtype=object)


@attrs.define(eq=False)
class SessionAffinityFilter(_SessionAffinity):
    """Keep only the endpoint that the request's session is on, while it is there.

    With ``encoded_endpoint_header`` the client carries the endpoint's name in a header, and nothing is remembered here;
    a server that restarted under its name is taken for the same one. With ``session_id`` the client names its session,
    and it is remembered here where that is.

    Args:
        strategy: who remembers.
        encoded_endpoint_header_config: for the one strategy.
        session_id_config: for the other.
        profile_name: the profile whose endpoint is meant; the primary one by default.

    Formula: the session's endpoint is a candidate → only that; else everything.
    Unknown: a request without a session is not restricted.
    Source: Endpoint Picker ``session-affinity-filter``. Ours: `Request.session` is looked at after the sources.
    """

    type: ClassVar[str] = "session-affinity-filter"
    relative: ClassVar[bool] = True

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return the session's endpoint, or everything."""
        found = self._candidate(request, endpoints)
        return np.ones(len(endpoints), np.bool_) if found is None else found


@attrs.define(eq=False)
class SessionAffinityScorer(_SessionAffinity):
    """Prefer the endpoint that the request's session is on; other scorers may outweigh it.

    A session that was outweighed stays bound to its endpoint: it goes elsewhere for good only when that is not there to
    be chosen.

    Args:
        strategy: who remembers, see ``session-affinity-filter``.
        encoded_endpoint_header_config: for the one strategy.
        session_id_config: for the other.
        profile_name: the profile whose endpoint is meant; the primary one by default.

    Formula: the session's endpoint → 1, others → 0.
    Unknown: a request without a session scores 0 everywhere.
    Source: Endpoint Picker ``session-affinity-scorer`` (Affinity). Ours: `Request.session` is looked at after the
        sources.
    """

    type: ClassVar[str] = "session-affinity-scorer"

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return 1 for the session's endpoint."""
        found = self._candidate(request, endpoints)
        return np.zeros(len(endpoints)) if found is None else found.astype(np.float64)
