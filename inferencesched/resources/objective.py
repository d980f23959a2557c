"""InferenceObjective: what a class of requests is worth. A request names it in a header."""

from __future__ import annotations

from typing import Any

import attrs

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem
from inferencesched.resources.metadata import Metadata, PoolRef, number

__all__ = ["InferenceObjective", "read_objective"]


@attrs.frozen
class InferenceObjective:
    """A priority under a name.

    Attributes:
        name: what requests name.
        pool: the pool that it holds for.
        priority: larger is more important; 0 unless said otherwise; below 0 is shed first.
        namespace: of the objective and of its pool.
    """

    name: str
    pool: str
    priority: int = 0
    namespace: str = "default"


@attrs.frozen
class _Spec(Part):
    pool_ref: PoolRef
    priority: int = attrs.field(default=0, validator=number(-(2**31), 2**31 - 1))


@attrs.frozen
class _Objective(Part):
    api_version: str
    kind: str
    metadata: Metadata
    spec: _Spec
    status: Any = None


def read_objective(document: Document, problems: list[Problem]) -> InferenceObjective | None:
    """Return the objective of a document, None after appending what is wrong to `problems`."""
    read = decode(_Objective, document.content, "", problems)
    if read is None:
        return None
    return InferenceObjective(read.metadata.name, read.spec.pool_ref.name, read.spec.priority, read.metadata.namespace)
