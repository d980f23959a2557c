"""The kit itself: what it imports, what it says, and what it makes of a plugin that is wrong."""

import subprocess
import sys
from typing import Any

import attrs
import numpy as np
import pytest

from inferencesched import per_endpoint
from inferencesched.builtin.pickers import RoundRobinPicker
from inferencesched.builtin.scorers import KvCacheUtilizationScorer, QueueScorer
from inferencesched.testing import (
    Violation,
    check_filter,
    check_picker,
    check_scorer,
    make_batch,
    make_request,
    parametrize_with_checks,
)

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({!r}))\n"


def python(code: str, *, without: tuple[str, ...] = ()) -> str:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(without) + code], check=False, capture_output=True, text=True
    )
    return run.stdout + run.stderr


def test_the_checks_run_without_pytest_and_without_hypothesis() -> None:
    code = (
        "from inferencesched import Registry\n"
        "from inferencesched.testing import check_scorer\n"
        "print(len(check_scorer(Registry().create('kv-cache-utilization-scorer'))))"
    )

    assert int(python(code, without=("pytest", "hypothesis"))) > 8


def test_importing_the_kit_imports_neither() -> None:
    code = "import inferencesched.testing; print({'pytest', 'hypothesis'} & set(sys.modules))"

    assert python(code) == "set()\n"


@pytest.mark.parametrize("name", ["strategies", "machines"])
def test_what_needs_hypothesis_says_how_to_get_it(name: str) -> None:
    printed = python(f"from inferencesched.testing import {name}", without=("hypothesis",))

    assert printed.rstrip().endswith(
        f"inferencesched.testing.{name} needs hypothesis: pip install 'inferencesched[testing]'"
    )


def test_a_failure_names_the_clause_and_shows_the_smallest_case() -> None:
    @attrs.frozen
    class OnlySmallQueues:
        consumes = ("waiting_requests", "running_requests")

        def score(self, request: Any, endpoints: Any, /) -> Any:
            return np.nan_to_num(1.0 - endpoints["waiting_requests"] / 100)

    with pytest.raises(AssertionError) as broken:
        check_scorer(OnlySmallQueues())

    first, promise, request, endpoints = str(broken.value).splitlines()[1:5]
    assert first.endswith("breaks the scorer clause 'range': the score of e0 is -9.0, which is not in [0, 1]")
    assert promise == "  Every score is in [0, 1], whatever the facts."
    assert request == "  request = make_request()"
    assert endpoints == "  endpoints = make_batch(waiting_requests=[1000.0])"


def test_the_outcomes_are_data_too() -> None:
    results = check_scorer(KvCacheUtilizationScorer())

    assert {result.clause for result in results} >= {"shape", "range", "pure", "order", "subset", "unknown"}
    assert all(result.status == "held" and result.promise.endswith(".") for result in results)


def test_a_relative_scorer_is_not_asked_to_stand_alone() -> None:
    assert "subset" not in {result.clause for result in check_scorer(QueueScorer())}


def test_a_picker_with_memory_is_not_asked_to_throw_dice_for_ties() -> None:
    assert "ties" not in {result.clause for result in check_picker(RoundRobinPicker())}


@pytest.mark.parametrize(
    ("check", "plugin", "complaint"),
    [
        (check_scorer, KvCacheUtilizationScorer, r"got the class KvCacheUtilizationScorer: call it"),
        (check_filter, KvCacheUtilizationScorer(), r"is no filter; by the methods it has, it takes: scorer"),
    ],
)
def test_the_wrong_thing_is_refused_with_a_word_about_it(check: Any, plugin: Any, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        check(plugin)


def test_a_clause_that_does_not_exist_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="no clause 'subsets' for this scorer — did you mean 'subset'"):
        check_scorer(KvCacheUtilizationScorer(), expected={"subsets": "a typing error"})


@per_endpoint(consumes=("waiting_requests",))
def short_queue(request: Any, endpoint: Any) -> float:
    """Prefer queues under ten."""
    return 1.0 if endpoint["waiting_requests"] < 10 else 0.0


def test_a_function_of_one_endpoint_keeps_the_whole_contract() -> None:
    check_scorer(short_queue)


checks = parametrize_with_checks([short_queue, RoundRobinPicker()])


@checks
def test_each_clause_of_each_role_is_a_test(check: Any) -> None:
    check()


def test_the_tests_are_named_by_plugin_role_and_clause() -> None:
    names = [item.id for item in checks.args[1]]

    assert "PerEndpointScorer-scorer-range" in names
    assert {"RoundRobinPicker-picker-positions", "RoundRobinPicker-observer-any-order"} <= set(names)


def test_a_declared_failure_is_an_expected_failure_of_pytest() -> None:
    declared = parametrize_with_checks([short_queue], expected=lambda _: {"range": "on purpose"})

    (marked,) = [item for item in declared.args[1] if item.marks]
    assert (marked.id, marked.marks[0].kwargs["reason"]) == ("PerEndpointScorer-scorer-range", "on purpose")


def test_several_failures_are_counted_and_listed() -> None:
    class Nothing:
        def score(self, request: Any, endpoints: Any, /) -> Any:
            return None

    with pytest.raises(Violation) as broken:
        check_scorer(Nothing())

    assert str(broken.value).splitlines()[0].startswith("Nothing: ")
    assert len([result for result in broken.value.results if not result.ok]) > 1


def test_a_batch_must_know_how_many_endpoints_it_has() -> None:
    with pytest.raises(ValueError, match="got waiting_requests: 2, n: 3"):
        make_batch(n=3, waiting_requests=[1, 2])
    with pytest.raises(ValueError, match="got nothing"):
        make_batch()


def test_a_batch_has_labels_sets_and_unknowns() -> None:
    batch = make_batch(labels=[{"zone": "a"}, {}], active_adapters=[{"sql"}, None], waiting_requests=[None, 2])

    assert [each.labels.get("zone") for each in batch] == ["a", None]
    assert batch.contains("active_adapters", "sql").tolist() == [True, False]
    assert np.isnan(batch["waiting_requests"]).tolist() == [True, False]
    assert make_request(priority=3).priority == 3
