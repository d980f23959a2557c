"""Every built-in keeps the contract of every role it takes: the table is read, so that a new one is covered at once."""

from typing import Any

import pytest

from inferencesched import Registry
from inferencesched.registry import BUILT_IN
from inferencesched.testing import CONTRACTS, parametrize_with_checks

REQUIRED: dict[str, dict[str, Any]] = {
    "utilization-filter": {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
}
"""The least that has to be configured, for those types that cannot do without."""

KNOWN: dict[str, dict[str, str]] = {
    "approx-prefix-cache-producer": {"order": "takes the block size of the first endpoint, as upstream does"},
}
"""Clauses that a built-in breaks, and why."""

PLUGINS = [Registry().create(name, REQUIRED.get(name)) for name in sorted(BUILT_IN)]


@parametrize_with_checks(PLUGINS, expected=lambda plugin: KNOWN.get(plugin.type, {}))
def test_a_built_in_keeps_its_contracts(check: Any) -> None:
    check()


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_built_in_takes_a_role_that_has_a_contract(name: str) -> None:
    assert set(Registry().type(name).roles) & set(CONTRACTS)
