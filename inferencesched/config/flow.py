"""The ``flowControl`` section as settings: its references become the plugins they name, its limits what they mean.

Roles that no field refers to (eviction, tuning) are taken by the first plugin declared that has them.

Semantics are the Endpoint Picker's: a limit of 0 is none for all bands together, and the default for one band.
"""

from __future__ import annotations

from typing import Any

from inferencesched.config.plugins import Declared
from inferencesched.config.schema import FlowControl, TemplateBand
from inferencesched.flow.eviction import PriorityThenTimeEvictionOrderPolicy, SheddableEvictionFilter
from inferencesched.flow.settings import BandSettings, LegacyAdmission, Settings, Tuning
from inferencesched.interfaces import EvictionFilter, EvictionOrderingPolicy
from inferencesched.registry import Registry

__all__ = ["admission", "settings"]


def settings(flow: FlowControl, declared: Declared, registry: Registry) -> Settings:
    """Return what is in force where the gate ``flowControl`` is on."""

    def band(given: TemplateBand) -> BandSettings:
        default = TemplateBand()
        return BandSettings(
            int(given.max_requests) or int(default.max_requests),
            int(given.max_bytes) or int(default.max_bytes),
            _plugin(given.fairness_policy_ref, declared, registry),
            _plugin(given.ordering_policy_ref, declared, registry),
        )

    negative = flow.default_negative_priority_band
    priorities = sorted({0, *(each.priority for each in flow.priority_bands)})
    plugins = [named.plugin for named in declared.built.values()]
    return Settings(
        bands={priority: band(flow.band(priority)) for priority in priorities},
        default_band=band(flow.default_priority_band),
        default_negative_band=None if negative is None else band(negative),
        max_requests=flow.max_requests or None,
        max_bytes=flow.max_bytes or None,
        ttl=flow.default_request_ttl,
        no_endpoint_ttl=flow.no_endpoint_request_ttl,
        limits=_plugin(flow.usage_limit_policy_plugin_ref, declared, registry),
        detector=_plugin(flow.saturation_detector.plugin_ref, declared, registry),
        evict=flow.enable_eviction,
        eviction_filter=_declared(plugins, EvictionFilter, SheddableEvictionFilter),
        eviction_order=_declared(plugins, EvictionOrderingPolicy, PriorityThenTimeEvictionOrderPolicy),
        tuning=_declared(plugins, Tuning, Tuning),
    )


def admission(flow: FlowControl, declared: Declared, registry: Registry) -> LegacyAdmission:
    """Return what is in force where it is off: the detector is honoured all the same."""
    return LegacyAdmission(_plugin(flow.saturation_detector.plugin_ref, declared, registry))


def _declared(plugins: list[Any], role: type, default: type) -> Any:
    """Return the first plugin that takes a role which no reference names, or the one that is there by default."""
    return next((plugin for plugin in plugins if isinstance(plugin, role)), None) or default()


def _plugin(name: str, declared: Declared, registry: Registry) -> Any:
    """Return the plugin declared under that name, or a new one of that type with its defaults."""
    named = declared.built.get(name)
    return registry.create(name) if named is None else named.plugin
