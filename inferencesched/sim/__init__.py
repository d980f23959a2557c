"""Simulated fleets and replayed traces: the scheduler as it is in production, model servers in virtual time.

>>> import random
>>> from inferencesched.sim import CHAT, ENGINES, POLICIES, FleetSpec, Workload, build_scheduler, replay, summarize
>>> trace = Workload(((CHAT, 2.0),)).generate(60.0, random.Random(1))
>>> fleet = FleetSpec((ENGINES["h100"],) * 4)
>>> result = replay(trace, fleet, lambda rng: build_scheduler(POLICIES["least-in-flight"], rng=rng), seed=1)
>>> summarize(result).rejected
0

Nothing in here reads a clock, and all chance comes from seeds: the same arguments give the same result, byte for byte.
"""

from inferencesched.sim.engine import CacheChange, Engine, EngineEvent, EngineSpec, Served
from inferencesched.sim.fleet import Event, Fleet, FleetSpec
from inferencesched.sim.flow_policies import FLOW_POLICIES, build_dispatcher
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.overload import (
    BANDS,
    Band,
    BandSummary,
    Call,
    Clients,
    Overload,
    Storm,
    capacity_of,
    run_overload,
)
from inferencesched.sim.policies import POLICIES, build_scheduler
from inferencesched.sim.replay import EndpointWork, RequestRun, Result, replay
from inferencesched.sim.report import Quantiles, Summary, summarize
from inferencesched.sim.trace import MOONCAKE_BLOCK_TOKENS, Trace, TraceRequest, read_mooncake
from inferencesched.sim.workload import AGENTS, CHAT, COMPLETIONS, LogNormal, Traffic, Workload

__all__ = [
    "AGENTS",
    "BANDS",
    "CHAT",
    "COMPLETIONS",
    "ENGINES",
    "FLOW_POLICIES",
    "MOONCAKE_BLOCK_TOKENS",
    "POLICIES",
    "Band",
    "BandSummary",
    "CacheChange",
    "Call",
    "Clients",
    "EndpointWork",
    "Engine",
    "EngineEvent",
    "EngineSpec",
    "Event",
    "Fleet",
    "FleetSpec",
    "LogNormal",
    "Overload",
    "Quantiles",
    "RequestRun",
    "Result",
    "Served",
    "Storm",
    "Summary",
    "Trace",
    "TraceRequest",
    "Traffic",
    "Workload",
    "build_dispatcher",
    "build_scheduler",
    "capacity_of",
    "read_mooncake",
    "replay",
    "run_overload",
    "summarize",
]
