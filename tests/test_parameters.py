"""Parameters come from attrs fields, strictly, all problems together."""

import contextlib
from collections.abc import Mapping
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given, strategies as st

from inferencesched.errors import ConfigError, Problem
from inferencesched.parameters import construct, parameters_of, references_in, to_mapping
from inferencesched.registry import Registry


@attrs.frozen
class Inner:
    name: str
    level: int = 1


@attrs.frozen
class Sample:
    count: int = attrs.field(validator=attrs.validators.ge(1))
    ratio: float = 0.5
    mode: Literal["fast", "slow"] = "fast"
    flag: bool = False
    words: tuple[str, ...] = ()
    inner: Inner | None = None
    inners: tuple[Inner, ...] = ()
    table: Mapping[str, int] = attrs.field(factory=dict)
    max_ttft_ms: float = attrs.field(default=1.0, metadata={"parameter": "maxTTFTMs"})
    _hidden: int = attrs.field(default=0, init=False)


def problems_of(**given: Any) -> list[str]:
    problems: list[Problem] = []
    construct(Sample, given, "p", problems)
    return [str(problem) for problem in problems]


def test_names_are_camel_case_unless_the_field_says_otherwise() -> None:
    """The Endpoint Picker's spelling; fields that the constructor does not take are no parameters."""
    names = [parameter.name for parameter in parameters_of(Sample)]

    assert names == ["count", "ratio", "mode", "flag", "words", "inner", "inners", "table", "maxTTFTMs"]


def test_values_are_structured_and_come_back_as_they_went_in() -> None:
    """to_mapping shows everything in force, defaults included, and constructs the same again."""
    given = {"count": 2, "ratio": 1, "words": ["a"], "inner": {"name": "x"}, "inners": [{"name": "y", "level": 3}]}
    problems: list[Problem] = []

    made = construct(Sample, given, "p", problems)

    assert not problems
    assert made == Sample(2, 1, words=("a",), inner=Inner("x"), inners=(Inner("y", 3),))
    shown = to_mapping(made)
    assert shown["maxTTFTMs"] == 1.0
    assert shown["inner"] == {"name": "x", "level": 1}
    assert construct(Sample, shown, "p", problems) == made


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "p.count: required, expected an integer"),
        ({"count": "3"}, "p.count: expected an integer, got '3'"),
        ({"count": True}, "p.count: expected an integer, got True"),
        ({"count": 1.5}, "p.count: expected an integer, got 1.5"),
        ({"count": 0}, "p.count: expected a number ≥ 1, got 0"),
        ({"count": 1, "ratio": float("nan")}, "p.ratio: expected a number, got nan"),
        ({"count": 1, "ratio": float("inf")}, "p.ratio: expected a number, got inf"),
        ({"count": 1, "mode": "fst"}, "p.mode: expected one of fast, slow, got 'fst' — did you mean 'fast'?"),
        ({"count": 1, "mode": ["fast"]}, "p.mode: expected one of fast, slow, got ['fast']"),
        ({"count": 1, "flag": 1}, "p.flag: expected true or false, got 1"),
        ({"count": 1, "words": "ab"}, "p.words: expected a list of a string, got 'ab'"),
        ({"count": 1, "words": ["a", 2]}, "p.words[1]: expected a string, got 2"),
        ({"count": 1, "inner": {"nme": "x"}}, "p.inner.nme: unknown parameter 'nme' — did you mean 'name'?"),
        ({"count": 1, "inner": 3}, "p.inner: expected a mapping of parameters, got 3"),
        ({"count": 1, "inners": [{}]}, "p.inners[0].name: required, expected a string"),
        ({"count": 1, "table": {"a": "b"}}, "p.table.a: expected an integer, got 'b'"),
        ({"count": 1, "Ratio": 2}, "p.Ratio: unknown parameter 'Ratio' — did you mean 'ratio'?"),
        ({"count": 1, "_hidden": 2}, "p._hidden: unknown parameter '_hidden'"),
    ],
)
def test_h1_every_wrong_value_says_where_what_and_what_instead(given: dict[str, Any], says: str) -> None:
    """Unknown names, wrong types, NaN and infinities, each at its path."""
    assert any(line.startswith(says) for line in problems_of(**given)), problems_of(**given)


def test_h1_all_problems_are_reported_together() -> None:
    """One wrong value does not hide the next."""
    assert len(problems_of(count="x", ratio="y", mode="z", nonsense=1)) == 4


def test_h4_an_unset_value_takes_the_documented_default() -> None:
    """None of the parameters given is none at all."""
    assert construct(Inner, {"name": "x"}, "p", []).level == 1
    assert Registry().create("max-score-picker", None).max_num_of_endpoints == 1


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(Registry(installed=()).types)), _json | st.dictionaries(st.text(max_size=9), _json))
def test_whatever_is_given_as_parameters_is_a_plugin_or_a_configuration_error(kind: str, given: Any) -> None:
    """Never a traceback of another kind, for any built-in."""
    with contextlib.suppress(ConfigError):
        assert Registry(installed=()).create(kind, given) is not None


def test_a_type_without_attrs_fields_takes_no_parameters() -> None:
    """A plain class is fine as a plugin; what it takes is not guessed."""

    class Plain:
        def score(self) -> None: ...

    problems: list[Problem] = []

    assert isinstance(construct(Plain, {}, "p", problems), Plain)
    construct(Plain, {"a": 1}, "p", problems)
    assert [str(problem) for problem in problems] == ["p.a: unknown parameter 'a'; it takes none"]


@attrs.frozen
class Stage:
    decider: Any = attrs.field(default=None, metadata={"plugin_ref": True})


@attrs.frozen
class Handler:
    helper: Any = attrs.field(default=None, metadata={"plugin_ref": "usual-helper"})
    stage: Stage = attrs.field(factory=Stage)
    spare: Stage | None = None
    several: tuple[int, ...] = ()


class Decider:
    type = "decider"


def test_a_reference_is_resolved_to_the_plugin_of_that_name() -> None:
    always, usual, problems = Decider(), Decider(), list[Problem]()
    given = {"stage": {"decider": "always"}, "spare": {"decider": None}}

    handler = construct(Handler, given, "p", problems, references={"always": always, "usual-helper": usual})

    assert problems == []
    assert handler == Handler(helper=usual, stage=Stage(always), spare=Stage())
    assert to_mapping(handler, names=lambda plugin: "always" if plugin is always else "usual") == {
        "helper": "usual",
        "stage": {"decider": "always"},
        "spare": {"decider": None},
        "several": [],
    }


def test_the_references_of_a_mapping_are_known_before_anything_is_built() -> None:
    given = {"helper": "mine", "stage": {"decider": "always"}, "spare": {"decider": 3}, "unknown": {"decider": "x"}}

    assert references_in(Handler, given) == {"helper": "mine", "stage.decider": "always"}
    assert references_in(Handler, {}) == references_in(Handler, None) == {"helper": "usual-helper"}


def test_a_usual_name_that_nobody_bears_is_no_problem() -> None:
    problems: list[Problem] = []

    assert construct(Handler, {}, "p", problems) == Handler()
    assert problems == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stage": {"decider": "alway"}}, "p.stage.decider: no plugin 'alway' is declared — did you mean 'always'?"),
        ({"stage": {"decider": 7}}, "p.stage.decider: expected the name of a plugin, got 7"),
        ({"helper": ["always"]}, "p.helper: expected the name of a plugin, got ['always']"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_configuration_error(given: dict[str, Any], says: str) -> None:
    problems: list[Problem] = []

    assert construct(Handler, given, "p", problems, references={"always": Decider()}) is None
    assert [str(problem) for problem in problems] == [says]
