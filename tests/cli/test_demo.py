"""Facts about ``inferencesched demo``: what a newcomer sees, and what a script reads.

Distributions are installed here by writing their metadata to a folder that comes first on the path, where it hides what
is installed under the same name.
"""

import json
from collections.abc import Callable
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


LIVE = """
import click

@click.command()
@click.option("--keep", is_flag=True)
@click.option("--duration", type=float)
@click.option("--seed", type=int)
@click.option("--out")
@click.option("--json", "as_json", is_flag=True)
def live(**options):
    print(sorted(options.items()))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that installs a distribution with these commands, or hides one by giving it none."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, commands: str = "") -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[inferencesched.commands]\n{commands}\n")
        (tmp_path / "somebodys_live.py").write_text(LIVE)

    return install


def test_it_is_live_where_gateway_and_engines_are_installed(installed: Callable[..., None], tmp_path: Path) -> None:
    """Whoever brings the command `live` runs it; what both can be told is handed on."""
    installed("inferencesched_gateway", "live = somebodys_live:live")
    installed("inferencesched_enginesim", "enginesim = somebodys_live:live")

    result = CliRunner().invoke(main, ["demo", "--seed", "3", "--keep", "--json", "--out", str(tmp_path / "out")])

    options = [("as_json", True), ("duration", 20.0), ("keep", True), ("out", tmp_path / "out"), ("seed", 3)]
    assert result.stdout == f"{options}\n"


@pytest.mark.parametrize("hidden", ["inferencesched_gateway", "inferencesched_enginesim"])
def test_it_is_virtual_where_one_of_them_is_not(installed: Callable[..., None], hidden: str, tmp_path: Path) -> None:
    """And says in one line how to get them."""
    installed(hidden)

    result = CliRunner().invoke(main, ["demo", "--duration", "5", "--endpoints", "2", "--json", "--out", str(tmp_path)])

    assert [policy["policy"] for policy in json.loads(result.stdout)["policies"]] == POLICIES
    assert result.stderr == (
        "In virtual time; for the live demonstration: pip install inferencesched-gateway inferencesched-enginesim\n"
    )


def test_there_is_nothing_to_keep_where_one_of_them_is_not(installed: Callable[..., None]) -> None:
    """Better no demonstration than one that ends where it was asked to stay."""
    installed("inferencesched_gateway")

    result = CliRunner().invoke(main, ["demo", "--keep"])

    assert result.exit_code == 1
    assert "pip install inferencesched-gateway inferencesched-enginesim" in result.stderr


@pytest.mark.parametrize("option", [["--engine", "a100"], ["--endpoints", "2"], ["--scrape-interval", "1"]])
def test_what_only_the_simulation_knows_is_refused_by_the_live_one(
    installed: Callable[..., None], option: list[str]
) -> None:
    """Rather than ignored."""
    installed("inferencesched_gateway", "live = somebodys_live:live")
    installed("inferencesched_enginesim", "enginesim = somebodys_live:live")

    result = CliRunner().invoke(main, ["demo", *option])

    assert result.exit_code == 2
    assert f"{option[0]} goes with --virtual" in result.stderr


def test_the_simulation_cannot_be_kept() -> None:
    """Nothing of it runs."""
    assert CliRunner().invoke(main, ["demo", "--virtual", "--keep"]).exit_code == 2
