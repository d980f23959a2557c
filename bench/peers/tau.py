"""Agent sessions of tau-bench, replayed over HTTP: who says how much to whom is theirs, the texts are filler.

A file of them has a line for each model call: `session`, `call`, and `new`, the messages added since the call before as
[role, characters, content id]; equal ids are equal texts. A session asks its next call when the last is answered;
several sessions run at once. Nothing here knows which router answers.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import attrs

ANSWER_TOKENS = 4
LONGEST_CHARS = 20_000
"""Of a session that is replayed: what fits the tiny model's context with room to spare."""

Message = dict[str, str]
Choose = Callable[[int], str]
"""From the number of a session to the base URL that its next call is sent to."""


@attrs.frozen
class Call:
    """One call: where it is sent, and its body."""

    path: str
    body: dict[str, Any]


@attrs.frozen
class Session:
    """The calls of one conversation, each with the prompt of the one before and more at its end."""

    number: int
    calls: tuple[Call, ...]


@attrs.frozen
class Replayed:
    """How it went: seconds in all, and of each call."""

    wall: float
    latencies: tuple[float, ...] = attrs.field(repr=False)

    def percentile(self, percent: int) -> float:
        """Return a percentile of the calls' seconds."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, len(self.latencies) * percent // 100)]


class Filler:
    """Texts that a tokenizer finds ordinary: pieces of the standard library's sources, fixed by their content id."""

    def __init__(self) -> None:
        folder = Path(sysconfig.get_path("stdlib"))
        self._source = "".join(file.read_text(errors="replace") for file in sorted(folder.glob("*.py"))[:300])

    def text(self, content: int, chars: int) -> str:
        """Return the text of a content id."""
        start = random.Random(content).randrange(len(self._source) - chars)
        return self._source[start : start + chars]


def sessions(path: Path, model: str) -> list[Session]:
    """Read those that are not too long, in the order of the file, as chats with a model."""
    filler = Filler()
    calls: dict[int, list[tuple[Message, ...]]] = {}
    chars: dict[int, int] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            number = row["session"]
            before = calls.setdefault(number, [])
            new = tuple(
                # A tool's message needs a call's id by the protocol; as prompt text it is like any other.
                {"role": "user" if role == "tool" else role, "content": filler.text(content, length)}
                for role, length, content in row["new"]
            )
            chars[number] = chars.get(number, 0) + sum(length for _, length, _ in row["new"])
            before.append((*(before[-1] if before else ()), *new))
    return [
        Session(number, tuple(_chat(messages, model) for messages in prompts))
        for number, prompts in calls.items()
        if chars[number] <= LONGEST_CHARS
    ]


def _chat(messages: tuple[Message, ...], model: str) -> Call:
    body = {"model": model, "messages": list(messages), "max_tokens": ANSWER_TOKENS}
    return Call("/v1/chat/completions", body)


def tokenized(session: Session, tokens_of: Callable[[dict[str, Any]], list[int]]) -> Session:
    """Return the session with its prompts as token ids, as one sends it who has the tokenizer; `tokens_of` is asked."""
    calls = [
        Call(
            "/v1/completions",
            {"model": call.body["model"], "prompt": tokens_of(call.body), "max_tokens": call.body["max_tokens"]},
        )
        for call in session.calls
    ]
    return Session(session.number, tuple(calls))


async def replay(chosen: list[Session], choose: Choose) -> Replayed:
    """Run the sessions at once and return how long it took.

    Raises:
        aiohttp.ClientResponseError: a call was answered with an error.
    """
    latencies: list[float] = []
    timeout = aiohttp.ClientTimeout(total=300)
    # vLLM closes idle connections after five seconds; a client that keeps them for longer loses requests.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, raise_for_status=True) as client:

        async def converse(session: Session) -> None:
            for call in session.calls:
                start = time.perf_counter()
                async with client.post(choose(session.number) + call.path, json=call.body) as answer:
                    await answer.read()
                latencies.append(time.perf_counter() - start)

        start = time.perf_counter()
        await asyncio.gather(*(converse(session) for session in chosen))
        return Replayed(time.perf_counter() - start, tuple(latencies))
