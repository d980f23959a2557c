"""Reading the fields of a request's body: of the right type, in range, or a `BadRequest` that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencesched_enginesim.problems import BadRequest

__all__ = ["flag", "string", "whole"]


def whole(body: Mapping[str, Any], *names: str, least: int = 0) -> int | None:
    """Return the first of these fields that is there and not null; None without any.

    Raises:
        BadRequest: it is no whole number, or less than `least`.
    """
    for name in names:
        value = body.get(name)
        if value is None:
            continue
        if type(value) is not int or value < least:
            raise BadRequest(f"'{name}' must be a whole number ≥ {least}, got {value!r:.40}", param=name)
        return value
    return None


def flag(body: Mapping[str, Any], name: str) -> bool:
    """Return a boolean field, false without it.

    Raises:
        BadRequest: it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"'{name}' must be true or false, got {value!r:.40}", param=name)
    return bool(value)


def string(body: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """Return a string field.

    Raises:
        BadRequest: it is something else, or missing and without a default.
    """
    value = body.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRequest(f"'{name}' must be a string, got {value!r:.40}", param=name)
    return value
