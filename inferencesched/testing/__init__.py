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
from inferencesched.testing.filters import check_filter
from inferencesched.testing.handlers import check_handler
from inferencesched.testing.loop import VirtualLoop
from inferencesched.testing.observers import check_observer
from inferencesched.testing.parametrize import parametrize_with_checks
from inferencesched.testing.pickers import check_picker
from inferencesched.testing.producers import check_producer
from inferencesched.testing.questions import check_annotator, check_decider, check_responder
from inferencesched.testing.scenarios import Recorder, Scenario
from inferencesched.testing.scorers import check_scorer

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
    "check_filter",
    "check_handler",
    "check_observer",
    "check_picker",
    "check_producer",
    "check_responder",
    "check_scorer",
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
