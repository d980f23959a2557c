"""Anthropic's Messages API: whole, or as its seven kinds of events; and counting tokens without an answer."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from inferencesched_enginesim.fields import flag, string, whole
from inferencesched_enginesim.job import Job, Usage
from inferencesched_enginesim.problems import BadRequest
from inferencesched_enginesim.prompts import chat_text, content_text, tokenize
from inferencesched_enginesim.service import Asked, Service
from inferencesched_enginesim.web import Call, EventStream, json_answer

__all__ = ["count_tokens", "messages"]

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


async def messages(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/messages``."""
    body = call.body
    limit = whole(body, "max_tokens", least=1)
    if limit is None:
        raise BadRequest("max_tokens: Field required", param="max_tokens")
    asked = Asked(
        string(body, "model"),
        [tokenize(_prompt(body))],
        max_tokens=limit,
        ignore_eos=flag(body, "ignore_eos"),
        is_streamed=flag(body, "stream"),
        echo=content_text(body["messages"][-1].get("content")),
    )
    with service.job(asked, call.received) as job:
        return await (_stream(call, job, asked.model) if asked.is_streamed else _whole(job, asked.model))


async def count_tokens(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/messages/count_tokens``."""
    service.adapter(call.body.get("model"))
    return json_answer({"input_tokens": len(tokenize(_prompt(call.body)))})


def _prompt(body: Mapping[str, Any]) -> str:
    return chat_text(body.get("messages"), system=body.get("system"), tools=body.get("tools"))


async def _whole(job: Job, model: str) -> web.StreamResponse:
    (piece,) = await job.complete()
    assert piece.finish_reason is not None
    return json_answer(
        {
            **_message(model, _usage(job.usage)),
            "content": [{"type": "text", "text": piece.text}],
            "stop_reason": _STOP_REASONS[piece.finish_reason],
        }
    )


async def _stream(call: Call, job: Job, model: str) -> web.StreamResponse:
    stream, is_begun = EventStream(call), False
    await stream.open()
    while pieces := await job.pieces():
        events = []
        if not is_begun:
            is_begun = True
            events.append(_event("message_start", message=_message(model, {**_usage(job.usage), "output_tokens": 0})))
            events.append(_event("content_block_start", index=0, content_block={"type": "text", "text": ""}))
            events.append(_event("ping"))
        (piece,) = pieces
        events += [
            _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}) for text in piece.tokens
        ]
        if piece.finish_reason is not None:
            delta = {"stop_reason": _STOP_REASONS[piece.finish_reason], "stop_sequence": None}
            events.append(_event("content_block_stop", index=0))
            events.append(_event("message_delta", delta=delta, usage=_usage(job.usage)))
            events.append(_event("message_stop"))
        await stream.send(events)
    return await stream.close()


def _message(model: str, usage: Mapping[str, int]) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(usage: Usage) -> dict[str, int]:
    """Tokens as this API counts them: those read from the cache are not among ``input_tokens``."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"
