"""One pytest item per clause: ``parametrize_with_checks``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from inferencesched.interfaces import roles_of
from inferencesched.testing.contracts import CONTRACTS

if TYPE_CHECKING:
    import pytest

__all__ = ["parametrize_with_checks"]


def parametrize_with_checks(
    plugins: Iterable[object], *, expected: Callable[[Any], Mapping[str, str]] | None = None
) -> pytest.MarkDecorator:
    """Return a decorator that runs a test once for each clause of each role of each plugin.

    The test gets one argument, `check`, and calls it. A clause that `expected` declares as broken is reported as an
    expected failure, and fails when it holds.

    Args:
        plugins: instances.
        expected: given a plugin, why it is known to break a clause, by the clause's name.

    Raises:
        ModuleNotFoundError: pytest is not installed.

    ::

        @parametrize_with_checks([CarbonAware(), InTheSameZone()])
        def test_contract(check):
            check()
    """
    import pytest  # noqa: PLC0415 — the checks themselves run without it

    items = []
    for plugin in plugins:
        declared = {} if expected is None else dict(expected(plugin))
        for role in roles_of(plugin):
            if role not in CONTRACTS:
                continue
            for clause in CONTRACTS[role].of(plugin):
                reason = declared.get(clause.name)
                marks = [] if reason is None else [pytest.mark.xfail(raises=AssertionError, reason=reason, strict=True)]
                name = f"{type(plugin).__name__}-{role}-{clause.name}"
                items.append(pytest.param(partial(clause.check, plugin), id=name, marks=marks))
    return pytest.mark.parametrize("check", items)
