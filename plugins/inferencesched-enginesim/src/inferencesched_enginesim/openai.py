"""OpenAI's chat and text completions, as vLLM serves them: whole, or one event for each token."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import attrs
import orjson
from aiohttp import web

from inferencesched_enginesim.fields import flag, string, whole
from inferencesched_enginesim.job import Job, Piece, Usage
from inferencesched_enginesim.problems import BadRequest
from inferencesched_enginesim.prompts import chat_text, content_text, prompt_list, tokenize
from inferencesched_enginesim.service import Asked, Service
from inferencesched_enginesim.web import Call, EventStream, json_answer

__all__ = ["chat_completions", "completions", "usage_dict"]

_DONE = b"data: [DONE]\n\n"
_HOLE = "\0"  # where a token's text goes; no model's name and no id contains it
_MOST_ANSWERS = 128


@attrs.frozen
class _Shape:
    """What tells one of the two APIs from the other.

    Attributes:
        prefix: of ids.
        whole, chunk: the objects' names.
    """

    prefix: str
    whole: str
    chunk: str


_CHAT = _Shape("chatcmpl", "chat.completion", "chat.completion.chunk")
_TEXT = _Shape("cmpl", "text_completion", "text_completion")


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Return usage as both APIs tell it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


async def chat_completions(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/chat/completions``."""
    messages = call.body.get("messages")
    tokens = tokenize(chat_text(messages, tools=call.body.get("tools")))
    echo = content_text(messages[-1].get("content")) if isinstance(messages, list) else ""
    asked = attrs.evolve(_asked(call.body, "max_completion_tokens", "max_tokens"), prompts=[tokens], echo=echo)
    return await _Answering(service, call, asked, _CHAT).run()


async def completions(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/completions``."""
    asked = attrs.evolve(_asked(call.body, "max_tokens"), prompts=prompt_list(call.body.get("prompt")))
    if asked.max_tokens is None:
        asked = attrs.evolve(asked, max_tokens=16)  # the API's default
    return await _Answering(service, call, asked, _TEXT).run()


def _asked(body: Mapping[str, Any], *limits: str) -> Asked:
    n = whole(body, "n", least=1) or 1
    if n > _MOST_ANSWERS:
        raise BadRequest(f"'n' must be at most {_MOST_ANSWERS}, got {n}", param="n")
    return Asked(
        string(body, "model"),
        [],
        max_tokens=whole(body, *limits, least=1),
        min_tokens=whole(body, "min_tokens") or 0,
        ignore_eos=flag(body, "ignore_eos"),
        n=n,
        is_streamed=flag(body, "stream"),
        cache_salt=string(body, "cache_salt", ""),
    )


class _Answering:
    """One request of either API on its way to an answer."""

    def __init__(self, service: Service, call: Call, asked: Asked, shape: _Shape) -> None:
        options = call.body.get("stream_options") or {}
        if not isinstance(options, Mapping):
            raise BadRequest("'stream_options' must be an object", param="stream_options")
        if options and not asked.is_streamed:
            raise BadRequest("'stream_options' is only for streams", param="stream_options")
        self._includes_usage = flag(options, "include_usage")
        self._usage_everywhere = self._includes_usage and flag(options, "continuous_usage_stats")
        self._service = service
        self._call = call
        self._asked = asked
        self._shape = shape
        self._head = {
            "id": f"{shape.prefix}-{uuid.uuid4().hex}",
            "object": shape.chunk if asked.is_streamed else shape.whole,
            "created": int(time.time()),
            "model": asked.model,
            "system_fingerprint": service.spec.name,
        }

    async def run(self) -> web.StreamResponse:
        with self._service.job(self._asked, self._call.received) as job:
            return await (self._stream(job) if self._asked.is_streamed else self._whole(job))

    async def _whole(self, job: Job) -> web.StreamResponse:
        choices = []
        for piece in await job.complete():
            said = {"message": {"role": "assistant", "content": piece.text}} if self._is_chat else {"text": piece.text}
            choices.append({"index": piece.index, **said, "logprobs": None, "finish_reason": piece.finish_reason})
        return json_answer({**self._head, "choices": choices, "usage": usage_dict(job.usage)})

    async def _stream(self, job: Job) -> web.StreamResponse:
        stream = EventStream(self._call)
        await stream.open()
        templates = [self._template(index) for index in range(len(job.sequences))]
        met: set[int] = set()
        while pieces := await job.pieces():
            events: list[bytes] = []
            for piece in pieces:
                if self._is_chat and piece.index not in met:
                    met.add(piece.index)
                    events.append(self._event(piece.index, {"role": "assistant", "content": ""}, None, job))
                events += self._events(piece, templates[piece.index], job)
            await stream.send(events)
        last = [_DONE]
        if self._includes_usage:
            last.insert(0, _sse({**self._head, "choices": [], "usage": usage_dict(job.usage)}))
        await stream.send(last)
        return await stream.close()

    def _events(self, piece: Piece, template: tuple[bytes, bytes], job: Job) -> list[bytes]:
        """One event a token; the last token of a completion tells the reason, a chat has an event more for that."""
        if self._usage_everywhere:
            texts = [self._event(piece.index, self._said(text), None, job) for text in piece.tokens]
        else:
            before, after = template
            texts = [before + orjson.dumps(text)[1:-1] + after for text in piece.tokens]
        if piece.finish_reason is None:
            return texts
        if self._is_chat:
            return [*texts, self._event(piece.index, {}, piece.finish_reason, job)]
        return [*texts[:-1], self._event(piece.index, self._said(piece.tokens[-1]), piece.finish_reason, job)]

    @property
    def _is_chat(self) -> bool:
        return self._shape is _CHAT

    def _said(self, text: str) -> Any:
        return {"content": text} if self._is_chat else text

    def _template(self, index: int) -> tuple[bytes, bytes]:
        """What stands before and after the text in every event of one answer."""
        before, _, after = _sse(self._chunk(index, self._said(_HOLE), None)).partition(orjson.dumps(_HOLE)[1:-1])
        return before, after

    def _event(self, index: int, said: Any, reason: str | None, job: Job) -> bytes:
        chunk = self._chunk(index, said, reason)
        if self._usage_everywhere:
            chunk["usage"] = usage_dict(job.usage)
        return _sse(chunk)

    def _chunk(self, index: int, said: Any, reason: str | None) -> dict[str, Any]:
        key = "delta" if self._is_chat else "text"
        return {
            **self._head,
            "choices": [{"index": index, key: said, "logprobs": None, "finish_reason": reason}],
        }


def _sse(payload: Any) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"
