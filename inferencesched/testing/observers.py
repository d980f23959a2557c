"""The contract of an Observer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from inferencesched.interfaces import Observer, Stateful
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.reach import reach
from inferencesched.testing.stories import (
    LIVES,
    TUMULTS,
    Story,
    fresh,
    life_of_a_request,
    life_of_an_endpoint,
    request_number,
)
from inferencesched.testing.values import add_value_clauses

__all__ = ["OBSERVER", "check_observer"]

OBSERVER = Contract("observer")

_LAPS = (128, 512, 2048, 8192, 32768)
"""Memory is measured after so many repetitions; what still grows in the last step is taken for boundless."""

_LEAK = 8
"""Bytes per repetition: the least that remembering anything costs, a pointer."""


@OBSERVER.clause(TUMULTS)
def any_order(observer: Observer, story: Story) -> str | None:
    """Calls may come in any order, about strangers, twice: a second finish or a late one is no error."""
    story.tell(observer)
    return None


@attrs.frozen(eq=False)
class Churn:
    """A story told again and again, each time about somebody else."""

    story: Callable[[int], Story]

    def smaller(self) -> Iterator[Churn]:
        """Yield nothing: it takes many to show it."""
        return iter(())

    def __str__(self) -> str:
        return "\n".join(["  again and again, each time of somebody else:", str(self.story(1))])


@OBSERVER.clause([Churn(life_of_an_endpoint)])
def forgets_endpoints(observer: Observer, churn: Churn) -> str | None:
    """What is known of an endpoint is forgotten when it is removed: memory stays bounded however many come and go."""
    return _grows(observer, churn)


@OBSERVER.clause([Churn(life_of_a_request)])
def forgets_requests(observer: Observer, churn: Churn) -> str | None:
    """What is known of a request is forgotten some time after its end: memory stays bounded however many come."""
    return _grows(observer, churn)


def _is_stateful(plugin: object) -> bool:
    return isinstance(plugin, Stateful)


@OBSERVER.clause([LIVES], applies=_is_stateful)
def restores(observer: Any, story: Story) -> str | None:
    """Where it has a snapshot, that is plain values, and who restores it elsewhere knows the same."""
    listener = story.tell(observer)
    state = listener.snapshot()
    if strange := next(_not_plain(state, "snapshot"), None):
        return strange
    endpoints = {endpoint.name: endpoint for endpoint in story.present()}
    twin = fresh(observer)
    for endpoint in endpoints.values():
        twin.endpoint_added(endpoint, now=story.end)
    twin.restore(state, endpoints, now=story.end)
    before, after = _knowledge(listener, story), _knowledge(twin, story)
    return None if repr(before) == repr(after) else f"before it knew {before!r:.200}, and restored {after!r:.200}"


add_value_clauses(OBSERVER, with_memory=True)


def check_observer(observer: Observer, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that an observer promises; see `check_filter` for arguments and errors.

    Copies of it are told stories; the observer itself hears nothing, unless it cannot be copied.

    >>> from inferencesched import Observer
    >>> @attrs.frozen
    ... class Deaf(Observer): ...
    >>> all(result.ok for result in check_observer(Deaf()))
    True
    """
    __tracebackhide__ = True
    return OBSERVER.check(observer, expected)


def _grows(observer: Observer, churn: Churn) -> str | None:
    listener, told, before = fresh(observer), 0, 0
    grown: list[str] = []
    for laps in _LAPS:
        for number in range(told, laps):
            for call in churn.story(number).calls:
                call.make(listener)
        size = reach(listener)
        if grown and size - before < _LEAK * (laps - told):
            return None
        told, before = laps, size
        grown.append(f"{size} bytes after {laps}")
    return f"its memory grows without end: {', '.join(grown)}"


def _knowledge(plugin: Any, story: Story) -> Any:
    """Return what a plugin answers about the endpoints of a story; of one that is never asked, its snapshot.

    Snapshots are compared only where nothing else can be: the same memory may be written down in another order.
    """
    ask = next((getattr(plugin, verb) for verb in ("produce", "score", "keep") if hasattr(plugin, verb)), None)
    if ask is None:
        return plugin.snapshot()
    answers = [ask(request_number(number), story.batch()) for number in range(3)]
    return [{k: v.tolist() for k, v in a.items()} if isinstance(a, Mapping) else a.tolist() for a in answers]


def _not_plain(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (f"{path} has the key {key!r}" for key in value if not isinstance(key, str))
        for key, item in value.items():
            yield from _not_plain(item, f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _not_plain(item, f"{path}[{number}]")
    elif not isinstance(value, str | bytes | int | float | bool | None):
        yield f"{path} is a {type(value).__name__}"
