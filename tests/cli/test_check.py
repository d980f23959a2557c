"""`check`, `doctor` and `config`: pleasant for people, one JSON document for programs, an exit code for scripts."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from inferencesched import load_config
from inferencesched.cli import main

GOOD = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: active-request-scorer
"""
POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec:
  selector: {matchLabels: {app: vllm}}
  targetPorts: [{number: 8000}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "epp.yaml").write_text(GOOD)
    (tmp_path / "pool.yaml").write_text(POOL)
    return tmp_path


def run(*arguments: str | Path, stdin: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_a_folder_that_is_right_is_told_so_in_one_line(folder: Path) -> None:
    assert run("check", folder) == (
        0,
        "✓ no problems, no warnings in 1 EndpointPickerConfig, 1 InferencePool\n",
    )


def test_all_problems_of_a_broken_folder_are_shown_under_their_files(folder: Path) -> None:
    (folder / "epp.yaml").write_text(GOOD.replace("queue-scorer", "queue-scorrer"))
    (folder / "pool.yaml").write_text(POOL.replace("number: 8000", "number: 80000"))
    (folder / "syntax.yaml").write_text("a: [")

    code, shown = run("check", folder)

    assert code == 1
    for expected in (
        f"✗ {folder}/epp.yaml",
        "4  unknown plugin type 'queue-scorrer' — did you mean 'queue-scorer'?",
        "plugins[0].type",
        f"✗ {folder}/pool.yaml",
        "6  expected a number ≤ 65535, got 80000",
        "spec.targetPorts[0].number",
        f"✗ {folder}/syntax.yaml",
        "✗ 3 problems, no warnings in 1 EndpointPickerConfig, 1 InferencePool",
    ):
        assert expected in shown


def test_problems_are_also_one_json_document(folder: Path) -> None:
    (folder / "epp.yaml").write_text(GOOD.replace("type: queue-scorer", "typ: queue-scorer"))

    code, shown = run("check", "--json", folder)

    assert code == 1
    assert json.loads(shown) == {
        "ok": False,
        "documents": {"EndpointPickerConfig": 1, "InferencePool": 1},
        "problems": [
            {
                "path": "plugins[0].typ",
                "message": "unknown key 'typ' — did you mean 'type'?",
                "file": f"{folder}/epp.yaml",
                "line": 4,
            },
            {
                "path": "plugins[0].type",
                "message": "required, expected a string",
                "file": f"{folder}/epp.yaml",
                "line": 4,
            },
        ],
        "warnings": [],
    }


def test_warnings_fail_only_a_strict_check(folder: Path) -> None:
    (folder / "service.yaml").write_text("apiVersion: v1\nkind: Service\n")

    relaxed, shown = run("check", folder)
    strict, _ = run("check", "--strict", folder)

    assert (relaxed, strict) == (0, 1)
    assert "'Service' (v1) is not read here" in shown


def test_standard_input_is_a_file_too() -> None:
    assert run("check", "-", stdin=GOOD)[0] == 0
    assert run("check", "-", stdin="a: [")[0] == 1


def test_files_that_hold_nothing_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")

    code, shown = run("check", tmp_path / "empty.yaml")

    assert code == 1
    assert "there is nothing in these files" in shown


def test_h6_several_files_accumulate(folder: Path) -> None:
    assert run("check", folder / "epp.yaml", folder / "pool.yaml") == run("check", folder)


@pytest.mark.parametrize("command", [["check"], ["doctor"], ["config"], ["config", "show"], ["config", "schema"]])
def test_h6_help_text_renders(command: list[str]) -> None:
    code, shown = run(*command, "--help")

    assert code == 0
    assert "Usage: " in shown


def test_a_file_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    assert run("check", tmp_path / "gone.yaml")[0] == 2


def test_the_doctor_says_what_why_and_what_to_do(folder: Path) -> None:
    (folder / "epp.yaml").write_text(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: prefix-cache-scorer}]\n"
    )

    code, shown = run("doctor", folder)

    assert code == 1
    for expected in ("danger  prefix-without-load  profile 'default'", "what  ", "why  ", "do  ", "1 danger, 1 hint."):
        assert expected in shown


def test_the_doctor_finds_no_fault_with_a_good_folder(folder: Path) -> None:
    code, shown = run("doctor", folder)

    assert (code, shown) == (0, "✓ Nothing to find fault with.\n")


def test_a_strict_doctor_minds_warnings(folder: Path) -> None:
    (folder / "epp.yaml").write_text(GOOD.replace("- type: active-request-scorer\n", ""))

    assert run("doctor", folder)[0] == 0
    assert run("doctor", "--strict", folder)[0] == 1


def test_findings_are_also_one_json_document(folder: Path) -> None:
    _, shown = run("doctor", "--json", folder)

    assert json.loads(shown) == {"findings": []}


def test_the_doctor_does_not_look_at_what_is_wrong(folder: Path) -> None:
    (folder / "epp.yaml").write_text(GOOD.replace("queue-scorer", "queue-scorrer"))

    code, shown = run("doctor", folder)

    assert code == 1
    assert f"{folder}/epp.yaml:4: plugins[0].type: unknown plugin type 'queue-scorrer'" in shown


def test_what_is_in_force_is_shown_as_a_configuration_that_gives_it_again(folder: Path) -> None:
    code, shown = run("config", "show", folder / "epp.yaml")

    assert code == 0
    assert "maxNumOfEndpoints: 1" in shown
    assert load_config(yaml.safe_load(shown)) == load_config(yaml.safe_load(GOOD))


def test_without_a_file_the_default_is_shown() -> None:
    _, shown = run("config", "show", "--json")

    assert json.loads(shown) == load_config().to_mapping()


def test_the_schema_for_editors_is_printed() -> None:
    _, shown = run("config", "schema")

    jsonschema.Draft202012Validator(json.loads(shown)).validate(yaml.safe_load(GOOD))
