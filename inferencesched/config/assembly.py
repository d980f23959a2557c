"""From a decoded configuration to the objects it stands for, as the Endpoint Picker does: instantiate, inject, check.

`Config` is the result: profiles, their handler, and everything else that a host has to know.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import attrs

from inferencesched.apis import Operations
from inferencesched.config.flow import admission, settings
from inferencesched.config.gates import read_gates
from inferencesched.config.parsers import note_idle, operations_of
from inferencesched.config.plugins import Declared, build_plugins
from inferencesched.config.producers import add_producers, check_producer_names
from inferencesched.config.profiles import DEFAULT_HANDLER, choose_handler, gather, make_profiles
from inferencesched.config.references import check_references
from inferencesched.config.schema import DataLayer, FlowControl, PickerConfig, RequestHandler
from inferencesched.config.sources import sources_of
from inferencesched.config.writing import write
from inferencesched.errors import Problem
from inferencesched.flow.settings import LegacyAdmission, Settings
from inferencesched.interfaces import Source
from inferencesched.profile import Named, Profile
from inferencesched.registry import Registry
from inferencesched.scheduler import Scheduler

__all__ = ["Config", "assemble"]


@attrs.frozen(eq=False, repr=False)
class Config:
    """A configuration that was found right, as the objects it stands for. Made by `load_config`.

    Attributes:
        profiles: the profiles by name.
        handler: the profile handler; None only where a single profile needs none.
        plugins: every plugin by name: those declared, in their order, then those that were put in.
        gates: the state of every feature gate.
        data_layer: where facts and endpoints come from, as configured.
        flow_control: limits, bands and policies of the queue; has effect where the gate ``flowControl`` is on.
        request_handler: the parsers of request bodies, as configured.
        warnings: what is deprecated, has no effect, or was chosen for want of a choice.
    """

    profiles: Mapping[str, Profile]
    handler: Named | None
    plugins: Mapping[str, Named]
    gates: Mapping[str, bool]
    data_layer: DataLayer
    flow_control: FlowControl
    request_handler: RequestHandler
    warnings: tuple[Problem, ...]
    _spec: PickerConfig
    _declared: Declared
    _registry: Registry

    def __repr__(self) -> str:
        return f"Config({', '.join(map(repr, self.profiles.values()))})"

    def __eq__(self, other: object) -> bool:
        """Return whether the same is in force, however it was written."""
        return self.to_mapping() == other.to_mapping() if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment] # equality is by content, and plugins need not be hashable

    def scheduler(self, *, rng: random.Random, **options: Any) -> Scheduler:
        """Return a new scheduler with these profiles and plugins of its own: no two schedulers share memory.

        Args:
            rng: its only source of chance.
            options: further arguments of `Scheduler`.
        """
        own = assemble(self._spec, self._registry, [], [])
        return Scheduler(own.profiles, handler=own._asked_handler, plugins=own.plugins.values(), rng=rng, **options)

    @property
    def _asked_handler(self) -> Named | None:
        """The handler that has something to decide: that of a single profile says what a scheduler does without one."""
        handler = self.handler
        return None if handler is not None and self._declared.types[handler.name] == DEFAULT_HANDLER else handler

    def flow(self, scheduler: Scheduler | None = None) -> Settings | LegacyAdmission:
        """Return the flow control of a new dispatcher, with policies of its own: queues, if the gate says so.

        Args:
            scheduler: one that this configuration is in force in: its plugins are the policies, so that a policy that
                listens (an Observer) is told what happens there.
        """
        own = assemble(self._spec, self._registry, [], [])
        if scheduler is not None:
            own._declared.built.update({named.name: named for named in scheduler.plugins})
        make = settings if self.gates["flowControl"] else admission
        return make(own.flow_control, own._declared, self._registry)

    def sources(self, scheduler: Scheduler) -> tuple[Source, ...]:
        """Return what brings facts and endpoints to a scheduler that this configuration is in force in.

        A host opens each of them in its event loop, and closes them before it puts another configuration in force.
        Those listed under ``dataLayer`` are among them, the engines' metrics unless ``injectDefaults`` is off, and the
        engines' cache events where a `precise-prefix-cache-producer` needs them, declared or not.

        Raises:
            ConfigError: the distribution that one of them comes with is not installed.
        """
        plugins = {named.name: named.plugin for named in scheduler.plugins}
        return sources_of(self.data_layer, plugins, self._declared.types, self._registry)

    def operations(self) -> Operations:
        """Return which calls of clients are understood, and whether others are passed through: what its parsers say."""
        plugins = {name: named.plugin for name, named in self.plugins.items()}
        return operations_of(self.request_handler, plugins, self._registry)

    def apply_to(self, scheduler: Scheduler, *, now: float) -> int:
        """Put this configuration in force in a running scheduler, and return the new generation.

        What plugins of the same name and type remember is taken over; endpoints, facts and leases stay.
        """
        own = assemble(self._spec, self._registry, [], [])
        return scheduler.reconfigure(own.profiles, handler=own._asked_handler, plugins=own.plugins.values(), now=now)

    def to_mapping(self) -> dict[str, Any]:
        """Return what is in force as a document: defaults shown, what was put in written out.

        Loading it gives an equal configuration.
        """
        return write(self.profiles, self._declared, self.gates, self._spec, self.flow_control)


def assemble(spec: PickerConfig, registry: Registry, problems: list[Problem], warnings: list[Problem]) -> Config:
    """Return what `spec` stands for; worth something only if no problem was appended."""
    gates = read_gates(spec.feature_gates, "featureGates", problems)
    spec = _effective(spec, gates, warnings)
    declared = build_plugins(spec.plugins, registry, problems, warnings)
    members = gather(spec.scheduling_profiles, declared, registry, problems, warnings)
    handler = choose_handler(list(members), declared, registry, problems)
    add_producers(declared, registry, problems)
    check_producer_names(spec.plugins, declared, problems)
    check_references(spec, declared, problems)
    note_idle(spec.request_handler or RequestHandler(), declared, warnings)
    profiles = make_profiles(members, declared.of_role("producer"), problems)
    return Config(
        profiles,
        handler,
        declared.built,
        gates,
        spec.data_layer or DataLayer(),
        spec.flow_control or FlowControl(),
        spec.request_handler or RequestHandler(),
        tuple(warnings),
        spec,
        declared,
        registry,
    )


def _effective(spec: PickerConfig, gates: Mapping[str, bool], warnings: list[Problem]) -> PickerConfig:
    """Return `spec` without what the gates leave without effect: of flow control, all but the saturation detector."""
    flow = spec.flow_control
    if flow is None or gates["flowControl"]:
        return spec
    kept = FlowControl(saturation_detector=flow.saturation_detector)
    if kept != flow:
        warnings.append(Problem(flow.at, "has no effect: the feature gate 'flowControl' is off"))
    return spec.revised(flow_control=kept)
