"""Who may say how a request is to be treated: control headers count only from networks that the operator named.

Everybody else's are dropped before anything reads them, whether or not a place is found for the request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

__all__ = ["CONTROL_HEADERS", "TrustedNetworks"]

CONTROL_HEADERS = frozenset(
    {
        "x-data-parallel-host-port",
        "x-encoder-hosts-ports",
        "x-gateway-base-model-name",
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-scores",
        "x-gateway-destination-endpoint-served",
        "x-gateway-destination-endpoint-subset",
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name",
        "x-gateway-model-name-rewrite",
        "x-kv-cache-source-host-port",
        "x-llm-d-inference-fairness-id",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
        "x-llm-d-request-dropped-reason",
        "x-llm-d-slo-tpot-ms",
        "x-llm-d-slo-ttft-ms",
        "x-prefiller-host-port",
        "x-slo-tpot-ms",
        "x-slo-ttft-ms",
        "test-epp-endpoint-selection",
    }
)
"""The Endpoint Picker's system-owned headers, deprecated names included: never forwarded as a client sent them."""

_REMEMBERED = 4096  # addresses whose answer is kept; a gateway's clients are few, or behind few proxies


class TrustedNetworks:
    """The networks whose control headers count.

    Args:
        networks: in CIDR notation; a single address will do.

    Raises:
        ValueError: one is neither.

    >>> trusted = TrustedNetworks(["10.0.0.0/8", "::1"])
    >>> trusted.covers("10.1.2.3"), trusted.covers("::1"), trusted.covers("192.0.2.1"), trusted.covers("unix")
    (True, True, False, False)
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self._known: dict[str, bool] = {}

    def covers(self, peer: str) -> bool:
        """Return whether the address is in one of the networks."""
        known = self._known.get(peer)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[peer] = self._is_covered(peer)
        return known

    def _is_covered(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
