"""The sources of a configuration: those it lists, those it takes for granted, and what reads their payloads.

``dataLayer`` names plugins that the scheduler already has. What nobody declared and somebody needs is made here: the
engines' metrics unless ``injectDefaults`` is off, the source of an extractor that stands under none, and the engines'
cache events where a producer lives on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from inferencesched.config.schema import DataLayer
from inferencesched.errors import ConfigError, Problem
from inferencesched.interfaces import Source, roles_of
from inferencesched.registry import COMES_WITH, NOT_YET, Registry

__all__ = ["sources_of"]

_EVENTS, _LIVES_ON_EVENTS = "kv-events-source", "precise-prefix-cache-producer"


def sources_of(
    layer: DataLayer, plugins: Mapping[str, Any], types: Mapping[str, str], registry: Registry
) -> tuple[Source, ...]:
    """Return the sources, each with its extractors, in the order they are listed.

    Args:
        layer: what the configuration says of them.
        plugins: those of the scheduler, by name.
        types: the type of each of these that was declared.

    Raises:
        ConfigError: a distribution is not installed, or a plugin cannot do what it is listed for; all of it at once.
    """
    found = _Sources(plugins, types, registry)
    found.list(layer)
    if layer.inject_defaults:
        found.add_for_extractors()
    found.add_for_producers()
    if layer.discovery is not None:
        found.take(layer.discovery.plugin_ref, (), f"{layer.discovery.at}.pluginRef")
    if found.problems:
        raise ConfigError(found.problems)
    return tuple(found.sources)


class _Sources:
    """What was found so far, and what is wrong with it."""

    def __init__(self, plugins: Mapping[str, Any], types: Mapping[str, str], registry: Registry) -> None:
        self.sources: list[Source] = []
        self.problems: list[Problem] = []
        self._plugins = plugins
        self._types = types
        self._registry = registry
        self._taken: dict[str, str] = {}  # names that are in use → their types
        self._read: set[str] = set()  # extractors that stand under a source

    def list(self, layer: DataLayer) -> None:
        """Take the sources that are listed, and the default one unless its type is among them."""
        for each in layer.all_sources:
            is_default = each not in layer.sources
            if is_default and self._type(each.plugin_ref) in self._taken.values():
                continue
            at = each.at or "dataLayer"
            extractors = [(f"{one.at or at}.pluginRef", one.plugin_ref) for one in each.extractors]
            self.take(each.plugin_ref, extractors, f"{at}.pluginRef")

    def add_for_extractors(self) -> None:
        """Make the source of each extractor that was declared and stands under none."""
        for name in [name for name, plugin in self._plugins.items() if "extractor" in roles_of(plugin)]:
            source = getattr(self._plugins[name], "default_source", None)
            if source is not None and name not in self._read and source not in self._taken.values():
                self.take(source, [(name, name)], name)

    def add_for_producers(self) -> None:
        """Take the event sources that were declared; make one for each producer that lives on events and has none."""
        declared = [name for name in self._plugins if self._type(name) == _EVENTS]
        for name in declared:
            self.take(name, (), name)
        served = [self._plugins[name].producer for name in declared]
        for name, producer in self._plugins.items():
            if self._types.get(name) == _LIVES_ON_EVENTS and all(producer is not each for each in served):
                self.sources += self._made(_EVENTS, name, producer=producer)

    def take(self, name: str, extractors: Iterable[tuple[str, str]], at: str) -> None:
        """Put the source of that name, with its extractors, among the others; once."""
        for source in [] if name in self._taken else self._plugin(name, at):
            self._taken[name] = self._type(name)
            if "source" not in roles_of(source):
                self.problems.append(Problem(at, f"'{name}' is no source: it cannot be opened"))
            else:
                self.sources.append(self._reading(source, tuple(extractors), at))

    def _reading(self, source: Any, listed: tuple[tuple[str, str], ...], at: str) -> Source:
        if not hasattr(source, "read_by"):
            return cast("Source", source)
        wanted = listed or tuple((at, name) for name in getattr(source, "default_extractors", ()))
        readers = []
        for where, name in wanted:
            self._read.add(name)
            for plugin in self._plugin(name, where):
                if "extractor" in roles_of(plugin):
                    readers.append(plugin)
                else:
                    self.problems.append(Problem(where, f"'{name}' is no extractor: it reads no payload"))
        return cast("Source", source.read_by(readers))

    def _plugin(self, name: str, at: str) -> Iterator[Any]:
        """Yield the plugin of that name; one of that type if none was declared; nothing for what nobody implements."""
        if name in self._plugins:
            yield self._plugins[name]
        elif name in self._registry or name in COMES_WITH:
            yield from self._made(name, at)
        elif name not in NOT_YET and name in self._types:
            self.problems.append(Problem(at, f"the scheduler has no plugin '{name}': it has another configuration"))

    def _made(self, type: str, at: str, **parts: Any) -> Iterator[Any]:
        if type not in self._registry:
            distribution = COMES_WITH[type]
            message = f"needs '{type}', which comes with the distribution '{distribution}': pip install {distribution}"
            self.problems.append(Problem(at, message))
        elif parts:
            yield self._registry.type(type).factory(**parts)
        else:
            yield self._registry.create(type)

    def _type(self, name: str) -> str:
        return self._types.get(name, name)
