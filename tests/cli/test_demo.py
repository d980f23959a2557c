"""Facts about ``inferencesched demo``: what a newcomer sees, and what a script reads."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from inferencesched.cli import main

POLICIES = ["random", "round-robin", "least-in-flight", "prefix-only", "default"]


def demo(out: Path, *args: str) -> Result:
    """A short demo: ten seconds of traffic."""
    return CliRunner().invoke(main, ["demo", "--virtual", "--duration", "10", "--out", str(out), *args])


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("demo") / "out"
    return demo(out), out


def test_it_prints_a_table_a_sentence_and_a_receipt(shown: tuple[Result, Path]) -> None:
    """Every policy has a row; the receipt names its scorers and shows every endpoint."""
    result, out = shown
    lines = result.stdout.splitlines()

    assert result.exit_code == 0
    assert lines[0].startswith("made-up traffic, seed 0: ")
    assert [line.split()[0] for line in lines[4:9]] == POLICIES
    assert any(line.startswith("default against r") for line in lines)
    assert "profile default: 8 candidates, 8 kept" in lines
    assert all(any(f" e{number} " in line for line in lines) for number in range(8))
    assert lines[-1] == f"Written: {out / 'comparison.png'}, {out / 'report.html'}"


def test_no_line_of_it_is_wider_than_a_terminal_but_for_sentences_and_paths(shown: tuple[Result, Path]) -> None:
    """100 columns, in a pipe too."""
    result, _ = shown
    wide = [line for line in result.stdout.splitlines() if len(line) > 100]

    assert all(line.startswith(("made-up traffic", "default against", "Written:")) for line in wide)


def test_no_escape_sequence_reaches_a_pipe(shown: tuple[Result, Path]) -> None:
    """Nor does the progress bar."""
    result, _ = shown

    assert "\x1b" not in result.output


def test_it_writes_a_picture_and_a_page_that_needs_nothing_else(shown: tuple[Result, Path]) -> None:
    """No script, no link to anywhere, the chart inside, and the command to have it again."""
    _, out = shown
    page = (out / "report.html").read_text(encoding="utf-8")

    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in page
    assert "<script" not in page
    assert 'src="' not in page
    assert 'href="http' not in page
    assert (
        "inferencesched demo --virtual --endpoints 8 --engine h100 --scrape-interval 1.0 --seed 0 --duration 10.0"
        in page
    )


def test_json_is_one_document_and_nothing_else(tmp_path: Path) -> None:
    """With the numbers of the table, the receipt and the files."""
    result = demo(tmp_path, "--json", "--endpoints", "3")
    document = json.loads(result.stdout)

    assert [policy["policy"] for policy in document["policies"]] == POLICIES
    assert document["fleet"] == {
        "endpoints": 3,
        "engines": ["Llama 3.1 8B on one H100 80GB"],
        "scrape_interval_seconds": 1.0,
    }
    assert document["receipt"]["outcome"] == "assigned"
    assert document["files"] == [str(tmp_path / "comparison.png"), str(tmp_path / "report.html")]


def test_the_same_seed_shows_the_same_and_writes_the_same(tmp_path: Path) -> None:
    """Page and picture, byte for byte; another seed is another story."""
    first, second, other = (
        (demo(tmp_path / name, "--json", "--seed", seed), tmp_path / name)
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )

    for file in ("comparison.png", "report.html"):
        assert (first[1] / file).read_bytes() == (second[1] / file).read_bytes()
        assert (first[1] / file).read_bytes() != (other[1] / file).read_bytes()
    assert json.loads(first[0].stdout)["policies"] == json.loads(second[0].stdout)["policies"]
