"""The contracts of those who are asked about one request: its place in the queue, and how soon it is evicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from inferencesched.interfaces import EvictionFilter, EvictionOrderingPolicy, OrderingPolicy
from inferencesched.request import Request
from inferencesched.testing.builders import make_request
from inferencesched.testing.cases import ODD_REQUESTS, ORDINARY
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.values import add_value_clauses

__all__ = [
    "EVICTION_FILTER",
    "EVICTION_ORDER",
    "ORDERING",
    "check_eviction_filter",
    "check_eviction_ordering",
    "check_ordering",
]

ORDERING = Contract("ordering-policy")
EVICTION_FILTER = Contract("eviction-filter")
EVICTION_ORDER = Contract("eviction-ordering-policy")


@attrs.frozen(eq=False)
class Arrival:
    """A request that arrives, as data.

    Attributes:
        fields: of the request.
        arrived: when.
        expires: when it is given up.
        usual: the case that this is an unusual variation of.
    """

    fields: Mapping[str, Any]
    arrived: float = 10.0
    expires: float = 70.0
    usual: Arrival | None = None

    def request(self) -> Request:
        """Return the request, made anew."""
        return make_request(**{**self.fields, "attributes": dict(self.fields.get("attributes", {}))})

    def smaller(self) -> Iterator[Arrival]:
        """Yield the arrival without a field of the request."""
        for gone in self.fields:
            yield attrs.evolve(self, fields={name: value for name, value in self.fields.items() if name != gone})

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}"[:120] for name, value in self.fields.items())
        return f"  request = make_request({fields}), arrived at {self.arrived:g}, expires at {self.expires:g}"


_USUAL = tuple(
    Arrival({**fields, "priority": priority}, arrived)
    for arrived in (0.0, 10.0)
    for fields, priority in zip(ORDINARY, (0, 10, -1), strict=True)
)
_ENDLESS = tuple(attrs.evolve(each, expires=math.inf, usual=each) for each in _USUAL)
_ODD = tuple(Arrival(fields, usual=_USUAL[0]) for fields in ODD_REQUESTS)

_Ask = Callable[[Any, Arrival, Request], Any]


def _rank(plugin: OrderingPolicy, arrival: Arrival, request: Request) -> Any:
    return plugin.rank(request, arrival.arrived, arrival.expires)


def _evictable(plugin: EvictionFilter, _: Arrival, request: Request) -> Any:
    return plugin.is_evictable(request)


def _regret(plugin: EvictionOrderingPolicy, arrival: Arrival, request: Request) -> Any:
    return plugin.regret(request, arrival.arrived)


def _no_number(answer: Any) -> str | None:
    if isinstance(answer, bool) or not isinstance(answer, float | int):
        return f"expected a number, got {answer!r}"
    return "expected a number, got NaN" if math.isnan(answer) else None


def _no_bool(answer: Any) -> str | None:
    return None if isinstance(answer, bool) else f"expected a bool, got {answer!r}"


@ORDERING.clause(_USUAL)
def rank(plugin: OrderingPolicy, arrival: Arrival) -> str | None:
    """The answer is a number, and not NaN."""
    return _no_number(_rank(plugin, arrival, arrival.request()))


@ORDERING.clause(_ENDLESS)
def endless(plugin: OrderingPolicy, arrival: Arrival) -> str | None:
    """A request that is never given up (it expires at infinity) has a place too."""
    return _unless_usual(plugin, arrival, _rank, _no_number)


@EVICTION_FILTER.clause(_USUAL)
def answers(plugin: EvictionFilter, arrival: Arrival) -> str | None:
    """The answer is True or False."""
    return _no_bool(_evictable(plugin, arrival, arrival.request()))


@EVICTION_ORDER.clause(_USUAL)
def regret(plugin: EvictionOrderingPolicy, arrival: Arrival) -> str | None:
    """The answer is a number, and not NaN."""
    return _no_number(_regret(plugin, arrival, arrival.request()))


def _unless_usual(plugin: Any, arrival: Arrival, ask: _Ask, wrong: Callable[[Any], str | None]) -> str | None:
    usual = arrival.usual
    if usual is not None and wrong(ask(plugin, usual, usual.request())):
        return None
    return wrong(ask(plugin, arrival, arrival.request()))


def _complete(contract: Contract, ask: _Ask, wrong: Callable[[Any], str | None]) -> None:
    """Add what the three contracts have in common."""

    @contract.clause(_USUAL)
    def pure(plugin: object, arrival: Arrival) -> str | None:
        """The same question has the same answer, and what is given is left as it was."""
        request = arrival.request()
        attributes = dict(request.attributes)
        first = ask(plugin, arrival, request)
        if dict(request.attributes) != attributes:
            return "it changed the attributes of the request it was given"
        ask(plugin, arrival, make_request(model="another", priority=-5, prompt="Something else"))
        again = ask(plugin, arrival, arrival.request())
        return None if again == first or wrong(first) else f"the same question had two answers: {first!r}, {again!r}"

    @contract.clause(_ODD)
    def any_request(plugin: object, arrival: Arrival) -> str | None:
        """Every valid request is answered: without a prompt, without a session, of any type of prompt."""
        return _unless_usual(plugin, arrival, ask, wrong)

    add_value_clauses(contract)


_complete(ORDERING, _rank, _no_number)
_complete(EVICTION_FILTER, _evictable, _no_bool)
_complete(EVICTION_ORDER, _regret, _no_number)


def check_ordering(plugin: OrderingPolicy, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that an ordering policy promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return ORDERING.check(plugin, expected)


def check_eviction_filter(plugin: EvictionFilter, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that an eviction filter promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return EVICTION_FILTER.check(plugin, expected)


def check_eviction_ordering(
    plugin: EvictionOrderingPolicy, expected: Mapping[str, str] | None = None
) -> tuple[Result, ...]:
    """Check everything that an eviction order promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return EVICTION_ORDER.check(plugin, expected)
