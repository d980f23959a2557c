"""The official clients, straight against a server: whatever they check, they check."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import anthropic
import openai
import pytest
from inferencesched_enginesim import INSTANT, EngineServer, ServerSpec

SPEC = ServerSpec(model="base", engine=INSTANT, answer_tokens=6)
ASKED = "What is the capital of France?"


@contextlib.contextmanager
def in_background() -> Iterator[str]:
    """A server in a thread of its own, for clients that block; its URL."""
    started, urls = threading.Event(), list[str]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with EngineServer(SPEC) as server:
            urls.append(server.url)
            started.set()
            await stop.wait()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def test_openai_sync() -> None:
    with in_background() as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        whole = client.chat.completions.create(model="base", messages=[{"role": "user", "content": ASKED}])
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 6

        text, usage = "", None
        for chunk in client.chat.completions.create(
            model="base",
            messages=[{"role": "user", "content": ASKED}],
            stream=True,
            stream_options={"include_usage": True},
        ):
            usage = chunk.usage
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
        assert text == whole.choices[0].message.content
        assert usage is not None
        assert usage.total_tokens == whole.usage.total_tokens

        assert client.completions.create(model="base", prompt=ASKED, max_tokens=2).choices[0].finish_reason == "length"
        assert len(client.embeddings.create(model="base", input=ASKED).data[0].embedding) == 64
        assert [model.id for model in client.models.list()] == ["base"]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": ASKED}])


def test_openai_responses() -> None:
    with in_background() as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        whole = client.responses.create(model="base", input=ASKED, instructions="Be brief.")
        assert whole.status == "completed"
        with client.responses.stream(model="base", input=ASKED, instructions="Be brief.") as stream:
            deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
        assert deltas == final.output_text == whole.output_text
        assert final.usage is not None
        assert final.usage.output_tokens == 6


def test_openai_async() -> None:
    async def run() -> None:
        async with (
            EngineServer(SPEC) as server,
            openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
        ):
            stream = await client.chat.completions.create(
                model="base", messages=[{"role": "user", "content": ASKED}], stream=True, max_tokens=3
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].choices[0].finish_reason == "length"
            assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 3

    asyncio.run(run())


def test_anthropic_sync() -> None:
    with in_background() as url, anthropic.Anthropic(base_url=url, api_key="none") as client:
        whole = client.messages.create(model="base", max_tokens=4, messages=[{"role": "user", "content": ASKED}])
        assert whole.stop_reason == "max_tokens"
        assert whole.usage.output_tokens == 4
        with client.messages.stream(
            model="base", max_tokens=4, messages=[{"role": "user", "content": ASKED}]
        ) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert final.content[0].type == "text"
        assert whole.content[0].type == "text"
        assert text == final.content[0].text == whole.content[0].text
        assert final.usage.output_tokens == 4
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="gpt", max_tokens=4, messages=[{"role": "user", "content": ASKED}])


def test_anthropic_async() -> None:
    async def run() -> None:
        async with (
            EngineServer(SPEC) as server,
            anthropic.AsyncAnthropic(base_url=server.url, api_key="none") as client,
        ):
            counted = await client.messages.count_tokens(model="base", messages=[{"role": "user", "content": ASKED}])
            async with client.messages.stream(
                model="base", max_tokens=100, messages=[{"role": "user", "content": ASKED}]
            ) as stream:
                kinds = [event.type async for event in stream]
                final = await stream.get_final_message()
            assert kinds[0] == "message_start"
            assert final.stop_reason == "end_turn"
            assert final.usage.input_tokens == counted.input_tokens

    asyncio.run(run())
