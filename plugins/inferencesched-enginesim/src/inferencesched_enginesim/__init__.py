"""A model server without a model: the OpenAI and Anthropic APIs over inferencesched's simulated engine.

::

    async with EngineServer(ServerSpec(model="llama", speed=20)) as engine:
        print(engine.address)
"""

from inferencesched_enginesim.faults import Fault, Faults
from inferencesched_enginesim.fleet import EngineFleet
from inferencesched_enginesim.log import Received, RequestLog
from inferencesched_enginesim.server import EngineServer
from inferencesched_enginesim.spec import HARDWARE, INSTANT, KvEventPorts, ServerSpec

__all__ = [
    "HARDWARE",
    "INSTANT",
    "EngineFleet",
    "EngineServer",
    "Fault",
    "Faults",
    "KvEventPorts",
    "Received",
    "RequestLog",
    "ServerSpec",
]
