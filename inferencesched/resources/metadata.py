"""What every Kubernetes object has around its ``spec``, and the rules for names and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from inferencesched.documents import Part

__all__ = ["LEGACY_GROUP", "POOL_GROUP", "Metadata", "PoolRef", "check_labels", "non_empty", "number"]

POOL_GROUP = "inference.networking.k8s.io"
LEGACY_GROUP = "inference.networking.x-k8s.io"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def non_empty(_: object, __: object, value: str) -> None:
    """Validate that a text says something."""
    if not value:
        raise ValueError("required, got an empty string")


def number(lowest: int, highest: int) -> Any:
    """Return a validator for whole numbers in a range."""
    return attrs.validators.and_(attrs.validators.ge(lowest), attrs.validators.le(highest))


def _name(_: object, __: object, value: str) -> None:
    if len(value) > 253 or not _NAME.fullmatch(value):
        raise ValueError(f"expected a name of lower-case letters, digits, '-' and '.', got {value!r}")


@attrs.frozen
class Metadata(Part):
    """``metadata``: all that a cluster puts there is accepted; the name, the namespace and the age are used."""

    name: str = attrs.field(validator=_name)
    namespace: str = attrs.field(default="default", validator=_name)
    creation_timestamp: str = ""
    labels: Any = None
    annotations: Any = None
    generate_name: Any = None
    uid: Any = None
    resource_version: Any = None
    generation: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    owner_references: Any = None
    finalizers: Any = None
    managed_fields: Any = None
    self_link: Any = None


@attrs.frozen
class PoolRef(Part):
    """A reference to an InferencePool of the same namespace."""

    name: str = attrs.field(validator=non_empty)
    group: Literal["inference.networking.k8s.io", "inference.networking.x-k8s.io"] = "inference.networking.k8s.io"
    kind: Literal["InferencePool"] = "InferencePool"


def check_labels(_: object, __: object, labels: Mapping[str, str]) -> None:
    """Validate a selector's labels: 1 to 64 of them, each by Kubernetes' rules."""
    if not 1 <= len(labels) <= 64:
        raise ValueError(f"expected 1 to 64 labels, got {len(labels)}")
    for key, value in labels.items():
        prefix, _slash, word = str(key).rpartition("/")
        if len(word) > 63 or not _WORD.fullmatch(word) or (prefix and not _NAME.fullmatch(prefix)):
            raise ValueError(f"'{key}' cannot be the key of a label")
        if value and (len(value) > 63 or not _WORD.fullmatch(value)):
            raise ValueError(f"'{value}' cannot be the value of a label (of '{key}')")
