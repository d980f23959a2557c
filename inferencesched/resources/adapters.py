"""The ConfigMap that says which LoRA adapters share which base model, as the payload processor of the field reads it.

It is recognised by its label, ``inference.llm-d.ai/ipp-managed: "true"`` or the older
``inference.networking.k8s.io/bbr-managed``. Its ``adapters`` are a YAML list inside a text; names in it are plain, so a
line each or one line in brackets is all that has to be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem
from inferencesched.resources.metadata import Metadata, non_empty

__all__ = ["AdapterBase", "is_adapter_map", "read_adapter_map"]

_LABELS = ("inference.llm-d.ai/ipp-managed", "inference.networking.k8s.io/bbr-managed")


@attrs.frozen
class AdapterBase:
    """LoRA adapters and the model that they are made for.

    Attributes:
        name: of the ConfigMap, unique in its namespace.
        base: the base model.
        adapters: as clients name them.
        namespace: of the ConfigMap.
    """

    name: str
    base: str
    adapters: tuple[str, ...] = ()
    namespace: str = "default"


@attrs.frozen
class _Data(Part):
    base_model: str = attrs.field(validator=non_empty)
    adapters: str = ""


@attrs.frozen
class _Map(Part):
    api_version: str
    kind: str
    metadata: Metadata
    data: _Data
    binary_data: Any = None
    immutable: Any = None


def is_adapter_map(document: Document) -> bool:
    """Whether a document is such a ConfigMap, and not just any."""
    metadata = document.content.get("metadata") if isinstance(document.content, Mapping) else None
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    is_managed = isinstance(labels, Mapping) and any(labels.get(label) == "true" for label in _LABELS)
    return document.kind == "ConfigMap" and is_managed


def read_adapter_map(document: Document, problems: list[Problem]) -> AdapterBase | None:
    """Return what the ConfigMap says, None after appending what is wrong to `problems`."""
    read = decode(_Map, document.content, "", problems)
    if read is None:
        return None
    text = read.data.adapters.strip()
    if text.startswith("[") and text.endswith("]"):
        entries = text[1:-1].split(",")
    else:
        entries = []
        for line in filter(None, map(str.strip, text.splitlines())):
            if not line.startswith("#"):
                entries.append(line.removeprefix("-"))
                if not line.startswith("-"):
                    problems.append(Problem("data.adapters", "expected a list of names, '- name' on each line"))
                    return None
    names = tuple(name for entry in entries if (name := entry.strip().strip("'\"").strip()))
    return AdapterBase(read.metadata.name, read.data.base_model.strip(), names, read.metadata.namespace)
