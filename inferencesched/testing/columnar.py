"""What is promised by everything that answers with one value per endpoint: filters, scorers and producers.

Each function is the body of a clause: it gets an `Ask` (how to put the question), the plugin and a case, and returns a
sentence or None. Answers are compared as mappings of arrays; a scorer's has one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferencesched.endpoints import EndpointBatch
from inferencesched.request import Request
from inferencesched.testing.builders import make_request
from inferencesched.testing.cases import Case, ReadLog

__all__ = ["Answer", "Ask", "depends_on_order", "depends_on_others", "impurity", "says_otherwise", "undeclared_reads"]

Answer = Mapping[str, NDArray[Any]]
Ask = Callable[[Any, Request, EndpointBatch], Answer]

_ANOTHER = {"model": "another", "adapter": "poet", "prompt": "Something else entirely. " * 60, "session": "s-2"}


def impurity(ask: Ask, plugin: object, case: Case) -> str | None:
    """Ask, ask something else, ask again: nothing may have changed, neither answers nor what was given."""
    request, batch = case.request(), case.batch()
    attributes = dict(request.attributes)
    given = ask(plugin, request, batch)
    first = _copy(given)
    other = _copy(ask(plugin, make_request(**_ANOTHER), batch))
    if difference(first, given):
        return "a later call changed an answer that it had already given: return a new array each time"
    if found := difference(first, ask(plugin, request, batch)):
        return f"the same question had two answers: {found}"
    if found := difference(other, ask(plugin, make_request(**_ANOTHER), case.batch())):
        return f"an answer depends on what was asked about the same endpoints before: {found}"
    if dict(request.attributes) != attributes:
        return "it changed the attributes of the request it was given"
    if changed := next(_changed_columns(batch, case.batch(), case), None):
        return f"it changed the column '{changed}' of the endpoints it was given"
    return None


def says_otherwise(ask: Ask, ask_few: Ask, plugin: object, case: Case) -> str | None:
    """Ask in both forms: each endpoint must get the same value."""
    plain = ask(plugin, case.request(), case.batch())
    if found := difference(plain, ask_few(plugin, case.request(), case.batch())):
        return f"in the form for few endpoints, {found}"
    return None


def depends_on_order(ask: Ask, plugin: object, case: Case) -> str | None:
    """Ask about the same endpoints, arranged otherwise: each must get the same value."""
    batch = case.batch()
    plain = _copy(ask(plugin, case.request(), batch))
    for rows in _arrangements(case.size):
        again = ask(plugin, case.request(), batch.take(rows))
        if found := difference(_take(plain, rows), again, [batch.names[row] for row in rows]):
            return f"with the endpoints in the order {rows}, {found}"
    return None


def depends_on_others(ask: Ask, plugin: object, case: Case) -> str | None:
    """Ask about some of the endpoints only: each must get the value that it gets among all."""
    batch = case.batch()
    plain = _copy(ask(plugin, case.request(), batch))
    for rows in _selections(case.size):
        keep = np.isin(np.arange(case.size), rows)
        again = ask(plugin, case.request(), batch.select(keep))
        if found := difference(_take(plain, rows), again, [batch.names[row] for row in rows]):
            return f"with endpoints {rows} alone, {found}; set `relative = True` if that is meant"
    return None


def undeclared_reads(ask: Ask, plugin: object, case: Case) -> str | None:
    """Watch which columns are read."""
    read: set[str] = set()
    ask(plugin, case.request(), ReadLog(case.batch(), read))
    declared = tuple(getattr(plugin, "consumes", ()))
    if extra := sorted(read - set(declared)):
        return f"it reads '{extra[0]}', but consumes is {declared}"
    return None


def difference(expected: Answer, found: Answer, names: list[str] | None = None) -> str | None:
    """Return the first difference between two answers as a phrase, or None; rounding is none."""
    if expected.keys() != found.keys():
        return f"the columns are {sorted(found)}, not {sorted(expected)}"
    for what, values in expected.items():
        if values.shape != found[what].shape:
            return f"the {what} has shape {found[what].shape}, not {values.shape}"
        if values.dtype.kind not in "biuf" or found[what].dtype.kind not in "biuf":
            continue
        same = np.isclose(values.astype(float), found[what].astype(float), rtol=1e-9, atol=1e-9, equal_nan=True)
        if not same.all():
            row = int(np.flatnonzero(~same)[0])
            name = names[row] if names else f"e{row}"
            return f"the {what} of {name} is {found[what][row]}, not {values[row]}"
    return None


def _changed_columns(batch: EndpointBatch, fresh: EndpointBatch, case: Case) -> Iterator[str]:
    for column in case.columns:
        if not np.array_equal(batch[column], fresh[column], equal_nan=True):
            yield column


def _arrangements(size: int) -> list[list[int]]:
    rows = list(range(size))
    return [rows[::-1], rows[1:] + rows[:1]] if size > 1 else []


def _selections(size: int) -> list[list[int]]:
    rows = list(range(size))
    return [rows[:1], rows[-1:], rows[::2], rows[1:]] if size > 1 else []


def _copy(answer: Answer) -> dict[str, NDArray[Any]]:
    return {what: np.array(values) for what, values in answer.items()}


def _take(answer: Answer, rows: list[int]) -> dict[str, NDArray[Any]]:
    """Return the answer for these rows; an answer of another shape than the question is left to the shape's clause."""
    return {
        what: values[rows] if values.ndim and len(values) > max(rows) else values for what, values in answer.items()
    }
