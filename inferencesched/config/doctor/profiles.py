"""Rules about profiles: scorers that see nothing or decide nothing, pickers that do not look, filters that drain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inferencesched.config.doctor.finding import Finding, Patient, Rule
from inferencesched.parameters import to_mapping
from inferencesched.profile import Named, Profile
from inferencesched.vocabulary import COLUMNS, PRODUCED, SET_COLUMNS

__all__ = ["PROFILE_RULES"]

_IN_FLIGHT = {"in_flight_requests", "in_flight_tokens"}
_SCRAPED_LOAD = {"waiting_requests", "running_requests", "kv_cache_utilization"}
_LOAD = _IN_FLIGHT | _SCRAPED_LOAD | {"predicted_ttft"}
_PREFIX = {"prefix_matched_tokens", "prefix_total_tokens"}
_NOT_FROM_ENGINES = {"accelerator_utilization": "dcgm-extractor"}
_BLIND = {"random-picker", "round-robin-picker"}
_DECIDES_LITTLE = 0.02
"""A share of the total below which a scorer decides hardly more than ties."""


def blind_plugins(patient: Patient) -> Iterator[Finding]:
    """Plugins that read columns which nothing supplies."""
    plugins = patient.config.plugins.values()
    made = {column for named in plugins for column in getattr(named.plugin, "produces", ())}
    is_scraped = bool(patient.config.data_layer.all_sources)
    for named in plugins:
        optional = set(getattr(named.plugin, "optional", ()))
        for column in sorted(set(_consumed(named)) - made - _IN_FLIGHT - optional):
            reason = _unsupplied(column, is_scraped, patient)
            if reason:
                yield Finding(
                    "blind-plugin",
                    "warning",
                    named.name,
                    f"reads '{column}', and {reason}",
                    "What is unknown on every endpoint is the same on every endpoint: the plugin decides nothing.",
                    "Add what supplies the column, or remove the plugin.",
                )


def _unsupplied(column: str, is_scraped: bool, patient: Patient) -> str:
    if column in PRODUCED:
        return "no producer makes it"
    if column in _NOT_FROM_ENGINES:
        extractor = _NOT_FROM_ENGINES[column]
        types = {plugin["type"] for plugin in patient.config.to_mapping()["plugins"]}
        return "" if extractor in types else f"it comes from '{extractor}', which is not declared"
    if column in COLUMNS or column in SET_COLUMNS:
        return "" if is_scraped else "'dataLayer' has injectDefaults: false and no sources"
    return ""  # an attribute of somebody's own source


def disputed_columns(patient: Patient) -> Iterator[Finding]:
    """Columns that two producers make."""
    makers: dict[str, list[str]] = {}
    for named in patient.config.plugins.values():
        for column in getattr(named.plugin, "produces", ()):
            makers.setdefault(column, []).append(named.name)
    for column, names in makers.items():
        if len(names) > 1:
            yield Finding(
                "column-made-twice",
                "warning",
                " and ".join(names),
                f"both make '{column}'",
                "Every profile sees the column of the last one, whichever producer a parameter names.",
                "Declare one of them.",
            )


def hot_spot(patient: Patient) -> Iterator[Finding]:
    """Profiles that follow prefixes and do not see load."""
    for profile in patient.config.profiles.values():
        columns = _weighed_columns(profile)
        if columns & _PREFIX and not columns & _LOAD:
            yield Finding(
                "prefix-without-load",
                "danger",
                _of(profile),
                "scores prefixes and no load",
                "Everything that shares a system prompt goes to the one endpoint that served it first, full or not.",
                "Put active-request-scorer or queue-scorer beside the prefix scorer, or use expected-work-scorer.",
            )


def herd(patient: Patient) -> Iterator[Finding]:
    """Profiles whose picture of load is as old as the last scrape."""
    for profile in patient.config.profiles.values():
        columns = _weighed_columns(profile)
        if columns & _SCRAPED_LOAD and not columns & (_IN_FLIGHT | {"predicted_ttft"}):
            yield Finding(
                "herd-between-scrapes",
                "warning",
                _of(profile),
                "sees load only through scraped metrics",
                "All requests between two scrapes see the same picture and go to the same endpoint.",
                "Add active-request-scorer or token-load-scorer: they count what is in flight, without a scrape.",
            )


def ignored_scorers(patient: Patient) -> Iterator[Finding]:
    """Pickers that pick without looking at the totals."""
    for profile in patient.config.profiles.values():
        kind = getattr(profile.picker.plugin, "type", "")
        if kind in _BLIND and profile.scorers:
            names = ", ".join(named.name for named in profile.scorers)
            yield Finding(
                "scores-ignored",
                "warning",
                _of(profile),
                f"'{profile.picker.name}' ({kind}) ignores the scores of {names}",
                "The scorers cost time on every request and change nothing.",
                "Use max-score-picker or weighted-random-picker, or remove the scorers.",
            )


def no_scorers(patient: Patient) -> Iterator[Finding]:
    """Pickers that look at totals where there are none."""
    for profile in patient.config.profiles.values():
        kind = getattr(profile.picker.plugin, "type", "")
        if not profile.scorers and kind not in _BLIND:
            yield Finding(
                "nothing-scored",
                "warning",
                _of(profile),
                "has no scorer that has an effect",
                "All endpoints are equal to it: it picks at random.",
                "Add scorers, or say random-picker if chance is what you want.",
            )


def idle_weights(patient: Patient) -> Iterator[Finding]:
    """Weights of zero, and weights that the others drown."""
    for profile in patient.config.profiles.values():
        whole = sum(profile.weights)
        for named, weight in zip(profile.scorers, profile.weights, strict=True):
            where = f"{_of(profile)}, {named.name}"
            if weight == 0:
                what, why = "has weight 0", "The scorer costs time on every request and changes nothing."
                yield Finding("zero-weight", "warning", where, what, why, "Give it a weight, or remove it.")
            elif weight / whole < _DECIDES_LITTLE:
                yield Finding(
                    "drowned-weight",
                    "hint",
                    where,
                    f"has {weight / whole:.1%} of the weight of the profile",
                    "Weights are shares: this one decides hardly more than ties.",
                    "Raise it, lower the others, or take it for the tie-break that it is.",
                )


def draining_filters(patient: Patient) -> Iterator[Finding]:
    """Filters that can leave nothing."""
    for profile in patient.config.profiles.values():
        for named in profile.filters:
            if getattr(named.plugin, "fallback_on_empty", True) is False:
                yield Finding(
                    "filter-can-drain",
                    "warning",
                    f"{_of(profile)}, {named.name}",
                    "may drop every endpoint: fallbackOnEmpty is false",
                    "When all endpoints are over the limit, requests are refused although every endpoint is alive.",
                    "Set fallbackOnEmpty: true, unless refusing (429, with a time to retry) is what you want.",
                )
            if getattr(named.plugin, "type", "") == "header-based-testing-filter":
                yield Finding(
                    "filter-for-tests",
                    "danger",
                    f"{_of(profile)}, {named.name}",
                    "keeps only endpoints that the client names in a header",
                    "Requests without that header are refused, and clients choose their endpoint.",
                    "Remove it: it is there for conformance tests.",
                )


def unused_profiles(patient: Patient) -> Iterator[Finding]:
    """Profiles that a handler asks for and that are not there."""
    handler, profiles = patient.config.handler, patient.config.profiles
    if handler is None:
        return
    for stage, name, is_needed in _stages(handler):
        if name not in profiles and is_needed:
            yield Finding(
                "missing-profile",
                "danger" if stage == "decode" else "warning",
                handler.name,
                f"runs a profile '{name}' for {stage}, and there is none",
                "Every request is refused." if stage == "decode" else f"The {stage} stage never runs.",
                f"Name a profile '{name}', or tell the handler which one serves {stage}.",
            )


def _stages(handler: Named) -> Iterator[tuple[str, str, bool]]:
    """Yield stage, profile name, and whether it is asked for, of a handler that knows stages."""
    given: dict[str, Any] = to_mapping(handler.plugin, names=lambda plugin: type(plugin).__name__)
    kind = getattr(handler.plugin, "type", "")
    if kind == "header-profile-handler":
        yield "requests without its header", given["defaultProfile"], True
    if kind == "disagg-profile-handler":
        profiles, deciders = given["profiles"] or {}, given["deciders"] or {}
        for stage in ("decode", "prefill", "encode"):
            name = profiles.get(stage) or given[f"{stage}Profile"] or stage
            decider = deciders.get(stage) or given.get(f"{stage}DeciderPluginName")
            yield stage, name, stage == "decode" or decider is not None


def _weighed_columns(profile: Profile) -> set[str]:
    weighed = zip(profile.scorers, profile.weights, strict=True)
    return {column for named, weight in weighed if weight > 0 for column in _consumed(named)}


def _consumed(named: Named) -> tuple[str, ...]:
    consumes: tuple[str, ...] = getattr(named.plugin, "consumes", ())
    return consumes


def _of(profile: Profile) -> str:
    return f"profile '{profile.name}'"


PROFILE_RULES: tuple[Rule, ...] = (
    hot_spot,
    herd,
    blind_plugins,
    disputed_columns,
    ignored_scorers,
    no_scorers,
    idle_weights,
    draining_filters,
    unused_profiles,
)
