"""The contract of each role, by the role's name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inferencesched.testing.clauses import Contract
from inferencesched.testing.filters import FILTER
from inferencesched.testing.handlers import HANDLER
from inferencesched.testing.observers import OBSERVER
from inferencesched.testing.pickers import PICKER
from inferencesched.testing.producers import PRODUCER
from inferencesched.testing.questions import ANNOTATOR, DECIDER, RESPONDER
from inferencesched.testing.scorers import SCORER

__all__ = ["CONTRACTS"]

CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        contract.role: contract
        for contract in (ANNOTATOR, PRODUCER, FILTER, SCORER, PICKER, HANDLER, DECIDER, RESPONDER, OBSERVER)
    }
)
