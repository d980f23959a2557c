"""The operations of the APIs that are understood: a table from the end of a path to who reads the body.

Whatever is not in the table is passed through: it has no model, no prompt and no usage that anybody here could know.
The Endpoint Picker's parsers claim the same paths; which of them are in force is for a configuration to say, see
`Operations`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

from inferencesched.apis.prompts import BadBody, Dumps
from inferencesched.apis.requests import (
    Asked,
    read_chat,
    read_completion,
    read_conversation,
    read_embedding,
    read_image,
    read_messages,
    read_responses,
    read_sglang,
    read_tokens,
)

__all__ = ["OPERATIONS", "Operation", "Operations", "operation_for", "read_request"]

Api = Literal["openai", "responses", "anthropic", "vllm", "sglang"]


@attrs.frozen(eq=False)
class Operation:
    """One thing that a client can ask an API for.

    Attributes:
        name: short and unique, for logs and metrics: ``chat``, ``messages``.
        suffix: how its paths end, whole segments of them.
        api: whose words it speaks: what errors and streams look like. ``responses`` has events of its own; ``vllm`` and
            ``sglang`` are those engines' native calls, with errors as OpenAI's.
        parser: the plugin type that claims it in an ``EndpointPickerConfig``.
        read: what makes an `Asked` of a decoded body.
        has_usage: whether its answers count tokens.
        has_model: whether its body names the model, so that a rewrite can put another one there.
        is_exact: whether the suffix must be the whole path.
    """

    name: str
    suffix: str
    api: Api
    parser: str
    read: Callable[[Mapping[str, Any], Dumps], Asked] = attrs.field(repr=False)
    has_usage: bool = True
    has_model: bool = True
    is_exact: bool = False


_OPENAI, _ANTHROPIC = "openai-parser", "anthropic-parser"

OPERATIONS: tuple[Operation, ...] = (
    Operation("chat", "chat/completions", "openai", _OPENAI, read_chat),
    Operation("completions", "completions", "openai", _OPENAI, read_completion),
    Operation("embeddings", "embeddings", "openai", _OPENAI, read_embedding),
    Operation("responses", "responses", "responses", _OPENAI, read_responses),
    Operation("conversations", "conversations", "openai", _OPENAI, read_conversation, has_usage=False),
    Operation("chat_render", "chat/completions/render", "openai", _OPENAI, read_chat, has_usage=False),
    Operation("completions_render", "completions/render", "openai", _OPENAI, read_completion, has_usage=False),
    Operation("images", "images/generations", "openai", _OPENAI, read_image),
    Operation("messages", "messages", "anthropic", _ANTHROPIC, read_messages),
    Operation("count_tokens", "messages/count_tokens", "anthropic", _ANTHROPIC, read_messages, has_usage=False),
    Operation("generate", "inference/v1/generate", "vllm", "vllmhttp-parser", read_tokens),
    Operation(
        "sglang_generate", "generate", "sglang", "sglanghttp-parser", read_sglang, has_model=False, is_exact=True
    ),
)
"""Every operation there is."""


class Operations:
    """Some of the operations, found by path.

    Args:
        operations: those in force.
        passes_through: whether a path that belongs to none of them is forwarded as it is; otherwise it is a 400.

    >>> Operations(OPERATIONS).at("/openai/v1/chat/completions").name
    'chat'
    """

    def __init__(self, operations: Iterable[Operation], *, passes_through: bool = True) -> None:
        self.operations = tuple(operations)
        self.passes_through = passes_through
        self._by_suffix = {operation.suffix: operation for operation in self.operations}
        self._most_segments = max((each.suffix.count("/") + 1 for each in self.operations), default=1)

    def at(self, path: str) -> Operation | None:
        """Return the operation with the longest suffix of `path`, None when there is none.

        A suffix is whole segments: ``/v1/my-completions`` is no completion. Slashes and spaces around the path do not
        count; a query must have been taken off. Complexity: O(1), a look-up for each segment of the longest suffix.
        """
        path = path.strip("/ ")
        segments = path.rsplit("/", self._most_segments)[-self._most_segments :]
        for first in range(len(segments)):
            found = self._by_suffix.get("/".join(segments[first:]))
            if found is not None and (not found.is_exact or path == found.suffix):
                return found
        return None


_EVERY = Operations(OPERATIONS)


def operation_for(path: str) -> Operation | None:
    """Return the operation at a path among all there are; see `Operations.at`.

    >>> operation_for("/v1/chat/completions").name, operation_for("/v1/audio/speech")
    ('chat', None)
    """
    return _EVERY.at(path)


def read_request(operation: Operation, body: Any, *, dumps: Dumps = json.dumps) -> Asked:
    """Return what the decoded body of a request asks for.

    Args:
        operation: as its path says.
        body: decoded JSON; not changed.
        dumps: gives the JSON of what is in the prompt and is no text (tools, calls); ``orjson.dumps`` is faster.

    Raises:
        BadBody: a field that is needed is missing or of the wrong type.

    >>> asked = read_request(operation_for("/v1/completions"), {"model": "m", "prompt": [1, 2], "max_tokens": 5})
    >>> asked.model, asked.prompt_tokens, asked.max_output_tokens
    ('m', 2, 5)

    Complexity: one pass over the texts, at the speed of copying them twice; O(size) for what `dumps` writes.
    """
    if not isinstance(body, dict):
        raise BadBody("", "a JSON object")
    return operation.read(body, dumps)
