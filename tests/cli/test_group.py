"""Facts about the command line as a whole: its commands, those of others, exit codes, and life without the extra."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from inferencesched.cli.group import BUILT_IN, main

ROOT = Path(__file__).parents[2]


def invoke(*args: str) -> Result:
    return CliRunner().invoke(main, args)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, where a test can install a distribution by writing its metadata."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, name: str, entry_points: str, module: str = "") -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[inferencesched.commands]\n{entry_points}\n")
    if module:
        (folder / f"{name.replace('-', '_')}.py").write_text(module)


HELLO = 'import click\n@click.command()\ndef hello():\n    """Say hello."""\n    print("hello")\n'


def test_help_lists_every_command_and_the_exit_codes() -> None:
    """What a newcomer reads first."""
    result = invoke("--help")

    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.output for name in BUILT_IN)
    assert "Exit codes: 0 done" in result.output


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_command_documents_its_exit_codes(name: str) -> None:
    """In its own help."""
    result = invoke(name, "--help")

    assert result.exit_code == 0
    assert "Exit codes: 0 " in result.output


def leaves(command: click.Command) -> Iterator[click.Command]:
    """The commands that do something: of a group, those in it."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from leaves(command.commands[name])
    else:
        yield command


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_command_speaks_json(name: str) -> None:
    """Programs read it, so that they need not read tables."""
    command = main.get_command(click.Context(main), name)
    assert command is not None

    for leaf in leaves(command):
        prints_only_json = leaf.name == "schema"
        assert prints_only_json or any("--json" in option.opts for option in leaf.params), leaf.name


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit code 2, as for a wrong option."""
    assert invoke("dmo").exit_code == 2
    assert invoke("demo", "--endpoint-count", "3").exit_code == 2


def test_an_error_of_the_library_ends_without_a_traceback(tmp_path: Path) -> None:
    """Exit code 1, the message on stderr with file and line, nothing on stdout."""
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"timestamp": "noon"}\n')

    result = invoke("replay", str(trace))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == f"Error: {trace}:1: 'timestamp' must be a whole number ≥ 0, got 'noon'\n"


def test_a_folder_that_cannot_be_written_ends_without_a_traceback(tmp_path: Path) -> None:
    """It is the machine's fault, not the program's."""
    (tmp_path / "file").touch()

    result = invoke("demo", "--virtual", "--duration", "1", "--out", str(tmp_path / "file/folder"))

    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'file/folder'}: Not a directory\n"


def test_a_distribution_adds_a_command(distribution: Path) -> None:
    """It is listed, and it runs."""
    install(distribution, "greeter", "hello = greeter:hello", HELLO)

    assert "Say hello." in invoke("--help").output
    assert invoke("hello").output == "hello\n"


def test_nothing_of_a_distribution_is_imported_before_its_command_is_named(distribution: Path) -> None:
    """A broken one does not stop the others."""
    install(distribution, "broken", "oops = broken:command", "raise RuntimeError('half installed')\n")

    assert invoke("demo", "--help").exit_code == 0
    result = invoke("oops")
    assert result.exit_code == 1
    assert result.stderr == "Error: the command 'oops' of distribution 'broken' cannot be imported: half installed\n"
    assert "(broken: " in invoke("--help").output


@pytest.mark.parametrize(
    ("name", "claim", "origins"),
    [
        ("hello", "hello", "distribution 'greeter' and by distribution 'stranger'"),
        ("demo", "demo", "distribution 'stranger' and by inferencesched itself"),
    ],
)
def test_two_claims_to_one_name_are_an_error_when_it_is_used(
    distribution: Path, name: str, claim: str, origins: str
) -> None:
    """Install order decides nothing, and no built-in can be replaced."""
    install(distribution, "greeter", "hello = greeter:hello", HELLO)
    install(distribution, "stranger", f"{claim} = stranger:hello", HELLO)

    result = invoke(name)

    assert result.exit_code == 1
    assert result.stderr == f"Error: the command '{name}' is claimed by {origins}\n"


def test_an_entry_point_that_is_no_command_is_named(distribution: Path) -> None:
    """With what it pointed at."""
    install(distribution, "wrong", "wrong = wrong:value", "value = 3\n")

    assert invoke("wrong").stderr == "Error: 'wrong:value' of distribution 'wrong' is no click command\n"


@pytest.mark.parametrize("missing", ["click", "jinja2", "matplotlib", "rich", "yaml"])
def test_without_the_extra_it_says_what_to_install(missing: str) -> None:
    """Importing the package works; calling it names the extra."""
    program = f"import sys; sys.modules[{missing!r}] = None; from inferencesched.cli import main; main()"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)

    assert result.returncode == 1
    assert f"needs {missing}, not installed here" in result.stderr
    assert "pip install 'inferencesched[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_module_can_be_run() -> None:
    """As ``python -m inferencesched``."""
    result = subprocess.run(
        [sys.executable, "-m", "inferencesched", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert result.stdout.startswith("inferencesched ")


def test_the_simulator_needs_no_extra() -> None:
    """Its numbers come from the core's dependencies; only plots and pages need more."""
    unwanted = "{'click', 'jinja2', 'matplotlib', 'rich', 'yaml'}"
    program = f"import sys, inferencesched.sim; print(sorted({unwanted} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)

    assert result.stdout == "[]\n"
