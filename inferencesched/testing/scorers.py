"""The contract of a Scorer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.interfaces import Scorer
from inferencesched.request import Request
from inferencesched.testing.cases import Case, all_kinds, known_facts, odd_requests, unknown_facts
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.columnar import (
    Answer,
    depends_on_order,
    depends_on_others,
    impurity,
    says_otherwise,
    undeclared_reads,
)
from inferencesched.testing.values import add_value_clauses

__all__ = ["SCORER", "check_scorer"]

SCORER = Contract("scorer")


def _ask(scorer: Scorer, request: Request, endpoints: EndpointBatch) -> Answer:
    return {"score": np.asarray(scorer.score(request, endpoints))}


@SCORER.clause(known_facts)
def shape(scorer: Scorer, case: Case) -> str | None:
    """The answer is a float64 array with one score per endpoint."""
    return _malformed(scorer.score(case.request(), case.batch()), case)


@SCORER.clause(known_facts)
def range(scorer: Scorer, case: Case) -> str | None:  # noqa: A001 — named as the promise is
    """Every score is in [0, 1], whatever the facts."""
    return _out_of_range(scorer.score(case.request(), case.batch()))


@SCORER.clause(known_facts)
def pure(scorer: Scorer, case: Case) -> str | None:
    """The same question has the same answer, and what is given is left as it was."""
    return impurity(_ask, scorer, case)


@SCORER.clause(known_facts)
def order(scorer: Scorer, case: Case) -> str | None:
    """The order of the endpoints does not matter."""
    return depends_on_order(_ask, scorer, case)


def _stands_alone(plugin: object) -> bool:
    return not getattr(plugin, "relative", False)


@SCORER.clause(known_facts, applies=_stands_alone)
def subset(scorer: Scorer, case: Case) -> str | None:
    """An endpoint's score does not depend on which others are there, unless the class says `relative = True`."""
    return depends_on_others(_ask, scorer, case)


@SCORER.clause(unknown_facts)
def unknown(scorer: Scorer, case: Case) -> str | None:
    """An unknown fact (NaN, an absent label) gets a score too."""
    return _wrong(scorer, case)


@SCORER.clause(known_facts)
def consumes(scorer: Scorer, case: Case) -> str | None:
    """It reads no column beyond those it names in `consumes`."""
    return undeclared_reads(_ask, scorer, case)


def _has_few(plugin: object) -> bool:
    return hasattr(plugin, "score_few")


def _ask_few(scorer: Any, request: Request, endpoints: EndpointBatch) -> Answer:
    return {"score": np.array(scorer.score_few(request, endpoints), np.float64)}


@SCORER.clause(all_kinds, applies=_has_few)
def few(scorer: Scorer, case: Case) -> str | None:
    """Where it has a form for few endpoints, `score_few`, that gives the same scores as a list."""
    return says_otherwise(_ask, _ask_few, scorer, case)


@SCORER.clause(odd_requests)
def any_request(scorer: Scorer, case: Case) -> str | None:
    """Every valid request is answered: without a prompt, without a session, of any type of prompt."""
    return _wrong(scorer, case)


add_value_clauses(SCORER)


def check_scorer(scorer: Scorer, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a scorer promises; see `check_filter` for arguments and errors.

    >>> from inferencesched.builtin.scorers import KvCacheUtilizationScorer
    >>> {result.status for result in check_scorer(KvCacheUtilizationScorer())}
    {'held'}
    """
    __tracebackhide__ = True
    return SCORER.check(scorer, expected)


def _wrong(scorer: Scorer, case: Case) -> str | None:
    if case.usual is not None and _wrong(scorer, case.usual):
        return None
    answer = scorer.score(case.request(), case.batch())
    return _malformed(answer, case) or _out_of_range(answer)


def _malformed(answer: Any, case: Case) -> str | None:
    if not isinstance(answer, np.ndarray):
        return f"expected a float64 array of shape ({case.size},), got {type(answer).__name__}"
    if answer.dtype != np.float64 or answer.shape != (case.size,):
        return f"expected a float64 array of shape ({case.size},), got {answer.dtype} of shape {answer.shape}"
    return None


def _out_of_range(answer: FloatArray) -> str | None:
    scores = np.asarray(answer, np.float64).ravel()
    wrong = ~((scores >= 0.0) & (scores <= 1.0))
    row = int(np.flatnonzero(wrong)[0]) if wrong.any() else None
    return None if row is None else f"the score of e{row} is {scores[row]}, which is not in [0, 1]"
