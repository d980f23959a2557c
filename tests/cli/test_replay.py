"""Facts about ``inferencesched replay``: traces and policies from files, logs, reports, and what goes wrong."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferencesched.cli import main

POLICY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: queue-scorer
  - type: max-score-picker
schedulingProfiles:
  - name: default
    plugins:
      - pluginRef: queue-scorer
      - pluginRef: max-score-picker
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Forty requests, four of each conversation."""
    path = tmp_path / "trace.jsonl"
    rows = [
        {
            "timestamp": 500 * number,
            "input_length": 512 * (2 + number // 10),
            "output_length": 20,
            "hash_ids": [100 * (number % 10) + block for block in range(2 + number // 10)],
        }
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def replay(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["replay", *map(str, args)])


def test_it_compares_five_policies_by_default(trace: Path) -> None:
    """Those of the demo."""
    result = replay(trace, "--endpoints", "4")
    lines = result.stdout.splitlines()

    assert result.exit_code == 0
    assert lines[0].startswith("trace.jsonl: 40 requests in 20 s on 4 × ")
    assert [line.split()[0] for line in lines[4:9]] == [
        "random",
        "round-robin",
        "least-in-flight",
        "prefix-only",
        "default",
    ]


def test_policies_come_by_name_and_from_files(trace: Path, tmp_path: Path) -> None:
    """A file's policy has the file's name."""
    (tmp_path / "shortest-queue.yaml").write_text(POLICY)

    result = replay(trace, "--policy", "default", "--policy", tmp_path / "shortest-queue.yaml", "--json")

    assert [each["policy"] for each in json.loads(result.stdout)["policies"]] == ["default", "shortest-queue"]


def test_the_log_has_every_event_of_every_policy(trace: Path, tmp_path: Path) -> None:
    """Each replay begins with a line that says what it is."""
    log = tmp_path / "log.jsonl"

    result = replay(trace, "--policy", "random", "--policy", "default", "--limit", "7", "--log", log)
    events = [json.loads(line) for line in log.read_text().splitlines()]

    assert result.exit_code == 0
    assert [e["policy"] for e in events if e["event"] == "replay"] == ["random", "default"]
    assert [e["event"] for e in events].count("finished") == 14
    assert result.stdout.splitlines()[-1] == f"Written: {log}"


def test_speedup_shortens_the_trace(trace: Path) -> None:
    """And the page's numbers with it."""
    result = replay(trace, "--policy", "random", "--speedup", "10", "--json")

    assert json.loads(result.stdout)["trace"]["duration_seconds"] == 1.95


def test_coarse_timestamps_can_be_spread(trace: Path, tmp_path: Path) -> None:
    """What arrived in one instant no longer does."""
    coarse = tmp_path / "coarse.jsonl"
    rows = [json.loads(line) for line in trace.read_text().splitlines()]
    coarse.write_text("".join(json.dumps({**row, "timestamp": row["timestamp"] // 2000 * 2000}) + "\n" for row in rows))

    replay(coarse, "--policy", "random", "--spread", "--log", tmp_path / "log.jsonl")

    events = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assigned = [event["t"] for event in events if event["event"] == "assigned"]
    assert assigned[:5] == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_a_report_is_written_where_asked(trace: Path, tmp_path: Path) -> None:
    """And nowhere else."""
    result = replay(trace, "--policy", "default", "--out", tmp_path / "report")

    assert result.exit_code == 0
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"comparison.png", "report.html"}
    assert "1 policy on the same requests" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


def test_an_unknown_policy_is_a_usage_error_with_a_near_miss(trace: Path) -> None:
    """It is neither a name nor a file."""
    result = replay(trace, "--policy", "round-robbin")

    assert result.exit_code == 2
    assert "'round-robbin' is neither a policy nor a file — did you mean 'round-robin'?" in result.stderr


def test_a_missing_trace_is_a_usage_error() -> None:
    """Nothing was asked about anything."""
    assert replay("nowhere.jsonl").exit_code == 2


def test_what_is_wrong_in_a_policy_is_said_with_file_and_line(trace: Path, tmp_path: Path) -> None:
    """All of it at once, and exit code 1."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(POLICY.replace("type: queue-scorer", "type: queue-scorrer").replace("name: default", "nam: x"))

    result = replay(trace, "--policy", wrong)

    assert result.exit_code == 1
    assert f"{wrong}:5: plugins[0].type: unknown plugin type 'queue-scorrer'" in result.stderr
    assert f"{wrong}:8: schedulingProfiles[0].nam" in result.stderr
    assert "Traceback" not in result.output


def test_a_file_without_a_policy_is_refused(trace: Path, tmp_path: Path) -> None:
    """Of another kind, or of none."""
    other = tmp_path / "other.yaml"
    other.write_text("kind: ConfigMap\napiVersion: v1\n")

    result = replay(trace, "--policy", other)

    assert result.exit_code == 1
    assert result.stderr == f"Error: {other}: expected one EndpointPickerConfig, found 0\n"


def test_a_trace_of_another_block_size_is_told_so(trace: Path) -> None:
    """With the option that says which."""
    result = replay(trace, "--block-tokens", "128")

    assert result.exit_code == 1
    assert "are 8 blocks of 128, but 'hash_ids' has 2" in result.stderr
