"""Files and folders become documents that know their lines; what cannot be read becomes problems."""

import json
from pathlib import Path

import pytest

from inferencesched import ConfigError
from inferencesched.cli.files import read, read_all
from inferencesched.cli.nodes import documents_in
from inferencesched.documents import Document
from inferencesched.errors import Problem


def of(text: str) -> tuple[list[Document], list[str]]:
    problems: list[Problem] = []
    documents = documents_in(text, "f.yaml", problems)
    return documents, [str(problem) for problem in problems]


def test_a_document_knows_the_line_of_every_part() -> None:
    (document,), _ = of("a: 1\nb:\n  c:\n  - d: 2\n  -\n    e.f: 3\n")

    assert document.content == {"a": 1, "b": {"c": [{"d": 2}, {"e.f": 3}]}}
    assert [document.line(path) for path in ("a", "b", "b.c", "b.c[0]", "b.c[1].e.f")] == [1, 2, 3, 4, 6]


def test_a_part_that_is_not_there_has_the_line_of_what_would_hold_it() -> None:
    (document,), _ = of("\na:\n  b: 1\n")

    assert [document.line(path) for path in ("a.b[3].x", "a.z", "z", "")] == [3, 2, 2, 2]


def test_several_documents_stand_in_one_file_and_empty_ones_are_nothing() -> None:
    documents, _ = of("a: 1\n---\n---\nb: 2\n")

    assert [(document.content, document.line("")) for document in documents] == [
        ({"a": 1}, 1),
        (None, 3),
        ({"b": 2}, 4),
    ]


def test_the_items_of_a_list_of_kubernetes_are_documents_of_their_own() -> None:
    documents, _ = of("kind: List\napiVersion: v1\nitems:\n- kind: A\n  x: 1\n- kind: B\n")

    assert [(each.kind, each.line("kind"), each.line("x")) for each in documents] == [("A", 4, 5), ("B", 6, 6)]


def test_a_configuration_in_a_config_map_is_a_document_with_the_lines_of_the_file() -> None:
    text = (
        "kind: ConfigMap\n"
        "apiVersion: v1\n"
        "data:\n"
        "  readme: hello\n"
        "  epp.yaml: |\n"
        "    apiVersion: llm-d.ai/v1alpha1\n"
        "    kind: EndpointPickerConfig\n"
        "    plugins:\n"
        "    - type: queue-scorer\n"
    )

    (inner,), problems = of(text)

    assert problems == []
    assert (inner.kind, inner.line("kind"), inner.line("plugins[0].type")) == ("EndpointPickerConfig", 7, 9)


def test_a_configuration_in_the_values_of_a_chart_is_found() -> None:
    text = "router:\n  epp:\n    custom:\n      a.yaml: |\n        kind: EndpointPickerConfig\n        plugins: []\n"

    (inner,), _ = of(text)

    assert (inner.content, inner.line("plugins")) == ({"kind": "EndpointPickerConfig", "plugins": []}, 6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("12:30:00", "12:30:00"),
        ("2026-01-01", "2026-01-01"),
        ("0x1f", 31),
        ("010", 10),
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("~", None),
        ("", None),
        ("-.inf", float("-inf")),
        ('"5"', "5"),
        ('"\\ud83d\\ude00"', "😀"),
    ],
)
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    (document,), _ = of(f"a: {text}\n")

    assert document.content == {"a": value}


def test_anchors_aliases_and_merges_are_followed() -> None:
    (document,), problems = of("base: &b {x: 1, y: 1}\none: {<<: *b, y: 2}\ntwo: {<<: [*b, {z: 3}]}\nthree: *b\n")

    assert problems == []
    assert document.content["one"] == {"x": 1, "y": 2}
    assert document.content["two"] == {"x": 1, "y": 1, "z": 3}
    assert document.content["three"] == {"x": 1, "y": 1}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: 'a' stands here for the second time, first in line 1"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2: not YAML: expected ',' or ']', but got ':'"),
        ("a: *b\n", "f.yaml:1: not YAML: found undefined alias 'b'"),
        ("a:\n\t- b\n", "f.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("a: &a\n  b: *a\n", "f.yaml:1: a.b: the alias refers to what it stands in"),
        ("a: !ruby/object x\n", "f.yaml:1: a: the tag '!ruby/object' has no meaning here"),
        ("a: !!int five\n", "f.yaml:1: a: 'five' is no int"),
        ("? [a, b]\n: c\n", "f.yaml:1: expected a plain word for a key"),
        ("[" * 3000, "f.yaml: nested deeper than 100 levels"),
        ("[" * 120 + "]" * 120, "nested deeper than 100 levels"),
        (BOMB, "more than 200,000 values, aliases followed"),
        ('a: "\\ud800"\n', "f.yaml:1: a: half of a surrogate pair is no character"),
        ('a: "\\UFFFFFFFF"\n', "f.yaml: not YAML: an escape that stands for no character"),
        ("a: \0\n", "f.yaml: not YAML: unacceptable character #x0000"),
    ],
)
def test_what_is_no_decent_yaml_is_a_problem_with_its_line(text: str, problem: str) -> None:
    _, (found,) = of(text)

    assert problem in found


def test_what_stands_before_a_mistake_is_still_read() -> None:
    documents, problems = of("a: 1\n---\nb: [\n")

    assert [document.content for document in documents] == [{"a": 1}]
    assert len(problems) == 1


def test_of_a_folder_the_yaml_and_json_files_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("n: 2")
    (tmp_path / "a.yaml").write_text("n: 1")
    (tmp_path / "c.json").write_text(json.dumps({"n": 3}, indent="\t"))
    (tmp_path / "d.txt").write_text("n: [")
    (tmp_path / "e.yaml").mkdir()

    assert [document.content["n"] for document in read(tmp_path)] == [1, 2, 3]


def test_every_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (9 * 1024 * 1024))
    (tmp_path / "empty").mkdir()
    problems: list[Problem] = []

    read_all([tmp_path, tmp_path / "empty", tmp_path / "gone.yaml"], problems)

    assert [(Path(each.file or "").name, each.message) for each in problems] == [
        ("huge.yaml", "larger than 8 MiB"),
        ("latin.yaml", "not UTF-8 at byte 9"),
        ("empty", "the folder has no .yaml, .yml or .json file"),
        ("gone.yaml", "cannot be read: No such file or directory"),
    ]


def test_reading_for_use_raises_all_of_it_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    (tmp_path / "b.yaml").write_text("b: {")

    with pytest.raises(ConfigError) as caught:
        read(tmp_path)

    assert len(caught.value.problems) == 2
