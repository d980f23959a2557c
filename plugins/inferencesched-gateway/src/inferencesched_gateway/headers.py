"""Headers on their way through: what is forwarded to an engine, and what comes back to the client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from inferencesched.resources import HeaderChanges
from inferencesched_gateway.trust import CONTROL_HEADERS
from inferencesched_gateway.wire import Headers, end_to_end

__all__ = ["DESTINATION", "changed", "from_engine", "readable", "to_engine"]

DESTINATION = b"x-gateway-destination-endpoint"
"""Names the endpoint that was chosen (Endpoint Picker)."""

# Besides the control headers: framing and identity of this side's connection, which the other side's has of its own.
_NOT_TO_ENGINE = frozenset(name.encode() for name in CONTROL_HEADERS) | {
    b"content-length",
    b"expect",
    b"host",
    b"x-request-id",
}
_NOT_TO_ENGINE_IF_READ = _NOT_TO_ENGINE | {b"accept-encoding"}
_UNCOMPRESSED = (b"accept-encoding", b"identity")
_NOT_FROM_ENGINE = frozenset({b"server", b"x-request-id"})
_NOT_FROM_ENGINE_IF_CHANGED = _NOT_FROM_ENGINE | {b"content-length"}
_NOTHING: Mapping[str, str] = MappingProxyType({})


def readable(headers: Headers, *, trusted: bool) -> dict[str, str]:
    """Return what may be read of a client's headers: the first of each name, control headers only if `trusted`."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        if key not in found and (trusted or key not in CONTROL_HEADERS):
            found[key] = value.decode("latin-1")
    return found


def changed(headers: Mapping[str, str], changes: Iterable[HeaderChanges]) -> dict[str, str]:
    """Return readable headers after a route's modifiers, one after the other: set, then add, then remove."""
    after = dict(headers)
    for change in changes:
        after |= {name.lower(): value for name, value in change.set.items()}
        for name, value in change.add.items():
            before = after.get(name.lower())
            after[name.lower()] = value if before is None else f"{before}, {value}"
        for name in change.remove:
            after.pop(name.lower(), None)
    return after


def to_engine(
    headers: Headers,
    ours: Headers,
    *,
    is_read: bool,
    changes: Iterable[HeaderChanges] = (),
    told: Mapping[str, str] = _NOTHING,
    owned: Iterable[str] = (),
) -> Headers:
    """Return what is forwarded of a client's headers, with ours in place of the client's.

    Args:
        ours: system-owned headers: control headers, or the request's id.
        is_read: whether the answer will be read on its way; it must then come uncompressed.
        changes: the modifiers of the route.
        told: what the decision says to set, whatever a client or a route says under these names.
        owned: further names that the client's headers lose.
    """
    dropped = _NOT_TO_ENGINE_IF_READ if is_read else _NOT_TO_ENGINE
    kept = [header for header in end_to_end(headers) if header[0] not in dropped]
    if changes:
        for change in changes:
            kept = _changed(kept, change.set, change.add, change.remove)
        kept = [header for header in kept if header[0] not in dropped]
    if told or owned:
        kept = _changed(kept, told, _NOTHING, owned)
    if is_read:
        kept.append(_UNCOMPRESSED)
    kept += ours
    return kept


def from_engine(
    headers: Headers,
    ours: Headers,
    *,
    keep_length: bool,
    changes: Iterable[HeaderChanges] = (),
    told: Mapping[str, str] = _NOTHING,
) -> Headers:
    """Return what of an engine's headers goes to the client, and ours.

    Args:
        ours: the request's id, and a new length.
        keep_length: whether the body is passed on byte for byte.
        changes: the modifiers of the route.
        told: what the decision says to set.
    """
    dropped = _NOT_FROM_ENGINE if keep_length else _NOT_FROM_ENGINE_IF_CHANGED
    kept = [header for header in end_to_end(headers) if header[0] not in dropped]
    for change in changes:
        kept = _changed(kept, change.set, change.add, change.remove)
    if told:
        kept = _changed(kept, told, _NOTHING, ())
    kept += ours
    return kept


def _changed(headers: Headers, set: Mapping[str, str], add: Mapping[str, str], remove: Iterable[str]) -> Headers:
    replaced = _encoded(set)
    gone = {*replaced, *(name.lower().encode("latin-1") for name in remove)}
    return [*(header for header in headers if header[0] not in gone), *replaced.items(), *_encoded(add).items()]


def _encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
