"""A recorded scenario replays to the same answers, says so when it does not, and gives nothing away."""

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from inferencesched import Decision, Request, load_config
from inferencesched.testing import Recorder, Scenario
from inferencesched.testing.scenarios import disguised

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.json"))
CONFIG: dict[str, Any] = {
    "apiVersion": "llm-d.ai/v1alpha1",
    "kind": "EndpointPickerConfig",
    "plugins": [
        {"type": "utilization-filter", "parameters": {"conditions": [{"metric": "waiting-queue", "maxValue": 9}]}},
        {"type": "active-request-scorer"},
        {"type": "prefix-cache-scorer"},
        {"type": "max-score-picker"},
    ],
}
NOTHING: dict[str, Any] = {"at": 0.5, "do": "handle_timer"}
PROMPT = "The secret recipe of the house: " * 30


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_what_was_reported_once_still_holds(path: Path) -> None:
    Scenario.read(path).check()


def a_morning() -> Scenario:
    recorder = Recorder(load_config(CONFIG), seed=7)
    for name in ("a", "b", "c"):
        recorder.add_endpoint(name, f"10.0.0.{ord(name)}:8000", labels={"zone": name}, now=0.0)
    recorder.update("a", {"waiting_requests": 2, "active_adapters": {"sql"}}, now=0.1)
    first = recorder.schedule(Request("r-1", prompt=PROMPT + "Salt?", session="alice@example.org"), now=1.0, n=2)
    assert isinstance(first, Decision)
    moved = recorder.fallback(Request("r-1", prompt=PROMPT), first, now=1.5)
    assert moved is not None
    recorder.first_token(moved, now=2.0)
    recorder.finish(moved, now=3.0)
    recorder.schedule(Request("r-2", prompt=PROMPT + "Sugar?", headers={"authorization": "Bearer 1"}), now=4.0)
    for name in ("a", "b", "c"):
        recorder.update(name, {"waiting_requests": 10, "kv_cache_utilization": float("nan")}, now=5.0)
    recorder.schedule(Request("r-3"), now=5.0)
    recorder.remove_endpoint("a", now=6.0)
    recorder.handle_timer(now=10_000.0)
    return recorder.scenario("A morning.")


def test_a_file_replays_to_the_answers_that_were_recorded(tmp_path: Path) -> None:
    a_morning().write(tmp_path / "morning.json")

    scenario = Scenario.read(tmp_path / "morning.json")
    scenario.check()

    assert [type(answer).__name__ for answer in scenario.replay()] == ["Decision", "Decision", "Decision", "Rejection"]


def test_what_policies_learned_is_recorded_too(tmp_path: Path) -> None:
    """By the default policy, a session stays on a busy endpoint only because answers were short."""
    recorder = Recorder(load_config(), seed=7)
    for name in ("a", "b"):
        recorder.add_endpoint(name, now=0.0)
    recorder.tell("usage_reported", "r-0", "flow", 900.0, 4.0, now=0.5)
    for number in range(4):
        placed = recorder.schedule(Request(f"r-{number}", prompt=PROMPT), now=1.0 + number)
        assert isinstance(placed, Decision)
        recorder.first_token(placed, now=1.5 + number)

    recorder.scenario("Short answers.").write(tmp_path / "short.json")
    scenario = Scenario.read(tmp_path / "short.json")
    scenario.check()
    deaf = attrs.evolve(scenario, steps=[step if step["do"] != "tell" else NOTHING for step in scenario.steps])

    assert len({answer.endpoint.name for answer in scenario.replay() if isinstance(answer, Decision)}) == 1
    assert len({answer.endpoint.name for answer in deaf.replay() if isinstance(answer, Decision)}) == 2


def test_a_file_says_nothing_of_prompts_sessions_and_credentials(tmp_path: Path) -> None:
    a_morning().write(tmp_path / "morning.json")

    written = (tmp_path / "morning.json").read_text()
    assert not [secret for secret in ("secret", "Salt", "alice", "Bearer") if secret in written]


def test_prompts_in_disguise_still_match_in_the_prefix_index() -> None:
    *_, second, _ = a_morning().replay()

    assert isinstance(second, Decision)
    assert max(second.passes["default"].kept["prefix_matched_tokens"]) > 100


def test_another_answer_is_shown_with_its_step_and_receipt() -> None:
    scenario = a_morning()
    steps = [{**step, "answered": {"endpoint": "z"}} if "answered" in step else step for step in scenario.steps]

    with pytest.raises(AssertionError, match=r"(?s)A morning\.\nstep 4: recorded .*'z'.*now .*profile default: 3 cand"):
        attrs.evolve(scenario, steps=steps).check()


def test_a_file_can_be_read_and_a_step_is_a_line(tmp_path: Path) -> None:
    scenario = a_morning()
    scenario.write(tmp_path / "morning.json")

    lines = [line.strip().rstrip(",") for line in (tmp_path / "morning.json").read_text().splitlines()]
    assert [json.loads(line)["do"] for line in lines if line.startswith('{"at"')] == [s["do"] for s in scenario.steps]


@given(st.text(max_size=80), st.text(max_size=40), st.text(max_size=40))
def test_disguise_keeps_length_and_what_prompts_have_in_common(shared: str, one: str, other: str) -> None:
    left, right = disguised(shared + one), disguised(shared + other)

    whole = len(shared) // 16 * 16
    assert left[:whole] == right[:whole]
    assert (len(left), len(right)) == (len(shared + one), len(shared + other))
