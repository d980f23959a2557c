"""Traffic: made-up requests that say enough in twenty seconds, and the bodies with which a client sends them."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping

import attrs
import orjson

from inferencesched.sim import AGENTS, CHAT, COMPLETIONS, LogNormal, Trace, Workload

__all__ = ["CHARACTERS_PER_TOKEN", "WORKLOAD", "chat_bodies"]

CHARACTERS_PER_TOKEN = 4  # the simulated engines' tokenizer takes four bytes for one

# The kinds of traffic of the virtual demonstration, at a size at which four A100s are busy and a session fits into
# twenty seconds: people and tools reply within seconds, and instructions come with their tools. Answers are short, as
# each of their tokens is an event that this machine carries three times, and the engines must not fall behind.
_CHAT = attrs.evolve(
    CHAT,
    first=LogNormal(3_000, 6_600),
    added=LogNormal(110, 400),
    answer=LogNormal(24, 48),
    gap=LogNormal(3, 6),
    turns=4.0,
)
_AGENTS = attrs.evolve(
    AGENTS,
    system=LogNormal(5_000, 8_000),
    applications=16,
    first=LogNormal(300, 900),
    added=LogNormal(150, 400),
    answer=LogNormal(20, 40),
    gap=LogNormal(1.5, 3),
    turns=8.0,
)

WORKLOAD = Workload(
    ((_CHAT, 1.5), (_AGENTS, 2.0), (COMPLETIONS, 1.0)),
    burstiness=1.24,
    block_tokens=16,  # as engines cache them
)
"""Some thirteen requests a second; three quarters of their prompt tokens were seen before."""

_VOCABULARY = (
    "a ask at be bring can chair clear come day find for from give green hold house in is it keep last light long make "
    "many new next not now of one open other out paper part place queue read room same say take table that the then "
    "there to town turn under water way we will with word year you"
)
_WORDS = _VOCABULARY.split()


def chat_bodies(trace: Trace, model: str) -> Mapping[str, bytes]:
    """Return the body of a streamed chat completion for each request of `trace`, by its id.

    Texts have in common what the trace says that prompts have in common, and answers have the length that it says.
    """
    text = functools.cache(functools.partial(_text, length=trace.block_tokens * CHARACTERS_PER_TOKEN))
    bodies = {}
    for request in trace.requests:
        prompt = "".join(map(text, request.blocks))[: request.prompt_tokens * CHARACTERS_PER_TOKEN]
        bodies[request.id] = orjson.dumps(
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": request.output_tokens,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )
    return bodies


def _text(block: int, *, length: int) -> str:
    """Return as many characters of ASCII as make a block; other blocks read differently."""
    words = random.Random(block).choices(_WORDS, k=length // 2)  # one letter and a space is the least
    return f"{block} {' '.join(words)}"[: length - 1] + " "
