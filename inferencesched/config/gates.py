"""Feature gates: ``name``, ``name=true`` or ``name=false``, by Go's rules for booleans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from inferencesched.errors import Problem, near_miss

__all__ = ["GATES", "read_gates"]

GATES: Mapping[str, bool] = MappingProxyType({"flowControl": False, "haPopulateNonLeaderDatastore": True})
"""Every gate there is, with its default."""

_REMOVED = {"datalayer", "enablelegacymetrics", "preparedataplugins"}
_TRUE, _FALSE = {"1", "t", "true"}, {"0", "f", "false"}


def read_gates(given: Sequence[str], path: str, problems: list[Problem]) -> Mapping[str, bool]:
    """Return the state of every gate; the last word on a gate counts.

    >>> dict(read_gates(["flowControl"], "featureGates", []))
    {'flowControl': True, 'haPopulateNonLeaderDatastore': True}
    """
    by_lower = {name.lower(): name for name in GATES}
    state = dict(GATES)
    for i, text in enumerate(given):
        name, is_set, value = (part.strip() for part in text.partition("="))
        at, known = f"{path}[{i}]", by_lower.get(name.lower())
        if known is None and name.lower() in _REMOVED:
            problems.append(Problem(at, f"the gate '{name}' was removed upstream; delete the line"))
        elif known is None:
            offer = near_miss(name, GATES) or f"; known are {', '.join(GATES)}"
            problems.append(Problem(at, f"unknown feature gate '{name}'{offer}"))
        elif is_set and value.lower() not in _TRUE | _FALSE:
            problems.append(Problem(at, f"expected '{known}=true' or '{known}=false', got {text!r}"))
        else:
            state[known] = not is_set or value.lower() in _TRUE
    return MappingProxyType(state)
