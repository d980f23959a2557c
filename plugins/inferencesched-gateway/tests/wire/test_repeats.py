"""A head that comes again is taken for what a reader would make of it, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings, strategies as st
from inferencesched_gateway.wire import Limits
from inferencesched_gateway.wire.errors import Refused
from inferencesched_gateway.wire.heads import RequestHead, ResponseHead, read_request, read_response
from inferencesched_gateway.wire.repeats import Repeats
from inferencesched_gateway.wire.status import BODILESS

if TYPE_CHECKING:
    from tests.wire.conftest import Lab, Run

LIMITS = Limits(head_bytes=2000, header_count=20, target_bytes=100)
FIELDS = [
    b"Host: a",
    b"host: b",
    b"Content-Length: 5",
    b"content-length:  1234",
    b"Content-Length: 5 ",
    b"CONTENT-LENGTH: 007",
    b"Content-Length: 12345678901234567",
    b"x-content-length: 5",
    b"X: content-length: 7",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Connection: content-length",
    b"Expect: 100-continue",
    b"Authorization: Bearer 0",
    b"Content-Type: application/json",
    b"",
]
BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b"-",
    b"+",
    b"0",
    b"1",
    b"99",
    b"\0",
    b"\xb2",
    b"a",
]
LENGTHS = [b"0", b"5", b"6", b"10", b"1" * 15, b"1" * 16, b"9" * 25, b"", b"-1", b"0x5", b"1 ", b"1_0"]


@st.composite
def heads(draw: Callable[[Any], Any], line: bytes) -> bytes:
    """Return what may be a head."""
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    return line + b"\r\n" + b"".join(field + b"\r\n" for field in [b"Host: a", *fields]) + b"\r\n"


@st.composite
def pairs(draw: Callable[[Any], Any], line: bytes) -> tuple[bytes, bytes]:
    """Return a head and one like it: with another length, or with bytes put in, taken out or replaced."""
    one = draw(heads(line))
    how = draw(st.sampled_from(["same", "length", "mangled", "other"]))
    if how == "other":
        return one, draw(heads(line))
    other = one
    if how == "length":
        for given_length in (b"5", b"1234", b"007"):
            other = other.replace(given_length + b"\r\n", draw(st.sampled_from(LENGTHS)) + b"\r\n", 1)
    elif how == "mangled":
        at = draw(st.integers(0, len(other)))
        other = other[:at] + draw(st.sampled_from([*BYTES, b""])) + other[at + draw(st.integers(0, 2)) :]
    return one, other


def read(reader: Callable[[bytes], Any], data: bytes) -> Any:
    """Return the head that a reader finds at the beginning of data and where it ends; None if there is none."""
    end = data.find(b"\r\n\r\n") + 4
    try:
        return None if end < 4 else (reader(data[:end]), end)
    except Refused:
        return None


def request_head(data: bytes) -> RequestHead:
    return read_request(data, LIMITS)


def response_head(data: bytes) -> ResponseHead:
    return read_response(data, LIMITS, to_head=False)


@settings(max_examples=500)
@given(pairs(b"POST /v1?x HTTP/1.1"), st.binary(max_size=3))
@example((b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), b"")
@example(
    (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    ),
    b"",
)
def test_a_request_that_is_like_the_latest_is_what_a_reader_finds(pair: tuple[bytes, bytes], rest: bytes) -> None:
    one, other = pair
    first, data = read(request_head, one), other + rest
    repeats = Repeats[RequestHead]()
    if first is not None:
        repeats.keep(first[0], one[: first[1]])

    for _ in range(2):  # the second time it is like one that was made of another
        found = repeats.find(data)
        assert found is None or found == read(request_head, data)
    if first is not None and one == other and len(one) == first[1]:
        assert repeats.find(data) == first


@settings(max_examples=500)
@given(
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 429 ", b"HTTP/1.0 200 OK"]).flatmap(pairs), st.binary(max_size=3)
)
def test_an_answer_that_is_like_the_latest_is_what_a_reader_finds(pair: tuple[bytes, bytes], rest: bytes) -> None:
    one, other = pair
    first, data = read(response_head, one), other + rest
    repeats = Repeats[ResponseHead]()
    if first is not None and first[0].status >= 200 and first[0].status not in BODILESS:
        repeats.keep(first[0], one[: first[1]])

    for _ in range(2):
        found = repeats.find(data)
        assert found is None or found == read(response_head, data)


def test_another_length_is_the_same_head_with_its_note() -> None:
    head = b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\nX: y\r\n\r\n"
    repeats = Repeats[RequestHead]()
    first = request_head(head % b"5")
    first.note = "read"
    repeats.keep(first, head % b"5")

    found = repeats.find(head % b"0012" + b"hello")

    assert found is not None
    assert found[0].headers == [(b"host", b"a"), (b"content-length", b"0012"), (b"x", b"y")]
    assert (found[0].length, found[0].note, found[1]) == (12, "read", len(head % b"0012"))
    assert first.headers[1] == (b"content-length", b"5")
    assert repeats.find(head % b"0012") == (found[0], found[1])


@pytest.mark.parametrize(("size", "is_kept"), [(4_096, True), (4_097, False)])
def test_a_long_head_is_not_remembered(size: int, is_kept: bool) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    long = head[:-4] + b"\r\nCookie: %b\r\n\r\n"
    long %= b"x" * (size - len(long) + 2)
    repeats = Repeats[RequestHead]()
    repeats.keep(request_head(head), head)
    repeats.keep(read_request(long, Limits()), long)

    assert (repeats.find(long) is not None) is is_kept
    assert repeats.find(head) is None  # only the latest


def test_a_head_that_is_remembered_can_still_be_too_long(run: Run) -> None:
    """The limit is on the whole head, and the next one may have more digits."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %b\r\n\r\n"

    async def main(lab: Lab) -> None:
        limits = Limits(head_bytes=len(head) - 1, target_bytes=10)
        server = await lab.server(lambda exchange: exchange.respond(200, []), limits=limits)
        answers = await lab.raw(server, head % b"1" + b"x" + head % b"01" + b"x")
        assert [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"431"]

    run(main)
