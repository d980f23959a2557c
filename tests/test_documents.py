"""Strict reading that goes on after a problem: what is right is there, what is wrong is named."""

from collections.abc import Mapping
from typing import Any, Literal

import attrs
import pytest

from inferencesched.documents import Document, Part, decode
from inferencesched.errors import Problem


@attrs.frozen
class Leaf(Part):
    """A part of a part."""

    name: str
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Tree(Part):
    """A document."""

    kind: Literal["oak", "elm"] = "oak"
    leaves: tuple[Leaf, ...] = ()
    best: Leaf | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict)
    height_metres: float = attrs.field(default=0.0, converter=float, metadata={"written": str})
    tags: tuple[str, ...] = ()


def read(given: Any) -> tuple[Tree | None, list[str]]:
    problems: list[Problem] = []
    tree = decode(Tree, given, "", problems)
    return tree, [str(problem) for problem in problems]


def test_keys_are_camel_case_and_values_are_converted_and_every_part_knows_its_place() -> None:
    tree, problems = read({"heightMetres": "2.5", "leaves": [{"name": "a"}, {"name": "b", "size": 3}], "tags": ["x"]})

    assert problems == []
    assert tree == Tree(leaves=(Leaf("a"), Leaf("b", 3)), height_metres=2.5, tags=("x",))
    assert [leaf.at for leaf in tree.leaves] == ["leaves[0]", "leaves[1]"]


def test_one_problem_hides_no_other_and_what_is_right_is_kept() -> None:
    tree, problems = read(
        {
            "kind": "ok",
            "leaves": [{"name": "a", "size": 0}, {"size": 2}, {"name": "c", "colour": "red"}],
            "heightMetres": "tall",
            "labels": {"a": 1},
            "tags": "x",
            "best": [],
        }
    )

    assert problems == [
        "kind: expected one of oak, elm, got 'ok' — did you mean 'oak'?",
        "leaves[0].size: expected a number ≥ 1, got 0",
        "leaves[1].name: required, expected a string",
        "leaves[2].colour: unknown key 'colour'; known are name, size",
        "labels.a: expected a string, got 1",
        "tags: expected a list of a string, got 'x'",
        "best: expected a mapping, got list []",
        "heightMetres: could not convert string to float: 'tall'",
    ]
    assert tree == Tree(leaves=(Leaf("a"), Leaf("c")))


@pytest.mark.parametrize("given", [None, [], "tree", 5])
def test_what_is_no_mapping_is_nothing(given: object) -> None:
    tree, (problem,) = read(given)

    assert tree is None
    assert problem.startswith("expected a mapping, got ")


def test_an_empty_value_is_the_same_as_leaving_the_key_out() -> None:
    assert read({"kind": None, "leaves": None, "best": None}) == (Tree(), [])


def test_a_part_that_is_revised_stands_where_it_stood() -> None:
    tree, _ = read({"best": {"name": "a"}})

    assert tree is not None
    assert tree.best is not None
    assert tree.best.revised(size=9) == Leaf("a", 9)
    assert tree.best.revised(size=9).at == "best"


def test_a_problem_gets_the_file_and_the_line_of_the_innermost_part_that_has_one() -> None:
    document = Document({}, "f.yaml", {"": 1, "a": 2, "a.b[1]": 5})

    placed = document.place([Problem("a.b[1].c", "x"), Problem("a.b[0]", "y"), Problem("z", "z")])

    assert [(problem.file, problem.line) for problem in placed] == [("f.yaml", 5), ("f.yaml", 2), ("f.yaml", 1)]
