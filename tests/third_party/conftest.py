"""Real distributions, built and installed into a folder of their own, and found through their metadata."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CARBON_AWARE = HERE / "carbon-aware"

collect_ignore = ["carbon-aware"]  # its tests are run where it is installed


def pip_install(source: Path, target: Path) -> None:
    """Install a distribution from its sources, without network or dependencies."""
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *quiet, *offline, "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with carbon-aware installed in it, as pip installs it."""
    target = tmp_path_factory.mktemp("site")
    pip_install(CARBON_AWARE, target)
    return target


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a command in a Python that also sees these folders of installed distributions."""

    def run(*command: str, sites: list[Path]) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sites))}
        return subprocess.run(
            [sys.executable, *command], check=False, capture_output=True, text=True, env=environment, timeout=120
        )

    return run


@pytest.fixture
def distribution(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a distribution in it that needs no building: metadata and one module."""

    def make(name: str, *, entry_points: dict[str, str], source: str = "") -> Path:
        site = tmp_path / name
        info = site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{plugin} = {value}" for plugin, value in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[inferencesched.plugins]", *lines, ""]))
        (site / f"{name.replace('-', '_')}.py").write_text(source)
        return site

    return make
