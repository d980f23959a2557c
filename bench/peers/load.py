"""Load on a router: what is asked, and the two clients that ask it, in a process of their own.

wrk where it is installed; otherwise, and for streams that must all be open at once, the asyncio client of
`bench.peers.client`. Both send the same bodies in the same order, and the next request of a connection when the last
one is answered.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from bench.peers.backend import MODEL
from bench.peers.processes import Running, running

KEY = "sk-bench"
"""Everybody is sent this key; LiteLLM's proxy does not start without one."""

GROUPS = 16
SHARED = 0.7
"""Of a prompt, what its group shares."""

MESSAGE_CHARS = 4096
"""Prompts over 64 KiB are conversations of such messages: half a megabyte in one message is nobody's chat."""

WRK_SCRIPT = r"""
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer KEY"
local requests, turn = {}, 0
init = function(args)
  for line in io.lines(args[1]) do requests[#requests + 1] = wrk.format(nil, nil, nil, line) end
end
request = function() turn = turn % #requests + 1; return requests[turn] end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
""".replace("KEY", KEY)


@attrs.frozen
class Loaded:
    """What a client saw: `p50_ms` and `p99_ms` are of whole answers."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int

    @property
    def per_second(self) -> float:
        """Answers, errors included."""
        return self.requests / self.seconds if self.seconds else 0.0


@attrs.frozen
class Question:
    """What is asked in one cell: prompts of `chars` characters, answered whole or as a stream."""

    chars: int
    stream: bool = False

    @property
    def prompts(self) -> int:
        """How many different ones: fewer of the long, which all have to be kept in memory by the client."""
        return max(16, min(512, 16 * 1024 * 1024 // self.chars))

    def bodies(self) -> list[str]:
        """Return the chat bodies, shuffled, each on one line."""
        dice = random.Random(self.chars)
        shared = int(self.chars * SHARED)
        prefixes = [_text(dice, shared) for _ in range(GROUPS)]
        prompts = [prefixes[i % GROUPS] + _text(dice, self.chars - shared) for i in range(self.prompts)]
        dice.shuffle(prompts)
        return [
            json.dumps(
                {"model": MODEL, "max_tokens": 32, "messages": _messages(prompt)}
                | ({"stream": True} if self.stream else {}),
                separators=(",", ":"),
            )
            for prompt in prompts
        ]

    def written(self, folder: Path) -> Path:
        """Return a file with the bodies, a line each; written once."""
        path = folder / f"bodies-{self.chars}-{self.stream}.jsonl"
        if not path.exists():
            path.write_text("\n".join(self.bodies()) + "\n")
        return path


def _text(dice: random.Random, chars: int) -> str:
    return dice.randbytes((chars + 1) // 2).hex()[:chars]


def _messages(prompt: str) -> list[dict[str, str]]:
    if len(prompt) <= 16 * MESSAGE_CHARS:
        return [{"role": "user", "content": prompt}]
    parts = [prompt[start : start + MESSAGE_CHARS] for start in range(0, len(prompt), MESSAGE_CHARS)]
    return [{"role": ("user", "assistant")[i % 2], "content": part} for i, part in enumerate(parts)]


@functools.cache
def wrk() -> str | None:
    """Return where wrk is, if it is installed (`apt-get install wrk`)."""
    return shutil.which("wrk")


def load(port: int, question: Question, *, connections: int, seconds: float, core: int | None, folder: Path) -> Loaded:
    """Ask as fast as answers come, for some seconds. `folder` takes the files of the client."""
    bodies = question.written(folder)
    if program := wrk():
        script = folder / "ask.lua"
        script.write_text(WRK_SCRIPT)
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        command = [program, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10s", f"-s{script}", url]
        command += ["--", str(bodies)]
    else:
        command = client_command(port, bodies, connections=connections, seconds=seconds)
    log = folder / "client.log"
    log.write_text("")
    with running("client", command, core=core, log=log) as client:
        return finished(client, within=seconds + 60)


def client_command(port: int, bodies: Path, *, connections: int, seconds: float) -> list[str]:
    """Return what starts our own client; with no seconds, every connection asks once."""
    command = [sys.executable, "-m", "bench.peers.client", "--port", str(port), "--bodies", str(bodies), "--key", KEY]
    return [*command, "--connections", str(connections), "--seconds", f"{seconds:g}"]


def finished(client: Running, *, within: float) -> Loaded:
    """Wait for a client and read what it has seen.

    Raises:
        ClientFailed: it was not done in time, or ended without a result.
    """
    try:
        code = client.process.wait(within)
    except subprocess.TimeoutExpired:
        code = None
    lines = [line for line in client.log.read_text().splitlines() if line.startswith("{")]
    if code != 0 or not lines:
        raise ClientFailed(f"the client ended with {code}: {client.last_words()}")
    return Loaded(**json.loads(lines[-1]))


class ClientFailed(Exception):
    """A client without a result."""
