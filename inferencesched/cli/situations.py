"""A fleet and a request as people write them down: the file that ``inferencesched explain`` reads.

endpoints:
- name: a
labels: {zone: eu}
facts: {waiting_requests: 2, kv_cache_utilization: 0.4, active_adapters: [sql]}
serving: [a prompt, another prompt]    # in flight now
served: [a prompt]                     # over, but still in the prefix cache
request: {model: llama-70b, prompt: a prompt that goes on}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from inferencesched.decision import Decision, Rejection
from inferencesched.documents import Document, decode
from inferencesched.errors import ConfigError, Problem
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler

__all__ = ["EXAMPLE", "Situation", "read_situation"]


@attrs.frozen
class EndpointGiven:
    """One endpoint.

    Args:
        name: its name.
        address: where requests go.
        labels: its labels.
        facts: numbers by column, or lists of names for set columns; null is unknown.
        serving: prompts of the requests in flight on it.
        served: prompts of requests that it has answered.
        age: seconds since the facts were observed.
    """

    name: str
    address: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    facts: Mapping[str, float | tuple[str, ...] | None] = attrs.field(factory=dict)
    serving: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    age: float = attrs.field(default=0.0, validator=attrs.validators.ge(0))


@attrs.frozen
class RequestGiven:
    """The request, as far as it can be written down; see `inferencesched.Request`."""

    id: str = "request"
    model: str = ""
    prompt: str | None = None
    adapter: str | None = None
    priority: int = 0
    session: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    prompt_tokens: int | None = None
    max_output_tokens: int | None = None
    attributes: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Situation:
    """Endpoints as they are, and a request that wants a place."""

    endpoints: tuple[EndpointGiven, ...] = ()
    request: RequestGiven = attrs.field(factory=RequestGiven)

    def stage(self, scheduler: Scheduler, *, now: float) -> None:
        """Bring a scheduler into this situation: endpoints, their past, what they are serving, facts."""
        for given in self.endpoints:
            scheduler.add_endpoint(given.name, given.address, labels=given.labels, now=now)
        for given in self.endpoints:
            for prompt in given.served:
                answer = self._put(scheduler, prompt, given.name, now=now)
                if isinstance(answer, Decision):
                    scheduler.finish(answer, now=now)
            for prompt in given.serving:
                self._put(scheduler, prompt, given.name, now=now)
            facts = {name: _fact(value) for name, value in given.facts.items()}
            scheduler.update(given.name, facts, now=now - given.age)

    def _put(self, scheduler: Scheduler, prompt: str, name: str, *, now: float) -> Decision | Rejection:
        earlier = Request(f"earlier on {name}", model=self.request.model, prompt=prompt)
        return scheduler.schedule(earlier, now=now, subset=[name])

    def wanted(self) -> Request:
        """Return the request."""
        return Request(**attrs.asdict(self.request, recurse=False))


def read_situation(document: Document) -> Situation:
    """Return the situation that a document describes.

    Raises:
        ConfigError: everything that is wrong with it.
    """
    problems: list[Problem] = []
    situation = decode(Situation, document.content, "", problems)
    names = [given.name for given in situation.endpoints] if situation else []
    problems += [
        Problem(f"endpoints[{row}].name", f"'{name}' is given twice")
        for row, name in enumerate(names)
        if name in names[:row]
    ]
    if problems or situation is None:
        raise ConfigError(document.place(problems))
    return situation


def _fact(value: Any) -> Any:
    return frozenset(value) if isinstance(value, tuple | list) else value


_SYSTEM = "You are a patient assistant who answers questions about the product, in the language of the customer. " * 40

EXAMPLE = Situation(
    endpoints=(
        EndpointGiven(
            "busy-but-warm",
            "10.0.0.1:8000",
            facts={"waiting_requests": 6, "running_requests": 24, "kv_cache_utilization": 0.85},
            served=(_SYSTEM,),
            serving=(_SYSTEM + "How do I return it?", _SYSTEM + "Where is my parcel?"),
            age=0.4,
        ),
        EndpointGiven(
            "idle-and-cold",
            "10.0.0.2:8000",
            facts={"waiting_requests": 0, "running_requests": 1, "kv_cache_utilization": 0.05},
            age=0.4,
        ),
        EndpointGiven("just-started", "10.0.0.3:8000"),
    ),
    request=RequestGiven("hello", "llama-70b", _SYSTEM + "Does it come in green?"),
)
"""Three to choose from: one holds the prompt's beginning and is busy, one is idle, one has reported nothing."""
