"""Rules about what stands around the profiles: flow control, resources, memory, trust, and names of yesterday."""

from __future__ import annotations

from collections.abc import Iterator

from inferencesched.config.doctor.finding import Finding, Patient, Rule
from inferencesched.prefix import estimate_memory

__all__ = ["SURROUNDINGS_RULES"]

_MEGABYTE = 2**20
_CLIENT_SAYS = {
    "header-profile-handler": "which profile runs",
    "session-affinity-filter": "which endpoint it goes back to",
    "session-affinity-scorer": "which endpoint it prefers",
    "header-label-affinity-scorer": "which endpoints it prefers",
}


def index_memory(patient: Patient) -> Iterator[Finding]:
    """A prefix index whose bound is below what its endpoints hold."""
    for named in patient.config.plugins.values():
        if getattr(named.plugin, "type", "") != "approx-prefix-cache-producer":
            continue
        capacity, bound = named.plugin.lru_capacity_per_server, named.plugin.max_memory_mb
        most = estimate_memory(patient.endpoints, capacity) / _MEGABYTE
        what = f"needs up to {most:,.0f} MiB for {patient.endpoints} endpoints of {capacity:,} blocks each"
        if most > bound:
            yield Finding(
                "index-too-small",
                "warning",
                named.name,
                f"{what}, and maxMemoryMb is {bound:,.0f}",
                "Entries are dropped although the engines still hold them: prefixes are missed.",
                f"Set maxMemoryMb to {most:,.0f}, or lower lruCapacityPerServer.",
            )
        else:
            what, why = f"{what} (bound: {bound:,.0f} MiB)", "It counts towards the memory of the scheduler's process."
            yield Finding("index-memory", "hint", named.name, what, why, "Plan for it.")


def trusted_clients(patient: Patient) -> Iterator[Finding]:
    """Decisions that are left to whoever sends the request."""
    for named in patient.config.plugins.values():
        says = _CLIENT_SAYS.get(getattr(named.plugin, "type", ""))
        if says:
            yield Finding(
                "client-decides",
                "hint",
                named.name,
                f"lets a request header say {says}",
                "Any client that reaches the gateway can send that header.",
                "Let the gateway set or strip the header, unless all your clients are your own.",
            )
    raised = [each.name for each in patient.manifests.objectives if each.priority > 0]
    if raised:
        yield Finding(
            "client-claims-priority",
            "hint",
            ", ".join(raised),
            "raises the priority of any request that names it",
            "A client that may name its objective can put itself before all others.",
            "Accept the objective header from trusted sources only.",
        )


def priorities_without_flow_control(patient: Patient) -> Iterator[Finding]:
    """Priorities that nothing queues by."""
    if patient.config.gates["flowControl"]:
        return
    names = [each.name for each in patient.manifests.objectives if each.priority != 0]
    if names:
        yield Finding(
            "priority-without-queue",
            "warning",
            ", ".join(names),
            "has a priority, and the feature gate 'flowControl' is off",
            "Nothing is queued: all that a priority does is to shed those below 0 when the pool is saturated.",
            "Add 'featureGates: [flowControl]'.",
        )


def unreachable_bands(patient: Patient) -> Iterator[Finding]:
    """Bands that no request falls into."""
    flow, objectives = patient.config.flow_control, patient.manifests.objectives
    if not patient.config.gates["flowControl"]:
        return
    given = {each.priority for each in objectives} | {0}
    for band in flow.priority_bands:
        if band.priority not in given:
            known = ", ".join(map(str, sorted(given)))
            yield Finding(
                "unreachable-band",
                "warning" if objectives else "hint",
                f"the band of priority {band.priority}",
                f"has no InferenceObjective of that priority (there are: {known})",
                "No request falls into the band, and its limits protect nobody.",
                "Add an objective with that priority, or remove the band.",
            )
    if flow.default_request_ttl == 0:
        yield Finding(
            "waits-for-ever",
            "warning",
            "flowControl",
            "defaultRequestTTL is 0: a queued request never expires",
            "When the pool stays full, the queue fills with requests whose clients have long gone.",
            "Set a time that your clients would wait.",
        )


def routes_to_nowhere(patient: Patient) -> Iterator[Finding]:
    """Rules of routes that cannot send anything anywhere, and pools that nothing is sent to."""
    manifests = patient.manifests
    routed = set()
    for route in manifests.routes:
        for i, rule in enumerate(route.rules):
            routed |= {(each.namespace, each.pool) for each in rule.backends if each.weight}
            if not any(backend.weight for backend in rule.backends):
                yield Finding(
                    "route-to-nowhere",
                    "danger",
                    f"HTTPRoute '{route.name}', rule {i}",
                    "has no backend of weight above 0",
                    "Every request that it matches is answered with 500.",
                    "Give one of its backends a weight.",
                )
    for pool in manifests.pools:
        if manifests.routes and (pool.namespace, pool.name) not in routed:
            why = "No route sends anything to it."
            what, advice = "is the backend of no route", "Add it to a route, or remove it."
            yield Finding("unrouted-pool", "hint", f"InferencePool '{pool.name}'", what, why, advice)


def said_while_loading(patient: Patient) -> Iterator[Finding]:
    """What loading warned of: names of yesterday, and what has no effect."""
    for warning in (*patient.config.warnings, *patient.manifests.warnings):
        is_old = "deprecated" in warning.message
        yield Finding(
            "deprecated" if is_old else "no-effect",
            "hint" if is_old else "warning",
            warning.path,
            warning.message,
            "It will be refused one day." if is_old else "The file says more than what is done.",
            "Write the new name." if is_old else "Remove it, or do not count on it.",
        )


SURROUNDINGS_RULES: tuple[Rule, ...] = (
    routes_to_nowhere,
    unreachable_bands,
    priorities_without_flow_control,
    index_memory,
    trusted_clients,
    said_while_loading,
)
