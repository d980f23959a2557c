"""The contract of a Producer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inferencesched.endpoints import EndpointBatch
from inferencesched.interfaces import Producer
from inferencesched.request import Request
from inferencesched.testing.cases import Case, all_kinds, known_facts, odd_requests, unknown_facts
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.columnar import Answer, depends_on_order, impurity, says_otherwise, undeclared_reads
from inferencesched.testing.stories import taught
from inferencesched.testing.values import add_value_clauses

__all__ = ["PRODUCER", "check_producer"]

PRODUCER = Contract("producer")


def _ask(producer: Producer, request: Request, endpoints: EndpointBatch) -> Answer:
    return {column: np.asarray(values) for column, values in producer.produce(request, endpoints).items()}


@PRODUCER.clause(known_facts)
def columns(producer: Producer, case: Case) -> str | None:
    """The answer is float64 columns with one value per endpoint."""
    return _wrong(producer, case)


@PRODUCER.clause(known_facts)
def produces(producer: Producer, case: Case) -> str | None:
    """It makes no column beyond those it names in `produces`."""
    extra = sorted(set(producer.produce(case.request(), case.batch())) - set(producer.produces))
    return f"it makes '{extra[0]}', but produces is {tuple(producer.produces)}" if extra else None


@PRODUCER.clause(known_facts)
def pure(producer: Producer, case: Case) -> str | None:
    """The same question has the same answer, and what is given is left as it was."""
    return impurity(_ask, producer, case)


@PRODUCER.clause(known_facts)
def order(producer: Producer, case: Case) -> str | None:
    """The order of the endpoints does not matter."""
    return depends_on_order(_ask, producer, case)


@PRODUCER.clause(unknown_facts)
def unknown(producer: Producer, case: Case) -> str | None:
    """Unknown facts are no error; what follows from them may be unknown (NaN)."""
    return _wrong(producer, case)


@PRODUCER.clause(known_facts)
def consumes(producer: Producer, case: Case) -> str | None:
    """It reads no column beyond those it names in `consumes`."""
    return undeclared_reads(_ask, producer, case)


def _has_few(plugin: object) -> bool:
    return hasattr(plugin, "produce_few")


def _ask_few(producer: Any, request: Request, endpoints: EndpointBatch) -> Answer:
    made = producer.produce_few(request, endpoints)
    return {column: np.asarray(values, np.float64) for column, values in made.items()}


@PRODUCER.clause(all_kinds, applies=_has_few)
def few(producer: Producer, case: Case) -> str | None:
    """Where it has a form for few endpoints, `produce_few`, that makes the same columns, as lists."""
    return says_otherwise(_ask, _ask_few, producer, case)


@PRODUCER.clause(odd_requests)
def any_request(producer: Producer, case: Case) -> str | None:
    """Every valid request is answered: without a prompt, without a session, of any type of prompt."""
    return _wrong(producer, case)


def _matches_prefixes(plugin: Any) -> bool:
    return {"prefix_matched_tokens", "prefix_total_tokens"} <= set(plugin.produces)


@PRODUCER.clause(known_facts, applies=_matches_prefixes)
def prefix(producer: Producer, case: Case) -> str | None:
    """A match is no longer than what could match: 0 ≤ prefix_matched_tokens ≤ prefix_total_tokens."""
    batch = case.batch()
    for _ in range(2):  # the second time, a producer that learns has something to match
        made = producer.produce(case.request(), batch)
        matched, total = (np.asarray(made.get(f"prefix_{what}_tokens", np.nan)) for what in ("matched", "total"))
        wrong = np.broadcast_to((matched < 0) | (matched > total), (case.size,))  # unknown compares false
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            return f"e{row} matches {matched[row]:g} of {total[row]:g} tokens"
        producer = taught(producer, case.request(), batch)
    return None


add_value_clauses(PRODUCER)


def check_producer(producer: Producer, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a producer promises; see `check_filter` for arguments and errors.

    >>> from inferencesched.builtin.producers import TokenProducer
    >>> all(result.ok for result in check_producer(TokenProducer()))
    True
    """
    __tracebackhide__ = True
    return PRODUCER.check(producer, expected)


def _wrong(producer: Producer, case: Case) -> str | None:
    if case.usual is not None and _wrong(producer, case.usual):
        return None
    answer: Any = producer.produce(case.request(), case.batch())
    if not isinstance(answer, Mapping):
        return f"expected a mapping of columns, got {type(answer).__name__}"
    for column, values in answer.items():
        if not isinstance(values, np.ndarray):
            return f"{column}: expected a float64 array of shape ({case.size},), got {type(values).__name__}"
        if values.dtype != np.float64 or values.shape != (case.size,):
            return f"{column}: expected float64 of shape ({case.size},), got {values.dtype} of shape {values.shape}"
    return None
