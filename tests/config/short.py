"""Short ways to write a configuration, and to look at everything that is wrong with one."""

from collections.abc import Mapping
from typing import Any

import pytest

from inferencesched import Config, ConfigError, Registry, load_config

HEAD = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}

Plugin = str | Mapping[str, Any]


def document(*plugins: Plugin, **keys: Any) -> dict[str, Any]:
    """Return a document with these plugins, each by its type alone or as it stands in YAML."""
    entries = [{"type": plugin} if isinstance(plugin, str) else plugin for plugin in plugins]
    return {**HEAD, **({"plugins": entries} if entries else {}), **keys}


def load(*plugins: Plugin, registry: Registry | None = None, **keys: Any) -> Config:
    """Load a document with these plugins."""
    return load_config(document(*plugins, **keys), registry=registry)


def wrong(*plugins: Plugin, registry: Registry | None = None, **keys: Any) -> dict[str, str]:
    """Return the messages of everything wrong with a document, by path."""
    with pytest.raises(ConfigError) as caught:
        load(*plugins, registry=registry, **keys)
    return {problem.path: problem.message for problem in caught.value.problems}


def profile(*refs: Plugin, name: str = "default") -> dict[str, Any]:
    """Return a profile with these plugins, each by its name alone or as it stands in YAML."""
    return {"name": name, "plugins": [{"pluginRef": ref} if isinstance(ref, str) else ref for ref in refs]}
