"""Names → plugin classes: one table of built-ins, entry points on demand; nothing is imported before it is named.

A distribution offers plugins in the entry-point group ``inferencesched.plugins``; the name is the plugin's type, the
value its class or factory, and its roles are told by what it implements::

    [project.entry-points."inferencesched.plugins"]
    carbon-aware-scorer = "carbon_aware:CarbonAware"

Two distributions that claim one name, or one that claims a built-in's, are an error when that name is used, and never
a silent choice by install order. A plugin that fails to import is reported with its distribution; others are not
affected.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

import attrs

from inferencesched.errors import ConfigError, PluginError, Problem, near_miss
from inferencesched.interfaces import roles_of
from inferencesched.parameters import Parameter, construct, parameters_of
from inferencesched.profile import Named

__all__ = ["BUILT_IN", "COMES_WITH", "DEPRECATED", "GROUP", "NOT_YET", "REFUSED", "PluginType", "Registry"]

GROUP = "inferencesched.plugins"

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "active-request-scorer": "inferencesched.builtin.scorers:ActiveRequestScorer",
        "agent-identity": "inferencesched.builtin.session:AgentIdentity",
        "always-disagg-multimodal-decider": "inferencesched.builtin.disaggregation:AlwaysDisaggMultimodalDecider",
        "always-disagg-pd-decider": "inferencesched.builtin.disaggregation:AlwaysDisaggPdDecider",
        "anthropic-parser": "inferencesched.apis.parsers:AnthropicParser",
        "approx-prefix-cache-producer": "inferencesched.prefix.producer:ApproxPrefixCacheProducer",
        "burst-prefix-cache-producer": "inferencesched.builtin.burst:BurstPrefixCacheProducer",
        "by-label": "inferencesched.builtin.filters:ByLabel",
        "combined-detector": "inferencesched.flow.detectors:CombinedDetector",
        "concurrency-detector": "inferencesched.flow.detectors:ConcurrencyDetector",
        "context-length-aware": "inferencesched.builtin.context:ContextLengthAware",
        "data-parallel-profile-handler": "inferencesched.builtin.handlers:DataParallelProfileHandler",
        "decode-filter": "inferencesched.builtin.roles:DecodeFilter",
        "disagg-headers-handler": "inferencesched.builtin.disaggregation:DisaggHeadersHandler",
        "disagg-profile-handler": "inferencesched.builtin.disaggregation:DisaggProfileHandler",
        "edf-ordering-policy": "inferencesched.flow.ordering:EdfOrderingPolicy",
        "encode-filter": "inferencesched.builtin.roles:EncodeFilter",
        "endpoint-attribute-filter": "inferencesched.builtin.attributes:EndpointAttributeFilter",
        "endpoint-attribute-scorer": "inferencesched.builtin.attributes:EndpointAttributeScorer",
        "expected-work-scorer": "inferencesched.builtin.work:ExpectedWorkScorer",
        "fcfs-ordering-policy": "inferencesched.flow.ordering:FcfsOrderingPolicy",
        "flow-control-tuning": "inferencesched.flow.settings:Tuning",
        "global-strict-fairness-policy": "inferencesched.flow.fairness:GlobalStrictFairnessPolicy",
        "header-based-testing-filter": "inferencesched.builtin.filters:HeaderBasedTestingFilter",
        "header-label-affinity-scorer": "inferencesched.builtin.affinity:HeaderLabelAffinityScorer",
        "header-profile-handler": "inferencesched.builtin.handlers:HeaderProfileHandler",
        "inflight-load-producer": "inferencesched.builtin.producers:InflightLoadProducer",
        "kv-cache-utilization-scorer": "inferencesched.builtin.scorers:KvCacheUtilizationScorer",
        "label-selector-filter": "inferencesched.builtin.filters:LabelSelectorFilter",
        "load-aware-scorer": "inferencesched.builtin.scorers:LoadAwareScorer",
        "lora-affinity-scorer": "inferencesched.builtin.scorers:LoraAffinityScorer",
        "max-score-picker": "inferencesched.builtin.pickers:MaxScorePicker",
        "mm-embeddings-cache-producer": "inferencesched.builtin.multimodal:MmEmbeddingsCacheProducer",
        "mm-embeddings-cache-scorer": "inferencesched.builtin.multimodal:MmEmbeddingsCacheScorer",
        "no-hit-lru-scorer": "inferencesched.builtin.cold:NoHitLruScorer",
        "openai-parser": "inferencesched.apis.parsers:OpenAIParser",
        "outlier-ejection-filter": "inferencesched.builtin.health:OutlierEjectionFilter",
        "passthrough-parser": "inferencesched.apis.parsers:PassthroughParser",
        "pd-profile-handler": "inferencesched.builtin.disaggregation:PdProfileHandler",
        "power-of-two-choices-picker": "inferencesched.builtin.pickers:PowerOfTwoChoicesPicker",
        "precise-prefix-cache-producer": "inferencesched.prefix.precise:PrecisePrefixCacheProducer",
        "prefill-filter": "inferencesched.builtin.roles:PrefillFilter",
        "prefill-header-handler": "inferencesched.builtin.disaggregation:DisaggHeadersHandler",
        "prefix-based-pd-decider": "inferencesched.builtin.disaggregation:PrefixBasedPdDecider",
        "prefix-cache-affinity-filter": "inferencesched.builtin.affinity:PrefixCacheAffinityFilter",
        "prefix-cache-scorer": "inferencesched.builtin.scorers:PrefixCacheScorer",
        "priority-holdback-policy": "inferencesched.flow.limits:PriorityHoldbackPolicy",
        "priority-then-time-eviction-order-policy": "inferencesched.flow.eviction:PriorityThenTimeEvictionOrderPolicy",
        "program-aware-fairness": "inferencesched.flow.programs:ProgramAwareFairness",
        "queue-scorer": "inferencesched.builtin.scorers:QueueScorer",
        "random-picker": "inferencesched.builtin.pickers:RandomPicker",
        "round-robin-fairness-policy": "inferencesched.flow.fairness:RoundRobinFairnessPolicy",
        "round-robin-picker": "inferencesched.builtin.pickers:RoundRobinPicker",
        "running-requests-size-scorer": "inferencesched.builtin.scorers:RunningRequestsSizeScorer",
        "session-affinity-filter": "inferencesched.builtin.session:SessionAffinityFilter",
        "session-affinity-scorer": "inferencesched.builtin.session:SessionAffinityScorer",
        "session-id-producer": "inferencesched.builtin.session:SessionIdProducer",
        "sglanghttp-parser": "inferencesched.apis.parsers:SglangHttpParser",
        "sheddable-eviction-filter": "inferencesched.flow.eviction:SheddableEvictionFilter",
        "single-profile-handler": "inferencesched.builtin.handlers:SingleProfileHandler",
        "slo-deadline-ordering-policy": "inferencesched.flow.ordering:SloDeadlineOrderingPolicy",
        "soft-reflective-ceiling-policy": "inferencesched.flow.limits:SoftReflectiveCeilingPolicy",
        "static-usage-limit-policy": "inferencesched.flow.limits:StaticUsageLimitPolicy",
        "token-load-scorer": "inferencesched.builtin.scorers:TokenLoadScorer",
        "token-producer": "inferencesched.builtin.producers:TokenProducer",
        "token-weighted-fairness-policy": "inferencesched.flow.fairness:TokenWeightedFairnessPolicy",
        "topology-affinity-filter": "inferencesched.builtin.topology:TopologyAffinityFilter",
        "topology-affinity-scorer": "inferencesched.builtin.topology:TopologyAffinityScorer",
        "topology-extractor": "inferencesched.builtin.topology:TopologyExtractor",
        "utilization-detector": "inferencesched.flow.detectors:UtilizationDetector",
        "utilization-filter": "inferencesched.builtin.filters:UtilizationFilter",
        "vllmhttp-parser": "inferencesched.apis.parsers:VllmHttpParser",
        "weighted-random-picker": "inferencesched.builtin.pickers:WeightedRandomPicker",
    }
)

DEPRECATED: Mapping[str, str] = MappingProxyType(
    {
        "best-head": "global-strict-fairness-policy",
        "by-label": "label-selector-filter",
        "by-label-selector": "label-selector-filter",
        "disagg-headers-handler": "disagg-profile-handler",
        "kv-cache-scorer": "kv-cache-utilization-scorer",
        "pd-profile-handler": "disagg-profile-handler",
        "precise-prefix-cache-scorer": "precise-prefix-cache-producer",
        "prefill-header-handler": "disagg-profile-handler",
        "tokenizer": "token-producer",
    }
)
"""Old names of the Endpoint Picker → the type to write instead. One that is no built-in itself is a mere alias."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        f"multicluster-{rest}": "it takes whole clusters for endpoints, which this library does not schedule"
        for rest in (
            "approx-prefix-cache-producer",
            "file-discovery",
            "kv-cache-utilization-scorer",
            "metrics-data-source",
            "metrics-extractor",
            "prefix-cache-scorer",
            "queue-scorer",
            "session-affinity-filter",
        )
    }
)
"""Types of the Endpoint Picker that will not be built → why."""

NOT_YET: Mapping[str, str] = MappingProxyType(
    {
        "core-metrics-extractor": "extractor",
        "dcgm-data-source": "data-source",
        "dcgm-extractor": "extractor",
        "destination-endpoint-served-verifier": "response-processor",
        "disaggregatedset-rollout-screener": "screener",
        "endpoint-notification-source": "data-source",
        "file-discovery": "discovery",
        "k8s-notification-source": "data-source",
        "latency-scorer": "scorer",
        "latency-slo-admitter": "admitter",
        "local-syncer": "cross-replica-syncer",
        "metrics-data-source": "data-source",
        "models-data-extractor": "extractor",
        "models-data-source": "data-source",
        "p2p-source-producer": "producer",
        "predicted-latency-producer": "producer",
        "probabilistic-admitter": "admitter",
        "request-attribute-reporter": "response-processor",
        "slo-headroom-tier-filter": "filter",
        "vertexai-parser": "parser",
        "vllmgrpc-parser": "parser",
    }
)
"""Types of the Endpoint Picker that nothing implements here yet → their role. A configuration may declare them and is
told that they have no effect; whoever implements one lists it in `BUILT_IN`, or offers it as an entry point."""

COMES_WITH: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "core-metrics-extractor",
            "dcgm-data-source",
            "dcgm-extractor",
            "file-discovery",
            "kv-events-source",
            "metrics-data-source",
            "models-data-extractor",
            "models-data-source",
        ),
        "inferencesched-sources",
    )
)
"""Types that a distribution of ours implements → that distribution, to be named where it is not installed."""


@attrs.frozen
class PluginType:
    """A plugin class that has been found and imported.

    Attributes:
        name: its type, as a configuration names it.
        factory: the class, or a callable that makes one.
        distribution: the installed distribution it came from; None for built-ins and for what was passed in.
    """

    name: str
    factory: Any
    distribution: str | None = None

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles it takes."""
        return roles_of(self.factory)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What can be configured."""
        return parameters_of(self.factory) if isinstance(self.factory, type) else ()

    @property
    def doc(self) -> str:
        """The class's docstring, dedented."""
        return importlib.import_module("inspect").getdoc(self.factory) or ""


class Registry:
    """Finds plugin types by name and makes plugins of them.

    Args:
        extra: types known under further names, for a host that brings plugins of its own without a distribution.
        installed: the entry points to choose from; those of the environment by default, read when first needed.

    >>> Registry().create("token-load-scorer", {"queueThresholdTokens": 1000})
    TokenLoadScorer(queue_threshold_tokens=1000, in_flight_load_producer_name=None)
    """

    def __init__(
        self, extra: Mapping[str, Any] | None = None, *, installed: Iterable[EntryPoint] | None = None
    ) -> None:
        self._extra = dict(extra or {})
        self._installed = None if installed is None else tuple(installed)
        self._found: dict[str, PluginType] = {}

    def __contains__(self, name: object) -> bool:
        """Return whether some plugin claims the type `name`; imports nothing."""
        return name in self._extra or name in BUILT_IN or any(point.name == name for point in self._points())

    @property
    def types(self) -> tuple[str, ...]:
        """Every type name that can be asked for, sorted; imports nothing."""
        return tuple(sorted({*self._extra, *BUILT_IN, *(point.name for point in self._points())}))

    def type(self, name: str) -> PluginType:
        """Return the plugin type of that name, importing its module.

        Raises:
            ConfigError: the name is unknown, or more than one distribution claims it.
            PluginError: its module cannot be imported; the cause is chained.
        """
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._find(name)
        return found

    def create(self, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return a plugin of the type `name`, with these parameters (in a configuration's spelling).

        Raises:
            ConfigError: as `type` does, or parameters are unknown, missing or wrong: all of them at once.
            PluginError: the module cannot be imported, or the constructor failed.
        """
        problems: list[Problem] = []
        named = self.build(name, parameters, path=name, problems=problems)
        if named is None:
            raise ConfigError(problems)
        return named.plugin

    def build(
        self,
        type: str,
        parameters: Any,
        *,
        name: str | None = None,
        path: str,
        problems: list[Problem],
        references: Mapping[str, object] = MappingProxyType({}),
    ) -> Named | None:
        """Return a plugin under its configured name, or None after appending what is wrong to `problems`.

        Args:
            references: plugins already built, by the names that parameters may refer to them by.
        """
        try:
            found = self.type(type)
        except ConfigError as error:
            problems.extend(Problem(f"{path}.type", problem.message) for problem in error.problems)
            return None
        before = len(problems)
        plugin = construct(found.factory, parameters, f"{path}.parameters", problems, references=references)
        return None if len(problems) > before else Named(plugin, name or type, found.distribution)

    def _find(self, name: str) -> PluginType:
        if name in self._extra:
            return PluginType(name, self._extra[name])
        claims = [point for point in self._points() if point.name == name]
        owners = ["inferencesched itself"] if name in BUILT_IN else []
        owners += [f"'{_distribution(point)}'" for point in claims]
        if len(owners) > 1:
            message = f"'{name}' is claimed by {' and by '.join(owners)}; uninstall one, or ask its author to rename it"
            raise ConfigError([Problem("type", message)])
        if name in BUILT_IN:
            module, _, attribute = BUILT_IN[name].partition(":")
            return PluginType(name, getattr(importlib.import_module(module), attribute))
        if not claims:
            raise ConfigError([Problem("type", f"unknown plugin '{name}'{near_miss(name, self.types)}")])
        (point,) = claims
        try:
            return PluginType(name, point.load(), _distribution(point))
        except Exception as error:
            message = f"'{point.value}' cannot be imported ({type(error).__name__}: {error})"
            raise PluginError(name, message, distribution=_distribution(point)) from error

    def _points(self) -> tuple[EntryPoint, ...]:
        if self._installed is None:
            self._installed = tuple(entry_points(group=GROUP))
        return self._installed


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown distribution"
