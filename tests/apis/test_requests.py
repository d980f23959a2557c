"""Bodies of every API, right and wrong: what is read, and what a client is told."""

import json
from array import array
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched import InferenceschedError
from inferencesched.apis import OPERATIONS, Asked, BadBody, Operation, media_digest, operation_for, read_request

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": CHAT},
    "chat_render": {"messages": CHAT},
    "completions": {"prompt": "Hello"},
    "completions_render": {"prompt": "Hello"},
    "embeddings": {"input": "Hello"},
    "responses": {"input": "Hello"},
    "conversations": {"items": [{"type": "message", "role": "user", "content": "Hello"}]},
    "images": {"prompt": "a lighthouse"},
    "messages": {"messages": CHAT[1:], "system": "Be brief.", "max_tokens": 5},
    "count_tokens": {"messages": CHAT[1:]},
    "generate": {"token_ids": [1, 2, 3]},
    "sglang_generate": {"text": "Hello"},
}


def operation(name: str) -> Operation:
    return next(operation for operation in OPERATIONS if operation.name == name)


def read(name: str, **body: Any) -> Asked:
    return read_request(operation(name), body)


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_a_body_of_every_operation_is_read(name: str) -> None:
    asked = read(name, model="llama-3", stream=True, **BODIES[name])

    assert (asked.model, asked.stream) == ("llama-3", True)
    assert asked.prompt


@pytest.mark.parametrize(
    ("name", "body", "limit"),
    [
        ("chat", {"max_completion_tokens": 7, "max_tokens": 9}, 7),
        ("chat", {"max_completion_tokens": "7", "max_tokens": 9}, 9),
        ("chat", {"max_tokens": 0}, 0),
        ("chat", {"max_tokens": 9.0}, 9),
        ("chat", {"max_tokens": 9.5}, None),
        ("chat", {"max_tokens": -1}, None),
        ("chat", {"max_tokens": True}, None),
        ("chat", {"max_tokens": float("inf")}, None),
        ("completions", {"max_tokens": 3}, 3),
        ("responses", {"max_output_tokens": 4, "max_tokens": 9}, 4),
        ("messages", {"max_tokens": 5}, 5),
        ("generate", {"sampling_params": {"max_tokens": 6}, "max_tokens": 9}, 6),
        ("sglang_generate", {"sampling_params": {"max_new_tokens": 8}}, 8),
        ("embeddings", {"max_tokens": 9}, None),
    ],
)
def test_the_limit_on_output_is_a_whole_number_under_the_names_of_its_api(
    name: str, body: dict[str, Any], limit: int | None
) -> None:
    assert read(name, **{**BODIES[name], **body}).max_output_tokens == limit


def test_a_missing_model_is_none_for_a_rewrite_may_fill_it_in() -> None:
    assert read("chat", messages=CHAT).model is None
    assert read("chat", messages=CHAT, model="").model is None


@pytest.mark.parametrize("stream", ["true", 1, None, [True], "yes"])
def test_only_true_is_a_stream(stream: Any) -> None:
    assert read("chat", messages=CHAT, stream=stream).stream is False


def test_salt_and_the_wish_for_usage_are_kept() -> None:
    asked = read("chat", messages=CHAT, cache_salt="s", stream_options={"include_usage": True})

    assert (asked.cache_salt, asked.include_usage) == ("s", True)
    assert read("sglang_generate", text="Hello", extra_key="s").cache_salt == "s"
    assert read("chat", messages=CHAT, stream_options=[1], cache_salt=5).cache_salt == ""


def test_token_ids_stay_token_ids_and_are_counted() -> None:
    for asked in (
        read("completions", prompt=[5, 6, 7]),
        read("embeddings", input=[5, 6, 7]),
        read("generate", token_ids=[5, 6, 7]),
        read("sglang_generate", input_ids=[5, 6, 7]),
    ):
        assert asked.prompt == array("I", [5, 6, 7])
        assert asked.prompt_tokens == 3
    assert read("completions", prompt=[[1, 2], [3]]).prompt != read("completions", prompt=[[1], [2, 3]]).prompt


def test_prompts_in_a_list_are_told_from_one_prompt() -> None:
    assert read("completions", prompt=["ab"]).prompt == read("completions", prompt="ab").prompt == b"ab"
    assert read("completions", prompt=["a", "b"]).prompt != read("completions", prompt="ab").prompt


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("chat", [], "The body must be a JSON object."),
        ("chat", "text", "The body must be a JSON object."),
        ("chat", {}, "'messages' must be a non-empty array of messages."),
        ("chat", {"messages": []}, "'messages' must be a non-empty array of messages."),
        ("chat", {"messages": ["x"]}, "'messages[0]' must be an object."),
        ("chat", {"messages": [{"content": "x"}]}, "'messages[0].role' must be a string."),
        (
            "chat",
            {"messages": [{"role": "user"}]},
            "'messages[0].content' must be a string or an array of content blocks.",
        ),
        ("chat", {"messages": [{"role": "user", "content": [5]}]}, "'messages[0].content[0]' must be a content block"),
        (
            "chat",
            {"messages": [*CHAT, {"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "'messages[2].content[0].text' must be a string.",
        ),
        ("chat", {"messages": CHAT, "model": 5}, "'model' must be a string."),
        ("completions", {"prompt": ""}, "'prompt' must be a non-empty string, or an array"),
        ("completions", {"prompt": []}, "'prompt' must be a non-empty string, or an array"),
        ("completions", {"prompt": ["a", 1]}, "'prompt' must be a non-empty string, or an array"),
        ("completions", {"prompt": [1, "a"]}, "'prompt' must be a non-empty array of token ids"),
        ("completions", {"prompt": [1, True]}, "'prompt' must be a non-empty array of token ids"),
        ("completions", {"prompt": [-1]}, "'prompt' must be a non-empty array of token ids"),
        ("completions", {"prompt": [[1], []]}, "'prompt[1]' must be a non-empty array of token ids"),
        ("embeddings", {"input": {}}, "'input' must be a non-empty string, or an array"),
        ("responses", {}, "'input' must be a non-empty string or array."),
        ("responses", {"input": [1]}, "'input[0]' must be an object."),
        ("conversations", {"items": []}, "'items' must be a non-empty array."),
        ("images", {"prompt": 1}, "'prompt' must be a non-empty string."),
        ("messages", {"messages": CHAT, "system": 5}, "'system' must be a string or an array of content blocks."),
        ("generate", {"token_ids": "x"}, "'token_ids' must be a non-empty array of token ids"),
        ("sglang_generate", {}, "'text' must be a non-empty string, or 'input_ids' an array of token ids."),
    ],
)
def test_a_body_that_cannot_be_read_is_told_by_field_and_expectation(name: str, body: Any, message: str) -> None:
    with pytest.raises(BadBody) as caught:
        read_request(operation(name), body)

    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, InferenceschedError)


PRIVATE = "my-medical-history"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(PRIVATE),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "messages", "prompt", "input", "model", "tools", "image_url"]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(OPERATIONS), JSON, st.sampled_from(["messages", "prompt", "input", "items", "text", "token_ids"])
)
def test_k3_whatever_a_body_holds_it_is_read_or_refused_without_quoting_it(
    operation: Operation, value: Any, field: str
) -> None:
    """Prompt text is never in an exception, and a value does not show it either."""
    for body in (value, {field: value}):
        try:
            shown = repr(read_request(operation, body))
        except BadBody as error:
            shown = f"{error} {error!r}"
        assert PRIVATE not in shown.replace(f"model='{PRIVATE}'", "")


def test_tools_that_are_nested_too_deeply_are_the_clients_mistake() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(BadBody, match="'tools' must be JSON of text"):
        read("chat", messages=CHAT, tools=deep)


def test_the_json_of_what_is_no_text_is_written_by_the_hosts_library() -> None:
    written: list[Any] = []

    def dumps(value: Any) -> bytes:
        written.append(value)
        return json.dumps(value).encode()

    asked = read_request(operation("chat"), {"messages": CHAT, "tools": [{"name": "f"}]}, dumps=dumps)

    assert written == [[{"name": "f"}]]
    assert asked == read("chat", messages=CHAT, tools=[{"name": "f"}])


def test_media_are_digests_in_their_order_in_every_api() -> None:
    data = "iVBORw0KGgo="
    url = f"data:image/png;base64,{data}"
    chat = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]
    asked = read("chat", messages=[{"role": "user", "content": chat}])
    responses = read("responses", input=[{"role": "user", "content": [{"type": "input_image", "image_url": url}]}])
    source = {"type": "base64", "media_type": "image/png", "data": data}
    anthropic = read("messages", messages=[{"role": "user", "content": [{"type": "image", "source": source}]}])

    assert asked.media == (media_digest(data), media_digest("UklGRg=="))
    assert responses.media == anthropic.media == (media_digest(data),)
    assert responses.prompt == anthropic.prompt
    assert isinstance(asked.prompt, bytes)
    assert data.encode() not in asked.prompt
    assert media_digest(data) in asked.prompt
    assert read("generate", token_ids=[1], features={"mm_hashes": {"image": ["a", "b"]}}).media == (b"a", b"b")


def test_an_image_in_a_tools_result_is_a_digest_too() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "seen"}, image]}

    asked = read("messages", messages=[{"role": "user", "content": [result]}])

    assert asked.media == (media_digest("https://example.com/a.png"),)


def test_operation_for_and_read_request_are_all_a_host_needs() -> None:
    found = operation_for("/v1/chat/completions")
    assert found is not None

    asked = read_request(found, json.loads('{"model":"m","messages":[{"role":"user","content":"Hi"}]}'))

    assert asked == Asked("m", prompt=b"user\xfeHi\xff", is_media_placed=True)
