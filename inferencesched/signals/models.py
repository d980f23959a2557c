"""What ``/v1/models`` says: the models that an endpoint serves, and which of them are LoRA adapters of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencesched.interfaces import Reading

__all__ = ["MODEL_COLUMNS", "read_models"]

MODEL_COLUMNS = ("served_models", "served_adapters")


def read_models(answer: Any) -> Reading:
    """Return the names in a decoded answer: all of them, and those that have a ``parent``.

    >>> read_models({"data": [{"id": "llama"}, {"id": "sql", "parent": "llama"}]}).facts["served_adapters"]
    frozenset({'sql'})
    """
    listed = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(listed, list):
        return Reading(absent=dict.fromkeys(MODEL_COLUMNS, "the answer has no list of models"))
    models = [each for each in listed if isinstance(each, Mapping) and isinstance(each.get("id"), str)]
    names = frozenset(each["id"] for each in models)
    return Reading({"served_models": names, "served_adapters": frozenset(e["id"] for e in models if e.get("parent"))})
