"""What is read once of heads that are alike is what reading each of them gives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st
from inferencesched_gateway import Service, ServiceSettings, load
from inferencesched_gateway.headers import from_engine, readable, to_engine
from inferencesched_gateway.heading import AnswerHeading, Heading
from inferencesched_gateway.trust import CONTROL_HEADERS
from inferencesched_gateway.wire import Headers, answer_block, request_block
from inferencesched_gateway.wire.exchange import Exchange
from inferencesched_gateway.wire.heads import RequestHead

NAMES = [b"accept", b"accept-encoding", b"connection", b"content-type", b"host", b"te", b"x-a", b"x-b", b"server"]
NAMES += [b"x-request-id", b"x-session-id", *(name.encode() for name in sorted(CONTROL_HEADERS)[:4])]
VALUES = [b"", b"x-a", b"close", b"a, b", b"application/json", b"\xe9"]
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)


@pytest.fixture(scope="module")
def setup() -> Any:
    return Service(lambda: load((), ("http://10.0.0.1:8000",)), ServiceSettings(port=0)).setup


def exchange(headers: Headers, *, path: str = "/v1/chat/completions", note: Any = None) -> Exchange:
    head = RequestHead("POST", path.encode(), path, b"", "1.1", headers, 5, True, False, note)
    connection: Any = None  # nobody will be answered
    return Exchange(connection, head, b"hello", "127.0.0.1")


@given(HEADERS, st.sampled_from(["/v1/chat/completions", "/v1/audio"]), st.booleans(), st.booleans())
def test_what_is_forwarded_and_read_of_a_head_is_what_reading_it_anew_gives(
    setup: Any, headers: Headers, path: str, trusted: bool, has_length: bool
) -> None:
    of_length = [(b"content-length", b"5")] if has_length else []
    one, other = exchange([*headers, *of_length], path=path), exchange([*headers, *of_length], path=path)
    if has_length:
        other.headers[-1] = (b"content-length", b"0012")
    ours = [(b"x-gateway-destination-endpoint", b"10.0.0.1:8000"), (b"x-request-id", b"r-1")]

    heading = Heading(one, setup, trusted=trusted, session_header="x-session-id")

    for each in (one, other):
        assert heading.headers_of(each) == readable(each.headers, trusted=trusted)
        blocks = [request_block([pair]) for pair in ours]
        plain = to_engine(each.headers, ours, is_read=heading.operation is not None)
        assert (heading.forwarded() + blocks[0] + blocks[1]).lines == request_block(plain).lines


@given(HEADERS, st.booleans())
def test_what_is_passed_on_of_an_answer_is_what_reading_it_anew_gives(headers: Headers, has_length: bool) -> None:
    received = [*headers, *([(b"content-length", b"5")] if has_length else [])]
    ours = [(b"x-request-id", b"r-1")]

    block = AnswerHeading(received).passed_on() + answer_block(ours)
    plain = answer_block(from_engine(received, ours, keep_length=True))

    assert (block.lines, block.closes) == (plain.lines, plain.closes)
    assert (block.length, plain.length) == (None, b"5" if has_length else None)


def test_a_head_is_read_anew_under_another_setup() -> None:
    async def main() -> None:
        service = Service(lambda: load((), ("http://10.0.0.1:8000",)), ServiceSettings(port=0))
        gateway = service.gateway
        asked = exchange([(b"host", b"a")])
        first = gateway._heading(asked)
        assert gateway._heading(exchange([(b"host", b"a")], note=first)) is first

        service._install(load((), ("http://10.0.0.2:8000",)))
        again = gateway._heading(asked)
        assert again is not first
        assert again.setup is gateway.setup

    asyncio.run(main())
