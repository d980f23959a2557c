"""Clients as people use them, against the gateway: whatever they can do with an engine they can do through it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

MODEL = "llama-3.1-8b"
HELLO: Any = [{"role": "user", "content": "Say something about schedulers."}]
MALFORMED: Any = [{"role": "user", "content": 7}]

Start = Callable[..., Any]


@pytest.fixture
def served(fleet: Any, gateway: Start) -> Any:
    running = gateway(urls=fleet)
    yield running
    running.audit()


@pytest.fixture
def client(served: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="sk-test", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(served: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=served.url, api_key="sk-test", max_retries=0) as made:
        yield made


def test_openai_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=7)

    assert answer.model == MODEL
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    assert answer.choices[0].message.content


def test_openai_chat_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=9, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9


def test_openai_completions_with_token_ids(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=list(range(100)), max_tokens=3)

    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 100


def test_openai_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model=MODEL, input="Say something.", max_output_tokens=5)
    events = list(client.responses.create(model=MODEL, input="Say more.", max_output_tokens=5, stream=True))

    assert answer.output_text
    assert events[-1].type in {"response.completed", "response.incomplete"}


def test_openai_embeddings(client: openai.OpenAI) -> None:
    vectors = client.embeddings.create(model=MODEL, input=["one", "two"]).data

    assert len(vectors) == 2
    assert vectors[0].embedding != vectors[1].embedding


def test_openai_lists_the_models_of_all_endpoints(served: Any, client: openai.OpenAI) -> None:
    served.wait_for(lambda: client.models.list().data)
    models = client.models.list().data

    assert {model.id for model in models} == {MODEL, "english-bot", "spanish-bot"}
    assert {model.id: (model.model_extra or {})["parent"] for model in models}["english-bot"] == MODEL


def test_openai_retrieves_a_model(served: Any, client: openai.OpenAI) -> None:
    served.wait_for(lambda: client.models.list().data)

    assert client.models.retrieve("english-bot").id == "english-bot"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("unheard-of")


def test_openai_asynchronous_clients_side_by_side(served: Any) -> None:
    async def ask(client: openai.AsyncOpenAI, i: int) -> int:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"question {i}"}], max_tokens=5, stream=True
        )
        return len([chunk async for chunk in stream])

    async def ask_all() -> list[int]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="sk-test", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(20)))

    assert min(asyncio.run(ask_all())) > 4


def test_openai_raises_its_own_error_for_a_model_nobody_has(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="unheard-of", messages=HELLO)

    assert "unheard-of" in caught.value.message


def test_anthropic_messages(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(model=MODEL, max_tokens=6, messages=HELLO)

    assert answer.usage.output_tokens == 6
    assert answer.content[0].type == "text"


def test_anthropic_stream(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model=MODEL, max_tokens=6, messages=HELLO, system="Be brief.") as stream:
        text = "".join(stream.text_stream)
        usage = stream.get_final_message().usage

    assert text
    assert usage.output_tokens == 6


def test_anthropic_raises_its_own_error_for_a_malformed_request(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(model=MODEL, max_tokens=6, messages=MALFORMED)

    assert "invalid_request_error" in str(caught.value.body)


LITELLM = """
import sys, litellm
options = {"model": "openai/" + sys.argv[1], "api_base": sys.argv[2] + "/v1", "api_key": "sk-test", "max_tokens": 5}
messages = [{"role": "user", "content": "Say something about schedulers."}]
print(litellm.completion(messages=messages, **options).usage.completion_tokens)
print(len(list(litellm.completion(messages=messages, stream=True, **options))))
"""


def test_litellm_as_a_second_opinion(served: Any) -> None:
    """In a process of its own: importing it takes seconds and warns of itself."""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [sys.executable, "-W", "ignore", "-c", LITELLM, MODEL, served.url]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120).stdout

    tokens, pieces = map(int, said.split())
    assert tokens == 5
    assert pieces > 4


def test_what_nobody_here_knows_is_passed_through(served: Any) -> None:
    answer = served.http.post("/tokenize", json={"model": MODEL, "prompt": "one two three"})

    assert answer.status_code == 200
    assert answer.json()["count"] > 0
