"""The checks are checked: each clause has a wrong plugin that it catches, and that no other clause does."""

import pytest

from inferencesched.testing import CONTRACTS, Violation
from inferencesched.testing.wrong import WRONG, Wrong

CLAUSES = [(role, clause) for role, contract in CONTRACTS.items() for clause in contract.clauses]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.role}-{wrong.clause}")
def test_a_wrong_plugin_is_caught_by_its_clause_and_by_no_other(wrong: Wrong) -> None:
    results = CONTRACTS[wrong.role].examine(wrong.plugin)

    assert [result.clause for result in results if not result.ok] == [wrong.clause], "\n".join(
        result.message for result in results
    )


def test_every_clause_has_a_wrong_plugin() -> None:
    assert {(wrong.role, wrong.clause) for wrong in WRONG} == set(CLAUSES)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{wrong.role}-{wrong.clause}")
def test_declared_as_broken_it_passes(wrong: Wrong) -> None:
    results = CONTRACTS[wrong.role].check(wrong.plugin, expected={wrong.clause: "it is wrong on purpose"})

    assert [result.message for result in results if result.status == "expected"] == ["it is wrong on purpose"]


def test_a_declared_failure_that_does_not_happen_is_a_failure() -> None:
    sound = next(wrong.plugin for wrong in WRONG if (wrong.role, wrong.clause) == ("scorer", "range"))

    with pytest.raises(Violation, match="holds the scorer clause 'order', declared as broken: it was"):
        CONTRACTS["scorer"].check(sound, expected={"range": "unclipped", "order": "it was"})
