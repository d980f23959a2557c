"""A configuration in force, written as the document that gives it again: nothing implied, every default shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencesched.config.plugins import Declared
from inferencesched.config.schema import (
    API_VERSION,
    KIND,
    DataLayer,
    FlowControl,
    PickerConfig,
    RequestHandler,
    to_plain,
)
from inferencesched.parameters import parameters_of, to_mapping
from inferencesched.profile import Profile

__all__ = ["write"]

_NAMELESS = "(by default)"
"""Stands for a plugin that a parameter holds by default and no entry declared: leaving the key out gives it again."""


def write(
    profiles: Mapping[str, Profile],
    declared: Declared,
    gates: Mapping[str, bool],
    spec: PickerConfig,
    flow: FlowControl,
) -> dict[str, Any]:
    """Return the document."""
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "featureGates": [f"{name}={str(state).lower()}" for name, state in gates.items()],
        "plugins": _plugins(declared),
        "schedulingProfiles": [{"name": name, "plugins": _entries(profile)} for name, profile in profiles.items()],
    }
    document["dataLayer"] = to_plain(spec.data_layer or DataLayer())
    if gates["flowControl"]:
        document["flowControl"] = _flow_control(flow)
    elif flow.saturation_detector.at:
        document["flowControl"] = {"saturationDetector": to_plain(flow.saturation_detector)}
    document["requestHandler"] = to_plain(spec.request_handler or RequestHandler())
    return document


def _plugins(declared: Declared) -> list[dict[str, Any]]:
    names = {id(named.plugin): name for name, named in declared.built.items()}
    written = []
    for name, named in declared.built.items():
        parameters = to_mapping(named.plugin, names=lambda plugin: names.get(id(plugin), _NAMELESS))
        optional = {p.name for p in parameters_of(type(named.plugin)) if p.default is None}
        shown = {key: value for key, value in parameters.items() if value is not None or key not in optional}
        shown = {key: value for key, value in shown.items() if value is not _NAMELESS}
        written.append(_entry(name, declared.types[name], shown))
    return written + [_entry(name, entry.type, entry.parameters) for name, entry in declared.idle.items()]


def _entry(name: str, type: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"name": name, "type": type, **({"parameters": dict(parameters)} if parameters else {})}


def _entries(profile: Profile) -> list[dict[str, Any]]:
    """Return the profile's places; a plugin of several roles has one."""
    weights = {named.name: weight for named, weight in zip(profile.scorers, profile.weights, strict=True)}
    names = dict.fromkeys(named.name for named in (*profile.filters, *profile.scorers, profile.picker))
    return [{"pluginRef": name, **({"weight": weights[name]} if name in weights else {})} for name in names]


def _flow_control(flow: FlowControl) -> dict[str, Any]:
    """Return the section with each band's limits and policies resolved."""
    resolved = flow.revised(
        priority_bands=tuple(flow.band(band.priority) for band in flow.priority_bands),
        no_endpoint_request_ttl=(
            flow.default_request_ttl if flow.no_endpoint_request_ttl is None else flow.no_endpoint_request_ttl
        ),
    )
    return to_plain(resolved)
