"""The contract of a SaturationDetector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.interfaces import SaturationDetector
from inferencesched.request import Request
from inferencesched.testing.cases import Case, known_facts, unknown_facts
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.columnar import Answer, depends_on_others, impurity, undeclared_reads
from inferencesched.testing.values import add_value_clauses

__all__ = ["DETECTOR", "check_detector"]

DETECTOR = Contract("saturation-detector")


def _ask(detector: SaturationDetector, _: Request, endpoints: EndpointBatch) -> Answer:
    return {"load": np.asarray(detector.load(endpoints))}


@DETECTOR.clause(known_facts)
def shape(detector: SaturationDetector, case: Case) -> str | None:
    """The answer is a float64 array with one load per endpoint."""
    return _malformed(detector.load(case.batch()), case)


@DETECTOR.clause(known_facts)
def positive(detector: SaturationDetector, case: Case) -> str | None:
    """No load is below 0 or infinite, whatever the facts."""
    load = np.asarray(detector.load(case.batch()))
    strange = load[(load < 0) | np.isinf(load)]
    return f"expected loads ≥ 0, got {strange[0]}" if strange.size else None


@DETECTOR.clause(known_facts)
def pure(detector: SaturationDetector, case: Case) -> str | None:
    """The same question has the same answer, and what is given is left as it was."""
    return impurity(_ask, detector, case)


@DETECTOR.clause(known_facts)
def subset(detector: SaturationDetector, case: Case) -> str | None:
    """How full an endpoint is does not depend on which others are there, nor on its place among them."""
    found = depends_on_others(_ask, detector, case)
    return None if found is None else found.split("; set ")[0]


@DETECTOR.clause(unknown_facts)
def unknown(detector: SaturationDetector, case: Case) -> str | None:
    """An unknown fact (NaN) gives a load too, or an unknown one."""
    if case.usual is not None and _malformed(detector.load(case.usual.batch()), case.usual):
        return None
    return _malformed(detector.load(case.batch()), case)


@DETECTOR.clause(known_facts)
def consumes(detector: SaturationDetector, case: Case) -> str | None:
    """It reads no column beyond those it names in `consumes`: it would not be asked when they change."""
    return undeclared_reads(_ask, detector, case)


def _counts(detector: object) -> bool:
    return callable(getattr(detector, "load_of", None))


@DETECTOR.clause(known_facts, applies=_counts)
def load_of(detector: Any, case: Case) -> str | None:
    """Where it can tell an endpoint's load from its counters, it tells the same as `load`."""
    batch = case.batch()
    load: FloatArray = detector.load(batch)
    for row, expected in enumerate(load.tolist()):
        found = detector.load_of(batch.at("in_flight_requests", row), batch.at("in_flight_tokens", row))
        if found != expected:
            return f"the load of e{row} is {expected}, and by its counters {found}"
    return None


add_value_clauses(DETECTOR)


def check_detector(plugin: SaturationDetector, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a saturation detector promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return DETECTOR.check(plugin, expected)


def _malformed(answer: Any, case: Case) -> str | None:
    if not isinstance(answer, np.ndarray):
        return f"expected a float64 array of shape ({case.size},), got {type(answer).__name__}"
    if answer.dtype != np.float64 or answer.shape != (case.size,):
        return f"expected a float64 array of shape ({case.size},), got {answer.dtype} of shape {answer.shape}"
    return None
