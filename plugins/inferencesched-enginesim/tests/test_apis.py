"""The APIs over real HTTP, field by field: answers, streams, usage, errors. No client library is in between."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
import attrs
import numpy as np
import pytest
from inferencesched_enginesim import INSTANT, EngineServer, ServerSpec

SPEC = ServerSpec(model="base", loras=("french",), engine=INSTANT, answer_tokens=5, max_model_len=1000)
CHAT = {"model": "base", "messages": [{"role": "user", "content": "What is the capital of France?"}]}


class Http:
    """One server and one session."""

    def __init__(self, server: EngineServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self._session = session

    async def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        async with self._session.post(self.server.url + path, json=body, headers=headers) as answer:
            return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._session.get(self.server.url + path) as answer:
            return answer.status, await (answer.json() if "json" in answer.content_type else answer.text())

    async def stream(self, path: str, body: Any) -> list[Any]:
        """The data of each event, decoded; ``[DONE]`` as it is."""
        async with self._session.post(self.server.url + path, json={**body, "stream": True}) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"
            text = await answer.text()
        data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        return [one if one == "[DONE]" else json.loads(one) for one in data]


@contextlib.asynccontextmanager
async def serving(spec: ServerSpec = SPEC) -> AsyncIterator[Http]:
    async with EngineServer(spec) as server, aiohttp.ClientSession() as session:
        yield Http(server, session)


def served(scenario: Callable[[Http], Coroutine[Any, Any, None]], spec: ServerSpec = SPEC) -> None:
    async def run() -> None:
        async with serving(spec) as http:
            await scenario(http)

    asyncio.run(run())


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what the sockets bring; fail after five seconds."""
    for _ in range(500):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def test_a_chat_is_answered_whole() -> None:
    async def scenario(http: Http) -> None:
        status, answer = await http.post("/v1/chat/completions", CHAT)

        assert status == 200
        assert answer["object"] == "chat.completion"
        assert answer["model"] == "base"
        (choice,) = answer["choices"]
        assert choice["message"]["role"] == "assistant"
        assert len(choice["message"]["content"].split()) == 5
        assert choice["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == 5
        assert answer["usage"]["prompt_tokens"] + 5 == answer["usage"]["total_tokens"]

    served(scenario)


def test_a_stream_says_the_same_one_event_a_token() -> None:
    async def scenario(http: Http) -> None:
        _, whole = await http.post("/v1/chat/completions", CHAT)
        *chunks, done = await http.stream("/v1/chat/completions", CHAT)

        assert done == "[DONE]"
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        deltas = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[1:-1]]
        assert len(deltas) == 5
        assert "".join(deltas) == whole["choices"][0]["message"]["content"]
        assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
        assert all("usage" not in chunk for chunk in chunks)

    served(scenario)


def test_usage_ends_a_stream_that_asks_for_it() -> None:
    async def scenario(http: Http) -> None:
        options = {"stream_options": {"include_usage": True}}
        *chunks, usage, _ = await http.stream("/v1/chat/completions", CHAT | options)
        assert all("usage" not in chunk for chunk in chunks)
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == 5

        options["stream_options"]["continuous_usage_stats"] = True
        *chunks, usage, _ = await http.stream("/v1/chat/completions", CHAT | options)
        assert all(chunk["usage"]["prompt_tokens"] == usage["usage"]["prompt_tokens"] for chunk in chunks)

    served(scenario)


@pytest.mark.parametrize(
    ("limits", "tokens", "reason"),
    [
        ({}, 5, "stop"),
        ({"max_tokens": 3}, 3, "length"),
        ({"max_completion_tokens": 2, "max_tokens": 4}, 2, "length"),
        ({"max_tokens": 5}, 5, "stop"),
        ({"max_tokens": 50}, 5, "stop"),
        ({"max_tokens": 50, "min_tokens": 8}, 8, "stop"),
        ({"max_tokens": 50, "ignore_eos": True}, 50, "length"),
    ],
    ids=str,
)
def test_an_answer_ends_where_it_must(limits: dict[str, Any], tokens: int, reason: str) -> None:
    async def scenario(http: Http) -> None:
        _, answer = await http.post("/v1/chat/completions", CHAT | limits)
        *chunks, _ = await http.stream("/v1/chat/completions", CHAT | limits)

        assert answer["usage"]["completion_tokens"] == tokens
        assert answer["choices"][0]["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == reason

    served(scenario)


def test_answers_depend_on_prompt_and_seed_alone() -> None:
    async def text(spec: ServerSpec, **changes: Any) -> str:
        async with serving(spec) as http:
            _, answer = await http.post("/v1/chat/completions", CHAT | changes)
            return str(answer["choices"][0]["message"]["content"])

    async def run() -> None:
        other = [{"role": "user", "content": "And of Spain?"}]
        assert await text(SPEC) == await text(SPEC)
        assert await text(SPEC) != await text(attrs.evolve(SPEC, seed=1))
        assert await text(SPEC) != await text(SPEC, messages=other)

    asyncio.run(run())


def test_an_echo_repeats_the_last_message_whatever_is_in_it() -> None:
    said = 'Grüße, "Welt"\n\\ 漢字 🙂'

    async def scenario(http: Http) -> None:
        body = {"model": "base", "messages": [{"role": "user", "content": [{"type": "text", "text": said}]}]}
        _, answer = await http.post("/v1/chat/completions", body)
        _, *chunks, _, _ = await http.stream("/v1/chat/completions", body)
        _, completion = await http.post("/v1/completions", {"model": "base", "prompt": said})

        assert answer["choices"][0]["message"]["content"] == said
        assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == said
        assert completion["choices"][0]["text"] == said

    served(scenario, attrs.evolve(SPEC, echo=True))


def test_the_second_turn_of_a_conversation_finds_the_first_in_the_cache() -> None:
    """Of 16 tokens a block; what is not a whole block is computed again."""

    async def scenario(http: Http) -> None:
        system = {"role": "system", "content": "You are helpful. " * 40}
        first = [system, {"role": "user", "content": "Hello"}]
        _, answer = await http.post("/v1/chat/completions", {"model": "base", "messages": first})
        assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
        prompt = answer["usage"]["prompt_tokens"]

        second = [*first, answer["choices"][0]["message"], {"role": "user", "content": "And then?"}]
        _, answer = await http.post("/v1/chat/completions", {"model": "base", "messages": second})
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == (prompt - 3) // 16 * 16  # 3: <|assistant|>

        for apart in ({"model": "french"}, {"cache_salt": "tenant-a"}):
            body = {"model": "base", "messages": second} | apart
            _, answer = await http.post("/v1/chat/completions", body)
            assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}, apart

    served(scenario)


def test_completions_take_texts_ids_and_lists_of_them() -> None:
    async def scenario(http: Http) -> None:
        for prompt, answers in (("abc", 1), ([1, 2, 3], 1), (["a", "b"], 2), ([[1, 2], [3]], 2)):
            _, answer = await http.post("/v1/completions", {"model": "base", "prompt": prompt, "max_tokens": 2})
            assert [choice["index"] for choice in answer["choices"]] == list(range(answers))
            assert answer["usage"]["completion_tokens"] == 2 * answers
        _, answer = await http.post("/v1/completions", {"model": "base", "prompt": "abc", "n": 3})
        assert len({choice["text"] for choice in answer["choices"]}) == 3

        *chunks, _ = await http.stream("/v1/completions", {"model": "base", "prompt": ["a", "b"], "max_tokens": 2})
        reasons = [(c["choices"][0]["index"], c["choices"][0]["finish_reason"]) for c in chunks]
        assert sorted(reasons, key=str) == sorted([(0, None), (0, "length"), (1, None), (1, "length")], key=str)

    served(scenario)


def test_messages_stream_their_seven_kinds_of_events() -> None:
    body = {"model": "base", "max_tokens": 3, "system": "Be brief.", "messages": CHAT["messages"]}

    async def scenario(http: Http) -> None:
        status, answer = await http.post("/v1/messages", body)
        events = await http.stream("/v1/messages", body)

        assert status == 200
        assert answer["stop_reason"] == "max_tokens"
        assert answer["usage"]["output_tokens"] == 3
        kinds = [event["type"] for event in events]
        assert kinds == [
            "message_start", "content_block_start", "ping", *["content_block_delta"] * 3, "content_block_stop",
            "message_delta", "message_stop",
        ]  # fmt: skip
        deltas = (event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
        assert "".join(deltas) == answer["content"][0]["text"]
        assert events[-2]["usage"]["output_tokens"] == 3
        _, counted = await http.post("/v1/messages/count_tokens", body)
        usage = events[0]["message"]["usage"]
        assert counted["input_tokens"] == usage["input_tokens"] + usage["cache_read_input_tokens"]

    served(scenario)


def test_responses_are_numbered_and_end_with_the_whole() -> None:
    async def scenario(http: Http) -> None:
        events = await http.stream("/v1/responses", {"model": "base", "input": "Hello", "instructions": "Be kind."})
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[0]["type"] == "response.created"
        whole = events[-1]["response"]
        assert events[-1]["type"] == "response.completed"
        deltas = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert whole["output"][0]["content"][0]["text"] == deltas

        items = [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]
        _, answer = await http.post("/v1/responses", {"model": "base", "input": items, "max_output_tokens": 2})
        assert answer["status"] == "incomplete"
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
        assert answer["usage"]["output_tokens"] == 2

    served(scenario)


def test_embeddings_are_equal_for_equal_texts_and_of_length_one() -> None:
    async def scenario(http: Http) -> None:
        body = {"model": "base", "input": ["a", "b", "a"], "dimensions": 8}
        _, answer = await http.post("/v1/embeddings", body)
        first, second, third = (np.array(one["embedding"]) for one in answer["data"])
        assert np.array_equal(first, third)
        assert not np.array_equal(first, second)
        assert np.linalg.norm(second) == pytest.approx(1.0, rel=1e-5)
        assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}

        _, packed = await http.post("/v1/embeddings", body | {"encoding_format": "base64"})
        numbers = np.frombuffer(base64.b64decode(packed["data"][1]["embedding"]), dtype="<f4")
        assert np.allclose(numbers, second)

    served(scenario)


def test_adapters_come_and_go() -> None:
    async def scenario(http: Http) -> None:
        spanish = {"lora_name": "spanish", "lora_path": "/adapters/spanish"}
        assert (await http.post("/v1/chat/completions", CHAT | {"model": "spanish"}))[0] == 404
        assert (await http.post("/v1/load_lora_adapter", spanish))[0] == 200
        assert (await http.post("/v1/load_lora_adapter", spanish))[0] == 400
        assert (await http.post("/v1/chat/completions", CHAT | {"model": "spanish"}))[0] == 200
        _, models = await http.get("/v1/models")
        assert [(card["id"], card["parent"]) for card in models["data"]] == [
            ("base", None), ("french", "base"), ("spanish", "base"),
        ]  # fmt: skip
        assert models["data"][2]["root"] == "/adapters/spanish"

        assert (await http.post("/v1/unload_lora_adapter", {"lora_name": "spanish"}))[0] == 200
        assert (await http.post("/v1/unload_lora_adapter", {"lora_name": "spanish"}))[0] == 404
        assert (await http.post("/v1/chat/completions", CHAT | {"model": "spanish"}))[0] == 404

    served(scenario)


@pytest.mark.parametrize(
    ("path", "body", "status", "about"),
    [
        ("/v1/chat/completions", CHAT | {"model": "gpt"}, 404, "The model `gpt` does not exist."),
        ("/v1/chat/completions", CHAT | {"max_tokens": 1000}, 400, "maximum context length is 1000 tokens"),
        ("/v1/chat/completions", {"model": "base", "messages": []}, 400, "'messages'"),
        ("/v1/chat/completions", {"model": "base", "messages": ["hi"]}, 400, "'role'"),
        ("/v1/chat/completions", {"messages": CHAT["messages"]}, 400, "'model'"),
        ("/v1/chat/completions", CHAT | {"max_tokens": 0}, 400, "'max_tokens'"),
        ("/v1/chat/completions", CHAT | {"stream": "yes"}, 400, "'stream'"),
        ("/v1/chat/completions", CHAT | {"stream_options": {"include_usage": True}}, 400, "'stream_options'"),
        ("/v1/chat/completions", CHAT | {"n": 1000}, 400, "'n'"),
        ("/v1/completions", {"model": "base", "prompt": ""}, 400, "'prompt'"),
        ("/v1/completions", {"model": "base", "prompt": [-1]}, 400, "'prompt'"),
        ("/v1/completions", {"model": "base", "prompt": "a" * 4004}, 400, "maximum context length"),
        ("/v1/embeddings", {"model": "base", "input": "a", "encoding_format": "int8"}, 400, "'encoding_format'"),
        ("/v1/responses", {"model": "base", "input": 7}, 400, "'input'"),
        ("/detokenize", {"tokens": ["a"]}, 400, "'tokens'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused_with_a_reason(path: str, body: Any, status: int, about: str) -> None:
    async def scenario(http: Http) -> None:
        got, answer = await http.post(path, body)

        assert got == status
        assert answer["error"]["code"] == status
        assert about in answer["error"]["message"]

    served(scenario)


def test_messages_are_refused_in_their_own_shape() -> None:
    async def scenario(http: Http) -> None:
        body = {"model": "gpt", "max_tokens": 3, "messages": CHAT["messages"]}
        status, answer = await http.post("/v1/messages", body)
        assert (status, answer["type"], answer["error"]["type"]) == (404, "error", "not_found_error")
        status, answer = await http.post("/v1/messages", {"model": "base", "messages": CHAT["messages"]})
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")

    served(scenario)


def test_a_body_that_is_no_json_is_refused() -> None:
    async def scenario(http: Http) -> None:
        async with aiohttp.ClientSession() as session:
            for data in (b"{", b"[]", b"\xff"):
                async with session.post(f"{http.server.url}/v1/completions", data=data) as answer:
                    assert answer.status == 400
                    assert (await answer.json())["error"]["type"] == "BadRequestError"

    served(scenario)


def test_a_full_queue_is_429_and_counted() -> None:
    """One runs, one waits, the third is refused; the page says so."""
    spec = attrs.evolve(SPEC, engine=attrs.evolve(INSTANT, max_running=1, step_seconds=0.2), max_waiting=1)

    async def scenario(http: Http) -> None:
        answers = await asyncio.gather(*(http.post("/v1/chat/completions", CHAT) for _ in range(3)))

        assert sorted(status for status, _ in answers) == [200, 200, 429]
        _, page = await http.get("/metrics")
        assert 'vllm:admission_rejections_total{model_name="base",reason="max_num_queued_reqs"} 1.0' in page

    served(scenario, spec)


def test_the_tokenizer_is_open() -> None:
    async def scenario(http: Http) -> None:
        _, answer = await http.post("/tokenize", {"model": "base", "prompt": "für alle"})
        assert answer["count"] == 3
        assert (await http.post("/detokenize", {"tokens": answer["tokens"]}))[1] == {"prompt": "für alle"}
        _, answer = await http.post("/tokenize", CHAT)
        _, chat = await http.post("/v1/chat/completions", CHAT)
        assert answer["count"] == chat["usage"]["prompt_tokens"]

    served(scenario)


def test_what_arrived_can_be_seen_and_is_bounded() -> None:
    async def scenario(http: Http) -> None:
        await http.post("/v1/chat/completions", CHAT, **{"x-request-id": "r-1", "X-Team": "blue"})
        await http.post("/v1/chat/completions", CHAT | {"model": "gpt"})
        await http.get("/v1/models")
        _, log = await http.get("/sim/requests")

        assert log["total"] == 3
        assert [one["path"] for one in log["requests"]] == ["/v1/chat/completions", "/v1/models"]
        assert log["requests"][0]["model"] == "gpt"
        assert log["requests"][0]["status"] == 404
        async with aiohttp.ClientSession() as session, session.delete(f"{http.server.url}/sim/requests") as answer:
            assert await answer.json() == {"total": 0, "requests": []}

        await http.post("/v1/chat/completions", CHAT, **{"x-request-id": "r-1", "X-Team": "blue"})
        (one,) = http.server.log
        assert one.headers["x-team"] == "blue"
        assert (one.model, one.status, one.outcome, one.output_tokens) == ("base", 200, "done", 5)
        assert one.prompt_tokens > 0
        assert one.ttft == pytest.approx(1e-6)

    served(scenario, attrs.evolve(SPEC, remembered=2))


def test_the_request_id_comes_back_on_every_kind_of_answer() -> None:
    async def scenario(http: Http) -> None:
        async with aiohttp.ClientSession(headers={"x-request-id": "r-7"}) as session:
            for body in (CHAT, CHAT | {"stream": True}, CHAT | {"model": "gpt"}):
                async with session.post(f"{http.server.url}/v1/chat/completions", json=body) as answer:
                    assert answer.headers["x-request-id"] == "r-7"

    served(scenario)


def test_a_client_that_hangs_up_stops_the_work() -> None:
    """The engine forgets the sequence, holds no block of it, and the log knows."""

    async def scenario(http: Http) -> None:
        body, driver = CHAT | {"max_tokens": 900, "ignore_eos": True}, http.server.service.driver
        async with aiohttp.ClientSession() as session:
            streaming = await session.post(f"{http.server.url}/v1/chat/completions", json=body | {"stream": True})
            await streaming.content.readline()
            whole = asyncio.create_task(session.post(f"{http.server.url}/v1/chat/completions", json=body))
            await until(lambda: driver.live == 2)
            streaming.close()
            whole.cancel()
        await until(lambda: driver.live == 0)
        assert driver.engine.cache.held == 0
        _, page = await http.get("/metrics")
        assert 'finished_reason="abort",model_name="base"} 2.0' in page
        assert [one.outcome for one in http.server.log] == ["gone", "gone"]

    served(scenario, attrs.evolve(SPEC, engine=attrs.evolve(INSTANT, step_seconds=0.05)))
