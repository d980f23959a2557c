"""Scheduling for LLM inference gateways: where does this request go, or must it wait, or is it refused?

Three doors, each complete without the next: `Profile.run` is one pass over the endpoints, a pure function; `Scheduler`
adds the endpoint table, the ledger of leases and memory; `Dispatcher` adds queues, priorities and deadlines. See the
README for a first script and DESIGN.md for the house.
"""

from inferencesched.adapters import per_endpoint
from inferencesched.config import Config, load_config
from inferencesched.decision import Decision, Lease, Rejection
from inferencesched.dispatcher import Dispatcher
from inferencesched.endpoints import Endpoint, EndpointBatch, EndpointTable
from inferencesched.errors import (
    ConfigError,
    ContractError,
    InferenceschedError,
    LifecycleError,
    PluginError,
    RequestRejected,
)
from inferencesched.events import Assigned, Rejected
from inferencesched.interfaces import Filter, Observer, Picker, Producer, ProfileHandler, Scorer
from inferencesched.profile import Profile
from inferencesched.registry import Registry
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler

__all__ = [
    "Assigned",
    "Config",
    "ConfigError",
    "ContractError",
    "Decision",
    "Dispatcher",
    "Endpoint",
    "EndpointBatch",
    "EndpointTable",
    "Filter",
    "InferenceschedError",
    "Lease",
    "LifecycleError",
    "Observer",
    "Picker",
    "PluginError",
    "Producer",
    "Profile",
    "ProfileHandler",
    "Registry",
    "Rejected",
    "Rejection",
    "Request",
    "RequestRejected",
    "Scheduler",
    "Scorer",
    "load_config",
    "per_endpoint",
]
