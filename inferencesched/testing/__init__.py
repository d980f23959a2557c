"""For those who write plugins: the whole test of one is a line.

    def test_contract():
        check_scorer(CarbonAware())

Every role has a contract, a list of named clauses. A broken clause raises an AssertionError that names it, says what
was found, and shows the smallest request and endpoints for which it is. Nothing here needs pytest; `strategies` and
`machines` need hypothesis and are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from inferencesched.testing.builders import make_batch, make_request
from inferencesched.testing.clauses import Clause, Contract, Result, Violation
from inferencesched.testing.clock import VirtualClock
from inferencesched.testing.contracts import CONTRACTS
from inferencesched.testing.detectors import check_detector
from inferencesched.testing.filters import check_filter
from inferencesched.testing.gating import check_tuning, check_usage_limit
from inferencesched.testing.handlers import check_handler
from inferencesched.testing.loop import VirtualLoop
from inferencesched.testing.observers import check_observer
from inferencesched.testing.parametrize import parametrize_with_checks
from inferencesched.testing.pickers import check_picker
from inferencesched.testing.producers import check_producer
from inferencesched.testing.questions import check_annotator, check_decider, check_responder
from inferencesched.testing.queueing import check_eviction_filter, check_eviction_ordering, check_ordering
from inferencesched.testing.scenarios import Recorder, Scenario
from inferencesched.testing.scorers import check_scorer
from inferencesched.testing.turns import check_fairness

__all__ = [
    "CONTRACTS",
    "Clause",
    "Contract",
    "Recorder",
    "Result",
    "Scenario",
    "Violation",
    "VirtualClock",
    "VirtualLoop",
    "check_annotator",
    "check_decider",
    "check_detector",
    "check_eviction_filter",
    "check_eviction_ordering",
    "check_fairness",
    "check_filter",
    "check_handler",
    "check_observer",
    "check_ordering",
    "check_picker",
    "check_producer",
    "check_responder",
    "check_scorer",
    "check_tuning",
    "check_usage_limit",
    "make_batch",
    "make_request",
    "parametrize_with_checks",
]

_NEED_HYPOTHESIS = ("machines", "strategies")


def __getattr__(name: str) -> Any:
    if name not in _NEED_HYPOTHESIS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        message = f"{__name__}.{name} needs hypothesis: pip install 'inferencesched[testing]'"
        raise ModuleNotFoundError(message, name=error.name) from error
