"""Tokens and text without a server."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from inferencesched_enginesim.prompts import chat_text, detokenize, tokenize
from inferencesched_enginesim.text import Echo, Words


@given(st.text().filter(lambda text: not text.endswith("\0")))
def test_tokens_can_be_read_back(text: str) -> None:
    assert detokenize(tokenize(text)) == text


@given(st.text(), st.text())
def test_a_longer_text_begins_with_the_tokens_of_the_shorter_one(first: str, second: str) -> None:
    """All but the last, which may be padded."""
    whole = len(first.encode()) // 4

    assert tokenize(first + second)[:whole].tolist() == tokenize(first)[:whole].tolist()


def test_a_tool_and_a_picture_take_part_in_the_prompt() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = chat_text([{"role": "user", "content": ["Look: ", picture]}], tools=[{"name": "zoom"}], system="Be brief.")

    assert text == (
        '<|tools|>\n[{"name":"zoom"}]\n<|system|>\nBe brief.\n<|user|>\nLook: '
        '{"image_url":{"url":"data:image/png;base64,AAAA"},"type":"image_url"}\n<|assistant|>\n'
    )


@given(st.integers(0, 2**64 - 1))
def test_words_of_any_seed_are_plain_and_do_not_repeat_at_once(seed: int) -> None:
    words = [Words(seed, 8).piece(place) for place in range(61)]

    assert len(set(words)) == 61
    assert "".join(words).isascii()


@pytest.mark.parametrize("text", ["", "abc", "abcd", "abcde"])
def test_an_echo_is_as_long_as_what_was_said(text: str) -> None:
    echo = Echo(text)

    assert "".join(map(echo.piece, range(echo.length))) == (text or " ")
