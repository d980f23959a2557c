"""`inferencesched plugins`: a list for people, everything for programs, and a word about what there is not."""

import json

import pytest
from click.testing import CliRunner

from inferencesched.cli import main
from inferencesched.cli.descriptions import describe
from inferencesched.registry import BUILT_IN, COMES_WITH, NOT_YET, REFUSED, Registry


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["plugins", *arguments])
    return result.exit_code, result.output


def test_every_built_in_is_listed_under_its_role() -> None:
    code, shown = invoke()

    assert code == 0
    assert [name for name in BUILT_IN if f"  {name} " not in shown] == []
    assert shown.index("\nscorer\n") < shown.index("  queue-scorer ") < shown.index("\npicker\n")


def test_the_list_can_be_cut_to_a_role() -> None:
    _, shown = invoke("--role", "picker", "--json")

    assert {"max-score-picker", "random-picker"} <= {entry["type"] for entry in json.loads(shown)["plugins"]}
    assert all("picker" in entry["roles"] for entry in json.loads(shown)["plugins"])


def test_one_type_is_shown_with_its_formula_and_parameters() -> None:
    code, shown = invoke("prefix-cache-scorer")

    assert code == 0
    for expected in ("scorer, built in", "Formula", "Unknown", "matchLengthWeight", "8192", "prefix_matched_tokens"):
        assert expected in shown


def test_programs_get_the_same_and_more() -> None:
    _, shown = invoke("utilization-filter", "--json")

    known = json.loads(shown)
    assert (known["roles"], known["consumes"], known["parameters"][0]["required"]) == (["filter"], None, True)
    assert known["formula"] == "every metric ≤ maxValue."


def test_a_misspelt_type_is_answered_with_a_near_miss() -> None:
    code, shown = invoke("queue-scorrer")

    assert (code, "did you mean 'queue-scorer'?" in shown) == (1, True)


@pytest.mark.parametrize("name", [min(REFUSED), min(NOT_YET.keys() - COMES_WITH.keys())])
def test_a_type_of_the_field_that_there_is_not_is_known_by_name(name: str) -> None:
    code, shown = invoke(name)

    assert code == 1
    assert ("will not be built" in shown) or ("not implemented yet" in shown)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_says_what_it_does_and_what_its_parameters_are(name: str) -> None:
    description = describe(Registry().type(name))

    assert description.summary.endswith((".", ").")), description.summary
    assert [parameter for parameter, words in description.parameters.items() if not words] == []
    assert description.labelled.keys() >= {"Source"}
