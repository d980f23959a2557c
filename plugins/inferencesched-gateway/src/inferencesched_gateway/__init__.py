"""An inference gateway on inferencesched: HTTP on both sides, and nothing decided here that the library can decide.

service ── listeners, sources, reload, drain
   └── gateway ── exchange → plan: what is asked for, which pool, how urgent
          └── relay ── plan → engine → client: fallbacks, streams, one place held and given back
                ├── pool ── a Dispatcher for those who are called back
                └── wire ── HTTP/1.1 as callbacks
"""

from inferencesched_gateway.gateway import Gateway, GatewaySettings
from inferencesched_gateway.manifest import Manifest, load
from inferencesched_gateway.outcome import Outcome
from inferencesched_gateway.service import Service, ServiceSettings

__all__ = ["Gateway", "GatewaySettings", "Manifest", "Outcome", "Service", "ServiceSettings", "load"]
