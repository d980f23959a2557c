"""Streams in any pieces: the same usage, the same events, the same bytes; and nothing is copied that need not be."""

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from inferencesched.apis import LONGEST_EVENT, Operation, StreamReader, Usage, operation_for


def at(path: str) -> Operation:
    found = operation_for(path)
    assert found is not None
    return found


CHAT, RESPONSES, MESSAGES = at("/v1/chat/completions"), at("/v1/responses"), at("/v1/messages")


def sse(*events: Any, end: str = "\n") -> bytes:
    """The wire form of events: JSON values, (name, value) pairs, or lines as they stand."""
    lines = []
    for event in events:
        name, data = event if isinstance(event, tuple) else (None, event)
        lines += [f"event: {name}"] if name else []
        lines += [data if isinstance(data, str) else f"data: {json.dumps(data, ensure_ascii=False)}", ""]
    return (end.join(lines) + end).encode()


def delta(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "llama-3", "choices": [{"index": 0, "delta": {"content": text}}], **more}


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 8}}
OF_CHAT = sse(delta("Hé"), delta("llo", usage=None), ": still here", delta("", usage=USAGE, choices=[]), "data: [DONE]")
OF_RESPONSES = sse(
    ("response.created", {"type": "response.created", "response": {"model": "llama-3", "usage": None, "error": None}}),
    ("response.output_text.delta", {"type": "response.output_text.delta", "delta": "Hi"}),
    (
        "response.completed",
        {
            "type": "response.completed",
            "response": {"model": "llama-3", "error": None, "usage": {"input_tokens": 9, "output_tokens": 3}},
        },
    ),
)
OF_MESSAGES = sse(
    (
        "message_start",
        {
            "type": "message_start",
            "message": {
                "model": "llama-3",
                "usage": {"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 8},
            },
        },
    ),
    ("ping", {"type": "ping"}),
    ("content_block_delta", {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}),
    ("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
    ("message_stop", {"type": "message_stop"}),
    end="\r\n",
)
STREAMS = {
    CHAT.name: (CHAT, OF_CHAT),
    RESPONSES.name: (RESPONSES, OF_RESPONSES),
    MESSAGES.name: (MESSAGES, OF_MESSAGES),
}


def read(reader: StreamReader, chunks: list[bytes]) -> bytes:
    return b"".join([reader.feed(chunk) for chunk in chunks]) + reader.end()


def values(stream: bytes) -> list[Any]:
    """What a client decodes: one value for each event with data, and the names of events."""
    found: list[Any] = []
    for line in stream.splitlines():
        if line.startswith(b"data:") and line != b"data: [DONE]":
            found.append(json.loads(line[5:]))
        elif line:
            found.append(line)
    return found


@pytest.mark.parametrize("name", STREAMS)
def test_g1_g2_g3_usage_is_found_in_the_stream_of_every_api_and_merged_by_field(name: str) -> None:
    """Numbers replace and never add up; in Anthropic's API they come in two events."""
    operation, stream = STREAMS[name]
    reader = StreamReader(operation)

    assert read(reader, [stream]) == stream
    assert (reader.usage.prompt_tokens, reader.usage.output_tokens) == (9, 3)
    assert reader.usage.cached_tokens == (None if name == "responses" else 8)
    assert reader.is_failed is False


def test_g1_usage_that_comes_with_every_chunk_is_not_summed() -> None:
    """vLLM's ``continuous_usage_stats``: every chunk has the usage so far."""
    reader = StreamReader(CHAT)

    for n in (1, 2, 3):
        reader.feed(sse(delta("x", usage={"prompt_tokens": 9, "completion_tokens": n})))
    reader.feed(b"data: [DONE]\n\n")

    assert reader.usage == Usage(9, 3)
    assert reader.events == 3


def test_sglang_tells_its_usage_in_every_event_and_only_the_last_one_is_read() -> None:
    decoded: list[bytes] = []

    def loads(data: bytes) -> Any:
        decoded.append(data)
        return json.loads(data)

    reader = StreamReader(at("/generate"), loads=loads)
    for n, reason in ((1, None), (2, None), (3, {"type": "stop"})):
        meta = {"prompt_tokens": 9, "completion_tokens": n, "cached_tokens": 4, "finish_reason": reason}
        reader.feed(sse({"text": "x", "meta_info": meta}))

    assert reader.usage == Usage(9, 3, 4)
    assert len(decoded) == 1


@pytest.mark.parametrize("name", STREAMS)
@given(st.data())
def test_any_split_of_a_stream_gives_what_the_whole_gives(name: str, data: st.DataObject) -> None:
    """CRLF, characters and marks may be cut anywhere; with and without a name to restore."""
    operation, stream = STREAMS[name]
    stream = stream[: data.draw(st.integers(0, len(stream)), "cut off at")]
    model = data.draw(st.sampled_from([None, "the client's"]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    whole, pieces = StreamReader(operation, model), StreamReader(operation, model)

    expected = read(whole, [stream])
    actual = read(pieces, [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])])

    assert actual == expected
    assert (pieces.usage, pieces.events, pieces.is_failed) == (whole.usage, whole.events, whole.is_failed)
    assert model is not None or actual == stream


LINES = st.sampled_from(
    [
        b"data: {}",
        b"data: [DONE]",
        b"data:",
        b"data: {",
        b'data: {"model":"x"}',
        b'data: {"error":{"message":"m"}}',
        b'data: {"usage":{"prompt_tokens":1}}',
        b'{"usage":{"prompt_tokens":2}}',
        b"event: e",
        b": c",
        b"id: 1",
        b"",
        b"x\r",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\r"])


@given(
    st.lists(st.tuples(LINES, ENDS).map(b"".join), max_size=12).map(b"".join),
    st.lists(st.integers(0, 200), max_size=6),
    st.sampled_from([None, "m"]),
    st.sampled_from([CHAT, MESSAGES]),
)
def test_the_short_way_through_equals_the_long_one(
    stream: bytes, cuts: list[int], model: str | None, operation: Operation
) -> None:
    """Even for what no engine would send: one byte at a time never takes the short way."""
    short, long = StreamReader(operation, model), StreamReader(operation, model)
    cuts = sorted(min(cut, len(stream)) for cut in cuts)

    quick = read(short, [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])])

    assert quick == read(long, [bytes([byte]) for byte in stream])
    assert (short.usage, short.events, short.is_failed) == (long.usage, long.events, long.is_failed)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_l2_every_chunk_carries_the_clients_name_of_the_model_and_is_otherwise_the_same(name: str, size: int) -> None:
    operation, stream = STREAMS[name]
    reader = StreamReader(operation, "chat", loads=orjson.loads, dumps=orjson.dumps)

    out = read(reader, [stream[i : i + size] for i in range(0, len(stream), size)])

    assert b"llama-3" not in out
    assert repr(values(out)) == repr(values(stream)).replace("llama-3", "chat")
    assert [line for line in out.splitlines(True) if not line.startswith(b"data: {")] == [
        line for line in stream.splitlines(True) if not line.startswith(b"data: {")
    ]


def test_l2_a_text_that_contains_the_name_of_the_model_is_left_alone() -> None:
    reader = StreamReader(CHAT, "chat")

    out = read(reader, [sse(delta('I am "model":"llama-3", llama-3'))])

    assert values(out)[0]["model"] == "chat"
    assert values(out)[0]["choices"][0]["delta"]["content"] == 'I am "model":"llama-3", llama-3'


def test_an_event_that_has_the_clients_name_already_passes_as_it_came() -> None:
    chunk = sse(delta("x"))

    assert StreamReader(CHAT, "llama-3").feed(chunk) is chunk


@pytest.mark.parametrize("chunk", [sse(delta("x")), sse(delta("x", usage=None)), sse(("ping", {"type": "ping"}))])
def test_a_chunk_with_nothing_in_it_is_handed_back_and_nothing_is_decoded(chunk: bytes) -> None:
    def loads(_data: bytes) -> Any:
        raise AssertionError("decoded")

    reader = StreamReader(CHAT, loads=loads)

    assert reader.feed(chunk) is chunk
    assert reader.events == 1


def test_g9_no_event_is_decoded_twice() -> None:
    decoded: list[bytes] = []

    def loads(data: bytes) -> Any:
        decoded.append(data)
        return json.loads(data)

    read(StreamReader(CHAT, "chat", loads=loads), [OF_CHAT[i : i + 5] for i in range(0, len(OF_CHAT), 5)])

    assert len(decoded) == len(set(decoded)) == 3


def test_without_a_name_to_restore_nothing_is_ever_held_back() -> None:
    reader = StreamReader(CHAT)

    for byte in OF_CHAT:
        chunk = bytes([byte])
        assert reader.feed(chunk) is chunk
    assert reader.end() == b""


def test_an_event_without_its_blank_line_is_read_at_the_end() -> None:
    reader = StreamReader(CHAT, "chat")

    assert reader.feed(sse(delta("x", usage=USAGE)).rstrip(b"\n")) == b""
    assert json.loads(reader.end()[6:])["model"] == "chat"
    assert reader.usage == Usage(9, 3, 8)


def test_what_is_no_json_passes_as_it_came() -> None:
    stream = b'data: {"model": oops, "usage": \n\ndata: ["model", "usage"]\n\n'

    assert read(StreamReader(CHAT, "chat"), [stream]) == stream


def test_data_on_several_lines_is_one_value() -> None:
    stream = b'id: 7\ndata: {"model": "llama-3",\ndata:  "usage": {"prompt_tokens": 4}}\nretry: 1\n\n'
    reader = StreamReader(CHAT, "chat")

    out = read(reader, [stream])

    assert out == b'id: 7\ndata: {"model": "chat", "usage": {"prompt_tokens": 4}}\nretry: 1\n\n'
    assert reader.usage.prompt_tokens == 4


@pytest.mark.parametrize("size", [100_000, 10_000_000])
@pytest.mark.parametrize("model", [None, "chat"])
def test_an_event_longer_than_the_limit_passes_unread_and_the_next_one_is_read(size: int, model: str | None) -> None:
    long, last = sse(delta("x" * (LONGEST_EVENT + 10), usage=USAGE)), sse(delta("y", usage={"prompt_tokens": 1}))
    reader, out, held = StreamReader(CHAT, model), b"", 0

    stream = long + last
    for i in range(0, len(stream), size):
        out += reader.feed(stream[i : i + size])
        held = max(held, i + len(stream[i : i + size]) - len(out))
    out += reader.end()

    assert out[: len(long)] == long
    assert values(out[len(long) :])[0]["model"] == (model or "llama-3")
    assert (reader.usage, reader.events) == (Usage(1), 1)
    assert held <= LONGEST_EVENT


@pytest.mark.parametrize(
    ("operation", "stream"),
    [
        (CHAT, b'data: {"error": {"message": "CUDA error"}}\n\n'),
        (RESPONSES, sse(("response.failed", {"type": "response.failed", "response": {"error": {"code": "x"}}}))),
        (MESSAGES, sse(("error", {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}))),
    ],
)
def test_f7_a_failure_that_the_engine_tells_itself_is_noticed_and_passed_as_it_came(
    operation: Operation, stream: bytes
) -> None:
    reader = StreamReader(operation)

    assert reader.feed(stream) is stream
    assert reader.is_failed
