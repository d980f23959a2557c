"""What observers are told in the checks: calls in a likely order, in every unlikely one, and again and again."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import TypeVar

import attrs
import numpy as np

from inferencesched.decision import Decision, Lease, Pass, Rejection
from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.interfaces import Observer
from inferencesched.request import Request
from inferencesched.testing.builders import make_batch, make_request
from inferencesched.testing.cases import ORDINARY

__all__ = [
    "LIVES",
    "TUMULTS",
    "Call",
    "Story",
    "decision_for",
    "fresh",
    "life_of_a_request",
    "life_of_an_endpoint",
    "request_number",
    "taught",
]

T = TypeVar("T")

_HOOKS = (
    "endpoint_added",
    "endpoint_removed",
    "assigned",
    "moved",
    "rejected",
    "first_token",
    "usage_reported",
    "finished",
)
_OUTCOMES = ("success", "error", "cancelled", "reaped")


@attrs.frozen
class Call:
    """One hook, called with the endpoint and the request of these numbers at the time `now`."""

    hook: str
    endpoint: int
    request: int
    outcome: str = "success"
    now: float = 0.0

    def make(self, observer: Observer) -> None:
        """Call it."""
        endpoint, request = endpoint_number(self.endpoint), request_number(self.request)
        tell = getattr(observer, self.hook)
        match self.hook:
            case "endpoint_added" | "endpoint_removed":
                tell(endpoint, now=self.now)
            case "assigned":
                tell(request, decision_for(request, endpoint, now=self.now), now=self.now)
            case "moved":
                origin = endpoint_number(self.endpoint + 1)
                tell(request, decision_for(request, endpoint, now=self.now), origin, now=self.now)
            case "rejected":
                tell(request, rejection_of(request, now=self.now), now=self.now)
            case "first_token":
                tell(request.id, endpoint, now=self.now)
            case "usage_reported":
                tell(request.id, request.flow, 16.0, float(self.request % 8), now=self.now)
            case "finished":
                tell(request.id, endpoint, self.outcome, now=self.now)

    def __str__(self) -> str:
        about = {"endpoint_added": f"e{self.endpoint}", "endpoint_removed": f"e{self.endpoint}"}.get(self.hook)
        about = about or f"r-{self.request}" + ("" if self.hook == "rejected" else f" on e{self.endpoint}")
        outcome = f" ({self.outcome})" if self.hook == "finished" else ""
        return f"{self.hook}: {about}{outcome}, now={self.now:g}"


@attrs.frozen(eq=False)
class Story:
    """Calls, one after another."""

    calls: tuple[Call, ...]

    def tell(self, observer: T) -> T:
        """Return a copy of the observer that was told the story."""
        listener = fresh(observer)
        for call in self.calls:
            call.make(listener)  # type: ignore[arg-type]
        return listener

    @property
    def end(self) -> float:
        """When it ends."""
        return max(call.now for call in self.calls)

    def present(self) -> list[Endpoint]:
        """Return the endpoints that have joined and not left."""
        here: dict[int, Endpoint] = {}
        for call in self.calls:
            if call.hook == "endpoint_added":
                here[call.endpoint] = endpoint_number(call.endpoint)
            elif call.hook == "endpoint_removed":
                here.pop(call.endpoint, None)
        return list(here.values())

    def batch(self) -> EndpointBatch:
        """Return the endpoints that are present, the same instances."""
        numbers = [endpoint.instance - 1 for endpoint in self.present()]
        everybody = [endpoint_number(number) for number in range(max(numbers, default=-1) + 1)]
        return EndpointBatch.build(everybody, now=self.end).take(numbers)

    def smaller(self) -> Iterator[Story]:
        """Yield the story without half of its calls, a quarter, and so on down to one."""
        size = len(self.calls) // 2
        while size:
            for start in range(0, len(self.calls), size):
                yield Story(self.calls[:start] + self.calls[start + size :])
            size //= 2

    def __str__(self) -> str:
        return "\n".join(f"  {call}" for call in self.calls)


def _tumults() -> Iterator[Story]:
    for hook in _HOOKS:
        yield Story((Call(hook, 1, 1), Call(hook, 1, 1)))
    dice = random.Random("tumults")
    for length in (10, 40, 160):
        yield Story(
            tuple(
                Call(dice.choice(_HOOKS), dice.randrange(4), dice.randrange(8), dice.choice(_OUTCOMES), now=float(time))
                for time in range(length)
            )
        )


TUMULTS = tuple(_tumults())
"""Stories that no scheduler tells: removals before additions, ends without beginnings, twice and thrice."""


def life_of_an_endpoint(number: int) -> Story:
    """Return the story of an endpoint that joins, serves one request and leaves."""
    hooks = ("endpoint_added", "assigned", "first_token", "usage_reported", "finished", "endpoint_removed")
    return Story(tuple(Call(hook, number, number % 8, now=float(number)) for hook in hooks))


def life_of_a_request(number: int) -> Story:
    """Return the story of a request that is served by one of three endpoints, which stay."""
    hooks = ("assigned", "first_token", "usage_reported", "finished")
    return Story(tuple(Call(hook, number % 3, number, now=float(number)) for hook in hooks))


LIVES = Story(
    tuple(Call("endpoint_added", number, 0) for number in range(3))
    + tuple(call for number in range(12) for call in life_of_a_request(number).calls)
)
"""Three endpoints that join and stay, and a dozen requests that they serve."""


def fresh(plugin: T) -> T:
    """Return a copy of the plugin, so that one check does not see what another told it; itself, if it has no copy."""
    try:
        return copy.deepcopy(plugin)
    except Exception:  # noqa: BLE001 — a lock, a socket: then one instance hears everything
        return plugin


def taught(plugin: T, request: Request, batch: EndpointBatch) -> T:
    """Return a copy of the plugin that saw the request being placed on the first endpoint, if it is an observer."""
    if not isinstance(plugin, Observer):
        return plugin
    learner = fresh(plugin)
    for endpoint in batch.endpoints:
        learner.endpoint_added(endpoint, now=batch.now)
    learner.assigned(request, decision_for(request, batch.endpoint(0), batch=batch, now=batch.now), now=batch.now)
    return learner


def endpoint_number(number: int) -> Endpoint:
    """Return an endpoint; four names, and a new instance under each number."""
    return Endpoint(f"e{number % 4}", f"10.0.0.{number % 4}:8000", labels={"zone": "a"}, instance=number + 1)


def request_number(number: int) -> Request:
    """Return a request; three kinds, and a new id under each number."""
    return make_request(f"r-{number}", **ORDINARY[number % len(ORDINARY)])


def decision_for(
    request: Request, endpoint: Endpoint, *, batch: EndpointBatch | None = None, now: float = 0.0
) -> Decision:
    """Return the decision that puts a request on an endpoint."""
    batch = _ALONE if batch is None else batch
    row = batch.endpoints.index(endpoint) if endpoint in batch.endpoints else 0
    chosen = Pass("default", batch, batch, (), (), np.zeros((0, len(batch))), np.zeros(len(batch)), (row,))
    lease = Lease(request.id, endpoint, "default", 16.0, 0.0)
    return Decision(request.id, request.model, endpoint, (), lease, {"default": chosen}, "default", 1, now)


def rejection_of(request: Request, *, now: float) -> Rejection:
    """Return the rejection of a request for want of endpoints."""
    return Rejection(
        request.id, request.model, "rejected-no-endpoints", 503, False, "the fleet is empty", 1.0, generation=1, now=now
    )


_ALONE = make_batch(n=1)
