"""Bodies in chunks: whole for every way of cutting them up, and an error for what others forgive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st
from inferencesched_gateway.wire.chunked import Chunked


def read(*pieces: bytes) -> tuple[bytes, bool, bytes]:
    """Return body, whether it is done, and what follows it."""
    chunked = Chunked()
    body = b""
    for i, piece in enumerate(pieces):
        body += chunked.feed(piece)
        if chunked.done:
            return body, True, chunked.rest + b"".join(pieces[i + 1 :])
    return body, False, b""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.sampled_from([b"", b";a=b", b';x="y"']),
    st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc:\r\n"]),
    st.binary(max_size=8),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_a_body_is_the_same_however_it_is_cut_up(
    chunks: list[bytes], extension: bytes, trailers: bytes, rest: bytes, places: list[int]
) -> None:
    lines = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks]
    data = b"".join(lines) + b"0" + extension + b"\r\n" + trailers + b"\r\n" + rest

    assert read(*cut(data, places)) == (b"".join(chunks), True, rest)
    assert read(*(data[i : i + 1] for i in range(len(data)))) == (b"".join(chunks), True, rest)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1\t;x\r\na\r\n",
        b"1\na\n",
        b"1\r\na\n0\n\n",
        b"1\r\nab\r\n",
        b"2\r\na\r\n\r\n",
        b"1\r\naX\r\n",
        b"1;\x00\r\na\r\n",
        b"1;a\nb\r\na\r\n",
        b"1;a\rb\r\na\r\n",
        b"\xb2\r\nab\r\n",
        b"FFFFFFFFFFFFFFFF\r\n",
        b"1" + b";x" * 200,
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nx : y\r\n\r\n",
        b"0\r\nx: \0\r\n\r\n",
        b"0\r\nx: y\n\r\n",
        b"0\r\n" + b"x: " + b"y" * 9000 + b"\r\n\r\n",
        b"0\r\n" + b"x: y\r\n" * 2000,
    ],
)
def test_what_other_readers_forgive_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"chunk|line|trailer"):
        read(data)
    with pytest.raises(ValueError, match=r"chunk|line|trailer"):
        read(*(data[i : i + 1] for i in range(len(data))))


@given(st.binary(max_size=60), st.lists(st.integers(0, 100), max_size=5))
def test_any_bytes_are_read_or_refused_the_same_however_they_are_cut_up(data: bytes, places: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> object:
        try:
            return read(*pieces)
        except ValueError:
            return "refused"

    whole = outcome([data])
    parts = outcome(cut(data, places))

    assert whole == parts


def test_an_unfinished_body_is_not_done() -> None:
    assert read(b"5\r\nhel") == (b"hel", False, b"")
    assert read(b"5\r\nhello\r\n0\r\n") == (b"hello", False, b"")


def test_a_chunk_that_arrives_alone_is_handed_on_without_its_frame() -> None:
    chunked = Chunked()

    assert chunked.feed(b"5\r\nhello\r\n") == b"hello"
    assert chunked.feed(b"A\r\n0123456789\r\n") == b"0123456789"
    assert chunked.feed(b"0\r\n\r\nrest") == b""
    assert (chunked.done, chunked.rest) == (True, b"rest")
