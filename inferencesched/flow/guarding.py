"""How flow control calls a policy that may fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Guard", "unguarded"]

Guard = Callable[..., Any]
"""``guard(plugin, role, function, *arguments)`` returns what the function does, or None after it failed."""


def unguarded(_plugin: str, _role: str, function: Callable[..., Any], /, *arguments: Any) -> Any:
    """Call a policy and let it fail."""
    return function(*arguments)
