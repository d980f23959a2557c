"""``inferencesched demo`` where everything is installed: real engines, a real gateway, and a client that measures."""

import asyncio
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson
import pytest
from inferencesched_gateway.live.client import ask_all
from inferencesched_gateway.live.traffic import CHARACTERS_PER_TOKEN, WORKLOAD, chat_bodies

from inferencesched.sim import RequestRun, Trace, TraceRequest

MARK = "INFERENCESCHED_TEST_DEMO"
PATIENCE = 120.0  # for a whole demonstration; a start takes a second, or many on a busy machine


class Demo:
    """A demonstration in a process of its own, whose processes can be counted."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inferencesched", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, MARK: self.mark, **environment},
            start_new_session=True,  # so that a signal can be sent to all of them together, or to it alone
            text=True,
        )

    def alive(self) -> dict[int, str]:
        """Return every process that runs of it and its children, with its command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it is somebody else's, or has just ended
        return found

    def find(self, command: str) -> tuple[int, str]:
        """Return the child that runs this command, as soon as it does, with its command line."""
        self.wait_for(lambda: any(f" {command} " in line for line in self.alive().values()))
        return next((number, line) for number, line in self.alive().items() if f" {command} " in line)

    def wait_for_traffic(self) -> None:
        """Return when an engine has been asked something."""
        engine = self.find("serve")[1].partition("--endpoint ")[2].split()[0]

        def is_asked() -> bool:
            requests = httpx.get(f"{engine}/sim/requests").raise_for_status().json()["requests"]
            return any(request["method"] == "POST" for request in requests)

        self.wait_for(is_asked)

    def wait_for(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def end(self) -> tuple[int, str, str]:
        out, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, errors


@pytest.fixture
def demo() -> Iterator[Callable[..., Demo]]:
    if not Path("/proc/self/environ").exists():
        pytest.skip("processes are counted in /proc")
    started: list[Demo] = []

    def start(*arguments: str, **environment: str) -> Demo:
        started.append(Demo(*arguments, **environment))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGTERM)
            each.process.communicate(timeout=30)


def test_it_compares_two_policies_and_ends_everything(demo: Callable[..., Demo], tmp_path: Path) -> None:
    """One JSON document on stdout, both files, no process left."""
    out = tmp_path / "out"
    running = demo("--duration", "3", "--seed", "2", "--json", "--out", str(out))
    code, printed, errors = running.end()
    document = json.loads(printed)
    rival, ours = document["policies"]

    assert (code, errors) == (0, "")
    assert running.alive() == {}
    assert (rival["policy"], ours["policy"]) == ("round-robin", "default")
    assert rival["requests"] == ours["requests"] == document["trace"]["requests"] > 10
    assert rival["rejected"] == ours["rejected"] == 0
    for each in (rival, ours):
        assert 0 < each["ttft_seconds"]["p50"] <= each["ttft_seconds"]["p90"] < each["makespan_seconds"]
        assert 1.0 <= each["load_skew_max_over_mean"] <= 4.0
    assert ours["prefix_hit_ratio"]["tokens"] > rival["prefix_hit_ratio"]["tokens"]
    assert document["receipt"]["receipt"]["outcome"] == "assigned"
    assert document["receipt"]["outcome"]["result"] == "success"
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "report.html").read_text()
    assert "inferencesched demo --seed 2 --duration 3" in page
    assert "in real time" in page


def test_it_can_be_kept_and_ends_with_ctrl_c(demo: Callable[..., Demo], tmp_path: Path) -> None:
    """Table, sentence, receipt, and a line to type; the gateway answers until it is interrupted."""
    running = demo("--duration", "1", "--keep", "--out", str(tmp_path))
    assert running.process.stdout is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("curl "):
        line = running.process.stdout.readline()
        assert line, running.process.communicate()
        lines.append(line.rstrip("\n"))
    url, body = re.search(r"Serving on (\S+)", lines[-2]), re.search(r"-d '(.*)'$", lines[-1])
    assert url is not None
    assert body is not None
    answer = httpx.post(f"{url[1]}/v1/chat/completions", content=body[1], timeout=30.0)
    processes = len(running.alive())
    running.process.send_signal(signal.SIGINT)
    code, _, errors = running.end()

    assert [line.split()[0] for line in lines[4:6]] == ["round-robin", "default"]
    assert any(line.startswith("default against round-robin: ") for line in lines)
    assert "profile default: 4 candidates, 4 kept" in lines
    assert answer.text.rstrip().endswith("data: [DONE]")
    assert processes == 3  # itself, the engines, the gateway
    assert (code, errors) == (0, "")
    assert running.alive() == {}


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(lambda number: os.kill(number, signal.SIGTERM), id="SIGTERM to it alone"),
        pytest.param(lambda number: os.killpg(number, signal.SIGINT), id="Ctrl-C, which reaches all of them"),
        pytest.param(lambda number: os.killpg(number, signal.SIGHUP), id="the terminal is closed"),
    ],
)
def test_an_interrupted_demonstration_leaves_no_process(
    demo: Callable[..., Demo], tmp_path: Path, send: Callable[[int], None]
) -> None:
    """In the midst of its traffic."""
    running = demo("--duration", "60", "--out", str(tmp_path))
    running.wait_for_traffic()
    send(running.process.pid)
    code, printed, errors = running.end()

    assert (code, printed, errors) == (1, "", "Aborted!\n")
    assert running.alive() == {}


@pytest.mark.parametrize(
    ("name", "command", "sentence"),
    [
        ("inferencesched_enginesim", "enginesim", "the simulated engines did not start: no simulation today"),
        ("inferencesched_gateway", "serve", "the gateway did not start: no service today"),
    ],
)
def test_what_does_not_start_is_named_with_what_it_said(
    demo: Callable[..., Demo], tmp_path: Path, name: str, command: str, sentence: str
) -> None:
    """A distribution that comes first on the path and hides the real one's command."""
    info = tmp_path / f"{name}-99.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n")
    live = "live = inferencesched_gateway.live.command:command\n" if command == "serve" else ""
    (info / "entry_points.txt").write_text(f"[inferencesched.commands]\n{command} = broken:command\n{live}")
    said = sentence.rpartition(": ")[2]
    (tmp_path / "broken.py").write_text(
        "import click\n"
        "@click.command(context_settings={'ignore_unknown_options': True})\n"
        "@click.argument('rest', nargs=-1)\n"
        f"def command(rest):\n    raise SystemExit('{said}')\n"
    )

    running = demo("--duration", "2", "--out", str(tmp_path / "out"), PYTHONPATH=str(tmp_path))
    code, _, errors = running.end()

    assert code == 1
    assert sentence in errors
    assert "Traceback" not in errors
    assert running.alive() == {}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("serve", r"the gateway is gone: "),
        ("enginesim", r"http://\S+/metrics does not answer: |no request was answered"),
    ],
)
def test_what_dies_on_the_way_is_named(demo: Callable[..., Demo], tmp_path: Path, command: str, sentence: str) -> None:
    """Rather than measured."""
    running = demo("--duration", "4", "--seed", "1", "--out", str(tmp_path))
    running.wait_for_traffic()
    os.kill(running.find(command)[0], signal.SIGKILL)
    code, printed, errors = running.end()

    assert (code, printed) == (1, "")
    assert re.search(sentence, errors), errors
    assert "Traceback" not in errors
    assert running.alive() == {}


# --- the traffic -----------------------------------------------------------------------------------------------------


def common(first: Sequence[object], second: Sequence[object]) -> int:
    """Return how many leading members two sequences share."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def test_prompts_have_in_common_what_the_trace_says() -> None:
    """As many leading characters as leading blocks, and not a block more."""
    trace = WORKLOAD.generate(4.0, random.Random(1))
    bodies = {name: orjson.loads(body) for name, body in chat_bodies(trace, "m").items()}
    prompts = {name: body["messages"][0]["content"] for name, body in bodies.items()}
    block = trace.block_tokens * CHARACTERS_PER_TOKEN
    shared = 0

    for first in trace.requests:
        assert len(prompts[first.id]) == first.prompt_tokens * CHARACTERS_PER_TOKEN
        assert bodies[first.id]["max_tokens"] == first.output_tokens
        for second in trace.requests:
            same = common(first.blocks, second.blocks)
            text = common(prompts[first.id], prompts[second.id])
            assert text // block == same or first is second
            shared += same and first is not second
    assert shared


# --- the client ------------------------------------------------------------------------------------------------------

SSE = [(b"content-type", b"text/event-stream")]
ONE = Trace("one", 16, (TraceRequest("r1", 0.0, 32, 2, (1, 2)),))
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":" a"}}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":3,'
    b'"prompt_tokens_details":{"cached_tokens":16}}}\n\ndata: [DONE]\n\n'
)


def asked(background: Any, url: str) -> RequestRun:
    """Send the one request; return what became of it."""
    bodies = chat_bodies(ONE, "m")
    (run,) = background.run(ask_all(ONE, url, bodies, ended=lambda: None))
    assert isinstance(run, RequestRun)
    return run


def test_time_to_first_token_is_until_the_first_text(background: Any, hand_engine: Callable[..., Any]) -> None:
    """Neither the head nor an event that only names the role is a token."""
    engine = hand_engine()

    async def answer(exchange: Any) -> None:
        loop = asyncio.get_running_loop()
        exchange.start(200, SSE)
        exchange.write(b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n')
        loop.call_later(0.3, exchange.write, TOKEN)
        loop.call_later(0.5, exchange.write, TOKEN + USAGE)
        loop.call_later(0.5, exchange.end)

    tasks = set()
    engine.handler = lambda exchange: tasks.add(asyncio.ensure_future(answer(exchange)))
    run = asked(background, engine.url)

    assert run.ttft >= 0.3
    assert run.finished - run.first_token >= 0.15
    assert (run.request.prompt_tokens, run.request.output_tokens) == (40, 3)
    assert (run.matched_blocks, run.matched_tokens) == (1, 16)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (429, b'{"error":{"message":"later"}}', "429: "),
        (200, TOKEN + b'data: {"error":{"message":"the engine is gone"}}\n\n', "the engine is gone"),
        (200, TOKEN, "the answer ended without usage"),
    ],
)
def test_a_request_that_fails_counts_as_rejected_with_its_reason(
    background: Any, hand_engine: Callable[..., Any], status: int, body: bytes, reason: str
) -> None:
    """Before the first byte or after it."""
    engine = hand_engine()
    engine.handler = lambda exchange: exchange.respond(status, SSE, body)

    run = asked(background, engine.url)

    assert run.endpoint is None
    assert str(run.reason).startswith(reason)


def test_a_gateway_that_cannot_be_reached_is_an_error(background: Any, hand_engine: Callable[..., Any]) -> None:
    """Not a number."""
    engine = hand_engine()
    engine.close()

    with pytest.raises(aiohttp.ClientError):
        asked(background, engine.url)
