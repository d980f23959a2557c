"""The EndpointPickerConfig as values: which keys there are, what they hold, and what holds when they are left out.

The shape only, field by field as the Endpoint Picker has it; whether what a key refers to exists is looked at later.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from inferencesched.documents import Part
from inferencesched.parameters import parameters_of
from inferencesched.units import duration, format_duration, quantity

__all__ = [
    "API_VERSION",
    "KIND",
    "LEGACY_API_VERSION",
    "DataLayer",
    "FlowControl",
    "PickerConfig",
    "PluginEntry",
    "PriorityBand",
    "ProfileEntry",
    "Reference",
    "RequestHandler",
    "SchedulingProfile",
    "Source",
    "TemplateBand",
    "to_plain",
]

KIND = "EndpointPickerConfig"
DEFAULT_PARSERS = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser")
API_VERSION: Literal["llm-d.ai/v1alpha1"] = "llm-d.ai/v1alpha1"
LEGACY_API_VERSION = "inference.networking.x-k8s.io/v1alpha1"

_DURATION = {"written": str, "write": format_duration}
_QUANTITY = {"written": str | int | float}


def _seconds(given: str | float) -> float:
    return duration(given) if isinstance(given, str) else given


def _seconds_or_none(given: str | float | None) -> float | None:
    return None if given is None else _seconds(given)


def _amount_or_none(given: str | float | None) -> int | None:
    return None if given is None else quantity(given)


def _named(_: object, __: object, value: str) -> None:
    if not value.strip():
        raise ValueError("required, expected a name, got an empty string")


@attrs.frozen
class PluginEntry(Part):
    """One of ``plugins``: an instance of a plugin type, under a name."""

    type: str = attrs.field(validator=_named)
    name: str = ""
    parameters: Mapping[str, Any] | None = attrs.field(default=None, converter=copy.deepcopy)

    @property
    def label(self) -> str:
        """The name that references use; it defaults to the type."""
        return self.name or self.type


@attrs.frozen
class Reference(Part):
    """A reference to one of ``plugins`` by name."""

    plugin_ref: str = attrs.field(validator=_named)


@attrs.frozen
class ProfileEntry(Part):
    """A plugin's place in a profile, with its weight if it is a scorer."""

    plugin_ref: str = attrs.field(validator=_named)
    weight: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(0)))


@attrs.frozen
class SchedulingProfile(Part):
    """One of ``schedulingProfiles``."""

    name: str = attrs.field(validator=_named)
    plugins: tuple[ProfileEntry, ...] = ()


@attrs.frozen
class Source(Part):
    """A data source, and the extractors that read what it brings."""

    plugin_ref: str = attrs.field(validator=_named)
    extractors: tuple[Reference, ...] = ()


_METRICS = Source("metrics-data-source", (Reference("core-metrics-extractor"),))


@attrs.frozen
class DataLayer(Part):
    """``dataLayer``: where facts about endpoints come from, and where endpoints themselves do."""

    inject_defaults: bool = True
    sources: tuple[Source, ...] = ()
    discovery: Reference | None = None
    peer_discovery: Reference | None = None
    cross_replica_syncer_plugin_ref: str | None = None
    cross_replica_sync_interval: float = attrs.field(default=0.2, converter=_seconds, metadata=_DURATION)

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """The sources, with that of the engines' metrics put in unless it is there or not wanted."""
        is_there = any(source.plugin_ref == _METRICS.plugin_ref for source in self.sources)
        return self.sources if is_there or not self.inject_defaults else (*self.sources, _METRICS)


@attrs.frozen
class TemplateBand(Part):
    """What holds for a priority band that is not listed; ``priority`` may stand there and has no meaning."""

    priority: int | None = None
    max_bytes: int = attrs.field(default=1_000_000_000, converter=quantity, metadata=_QUANTITY)
    max_requests: int = attrs.field(default=5_000, converter=quantity, metadata=_QUANTITY)
    fairness_policy_ref: str = "global-strict-fairness-policy"
    ordering_policy_ref: str = "fcfs-ordering-policy"


@attrs.frozen
class PriorityBand(Part):
    """One of ``priorityBands``; what it leaves out it takes from the template for its priority."""

    priority: int
    max_bytes: int | None = attrs.field(default=None, converter=_amount_or_none, metadata=_QUANTITY)
    max_requests: int | None = attrs.field(default=None, converter=_amount_or_none, metadata=_QUANTITY)
    fairness_policy_ref: str | None = None
    ordering_policy_ref: str | None = None


@attrs.frozen
class FlowControl(Part):
    """``flowControl``: limits, bands, times to live and policies of the queue.

    A limit that is None is none; a time to live of 0 s never ends, and `no_endpoint_request_ttl` follows the other one.
    """

    max_bytes: int | None = attrs.field(default=None, converter=_amount_or_none, metadata=_QUANTITY)
    max_requests: int | None = attrs.field(default=None, converter=_amount_or_none, metadata=_QUANTITY)
    default_request_ttl: float = attrs.field(
        default=60.0, converter=_seconds, metadata={"parameter": "defaultRequestTTL", **_DURATION}
    )
    no_endpoint_request_ttl: float | None = attrs.field(
        default=None, converter=_seconds_or_none, metadata={"parameter": "noEndpointRequestTTL", **_DURATION}
    )
    default_priority_band: TemplateBand = attrs.field(factory=TemplateBand)
    default_negative_priority_band: TemplateBand | None = None
    priority_bands: tuple[PriorityBand, ...] = ()
    usage_limit_policy_plugin_ref: str = "static-usage-limit-policy"
    saturation_detector: Reference = attrs.field(factory=lambda: Reference("utilization-detector"))
    enable_eviction: bool = False

    def band(self, priority: int) -> TemplateBand:
        """Return what holds for requests of that priority."""
        negative = self.default_negative_priority_band
        template = self.default_priority_band if priority >= 0 or negative is None else negative
        own = next((band for band in self.priority_bands if band.priority == priority), None)
        given = {} if own is None else attrs.asdict(own, filter=lambda field, value: field.init and value is not None)
        return attrs.evolve(template, **{**given, "priority": priority})


@attrs.frozen
class RequestHandler(Part):
    """``requestHandler``: the parsers of request bodies."""

    parsers: tuple[Reference, ...] = tuple(map(Reference, DEFAULT_PARSERS))


@attrs.frozen
class PickerConfig(Part):
    """The whole document."""

    api_version: Literal["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"] = API_VERSION
    kind: Literal["EndpointPickerConfig"] = "EndpointPickerConfig"
    feature_gates: tuple[str, ...] = ()
    plugins: tuple[PluginEntry, ...] = ()
    scheduling_profiles: tuple[SchedulingProfile, ...] = ()
    data_layer: DataLayer | None = None
    flow_control: FlowControl | None = None
    request_handler: RequestHandler | None = None
    saturation_detector: Reference | None = None
    parser: Reference | None = None


def to_plain(part: Part) -> dict[str, Any]:
    """Return the mapping that decodes to `part`, defaults shown, keys that hold nothing left out."""
    fields = {field.alias or field.name: field for field in attrs.fields(type(part))}
    plain: dict[str, Any] = {}
    for parameter in parameters_of(type(part)):
        value = getattr(part, parameter.field)
        if value is not None:
            write = fields[parameter.field].metadata.get("write", _plain)
            plain[parameter.name] = write(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return to_plain(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
