"""Wrong observers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint
from inferencesched.interfaces import Observer
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, thousandfold


@breaks("observer", "any-order")
@attrs.define(eq=False)
class ExpectsABeginning(Observer):
    """Takes for granted that what ends has begun, once."""

    _started: set[str] = attrs.field(factory=set, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self._started.add(request.id)

    def finished(self, request_id: str, endpoint: Endpoint, outcome: str, *, now: float) -> None:
        self._started.remove(request_id)


@breaks("observer", "forgets-endpoints")
@attrs.define(eq=False)
class RemembersEndpoints(Observer):
    """Counts by instance, and keeps the counts of those that are gone."""

    _served: dict[int, int] = attrs.field(factory=dict, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self._served[decision.endpoint.instance] = self._served.get(decision.endpoint.instance, 0) + 1


@breaks("observer", "forgets-requests")
@attrs.define(eq=False)
class RemembersRequests(Observer):
    """Keeps the ids of all requests of an endpoint for as long as that lives."""

    _seen: dict[int, list[str]] = attrs.field(factory=dict, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        self._seen.setdefault(decision.endpoint.instance, []).append(request.id)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        self._seen.pop(endpoint.instance, None)


@breaks("observer", "printable")
class AnonymousObserver(Observer):
    """Has the default `repr`."""


@breaks("observer", "rebuilt")
@attrs.define(eq=False)
class Multiplies(Observer):
    """Keeps a thousandfold of what it is given."""

    window: float = attrs.field(default=30.0, converter=thousandfold)


@breaks("observer", "restores")
@attrs.define(eq=False)
class LosesItsMemory(Observer):
    """Saves its counts by instance, which nobody has after a restart, and so starts from nothing."""

    _served: dict[int, int] = attrs.field(factory=dict, init=False, repr=False)

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        instance = decision.endpoint.instance
        self._served[instance] = self._served.get(instance, 0) + 1

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        self._served.pop(endpoint.instance, None)

    def snapshot(self) -> Mapping[str, int]:
        return {str(instance): served for instance, served in self._served.items()}

    def restore(self, state: Mapping[str, Any], endpoints: Mapping[str, Endpoint], /, *, now: float) -> None:
        names = {name: endpoint.instance for name, endpoint in endpoints.items()}
        self._served = {names[name]: served for name, served in state.items() if name in names}
