"""Headers on their way through: what is forwarded to an engine, and what comes back to the client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferencesched.resources import HeaderChanges
from inferencesched_gateway.trust import CONTROL_HEADERS
from inferencesched_gateway.wire import Headers, end_to_end

__all__ = ["changed", "from_engine", "readable", "to_engine"]

# Besides the control headers: framing and identity of this side's connection, which the other side's has of its own.
_NOT_TO_ENGINE = frozenset(name.encode() for name in CONTROL_HEADERS) | {
    b"content-length",
    b"expect",
    b"host",
    b"x-request-id",
}
_NOT_FROM_ENGINE = frozenset({b"server", b"x-request-id"})


def readable(headers: Headers, *, trusted: bool) -> dict[str, str]:
    """Return what may be read of a client's headers: the first of each name, control headers only if `trusted`."""
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        if key not in found and (trusted or key not in CONTROL_HEADERS):
            found[key] = value.decode("latin-1")
    return found


def changed(headers: dict[str, str], changes: Iterable[HeaderChanges]) -> dict[str, str]:
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
    ours: Mapping[str, str],
    *,
    is_read: bool,
    changes: Iterable[HeaderChanges] = (),
    owned: Iterable[str] = (),
) -> Headers:
    """Return what is forwarded of a client's headers, with ours in place of the client's.

    Args:
        ours: set in any case, whatever the client or a route says under these names.
        is_read: whether the answer will be read on its way; it must then come uncompressed.
        changes: the modifiers of the route.
        owned: further names that the client's headers lose.
    """
    kept = [header for header in end_to_end(headers) if header[0] not in _NOT_TO_ENGINE]
    for change in changes:
        kept = _apply(kept, change)
    replaced = {**_encoded(ours), **({b"accept-encoding": b"identity"} if is_read else {})}
    gone = {*replaced, *(name.lower().encode("latin-1") for name in owned)}
    return [*(header for header in kept if header[0] not in gone), *replaced.items()]


def from_engine(
    headers: Headers, ours: Mapping[str, str], *, keep_length: bool, changes: Iterable[HeaderChanges] = ()
) -> Headers:
    """Return what of an engine's headers goes to the client, and ours.

    Args:
        keep_length: whether the body is passed on byte for byte.
    """
    kept = [header for header in end_to_end(headers) if header[0] not in _NOT_FROM_ENGINE]
    if not keep_length:
        kept = [header for header in kept if header[0] != b"content-length"]
    for change in changes:
        kept = _apply(kept, change)
    replaced = _encoded(ours)
    return [*(header for header in kept if header[0] not in replaced), *replaced.items()]


def _apply(headers: Headers, change: HeaderChanges) -> Headers:
    replaced = _encoded(change.set)
    gone = {*replaced, *(name.lower().encode("latin-1") for name in change.remove)}
    return [
        *(header for header in headers if header[0] not in gone),
        *replaced.items(),
        *_encoded(change.add).items(),
    ]


def _encoded(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
