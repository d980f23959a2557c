"""Every example runs as it stands, and shows what it says it does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
PACKAGES = sorted(path.parent for path in EXAMPLES.glob("*/pyproject.toml"))
MANIFESTS = sorted({path.parent for path in EXAMPLES.glob("*/*.yaml")})


def python(*arguments: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs(script: Path) -> None:
    assert python("-W", "error", str(script))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_tests_of_a_package_pass(package: Path) -> None:
    tests = str(package / "tests")
    pytest_alone = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tests, tests)

    shown = python(*pytest_alone, PYTHONPATH=str(package / "src"))

    assert "1 passed" in shown


@pytest.mark.parametrize("folder", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_right_without_a_word_of_warning(folder: Path) -> None:
    checked = python("-m", "inferencesched", "check", str(folder))

    assert checked.startswith("✓ no problems, no warnings")
    assert {"EndpointPickerConfig", "HTTPRoute", "InferencePool", "endpoints"} <= set(checked.replace(",", "").split())


def test_the_smallest_example_is_small() -> None:
    code = (EXAMPLES / "embed.py").read_text().split('"""', 2)[2]

    assert len([line for line in code.splitlines() if line.strip()]) <= 15


def test_a_follow_up_goes_to_its_prefix_until_that_place_is_too_busy() -> None:
    again, moved = python(str(EXAMPLES / "explain_a_decision.py")).split("\n\n")

    assert (again.split()[:2], moved.split()[:2]) == (["follow-up", "→"], ["and-one-more", "→"])
    assert again.split()[2] != moved.split()[2]


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()

    assert [path.name for path in (*SCRIPTS, *PACKAGES, *MANIFESTS) if path.name not in listed] == []
