"""Header fields: what is passed on, and what cannot be written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st
from inferencesched_gateway.wire import Headers, end_to_end
from inferencesched_gateway.wire.headers import HOP_BY_HOP, LOWER, Block, encode, first


def test_f8_fields_about_one_connection_are_not_passed_on() -> None:
    headers = [(name, b"x") for name in sorted(HOP_BY_HOP)] + [(b"accept", b"*/*"), (b"proxy-anything", b"x")]

    assert end_to_end(headers) == [(b"accept", b"*/*")]


def test_f8_fields_named_in_connection_are_not_passed_on() -> None:
    headers = [(b"x-a", b"1"), (b"connection", b"close, X-A"), (b"x-b", b"2"), (b"connection", b"x-b"), (b"x-c", b"3")]

    assert end_to_end(headers) == [(b"x-c", b"3")]


@pytest.mark.parametrize("name", [b"content-length", b"host", b"content-type", b"authorization"])
def test_connection_cannot_name_away_what_a_message_is(name: bytes) -> None:
    assert end_to_end([(b"connection", name), (name, b"x")]) == [(name, b"x")]


def test_fields_that_come_twice_keep_their_order() -> None:
    headers = [(b"set-cookie", b"a"), (b"x", b"1"), (b"set-cookie", b"b")]

    assert end_to_end(headers) == headers
    assert first(headers, b"set-cookie") == b"a"
    assert first(headers, b"y") is None


def test_fields_are_written_as_given() -> None:
    assert encode([(b"accept", b"a, b"), (b"x_y", b"\xff\t")]) == b"accept: a, b\r\nx_y: \xff\t\r\n"
    assert encode([]) == b""


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\nb", b"a\rb", b"a\0b", b"\r\n", b"\n"])
def test_a_value_that_would_end_its_line_is_not_written(value: bytes) -> None:
    with pytest.raises(ValueError, match="'x-b' holds CR, LF or NUL"):
        encode([(b"x-a", b"1"), (b"x-b", value)])


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b"a\0", b"X-Upper", b"\xff", b"(a)"])
def test_a_name_that_is_no_lower_case_token_is_not_written(name: bytes) -> None:
    with pytest.raises(ValueError, match="not a lower-case token"):
        encode([(name, b"1")])


@given(st.lists(st.tuples(st.sampled_from([b"a", b"x-y"]), st.binary(max_size=12)), max_size=6))
def test_what_is_written_has_as_many_lines_as_fields(headers: Headers) -> None:
    try:
        block = encode(headers)
    except ValueError:
        assert any(set(value) & set(b"\r\n\0") for _, value in headers)
    else:
        assert block.split(b"\r\n")[:-1] == [b"%b: %b" % pair for pair in headers]


def test_names_that_anybody_makes_up_are_not_remembered_without_end() -> None:
    for i in range(5000):
        name = b"x-%d" % i
        assert LOWER[b"X-%d" % i] == name
        encode([(name, b"")])
        end_to_end([(name, b"")])

    assert len(LOWER) <= 1024


@given(
    st.sampled_from([b"x-a", b"x_b", b"X-A", b"x a", b"", b"x\r"]),
    st.binary(max_size=4) | st.sampled_from([b"a\r\nb", b"\n", b"\0", b"\xe9", b""]),
)
def test_a_line_made_ready_is_the_one_that_is_written(name: bytes, value: bytes) -> None:
    try:
        written = encode([(name, value)])
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            Block.line(name, value)
    else:
        assert Block.line(name, value).lines == written
