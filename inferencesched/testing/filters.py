"""The contract of a Filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inferencesched.endpoints import EndpointBatch
from inferencesched.interfaces import Filter
from inferencesched.request import Request
from inferencesched.testing.cases import Case, known_facts, odd_requests, unknown_facts
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.columnar import Answer, depends_on_order, depends_on_others, impurity, undeclared_reads
from inferencesched.testing.values import add_value_clauses

__all__ = ["FILTER", "check_filter"]

FILTER = Contract("filter")


def _ask(plugin: Filter, request: Request, endpoints: EndpointBatch) -> Answer:
    return {"mask": np.asarray(plugin.keep(request, endpoints))}


@FILTER.clause(known_facts)
def mask(plugin: Filter, case: Case) -> str | None:
    """The answer is a bool array with one entry per endpoint."""
    return _wrong(plugin, case)


@FILTER.clause(known_facts)
def pure(plugin: Filter, case: Case) -> str | None:
    """The same question has the same answer, and what is given is left as it was."""
    return impurity(_ask, plugin, case)


@FILTER.clause(known_facts)
def order(plugin: Filter, case: Case) -> str | None:
    """The order of the endpoints does not matter."""
    return depends_on_order(_ask, plugin, case)


def _stands_alone(plugin: object) -> bool:
    return not getattr(plugin, "relative", False)


@FILTER.clause(known_facts, applies=_stands_alone)
def subset(plugin: Filter, case: Case) -> str | None:
    """Whether an endpoint is kept does not depend on which others are there, unless it says `relative = True`."""
    return depends_on_others(_ask, plugin, case)


@FILTER.clause(unknown_facts)
def unknown(plugin: Filter, case: Case) -> str | None:
    """An unknown fact (NaN, an absent label) is decided upon too."""
    return _wrong(plugin, case)


@FILTER.clause(known_facts)
def consumes(plugin: Filter, case: Case) -> str | None:
    """It reads no column beyond those it names in `consumes`."""
    return undeclared_reads(_ask, plugin, case)


@FILTER.clause(odd_requests)
def any_request(plugin: Filter, case: Case) -> str | None:
    """Every valid request is answered: without a prompt, without a session, of any type of prompt."""
    return _wrong(plugin, case)


add_value_clauses(FILTER)


def check_filter(plugin: Filter, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a filter promises.

    Args:
        plugin: an instance, with whatever parameters it is to be checked with.
        expected: clauses that it is known to break, each with the reason. A clause that is declared here and holds
            all the same is a failure: the declaration is out of date.

    Returns:
        The outcome of every clause.

    Raises:
        AssertionError: a clause is broken: names it, says what was found, and shows the smallest request and endpoints
            for which it is. Its ``results`` are those of every clause.
        TypeError: the plugin is no filter.
        ValueError: `expected` names no clause that applies.

    >>> from inferencesched.builtin.filters import LabelSelectorFilter
    >>> len(check_filter(LabelSelectorFilter({"zone": "a"}))) > 5
    True
    """
    __tracebackhide__ = True
    return FILTER.check(plugin, expected)


def _wrong(plugin: Filter, case: Case) -> str | None:
    if case.usual is not None and _wrong(plugin, case.usual):
        return None
    answer: Any = plugin.keep(case.request(), case.batch())
    if not isinstance(answer, np.ndarray):
        return f"expected a bool array of shape ({case.size},), got {type(answer).__name__}"
    if answer.dtype != np.bool_ or answer.shape != (case.size,):
        return f"expected a bool array of shape ({case.size},), got {answer.dtype} of shape {answer.shape}"
    return None
