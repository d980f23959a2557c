"""Profiles of a configuration: who stands in them, with which weight, and what is put in where something is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from inferencesched.config.plugins import Declared
from inferencesched.config.schema import ProfileEntry, SchedulingProfile
from inferencesched.errors import ConfigError, Problem, near_miss
from inferencesched.interfaces import roles_of
from inferencesched.profile import Named, Profile
from inferencesched.registry import Registry

__all__ = ["DEFAULT_HANDLER", "choose_handler", "gather", "make_profiles"]

_DEFAULT_PICKER = "max-score-picker"
DEFAULT_HANDLER = "single-profile-handler"
"""What a single profile gets; it runs the profile and takes its answer."""

_FOR_ONE_PROFILE = {DEFAULT_HANDLER, "data-parallel-profile-handler"}


@attrs.define
class _Members:
    """The plugins of one profile, by role."""

    filters: list[Named] = attrs.field(factory=list)
    scorers: list[tuple[Named, float]] = attrs.field(factory=list)
    pickers: list[Named] = attrs.field(factory=list)


def gather(
    profiles: Sequence[SchedulingProfile],
    declared: Declared,
    registry: Registry,
    problems: list[Problem],
    warnings: list[Problem],
) -> dict[str, _Members]:
    """Return the members of every profile by its name; without any, of one with everything that was declared."""
    if not profiles:
        profiles = [SchedulingProfile("default", tuple(ProfileEntry(name) for name in declared.built))]
    gathered: dict[str, _Members] = {}
    for profile in profiles:
        if profile.name in gathered:
            problems.append(Problem(f"{profile.at}.name", f"a profile '{profile.name}' stands above already"))
            continue
        members = gathered[profile.name] = _Members()
        for entry in _distinct(profile, problems):
            _place(entry, members, declared, problems, warnings)
        if len(members.pickers) > 1:
            names = " and ".join(f"'{named.name}'" for named in members.pickers)
            where = f"{profile.at}.plugins" if profile.at else "plugins"
            problems.append(Problem(where, f"profile '{profile.name}' has {names}; a profile picks once"))
        elif not members.pickers:
            members.pickers.append(_picker(profile, declared, registry, warnings))
    return gathered


def make_profiles(
    gathered: dict[str, _Members], producers: Iterable[Named], problems: list[Problem]
) -> dict[str, Profile]:
    """Return the profiles, each with all of the producers; nothing after appending what they object to."""
    everyone = tuple(producers)
    try:
        return {
            name: Profile(name, producers=everyone, filters=each.filters, scorers=each.scorers, picker=each.pickers[0])
            for name, each in gathered.items()
        }
    except ConfigError as error:
        problems.extend(Problem("plugins", problem.message) for problem in error.problems)
        return {}


def choose_handler(
    names: Sequence[str], declared: Declared, registry: Registry, problems: list[Problem]
) -> Named | None:
    """Return the one profile handler, or the one that a single profile gets."""
    handlers = declared.of_role("profile-handler")
    if len(handlers) > 1:
        all_names = " and ".join(f"'{named.name}'" for named in handlers)
        problems.append(Problem("plugins", f"{all_names} are all profile handlers; declare one"))
        return None
    if handlers:
        (handler,) = handlers
        if declared.types[handler.name] in _FOR_ONE_PROFILE and len(names) > 1:
            message = f"'{handler.name}' runs one profile, and there are {len(names)}: {', '.join(names)}"
            problems.append(Problem("schedulingProfiles", message))
        return handler
    if len(names) == 1:
        return declared.add(DEFAULT_HANDLER, registry)
    if not any("handler" in entry.type for entry in declared.broken.values()):
        message = f"{len(names)} profiles ({', '.join(names)}) need a profile handler among the plugins"
        problems.append(Problem("schedulingProfiles", message))
    return None


def _distinct(profile: SchedulingProfile, problems: list[Problem]) -> Iterable[ProfileEntry]:
    seen: set[str] = set()
    for entry in profile.plugins:
        if entry.plugin_ref in seen:
            message = f"'{entry.plugin_ref}' stands in profile '{profile.name}' already"
            problems.append(Problem(f"{entry.at}.pluginRef", message))
            continue
        seen.add(entry.plugin_ref)
        yield entry


def _place(
    entry: ProfileEntry, members: _Members, declared: Declared, problems: list[Problem], warnings: list[Problem]
) -> None:
    """Put a plugin where its roles belong; what is neither filter, scorer nor picker may stand there for nothing."""
    name = entry.plugin_ref
    named = declared.built.get(name)
    if named is None:
        if name not in declared:
            message = f"no plugin '{name}' is declared{near_miss(name, declared.names)}"
            problems.append(Problem(f"{entry.at}.pluginRef", message))
        return
    roles = roles_of(named.plugin)
    if "filter" in roles:
        members.filters.append(named)
    if "scorer" in roles:
        members.scorers.append((named, 1.0 if entry.weight is None else entry.weight))
    elif entry.weight is not None:
        warnings.append(Problem(f"{entry.at}.weight", f"'{name}' is no scorer; its weight has no effect"))
    if "picker" in roles:
        members.pickers.append(named)


def _picker(profile: SchedulingProfile, declared: Declared, registry: Registry, warnings: list[Problem]) -> Named:
    """Return the picker of a profile that names none: one that is declared, or else a new one.

    Upstream takes whichever of several comes first in no particular order; here the first by name does, so that the
    order of entries never matters.
    """
    pickers = sorted(declared.of_role("picker"), key=lambda named: named.name)
    if len(pickers) > 1:
        names = ", ".join(f"'{named.name}'" for named in pickers)
        message = f"profile '{profile.name}' names no picker, and {names} are declared; it takes the first"
        warnings.append(Problem(profile.at, message))
    return pickers[0] if pickers else declared.add(_DEFAULT_PICKER, registry)
