"""`inferencesched explain`: one request, one fleet, one receipt."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from inferencesched.cli import main

FLEET = """
endpoints:
  - name: warm
    labels: {zone: a}
    facts: {waiting_requests: 2, kv_cache_utilization: 0.5}
    served: ["The story so far: once upon a time, and so on, for a block of sixty-four tokens, and four bytes each; that is two hundred and fifty-six bytes, which takes some writing. It was a dark and stormy night; the rain fell in torrents, except at intervals, when it was checked."]
  - name: cold
    facts: {waiting_requests: 2, kv_cache_utilization: 0.5}
request:
  model: llama-70b
  prompt: "The story so far: once upon a time, and so on, for a block of sixty-four tokens, and four bytes each; that is two hundred and fifty-six bytes, which takes some writing. It was a dark and stormy night; the rain fell in torrents, except at intervals, when it was checked. Go on."
"""  # noqa: E501


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["explain", *arguments])
    return result.exit_code, result.output


@pytest.fixture
def fleet(tmp_path: Path) -> str:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return str(path)


def test_alone_it_explains_an_example() -> None:
    code, shown = invoke()

    assert code == 0
    for expected in ("busy-but-warm", "idle-and-cold", "just-started", "total", "unknown on 1 of 3"):
        assert expected in shown


def test_it_says_the_same_every_time() -> None:
    assert invoke() == invoke()


def test_what_an_endpoint_served_is_in_its_cache(fleet: str) -> None:
    code, shown = invoke(fleet, "--policy", "prefix-only", "--json")

    receipt = json.loads(shown)
    scores = {each["endpoint"]: each["scores"] for each in receipt["passes"][0]["endpoints"]}
    assert (code, receipt["endpoint"]) == (0, "warm")
    assert scores["warm"]["prefix-cache-scorer"]["raw"] == 1.0
    assert scores["cold"]["prefix-cache-scorer"]["raw"] == 0.0


def test_what_it_is_serving_is_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(json.dumps({"endpoints": [{"name": "a", "serving": ["x", "y"]}, {"name": "b"}]}))

    _, shown = invoke(str(path), "--policy", "least-in-flight", "--json")

    assert json.loads(shown)["endpoint"] == "b"


def test_a_fleet_can_be_written_as_options() -> None:
    _, shown = invoke(
        "--endpoint", "a:waiting_requests=3,label.zone=eu", "--endpoint", "b:waiting_requests=0,active_adapters=x+y",
        "--policy", "endpoint-picker", "--json", "--fallbacks", "1",
    )  # fmt: skip

    receipt = json.loads(shown)
    assert (receipt["endpoint"], receipt["fallbacks"]) == ("b", ["a"])


def test_options_are_put_on_top_of_a_file(fleet: str) -> None:
    _, shown = invoke(fleet, "--model", "qwen", "--endpoint", "third:kv_cache_utilization=0.1", "--json")

    receipt = json.loads(shown)
    assert (receipt["model"], receipt["passes"][0]["candidates"]) == ("qwen", 3)


def test_a_rejection_is_explained_and_ends_with_exit_code_1(tmp_path: Path) -> None:
    policy = tmp_path / "full.yaml"
    policy.write_text("""
        apiVersion: llm-d.ai/v1alpha1
        kind: EndpointPickerConfig
        plugins:
          - type: utilization-filter
            parameters: {conditions: [{metric: waiting-queue, maxValue: 5}]}
    """)

    code, shown = invoke("--endpoint", "a:waiting_requests=9", "--policy", str(policy))

    assert code == 1
    assert "429 rejected-saturated" in shown
    assert "waiting_requests ≤ 5" in shown


def test_a_file_that_is_wrong_is_told_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text("endpoints:\n- {nam: a}\n- {name: b, age: -1}\n- name: c\n  facts: {waiting_requests: many}\n")

    code, shown = invoke(str(path))

    assert code == 1
    for expected in ("fleet.yaml:2", "did you mean 'name'?", "fleet.yaml:3", "got -1", "fleet.yaml:5", "got 'many'"):
        assert expected in shown


def test_no_prompt_is_in_what_it_prints(fleet: str) -> None:
    assert "dark and stormy" not in invoke(fleet)[1] + invoke(fleet, "--json")[1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--endpoint", "a:waiting_requests=many"], "expected a number for waiting_requests, got 'many'"),
        (["--endpoint", "a:waiting_requests"], "expected NAME:COLUMN=VALUE"),
        (["--header", "x"], "expected NAME=VALUE"),
        (["--policy", "defualt"], "did you mean 'default'?"),
    ],
)
def test_a_wrong_option_is_a_usage_error(arguments: list[str], complaint: str) -> None:
    code, shown = invoke(*arguments)

    assert (code, complaint in shown) == (2, True), shown
