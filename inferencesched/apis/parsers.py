"""The Endpoint Picker's parsers: which operations a configuration lets in force, by the names that it has for them.

A parser here is a choice among the operations of `inferencesched.apis.operations`, or a list of somebody's own: the
reading itself is each operation's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from inferencesched.apis.operations import OPERATIONS, Operation

__all__ = ["AnthropicParser", "OpenAIParser", "PassthroughParser", "SglangHttpParser", "VllmHttpParser"]


class _Chosen:
    """A parser that claims the operations which name it."""

    type: ClassVar[str]

    def claims(self) -> Sequence[Operation]:
        """Return what it understands."""
        return [operation for operation in OPERATIONS if operation.parser == self.type]


@attrs.frozen
class OpenAIParser(_Chosen):
    """Understand OpenAI's API: chat, completions, embeddings, responses, conversations, images.

    vLLM's ``render`` variants of chat and completions are among it.

    Source: Endpoint Picker ``openai-parser``. There a suffix need not begin at a segment of the path.
    """

    type = "openai-parser"


@attrs.frozen
class AnthropicParser(_Chosen):
    """Understand Anthropic's API: messages, and the counting of their tokens.

    Source: Endpoint Picker ``anthropic-parser``.
    """

    type = "anthropic-parser"


@attrs.frozen
class VllmHttpParser(_Chosen):
    """Understand vLLM's own ``inference/v1/generate``, in which prompts are token ids.

    Source: Endpoint Picker ``vllmhttp-parser``.
    """

    type = "vllmhttp-parser"


@attrs.frozen
class SglangHttpParser(_Chosen):
    """Understand SGLang's own ``/generate``, which names no model.

    Source: Endpoint Picker ``sglanghttp-parser``. Here the usage of a batch is the sum over its prompts.
    """

    type = "sglanghttp-parser"


@attrs.frozen
class PassthroughParser:
    """Let every other path through as it is: without a model, a prompt or a usage that anybody could know.

    Without it, a path that no parser claims is a bad request (400).

    Source: Endpoint Picker ``passthrough-parser``. There parsers listed behind it are skipped; here order is nothing.
    """

    type: ClassVar[str] = "passthrough-parser"

    def claims(self) -> Sequence[Operation]:
        """Return nothing: it takes what is left."""
        return ()
