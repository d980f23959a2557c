"""OpenAI's Responses API: one text answer, whole or as numbered events. Nothing is stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from inferencesched_enginesim.fields import flag, string, whole
from inferencesched_enginesim.job import Job
from inferencesched_enginesim.problems import BadRequest
from inferencesched_enginesim.prompts import chat_text, content_text, tokenize
from inferencesched_enginesim.service import Asked, Service
from inferencesched_enginesim.web import Call, EventStream, json_answer

__all__ = ["responses"]


async def responses(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/responses``."""
    body = call.body
    turns = _turns(body.get("input"))
    asked = Asked(
        string(body, "model"),
        [tokenize(chat_text(turns, system=body.get("instructions"), tools=body.get("tools")))],
        max_tokens=whole(body, "max_output_tokens", least=1),
        ignore_eos=flag(body, "ignore_eos"),
        is_streamed=flag(body, "stream"),
        echo=content_text(turns[-1].get("content")),
        cache_salt=string(body, "cache_salt", ""),
    )
    answer = _Answer(body, asked.model)
    with service.job(asked, call.received) as job:
        if asked.is_streamed:
            return await _stream(call, job, answer)
        (piece,) = await job.complete()
        return json_answer(answer.complete(job, piece.text, piece.finish_reason))


def _turns(given: Any) -> list[dict[str, Any]]:
    """The input as chat messages; an item that is none (a tool's result…) takes part as what it is."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given or not all(isinstance(item, Mapping) for item in given):
        raise BadRequest("'input' must be a string or a list of items", param="input")
    return [
        {"role": item["role"], "content": item.get("content")}
        if isinstance(item.get("role"), str)
        else {"role": str(item.get("type")), "content": [item]}
        for item in given
    ]


class _Answer:
    """The response object, as it grows."""

    def __init__(self, body: Mapping[str, Any], model: str) -> None:
        self.item = f"msg_{uuid.uuid4().hex}"
        self._base: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "parallel_tool_calls": True,
            "temperature": body.get("temperature"),
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": body.get("top_p"),
        }

    def begun(self) -> dict[str, Any]:
        """Return it before there is an answer."""
        return {**self._base, "status": "in_progress", "output": [], "usage": None}

    def complete(self, job: Job, text: str, reason: str | None) -> dict[str, Any]:
        """Return it with its answer."""
        usage, is_cut = job.usage, reason == "length"
        return {
            **self._base,
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self.message("incomplete" if is_cut else "completed", text)],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.output_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.total_tokens,
            },
        }

    def message(self, status: str, text: str | None = None) -> dict[str, Any]:
        """Return its one item of output; without content while there is no text."""
        content = [] if text is None else [_part(text)]
        return {"id": self.item, "type": "message", "role": "assistant", "status": status, "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Numbered:
    """Events with a running number."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, kind: str, **fields: Any) -> bytes:
        payload = {"type": kind, "sequence_number": self._next, **fields}
        self._next += 1
        return f"event: {kind}\ndata: ".encode() + orjson.dumps(payload) + b"\n\n"


async def _stream(call: Call, job: Job, answer: _Answer) -> web.StreamResponse:
    stream, event = EventStream(call), _Numbered()
    said: list[str] = []
    place = {"item_id": answer.item, "output_index": 0, "content_index": 0}
    await stream.open()
    await stream.send(
        [event("response.created", response=answer.begun()), event("response.in_progress", response=answer.begun())]
    )
    reason = None
    while pieces := await job.pieces():
        (piece,) = pieces
        events = []
        if not said:
            item = answer.message("in_progress")
            events.append(event("response.output_item.added", output_index=0, item=item))
            events.append(event("response.content_part.added", **place, part=_part("")))
        events += [event("response.output_text.delta", **place, delta=text, logprobs=[]) for text in piece.tokens]
        said += piece.tokens
        reason = piece.finish_reason
        await stream.send(events)
    text = "".join(said)
    whole_answer = answer.complete(job, text, reason)
    await stream.send(
        [
            event("response.output_text.done", **place, text=text, logprobs=[]),
            event("response.content_part.done", **place, part=_part(text)),
            event("response.output_item.done", output_index=0, item=whole_answer["output"][0]),
            event(f"response.{whole_answer['status']}", response=whole_answer),
        ]
    )
    return await stream.close()
