"""Every built-in keeps the contract of every role it takes: the table is read, so that a new one is covered at once."""

from typing import Any

import pytest

from inferencesched import Registry
from inferencesched.errors import Problem
from inferencesched.registry import BUILT_IN
from inferencesched.testing import CONTRACTS, parametrize_with_checks

REQUIRED: dict[str, dict[str, Any]] = {
    "by-label": {"label": "zone", "validValues": ["a"]},
    "endpoint-attribute-filter": {
        "attribute": "WaitingQueueSize",
        "algorithm": {"type": "threshold", "threshold": {"operator": "LessThan", "value": 5}},
    },
    "endpoint-attribute-scorer": {
        "attributeKey": "WaitingQueueSize",
        "algorithm": {"type": "linear_lower_is_better"},
    },
    "header-label-affinity-scorer": {"headerName": "x-zone", "labelKey": "zone"},
    "pd-profile-handler": {"deciderPluginName": "always-disagg-pd-decider"},
    "priority-holdback-policy": {"minCeiling": 0.5},
    "session-id-producer": {"headerName": "x-session"},
    "utilization-filter": {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
}
"""The least that has to be configured, for those types that cannot do without."""

KNOWN: dict[str, dict[str, str]] = {}
"""Clauses that a built-in breaks, and why."""

DECIDERS = {"always-disagg-pd-decider": Registry().create("always-disagg-pd-decider")}
"""Plugins that others refer to by name."""

ROLELESS = {"disagg-headers-handler", "prefill-header-handler", "topology-extractor"}
"""Types that do nothing by themselves: others read them, or nobody does any more."""

PROBLEMS: list[Problem] = []
PLUGINS = [
    Registry().build(name, REQUIRED.get(name), path=name, problems=PROBLEMS, references=DECIDERS).plugin  # type: ignore[union-attr]
    for name in sorted(BUILT_IN)
]


@parametrize_with_checks(PLUGINS, expected=lambda plugin: KNOWN.get(plugin.type, {}))
def test_a_built_in_keeps_its_contracts(check: Any) -> None:
    check()


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - ROLELESS))
def test_a_built_in_takes_a_role_that_is_checked(name: str) -> None:
    """A parser claims what tests/apis reads."""
    assert set(Registry().type(name).roles) & (CONTRACTS.keys() | {"parser"})
