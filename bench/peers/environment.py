"""Side environments for what is only measured: made once under build/, each with its own packages.

Nothing here knows what the packages are for. An environment is remade when its installation steps change.
"""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import attrs

BUILD = Path(__file__).resolve().parent.parent.parent / "build"


@attrs.frozen
class Environment:
    """A virtual environment at `home`, filled by `steps`: the arguments of one `pip install` each."""

    home: Path
    steps: tuple[tuple[str, ...], ...]

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.program("python")

    @property
    def is_installed(self) -> bool:
        """Whether these very steps have been taken."""
        stamp = self._stamp
        return stamp.exists() and json.loads(stamp.read_text()) == [list(step) for step in self.steps]

    def program(self, name: str) -> Path:
        """Return where a command of one of its packages is."""
        return self.home / "bin" / name

    def install(self) -> None:
        """Take the steps, unless they have been taken."""
        if self.is_installed:
            return
        self._stamp.unlink(missing_ok=True)
        if not self.python.exists():
            venv.create(self.home, with_pip=True)
        for step in (("--upgrade", "pip"), *self.steps):
            self.pip("install", *step)
        self._stamp.write_text(json.dumps(self.steps))

    def pip(self, *arguments: str) -> None:
        """Run pip in it; what pip says is shown only when it fails, by the error raised."""
        command = [str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 — our own arguments
        if done.returncode:
            raise EnvironmentFailed(self.home.name, done.stderr)

    def versions(self, *packages: str) -> dict[str, str]:
        """Return the versions that are in it."""
        ask = "import importlib.metadata as m, json, sys; print(json.dumps({p: m.version(p) for p in sys.argv[1:]}))"
        command = [str(self.python), "-c", ask, *packages]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 — our own arguments
        answer: dict[str, str] = json.loads(done.stdout)
        return answer

    @property
    def _stamp(self) -> Path:
        return self.home / "installed.json"


class EnvironmentFailed(Exception):
    """What pip said last, when it could not install."""

    def __init__(self, name: str, output: str) -> None:
        tail = " ".join(output.split())[-400:]
        super().__init__(f"environment '{name}' could not be made: {tail}")
