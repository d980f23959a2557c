"""Facts about reading traces and about the prompts made from them."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from inferencesched.errors import ConfigError
from inferencesched.sim.trace import Trace, TraceRequest, read_mooncake


def row(**changes: Any) -> str:
    whole = {"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [0, 1]}
    return json.dumps({**whole, **changes}) + "\n"


def test_a_line_becomes_a_request_in_seconds_and_tokens(tmp_path: Path) -> None:
    """Milliseconds become seconds; the id is the line's number."""
    path = tmp_path / "t.jsonl"
    path.write_text(row() + "\n" + row(timestamp=1500, hash_ids=[0, 2]))

    trace = read_mooncake(path)

    assert trace.name == "t.jsonl"
    assert trace.block_tokens == 512
    assert trace.requests == (
        TraceRequest("r1", 0.0, 700, 5, (0, 1)),
        TraceRequest("r3", 1.5, 700, 5, (0, 2)),
    )
    assert trace.duration == 1.5


def test_a_gzipped_trace_is_recognised_by_its_content(tmp_path: Path) -> None:
    """The name of the file does not matter."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(gzip.compress(row().encode(), mtime=0))

    assert len(read_mooncake(path)) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{oops\n", "is no JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[1]\n", "expected a JSON object"),
        (row(timestamp=-1), "'timestamp' must be a whole number ≥ 0, got -1"),
        (row(output_length=0), "'output_length' must be a whole number ≥ 1, got 0"),
        (row(input_length=True), "'input_length' must be a whole number ≥ 1, got True"),
        (row(hash_ids="x"), "'hash_ids' must be a list of whole numbers ≥ 0, got 'x'"),
        (
            row(hash_ids=[0, 1, 2]),
            "700 tokens are 2 blocks of 512, but 'hash_ids' has 3 (is the block size another one?)",
        ),
        (row(timestamp=5), "'timestamp' goes back, from 9 to 5 ms"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    """Every message begins with the place, as compilers do it."""
    path = tmp_path / "t.jsonl"
    path.write_text(row(timestamp=9) + line)

    with pytest.raises(ConfigError) as caught:
        read_mooncake(path)

    assert str(caught.value) == f"{path}:2: {problem}"


def test_all_problems_come_at_once_up_to_ten(tmp_path: Path) -> None:
    """A file of another format does not print a line for each of its lines."""
    path = tmp_path / "t.jsonl"
    path.write_text("nonsense\n" * 100)

    with pytest.raises(ConfigError) as caught:
        read_mooncake(path)

    assert [problem.line for problem in caught.value.problems] == list(range(1, 11))


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(row().encode(), mtime=0)[:-12], b"\xff\xfe\n"])
def test_an_unusable_file_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    """Empty, cut short, no text: none of them ends in a traceback."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"t\.jsonl"):
        read_mooncake(path)


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """The name is in the message."""
    with pytest.raises(ConfigError, match="nowhere"):
        read_mooncake(tmp_path / "nowhere.jsonl")


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1), st.integers(0, 7))
def test_prompts_share_the_tokens_of_the_blocks_they_share(ours: list[int], theirs: list[int], short: int) -> None:
    """The common prefix in tokens is the common prefix in blocks, whole blocks only."""
    trace = Trace("t", 8, ())
    a = trace.prompt(TraceRequest("a", 0.0, 8 * len(ours) - short, 1, tuple(ours)))
    b = trace.prompt(TraceRequest("b", 0.0, 8 * len(theirs) - short, 1, tuple(theirs)))

    common = min(len(a), len(b))
    differ = np.flatnonzero(a[:common] != b[:common])
    blocks = next(
        (i for i, (x, y) in enumerate(zip(ours, theirs, strict=False)) if x != y), min(len(ours), len(theirs))
    )

    assert len(a) == 8 * len(ours) - short
    assert a.dtype == np.uint32
    assert (int(differ[0]) if differ.size else common) == min(8 * blocks, common)


def test_a_trace_can_be_cut_and_sped_up() -> None:
    """Both leave the requests' sizes alone."""
    requests = tuple(TraceRequest(f"r{i}", float(i), 10, 1, (i,)) for i in range(4))

    trace = Trace("t", 16, requests).head(3).faster(2.0)

    assert [request.arrival for request in trace.requests] == [0.0, 0.5, 1.0]
    assert trace.duration == 1.0


def test_requests_of_one_instant_can_be_spread_until_the_next() -> None:
    """Three at 0 s, one at 3 s, two at 6 s, after which nothing says how long a tick is."""
    requests = tuple(TraceRequest(f"r{i}", at, 10, 1, (i,)) for i, at in enumerate([0.0, 0.0, 0.0, 3.0, 6.0, 6.0]))

    trace = Trace("t", 16, requests).spread()

    assert [request.arrival for request in trace.requests] == [0.0, 1.0, 2.0, 3.0, 6.0, 6.0]
    assert [request.id for request in trace.requests] == [f"r{i}" for i in range(6)]


def test_the_real_slice_reads(real_slice: Trace) -> None:
    """4,665 requests in 1,500 s, sizes as published."""
    prompts = [request.prompt_tokens for request in real_slice.requests]

    assert len(real_slice) == 4665
    assert real_slice.duration == 1497.0
    assert np.median(prompts) == 7863
