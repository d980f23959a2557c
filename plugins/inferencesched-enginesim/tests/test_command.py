"""``inferencesched enginesim`` as somebody types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "inferencesched", "enginesim")


@contextmanager
def running(*flags: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen((*COMMAND, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_engines_say_where_they_listen_and_end_when_asked(number: signal.Signals) -> None:
    flags = ("--engines", "2", "--model", "llama", "--lora", "a", "--speed", "20", "--kv-events", "--slowdown", "1=3.0")
    with running(*flags, "--fault", "no-metrics", "--json") as process:
        assert process.stdout is not None
        engines = json.loads(process.stdout.readline())["engines"]

        assert [engine["name"] for engine in engines] == ["e0", "e1"]
        assert len({engine[key] for engine in engines for key in ("address", "kv_events", "kv_replay")}) == 6
        for engine in engines:
            assert [card["id"] for card in get(engine["address"], "/v1/models")["data"]] == ["llama", "a"]
            assert get(engine["address"], "/sim/faults")["faults"][0]["kind"] == "no-metrics"
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20)

        assert (process.returncode, rest, errors) == (0, "", "")


def test_without_json_there_is_a_line_for_each() -> None:
    with running("--engines", "2", "--hardware", "INSTANT") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(2)]

        assert [line[0] for line in lines] == ["e0", "e1"]
        assert all(line[1].startswith("http://127.0.0.1:") for line in lines)


@pytest.mark.parametrize(
    ("flags", "about"),
    [
        (("--slowdown", "3=2.0"), "no engine 3"),
        (("--slowdown", "fast"), "I=FACTOR"),
        (("--slowdown", "0=0"), "more than 0"),
        (("--fault", "explode"), "kind"),
        (("--hardware", "abacus"), "abacus"),
        (("--lora", "a", "--max-loras", "0"), "no room"),
        (("--lora", "llama", "--model", "llama"), "base model"),
    ],
    ids=str,
)
def test_a_wrong_call_is_refused_before_anything_listens(flags: tuple[str, ...], about: str) -> None:
    done = subprocess.run((*COMMAND, *flags), capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 2
    assert about in done.stderr


def test_a_port_that_is_taken_is_said_and_nothing_is_left_open() -> None:
    with running("--json") as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["engines"][0]["address"].rpartition(":")[2]
        done = subprocess.run((*COMMAND, "--port", port), capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
