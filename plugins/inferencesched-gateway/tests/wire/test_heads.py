"""Heads of messages: what is read, and the known ways to have two readers disagree, which are refused."""

from __future__ import annotations

import pytest
from inferencesched_gateway.wire import Limits
from inferencesched_gateway.wire.errors import Refused
from inferencesched_gateway.wire.heads import CHUNKED, UNTIL_CLOSE, RequestHead, read_request, read_response

LIMITS = Limits(head_bytes=2000, header_count=20, target_bytes=100)


def request(*fields: bytes, line: bytes = b"POST /v1 HTTP/1.1", host: bytes = b"Host: a\r\n") -> RequestHead:
    return read_request(line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n", LIMITS)


def test_a_request_is_read() -> None:
    head = request(b"Content-Length: 5", b"X-A:  \t one, two \t", b"X_under_score: 1", b"Empty:")

    assert (head.method, head.target, head.version, head.length) == ("POST", b"/v1", "1.1", 5)
    assert head.headers == [
        (b"host", b"a"),
        (b"content-length", b"5"),
        (b"x-a", b"one, two"),
        (b"x_under_score", b"1"),
        (b"empty", b""),
    ]
    assert head.keep_alive
    assert not head.expects_continue


@pytest.mark.parametrize(
    ("line", "fields", "keep_alive"),
    [
        (b"GET / HTTP/1.1", [], True),
        (b"GET / HTTP/1.1", [b"Connection: close"], False),
        (b"GET / HTTP/1.1", [b"Connection: x, CLOSE"], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive", b"Connection: close"], False),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Connection: Keep-Alive"], True),
    ],
)
def test_who_keeps_the_connection(line: bytes, fields: list[bytes], keep_alive: bool) -> None:
    assert request(*fields, line=line).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], 0),
        ([b"TE: trailers"], 0),
        ([b"Content-Length: 7"], 7),
        ([b"Content-Length: 007"], 7),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"Transfer-Encoding: CHUNKED"], CHUNKED),
    ],
)
def test_where_the_body_ends(fields: list[bytes], length: int) -> None:
    assert request(*fields).length == length


SMUGGLED = {
    "CL.TE: content-length beside transfer-encoding": [b"Content-Length: 6", b"Transfer-Encoding: chunked"],
    "TE.CL: the same in the other order": [b"Transfer-Encoding: chunked", b"Content-Length: 6"],
    "TE.TE: twice": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "TE.TE: twice, one unknown": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"],
    "TE.TE: xchunked": [b"Transfer-Encoding: xchunked"],
    "TE.TE: list": [b"Transfer-Encoding: gzip, chunked"],
    "TE.TE: identity": [b"Transfer-Encoding: identity"],
    "TE.TE: identity first": [b"Transfer-Encoding: identity, chunked"],
    "TE.TE: chunked first": [b"Transfer-Encoding: chunked, identity"],
    "TE.TE: empty": [b"Transfer-Encoding: "],
    "TE.TE: quoted": [b'Transfer-Encoding: "chunked"'],
    "TE.TE: parameter": [b"Transfer-Encoding: chunked;q=1"],
    "TE.TE: vertical tab": [b"Transfer-Encoding:\x0bchunked"],
    "TE.TE: form feed": [b"Transfer-Encoding: \x0cchunked"],
    "TE.TE: blank before the colon": [b"Transfer-Encoding : chunked"],
    "TE.TE: tab before the colon": [b"Transfer-Encoding\t: chunked"],
    "TE.TE: blank before the name": [b" Transfer-Encoding: chunked"],
    "TE.TE: folded value": [b"Transfer-Encoding:\r\n chunked"],
    "TE.TE: line feed inside": [b"X: y\nTransfer-Encoding: chunked"],
    "TE.TE: carriage return inside": [b"X: y\rTransfer-Encoding: chunked"],
    "TE.TE: NUL after": [b"Transfer-Encoding: chunked\0"],
    "TE.TE: high byte": [b"Transfer-Encoding: \xffchunked"],
    "CL.CL: differing": [b"Content-Length: 5", b"Content-Length: 6"],
    "CL.CL: the same": [b"Content-Length: 5", b"Content-Length: 5"],
    "CL.CL: list": [b"Content-Length: 5, 5"],
    "CL: plus": [b"Content-Length: +5"],
    "CL: minus": [b"Content-Length: -5"],
    "CL: hexadecimal": [b"Content-Length: 0x5"],
    "CL: underscore": [b"Content-Length: 1_0"],
    "CL: superscript": [b"Content-Length: \xb2"],
    "CL: blank inside": [b"Content-Length: 1 0"],
    "CL: empty": [b"Content-Length:"],
    "CL: overflow": [b"Content-Length: 18446744073709551621"],
    "CL: quoted": [b'Content-Length: "5"'],
    "Host: twice": [b"Host: a"],
    "Host: differing": [b"Host: b"],
    "obs-fold": [b"X: a\r\n b"],
    "obs-fold with a tab": [b"X: a\r\n\tb"],
    "bare LF": [b"X: a\nY: b"],
    "bare CR": [b"X: a\rY: b"],
    "CR CR LF": [b"X: a\r"],
    "NUL in a value": [b"X: a\0b"],
    "NUL in a name": [b"X\0: a"],
    "control character": [b"X: a\x01b"],
    "delete": [b"X: a\x7fb"],
    "blank in a name": [b"X Y: a"],
    "no colon": [b"X"],
    "no name": [b": a"],
    "high byte in a name": [b"X\xe9: a"],
}


@pytest.mark.parametrize("fields", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_a_smugglers_head_is_refused(fields: list[bytes]) -> None:
    with pytest.raises(Refused) as refused:
        request(*fields)

    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b" GET / HTTP/1.1", 400),
        (b"\rGET / HTTP/1.1", 400),
        (b"\nGET / HTTP/1.1", 400),
        (b"M-SEARCH / HTTP/1.1", 400),
        (b"GET /a b HTTP/1.1", 400),
        (b"GET\t/ HTTP/1.1", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\r", 400),
        (b"GET /", 400),
        (b"get / HTTP/1.1", 400),
        (b"BREW / HTTP/1.1", 400),
        (b"GET / http/1.1", 400),
        (b"GET / HTTP/1.1.1", 400),
        (b"GET / HTTP/11", 400),
        (b"GET / ICE/1.0", 400),
        (b"GET / HTTP/1.2", 505),
        (b"GET / HTTP/0.9", 505),
        (b"PRI * HTTP/2.0", 505),
        (b"GET foo HTTP/1.1", 400),
        (b"GET * HTTP/1.1", 400),
        (b"GET /a#b HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"GET /\0 HTTP/1.1", 400),
        (b"GET /\x0b HTTP/1.1", 400),
        (b"GET ftp://a/ HTTP/1.1", 400),
        (b"GET http:/// HTTP/1.1", 400),
        (b"GET http://u@a/ HTTP/1.1", 400),
        (b"CONNECT a:80 HTTP/1.1", 405),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1", 414),
    ],
)
def test_a_first_line_that_is_none_is_refused(line: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        request(line=line)

    assert refused.value.status == status


@pytest.mark.parametrize("host", [b"a b", b"a,b", b"u@a", b"a/b", b"a:b", b"[::1", b"a:123456", b"a\\b", b"\xe4"])
def test_a_host_that_is_none_is_refused(host: bytes) -> None:
    with pytest.raises(Refused, match="host"):
        request(host=b"Host: %b\r\n" % host)


@pytest.mark.parametrize("host", [b"a", b"a:80", b"[::1]:80", b"", b"a_b.c", b"10.0.0.1:"])
def test_a_host_is_a_name_and_perhaps_a_port(host: bytes) -> None:
    assert request(host=b"Host: %b\r\n" % host).headers[0] == (b"host", host)


def test_a_request_needs_a_host_since_http_1_1() -> None:
    assert request(host=b"", line=b"GET / HTTP/1.0").headers == []
    with pytest.raises(Refused, match="no host"):
        request(host=b"")


def test_chunks_in_http_1_0_are_refused() -> None:
    with pytest.raises(Refused, match=r"HTTP/1\.0"):
        request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")


@pytest.mark.parametrize(
    ("target", "reduced"),
    [(b"http://b:1/x?y", b"/x?y"), (b"HTTPS://b:1", b"/"), (b"http://b:1?y=/z", b"/?y=/z")],
)
def test_an_absolute_target_is_reduced_and_its_authority_wins(target: bytes, reduced: bytes) -> None:
    head = request(b"X: 1", line=b"GET %b HTTP/1.1" % target)

    assert head.target == reduced
    assert head.headers == [(b"host", b"b:1"), (b"x", b"1")]


def test_options_may_ask_about_the_server() -> None:
    assert request(line=b"OPTIONS * HTTP/1.1").target == b"*"


def test_an_upgrade_is_a_request_as_any_other() -> None:
    """llhttp takes what follows for another protocol, body included: a known way to smuggle (h2c)."""
    head = request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"Content-Length: 3")

    assert head.length == 3
    assert head.keep_alive


@pytest.mark.parametrize(
    ("field", "expects"), [(b"Expect: 100-continue", True), (b"Expect: 100-Continue", True), (b"X: y", False)]
)
def test_who_waits_to_be_asked_on(field: bytes, expects: bool) -> None:
    assert request(field).expects_continue is expects


def test_other_expectations_cannot_be_met() -> None:
    with pytest.raises(Refused) as refused:
        request(b"Expect: 200-ok")

    assert refused.value.status == 417


def test_too_many_fields_are_refused() -> None:
    assert len(request(*[b"X: y"] * 19).headers) == 20
    with pytest.raises(Refused) as refused:
        request(*[b"X: y"] * 20)
    assert refused.value.status == 431


@pytest.mark.parametrize(
    ("head", "length", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 3, True),
        (b"HTTP/1.1 200\r\nContent-Length: 3\r\nConnection: close\r\n\r\n", 3, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED, True),
        (b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE, False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0, True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0, True),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 0, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 3, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n", 3, True),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", CHUNKED, False),
        (b"HTTP/1.1 429 \r\nContent-Length: 0\r\n\r\n", 0, True),
        (b"HTTP/1.1 599 Whatever It Is\r\nContent-Length: 0\r\n\r\n", 0, True),
    ],
)
def test_an_answer_is_read(head: bytes, length: int, keep_alive: bool) -> None:
    answer = read_response(head, LIMITS, to_head=False)

    assert (answer.status, answer.length, answer.keep_alive) == (int(head[9:12]), length, keep_alive)


def test_an_answer_to_a_head_request_has_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"

    assert read_response(head, LIMITS, to_head=True).length == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 020 OK\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 21 + b"\r\n",
    ],
)
def test_an_answer_that_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(Refused):
        read_response(head, LIMITS, to_head=False)
