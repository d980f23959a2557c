"""References from ``dataLayer``, ``requestHandler`` and ``flowControl`` to plugins: do they exist, and fit?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from inferencesched.config.plugins import Declared
from inferencesched.config.schema import DEFAULT_PARSERS, DataLayer, FlowControl, PickerConfig, RequestHandler
from inferencesched.errors import Problem, near_miss
from inferencesched.interfaces import roles_of
from inferencesched.registry import NOT_YET

__all__ = ["check_references"]

_ALWAYS_THERE = {
    "fcfs-ordering-policy",
    "global-strict-fairness-policy",
    "static-usage-limit-policy",
    "utilization-detector",
    *DEFAULT_PARSERS,
    "sglanghttp-parser",
    *(name for name, role in NOT_YET.items() if role == "parser"),
}
"""Types that may be referred to by name without being declared."""

_PLAIN = {"scorer", "picker", "profile-handler", "decider"}
"""Who has these roles and no other has no business outside a profile."""

_TOLD = {"fairness-policy", "ordering-policy", "parser", "saturation-detector", "usage-limit-policy"}
"""Roles that can be told from what a plugin implements."""

_Wanted = Iterator[tuple[str, str | None, str]]
"""Where a reference stands, the name it gives, the role that is wanted there."""


def check_references(config: PickerConfig, declared: Declared, problems: list[Problem]) -> None:
    """Append a problem for each reference to nothing, or to a plugin of another role."""
    for at, name, role in _references(config):
        if name is None or (name in _ALWAYS_THERE and name not in declared):
            continue
        if name not in declared:
            offer = near_miss(name, [*declared.names, *_ALWAYS_THERE])
            problems.append(Problem(at, f"no plugin '{name}' is declared{offer}"))
        elif misfit := _misfit(name, role, declared):
            problems.append(Problem(at, f"expected a plugin of role '{role}', '{name}' is a {misfit}"))
    if config.flow_control is not None:
        _check_bands(config.flow_control, problems)
    for source in config.data_layer.sources if config.data_layer else ():
        _check_extractors([(each.at, each.plugin_ref) for each in source.extractors], declared, problems)


def _misfit(name: str, role: str, declared: Declared) -> str:
    """Return what the plugin is if it cannot take the role, else an empty string.

    Some roles can be looked for. The others have no contract yet, so only what is surely something else is told. An
    extractor may be anything besides, and upstream's detectors are filters too.
    """
    if name in declared.idle:
        own = NOT_YET[declared.idle[name].type]
        return "" if own == role or (own, role) == ("producer", "extractor") else own
    if role == "extractor":
        return ""
    if name not in declared.built:
        return ""
    roles = roles_of(declared.built[name].plugin)
    if role in _TOLD:
        return "" if role in roles else " and ".join(roles) or "plugin of no role"
    return " and ".join(roles) if roles and set(roles) <= _PLAIN else ""


def _references(config: PickerConfig) -> _Wanted:
    if config.data_layer is not None:
        yield from _of_data_layer(config.data_layer)
    if config.flow_control is not None:
        yield from _of_flow_control(config.flow_control)
    if config.request_handler is not None:
        yield from _of_request_handler(config.request_handler)


def _of_data_layer(layer: DataLayer) -> _Wanted:
    for source in layer.sources:
        yield f"{source.at}.pluginRef", source.plugin_ref, "data-source"
        for extractor in source.extractors:
            yield f"{extractor.at}.pluginRef", extractor.plugin_ref, "extractor"
    if layer.discovery is not None:
        yield f"{layer.discovery.at}.pluginRef", layer.discovery.plugin_ref, "discovery"
    if layer.peer_discovery is not None:
        yield f"{layer.peer_discovery.at}.pluginRef", layer.peer_discovery.plugin_ref, "peer-discovery"
    name = layer.cross_replica_syncer_plugin_ref
    yield f"{layer.at}.crossReplicaSyncerPluginRef", name, "cross-replica-syncer"


def _of_flow_control(flow: FlowControl) -> _Wanted:
    templates = (flow.default_priority_band, flow.default_negative_priority_band)
    for band in (*templates, *flow.priority_bands):
        if band is not None:
            yield f"{band.at}.fairnessPolicyRef", band.fairness_policy_ref, "fairness-policy"
            yield f"{band.at}.orderingPolicyRef", band.ordering_policy_ref, "ordering-policy"
    yield f"{flow.at}.usageLimitPolicyPluginRef", flow.usage_limit_policy_plugin_ref, "usage-limit-policy"
    yield f"{flow.saturation_detector.at}.pluginRef", flow.saturation_detector.plugin_ref, "saturation-detector"


def _of_request_handler(handler: RequestHandler) -> _Wanted:
    for parser in handler.parsers:
        yield f"{parser.at}.pluginRef", parser.plugin_ref, "parser"


def _check_bands(flow: FlowControl, problems: list[Problem]) -> None:
    seen: set[int] = set()
    for band in flow.priority_bands:
        if band.priority in seen:
            message = f"a band of priority {band.priority} stands above already"
            problems.append(Problem(f"{band.at}.priority", message))
        seen.add(band.priority)


def _check_extractors(extractors: Iterable[tuple[str, str]], declared: Declared, problems: list[Problem]) -> None:
    """Append a problem for each extractor whose type its source has already."""
    seen: set[str] = set()
    for at, name in extractors:
        entry = declared.idle.get(name)
        kind = entry.type if entry is not None else declared.types.get(name, name)
        if kind in seen:
            problems.append(Problem(f"{at}.pluginRef", f"the source has an extractor of type '{kind}' already"))
        seen.add(kind)
