"""The parsers of a configuration, and what they let in force."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferencesched.apis import Operations
from inferencesched.config.plugins import Declared
from inferencesched.config.schema import RequestHandler
from inferencesched.errors import Problem
from inferencesched.registry import NOT_YET, Registry

__all__ = ["note_idle", "operations_of"]


def note_idle(handler: RequestHandler, declared: Declared, warnings: list[Problem]) -> None:
    """Append a warning for each parser that nothing implements yet and that is named without being declared."""
    idle = [each for each in handler.parsers if each.plugin_ref in NOT_YET and each.plugin_ref not in declared]
    warnings += [
        Problem(f"{each.at}.pluginRef", f"'{each.plugin_ref}' ({NOT_YET[each.plugin_ref]}) has no effect yet")
        for each in idle
    ]


def operations_of(handler: RequestHandler, plugins: Mapping[str, Any], registry: Registry) -> Operations:
    """Return the operations that the listed parsers claim; one that claims none lets every other path through.

    Args:
        handler: names the parsers; those of the field need not be declared.
        plugins: those that are declared, by name.
        registry: finds the others. A type that nothing implements yet claims nothing and lets nothing through.
    """
    names = [parser.plugin_ref for parser in handler.parsers]
    parsers = [
        plugins[name] if name in plugins else registry.create(name)
        for name in names
        if name in plugins or name in registry
    ]
    claims = [parser.claims() for parser in parsers]
    return Operations(
        {operation.suffix: operation for claimed in reversed(claims) for operation in claimed}.values(),
        passes_through=any(not claimed for claimed in claims),
    )
