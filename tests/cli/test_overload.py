"""Facts about ``inferencesched overload``: a table for people, the same numbers for programs."""

import json

from click.testing import CliRunner, Result

from inferencesched.cli import main
from inferencesched.sim import BANDS, FLOW_POLICIES


def overload(*args: str) -> Result:
    return CliRunner().invoke(main, ["overload", "--endpoints", "2", "--duration", "20", *args])


def test_each_flow_control_has_a_row_and_the_urgent_band_alone_comes_first() -> None:
    result = overload()

    assert result.exit_code == 0, result.output
    rows = [line.split("  ")[0] for line in result.output.splitlines()[4:]]
    assert rows == ["nothing else", *FLOW_POLICIES]
    assert "2 × Llama 3.1 8B on one A100 80GB (simulated) can serve" in result.output.splitlines()[0]


def test_json_has_every_number_of_the_table() -> None:
    document = json.loads(overload("--json", "--retries", "2").stdout)

    assert [run["flow_control"] for run in document["runs"]] == ["nothing else", *FLOW_POLICIES]
    first, *others = document["runs"]
    assert [band["band"] for band in first["bands"]] == ["urgent"]
    assert all({band["band"] for band in run["bands"]} == {band.name for band in BANDS} for run in others)
    assert all(band["attempts_per_call"] >= 1.0 for run in others for band in run["bands"])
