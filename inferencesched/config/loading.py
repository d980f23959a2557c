"""From documents to a `Config`: find the one that is ours, decode it, translate what is deprecated, assemble.

Everything that is wrong in every document is found before anything is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from inferencesched.config.assembly import Config, assemble
from inferencesched.config.defaults import DEFAULT
from inferencesched.config.migration import migrate
from inferencesched.config.schema import (
    API_VERSION,
    KIND,
    LEGACY_API_VERSION,
    PickerConfig,
)
from inferencesched.documents import Document, decode
from inferencesched.errors import ConfigError, Problem, near_miss
from inferencesched.parameters import parameters_of
from inferencesched.registry import Registry

__all__ = ["examine", "is_config", "load_config"]


def load_config(*documents: Document | Mapping[str, Any], registry: Registry | None = None) -> Config:
    """Return the configuration that an ``EndpointPickerConfig`` document describes; without one, the default.

    Args:
        documents: decoded YAML or JSON. Documents of other kinds are passed over: a folder's worth may be given.
        registry: where plugin types are looked up; the built-ins and what is installed, by default.

    Raises:
        ConfigError: everything that is wrong, each problem with its place.

    >>> config = load_config(
    ...     {
    ...         "apiVersion": "llm-d.ai/v1alpha1",
    ...         "kind": "EndpointPickerConfig",
    ...         "plugins": [{"type": "queue-scorer"}, {"type": "max-score-picker"}],
    ...     }
    ... )
    >>> config.profiles["default"]
    Profile('default', queue-scorer, max-score-picker)
    """
    problems: list[Problem] = []
    config = examine(*documents, registry=registry, problems=problems, warnings=[])
    if config is None or problems:
        raise ConfigError(problems)
    return config


def examine(
    *documents: Document | Mapping[str, Any],
    registry: Registry | None = None,
    problems: list[Problem],
    warnings: list[Problem],
) -> Config | None:
    """Do as `load_config` does, and append what is wrong, and what is only worth a word, instead of raising."""
    ours = [document for document in map(Document.of, documents) if is_config(document)] or [Document(DEFAULT)]
    registry = Registry() if registry is None else registry
    config = None
    for document in ours:
        found: list[Problem] = []
        noted: list[Problem] = []
        spec = _read(document, found, noted)
        if spec is not None:
            config = assemble(spec, registry, found, noted)
        problems += sorted(document.place(found), key=lambda problem: problem.line or 0)
        warnings += sorted(document.place(noted), key=lambda problem: problem.line or 0)
    problems += [_second(document, ours[0]) for document in ours[1:]]
    return config if config is None else attrs.evolve(config, warnings=tuple(warnings))


def is_config(document: Document) -> bool:
    """Return whether a document is an ``EndpointPickerConfig``, or was meant to be one."""
    content = document.content
    if content is None:
        return False
    if not document.kind:
        return not (isinstance(content, Mapping) and ("endpoints" in content or "apiVersion" in content))
    is_of_group = document.api_version in {API_VERSION, LEGACY_API_VERSION}
    return document.kind == KIND or (is_of_group and bool(near_miss(document.kind, [KIND])))


def _read(document: Document, problems: list[Problem], warnings: list[Problem]) -> PickerConfig | None:
    """Return the decoded document, what is deprecated in it translated."""
    content = document.content
    if isinstance(content, Mapping) and content and not {p.name for p in parameters_of(PickerConfig)} & content.keys():
        problems.append(Problem("", f"expected an {KIND}, got a document that has none of its keys"))
        return None
    spec = decode(PickerConfig, document.content, "", problems)
    if spec is None:
        return None
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if document.content.get(key) is None:
            problems.append(Problem(key, f"required, expected '{expected}'"))
    if spec.api_version == LEGACY_API_VERSION:
        warnings.append(Problem("apiVersion", f"'{LEGACY_API_VERSION}' is deprecated; write '{API_VERSION}'"))
    return migrate(spec, warnings)


def _second(document: Document, first: Document) -> Problem:
    place = "the first" if first.file is None else f"the one at {first.file}:{first.line('kind') or 1}"
    message = f"a second {KIND}, besides {place}; only one can be in force"
    return Problem("kind", message, document.file, document.line("kind"))
