"""Producers that a configuration needs and does not declare: found by the columns that its plugins consume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from inferencesched.config.plugins import Declared
from inferencesched.config.schema import PluginEntry
from inferencesched.errors import ConfigError, Problem, near_miss
from inferencesched.profile import Named
from inferencesched.registry import NOT_YET, Registry

__all__ = ["DEFAULT_PRODUCERS", "add_producers", "check_producer_names"]

DEFAULT_PRODUCERS: Mapping[str, str] = MappingProxyType(
    {
        "encoder_cache_matched_items": "mm-embeddings-cache-producer",
        "encoder_cache_request_items": "mm-embeddings-cache-producer",
        "prefix_matched_tokens": "approx-prefix-cache-producer",
        "prefix_total_tokens": "approx-prefix-cache-producer",
        "prompt_tokens": "token-producer",
        "uncached_request_tokens": "inflight-load-producer",
    }
)
"""The type that supplies a column when nothing declared does. Columns that are not here are facts from outside."""


def add_producers(declared: Declared, registry: Registry, problems: list[Problem]) -> None:
    """Add the default producers of columns that are required and that nobody produces, and of what those require."""
    while (wanted := _next_wanted(declared)) is not None:
        consumer, column = wanted
        default = DEFAULT_PRODUCERS[column]
        try:
            declared.add(default, registry)
        except ConfigError as error:
            reasons = "; ".join(problem.message for problem in error.problems)
            message = (
                f"'{consumer.name}' needs the column '{column}', and its default producer '{default}' cannot be made"
            )
            problems.append(Problem("plugins", f"{message}: {reasons}"))
            return


def check_producer_names(entries: Iterable[PluginEntry], declared: Declared, problems: list[Problem]) -> None:
    """Append a problem for each ``…ProducerName`` that is neither declared nor a producer that can be put in."""
    not_yet = {name for name, role in NOT_YET.items() if role == "producer"}
    known = {*declared.names, *DEFAULT_PRODUCERS.values(), *not_yet}
    for entry in entries:
        for key, name in entry.parameters.items() if entry.parameters is not None else ():
            at = f"{entry.at}.parameters.{key}"
            is_dangling = str(key).endswith("ProducerName") and isinstance(name, str) and name and name not in known
            if is_dangling and all(problem.path != at for problem in problems):
                problems.append(Problem(at, f"no plugin '{name}' is declared{near_miss(name, known)}"))


def _next_wanted(declared: Declared) -> tuple[Named, str] | None:
    plugins = declared.built.values()
    made = {column for named in plugins for column in getattr(named.plugin, "produces", ())}
    for named in plugins:
        for column in getattr(named.plugin, "consumes", ()):
            is_required = column not in made and column not in getattr(named.plugin, "optional", ())
            if is_required and column in DEFAULT_PRODUCERS and not _is_taken(DEFAULT_PRODUCERS[column], declared):
                return named, column
    return None


def _is_taken(type: str, declared: Declared) -> bool:
    """Whether the name is declared: as something wrong, and reported, or as something else, and respected."""
    return type in declared.built or type in declared.broken
