"""Tokens are found wherever an API says them, and nonsense is no number."""

from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched.apis import OPERATIONS, Operation, Usage, operation_for, usage_of


def at(path: str) -> Operation:
    found = operation_for(path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "body", "usage"),
    [
        (
            "/v1/chat/completions",
            {
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 3,
                    "total_tokens": 12,
                    "prompt_tokens_details": {"cached_tokens": 8},
                }
            },
            Usage(9, 3, 8),
        ),
        ("/v1/completions", {"usage": {"prompt_tokens": "9", "completion_tokens": 3.0}}, Usage(9, 3)),
        ("/v1/embeddings", {"usage": {"prompt_tokens": 9, "total_tokens": 9}}, Usage(9)),
        (
            "/v1/responses",
            {"usage": {"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": "4"}}},
            Usage(9, 3, 4),
        ),
        (
            "/v1/messages",
            {"usage": {"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 100}},
            Usage(9, 3, 100),
        ),
        ("/inference/v1/generate", {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}, Usage(1, 2)),
        (
            "/generate",
            {"text": "x", "meta_info": {"prompt_tokens": 9, "completion_tokens": 3, "cached_tokens": 8}},
            Usage(9, 3, 8),
        ),
        (
            "/generate",
            [{"meta_info": {"prompt_tokens": 9}}, {"meta_info": {"prompt_tokens": 1, "completion_tokens": 2}}],
            Usage(10, 2),
        ),
    ],
)
def test_g3_usage_is_found_in_the_body_of_every_api(path: str, body: Any, usage: Usage) -> None:
    assert usage_of(at(path), body) == usage


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "usage",
        {},
        {"usage": None},
        {"usage": []},
        {"usage": {"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": 3}},
        {"usage": {"prompt_tokens": "many", "completion_tokens": float("nan")}},
        {"usage": {"prompt_tokens": "9" * 30, "completion_tokens": "²"}},
    ],
)
def test_what_is_no_usage_is_none(body: Any) -> None:
    assert usage_of(at("/v1/chat/completions"), body) is None


def test_an_operation_that_counts_nothing_has_no_usage() -> None:
    assert usage_of(at("/v1/messages/count_tokens"), {"input_tokens": 5, "usage": {"input_tokens": 5}}) is None


@given(
    st.sampled_from(OPERATIONS),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["usage", "response", "message", "meta_info", "prompt_tokens", "prompt_tokens_details"]
                ),
                inner,
            )
        ),
    ),
)
def test_whatever_an_engine_reports_it_is_counts_or_nothing(operation: Operation, body: Any) -> None:
    usage = usage_of(operation, body)

    if usage is not None:
        assert all(count is None or (type(count) is int and count >= 0) for count in (usage.prompt_tokens, usage.total))


def test_a_later_number_replaces_an_earlier_one_and_a_missing_one_replaces_nothing() -> None:
    assert Usage(9, 1, 4).merged(Usage(None, 3)) == Usage(9, 3, 4)
    assert Usage(9, 3).total == 12
    assert Usage().total == 0
