"""Flow control: which requests wait, which go next, and which are refused, when there is less room than work.

Nothing in here knows what an endpoint is, except the saturation detectors, which read how full each one is.

>>> settings = Settings(bands={0: BandSettings(fairness=TokenWeightedFairnessPolicy({"paying": 3.0}))}, ttl=30.0)
>>> settings.band(7).max_requests
5000
"""

from inferencesched.flow.bands import Band
from inferencesched.flow.controller import FlowController
from inferencesched.flow.detectors import CombinedDetector, ConcurrencyDetector, UtilizationDetector
from inferencesched.flow.eviction import PriorityThenTimeEvictionOrderPolicy, SheddableEvictionFilter
from inferencesched.flow.fairness import (
    GlobalStrictFairnessPolicy,
    RoundRobinFairnessPolicy,
    TokenWeightedFairnessPolicy,
)
from inferencesched.flow.limits import (
    PriorityHoldbackPolicy,
    SoftReflectiveCeilingPolicy,
    StaticUsageLimitPolicy,
)
from inferencesched.flow.ordering import EdfOrderingPolicy, FcfsOrderingPolicy, SloDeadlineOrderingPolicy
from inferencesched.flow.outcomes import ANSWERS, Answer, Refusal, refuse
from inferencesched.flow.programs import ProgramAwareFairness
from inferencesched.flow.retry import retry_after
from inferencesched.flow.saturation import Saturation
from inferencesched.flow.settings import BandSettings, LegacyAdmission, Settings, Tuning
from inferencesched.flow.states import TRANSITIONS, State, Step, diagram
from inferencesched.flow.waiting import Waiting

__all__ = [
    "ANSWERS",
    "TRANSITIONS",
    "Answer",
    "Band",
    "BandSettings",
    "CombinedDetector",
    "ConcurrencyDetector",
    "EdfOrderingPolicy",
    "FcfsOrderingPolicy",
    "FlowController",
    "GlobalStrictFairnessPolicy",
    "LegacyAdmission",
    "PriorityHoldbackPolicy",
    "PriorityThenTimeEvictionOrderPolicy",
    "ProgramAwareFairness",
    "Refusal",
    "RoundRobinFairnessPolicy",
    "Saturation",
    "Settings",
    "SheddableEvictionFilter",
    "SloDeadlineOrderingPolicy",
    "SoftReflectiveCeilingPolicy",
    "State",
    "StaticUsageLimitPolicy",
    "Step",
    "TokenWeightedFairnessPolicy",
    "Tuning",
    "UtilizationDetector",
    "Waiting",
    "diagram",
    "refuse",
    "retry_after",
]
