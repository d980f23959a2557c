"""The contract of each role, by the role's name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inferencesched.testing.clauses import Contract
from inferencesched.testing.detectors import DETECTOR
from inferencesched.testing.filters import FILTER
from inferencesched.testing.gating import TUNING, USAGE_LIMIT
from inferencesched.testing.handlers import HANDLER
from inferencesched.testing.observers import OBSERVER
from inferencesched.testing.pickers import PICKER
from inferencesched.testing.producers import PRODUCER
from inferencesched.testing.questions import ANNOTATOR, DECIDER, RESPONDER
from inferencesched.testing.queueing import EVICTION_FILTER, EVICTION_ORDER, ORDERING
from inferencesched.testing.scorers import SCORER
from inferencesched.testing.turns import FAIRNESS

__all__ = ["CONTRACTS"]

_OF_A_PROFILE = (ANNOTATOR, PRODUCER, FILTER, SCORER, PICKER, HANDLER, DECIDER, RESPONDER, OBSERVER)
_OF_THE_QUEUE = (FAIRNESS, ORDERING, USAGE_LIMIT, DETECTOR, TUNING, EVICTION_FILTER, EVICTION_ORDER)

CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {contract.role: contract for contract in (*_OF_A_PROFILE, *_OF_THE_QUEUE)}
)
