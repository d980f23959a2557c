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
class Session:
    """The prompts of one conversation, each the one before with more at its end."""

    number: int
    calls: tuple[tuple[Message, ...], ...]


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


def sessions(path: Path) -> list[Session]:
    """Read those that are not too long, in the order of the file."""
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
    return [Session(number, tuple(each)) for number, each in calls.items() if chars[number] <= LONGEST_CHARS]


async def replay(chosen: list[Session], choose: Choose, *, model: str) -> Replayed:
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
            for messages in session.calls:
                body: dict[str, Any] = {"model": model, "messages": list(messages), "max_tokens": ANSWER_TOKENS}
                start = time.perf_counter()
                url = choose(session.number) + "/v1/chat/completions"
                async with client.post(url, json=body) as answer:
                    await answer.read()
                latencies.append(time.perf_counter() - start)

        start = time.perf_counter()
        await asyncio.gather(*(converse(session) for session in chosen))
        return Replayed(time.perf_counter() - start, tuple(latencies))
