"""dcgm-data-source and dcgm-extractor: how busy the accelerators of an endpoint are, as NVIDIA's exporter says it."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import attrs

from inferencesched import Endpoint
from inferencesched.interfaces import Reading
from inferencesched.signals import DCGM
from inferencesched_sources.http_source import HttpSource, interval_field, port_field

__all__ = ["DcgmDataSource", "DcgmExtractor"]


@attrs.define(eq=False, kw_only=True)
class DcgmDataSource(HttpSource):
    """Ask the DCGM exporter at every endpoint's host.

    Args:
        scheme: of the exporter's page.
        path: of the page.
        port: of the exporter.
        use_node_address: ask the node that the endpoint runs on: its label ``nodeAddress``, where it has one.
        insecure_skip_verify: take any certificate.
        ca_cert_path: a PEM file with the authorities to trust.
        client_cert_path: a PEM file with a certificate to show; with `client_key_path`.
        client_key_path: its key.
        interval: from one look at an endpoint to the next (a Go duration).

    Unknown: as for `metrics-data-source`.
    Source: Endpoint Picker ``dcgm-data-source``. Difference: ``interval`` is 1 s by default, as often as the exporter
        itself looks.
    """

    type: ClassVar[str] = "dcgm-data-source"
    default_extractors: ClassVar[tuple[str, ...]] = ("dcgm-extractor",)
    moved_by_labels: ClassVar[bool] = False

    port: int | None = port_field(9400)
    use_node_address: bool = False
    interval: float = interval_field(1.0)

    def host(self, endpoint: Endpoint, host: str) -> str:
        """Return the host whose exporter knows about the endpoint."""
        return endpoint.labels.get("nodeAddress", host) if self.use_node_address else host


@attrs.frozen
class DcgmExtractor:
    """Read how busy the endpoint's accelerators are off a page of the DCGM exporter.

    Formula: accelerator_utilization = max(DCGM_FI_DEV_GPU_UTIL) / 100, of the series whose label ``pod`` is the
        endpoint's name, and of those without that label.
    Unknown: without such a series, unknown.
    Source: Endpoint Picker ``dcgm-extractor``.
    """

    type: ClassVar[str] = "dcgm-extractor"
    default_source: ClassVar[str] = "dcgm-data-source"
    brings: ClassVar[tuple[str, ...]] = DCGM.columns

    def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
        """Return the share of time that the busiest of them worked."""
        mine = _names(endpoint)
        (metric,) = DCGM.names
        values = [each.value for each in metric.series(payload) if each.labels.get("pod", "") in mine]
        if not values:
            why = f"the page has no '{metric}' of this endpoint"
            return Reading(absent={DCGM.column: why})
        return Reading({DCGM.column: DCGM.scale * max(values)})


def _names(endpoint: Endpoint) -> frozenset[str]:
    """Return what the exporter may call the endpoint's pod: its name, without namespace and rank; or nothing at all."""
    bare = endpoint.name.rpartition("/")[2]
    return frozenset(("", bare, bare.removesuffix(f"-rank-{endpoint.rank}")))
