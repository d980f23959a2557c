"""Answers, from bytes to pages, however the bytes are cut."""

from __future__ import annotations

import gzip
import zlib

import pytest
from inferencesched_sources.answers import Answer, Refused

LARGEST = 1000
OK = b"HTTP/1.1 200 OK\r\n"


def framed(page: bytes, *fields: bytes) -> bytes:
    return OK + b"".join(each + b"\r\n" for each in fields) + b"content-length: %d\r\n\r\n" % len(page) + page


def told(*pieces: bytes, closed: bool = False) -> Answer:
    answer = Answer(LARGEST)
    for piece in pieces:
        answer.feed(piece)
    if closed:
        answer.end()
    return answer


@pytest.mark.parametrize(
    ("raw", "page", "reusable"),
    [
        (framed(b"a 1\n"), b"a 1\n", True),
        (framed(b""), b"", True),
        (framed(b"a 1\n", b"Connection: Close"), b"a 1\n", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\na \r\n2;x=y\r\n1\n\r\n0\r\nx: y\r\n\r\n", b"a 1\n", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\na 1\n", b"a 1\n", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\na 1\n", b"a 1\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + framed(b"a 1\n"), b"a 1\n", True),
        (framed(gzip.compress(b"a 1\n", mtime=0), b"Content-Encoding: GZip"), b"a 1\n", True),
        (framed(zlib.compress(b"a 1\n"), b"content-encoding: deflate"), b"a 1\n", True),
        (framed(b"#" * LARGEST), b"#" * LARGEST, True),
    ],
)
def test_an_answer_is_read_however_it_is_cut(raw: bytes, page: bytes, reusable: bool) -> None:
    pieces = [
        (raw,),
        *((raw[:cut], raw[cut:]) for cut in range(1, len(raw))),
        tuple(raw[i : i + 1] for i in range(len(raw))),
    ]
    for cut in pieces:
        answer = told(*cut)
        assert (answer.complete, answer.page(), answer.reusable) == (True, page, reusable)
        assert not told(raw[:-1]).complete


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_a_page_without_a_length_ends_with_the_connection(version: bytes) -> None:
    pieces = (version + b" 200 OK\r\n\r\na ", b"1\n")

    assert not told(*pieces).complete
    answer = told(*pieces, closed=True)
    assert (answer.complete, answer.page(), answer.reusable) == (True, b"a 1\n", False)


@pytest.mark.parametrize(
    "cut_off",
    [
        b"",
        b"HTTP/1.1 200",
        OK + b"content-length: 4\r\n\r\na 1",
        OK + b"transfer-encoding: chunked\r\n\r\n4\r\na 1\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_the_end_of_the_connection_completes_no_answer_that_says_how_long_it_is(cut_off: bytes) -> None:
    assert not told(cut_off, closed=True).complete


def test_one_connection_has_many_answers() -> None:
    answer = Answer(LARGEST)
    for raw, page in ((framed(b"a 1\n"), b"a 1\n"), (framed(b""), b""), (framed(b"a 22\n"), b"a 22\n")):
        answer.begin()
        assert not answer.begun
        answer.feed(raw)
        assert (answer.complete, answer.page(), answer.reusable) == (True, page, True)


@pytest.mark.parametrize("more", [framed(b"b 2\n"), b"\x00\x01", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("fields", [(), (b"connection: close",)])
def test_what_comes_after_an_answer_ends_the_connection_and_spoils_nothing(
    more: bytes, fields: tuple[bytes, ...]
) -> None:
    answer = told(framed(b"a 1\n", *fields) + more)

    assert (answer.complete, answer.page(), answer.reusable) == (True, b"a 1\n", False)


@pytest.mark.parametrize("status", [101, 204, 302, 404, 503])
def test_another_status_than_200_is_no_page(status: int) -> None:
    upgrade = b"connection: upgrade\r\nupgrade: x\r\n" if status == 101 else b"location: /other\r\n"
    length = b"" if status in {101, 204} else b"content-length: 4\r\n"
    answer = told(b"HTTP/1.1 %d Such\r\n" % status + upgrade + length + b"\r\n" + (b"a 1\n" if length else b""))

    assert answer.complete
    assert answer.reusable == (status != 101)
    with pytest.raises(Refused, match=f"^answered {status}$"):
        answer.page()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01 what?\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/7.1 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK + b"content-length: four\r\n\r\n",
        OK + b"content-length: 4\r\ncontent-length: 5\r\n\r\n",
        OK + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\nfour\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        OK + b"no field\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused, match=r"^does not speak HTTP \(.+\)$"):
        told(raw)


@pytest.mark.parametrize(
    "head",
    [framed(b"")[:0], OK + b"transfer-encoding: chunked\r\n\r\n", OK + b"content-length: 999999\r\n\r\n", OK + b"\r\n"],
)
def test_a_page_that_is_too_long_is_refused_and_not_kept(head: bytes) -> None:
    page = b"#" * (LARGEST + 1)
    chunk = b"%x\r\n%b\r\n" % (len(page), page)

    with pytest.raises(Refused, match=r"^answered with more than 1000 bytes$"):
        told(head + (chunk if b"chunked" in head else page) if head else framed(page))


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (OK + b"x: ", b"y" * 1024),
        (OK, b"x: y\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (OK + b"transfer-encoding: chunked\r\n\r\n1;x=", b"y" * 1024),
        (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 100),
    ],
)
def test_what_never_ends_around_a_page_is_refused(begin: bytes, more: bytes) -> None:
    answer = told(*[begin] * bool(begin))
    for _ in range((65_536 - len(begin)) // len(more)):
        answer.feed(more)
    with pytest.raises(Refused, match="no end to its head"):
        answer.feed(more)


def test_a_page_in_the_smallest_chunks_is_a_page() -> None:
    answer = told(OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\n#\r\n" * LARGEST + b"0\r\n\r\n")

    assert answer.page() == b"#" * LARGEST


@pytest.mark.parametrize(
    ("packed", "coding", "why"),
    [
        (gzip.compress(b"#" * (LARGEST + 1), mtime=0), b"gzip", "answered with more than 1000 bytes"),
        (gzip.compress(b"a 1\n", mtime=0)[:-1], b"gzip", "answered with what is no gzip (it is cut off)"),
        (b"a 1\n", b"gzip", "answered with what is no gzip (Error -3"),
        (b"a 1\n", b"br", "answered in the encoding 'br', which it was not asked for"),
    ],
)
def test_a_page_packed_otherwise_is_none(packed: bytes, coding: bytes, why: str) -> None:
    answer = told(framed(packed, b"content-encoding: " + coding))

    with pytest.raises(Refused) as refused:
        answer.page()
    assert str(refused.value).startswith(why)
