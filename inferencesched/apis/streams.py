"""Answers that come as server-sent events: usage read and the client's model name restored while they pass.

Chunks of a connection have nothing to do with events: an event may come in pieces, or ten in one chunk. `StreamReader`
puts them together by itself, and looks into an event only when the text of it says that there is something to find.
Most chunks are one whole event with nothing in it for us; those are found by a few searches and handed back as they
came.

Reads no connection and knows no time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from inferencesched.apis.models import restore_model
from inferencesched.apis.operations import Operation
from inferencesched.apis.prompts import Dumps, encoded
from inferencesched.apis.usage import Usage, usage_in

__all__ = ["LONGEST_EVENT", "StreamReader"]

LONGEST_EVENT = 1024 * 1024
"""Bytes: a longer event passes unread."""

_END_OF_EVENT = re.compile(rb"\n\r?\n")

_MARKS = MappingProxyType({"sglang": b'"finish_reason"'})
_USAGE = b'"usage"'
"""What stands in an event that may have the usage in it. Inside a JSON string the quotes would be escaped."""

_ERROR, _MODEL = b'"error"', b'"model"'


class StreamReader:
    r"""Reads one stream of events; made for one answer.

    Args:
        operation: what was asked for.
        restore_model: the client's name of the model, to be put in place of the engine's; None leaves names alone.
        loads: decodes JSON, ``orjson.loads`` being faster; must raise ValueError for what is none.
        dumps: writes JSON, as text or as UTF-8.

    >>> from inferencesched.apis import operation_for
    >>> reader = StreamReader(operation_for("/v1/chat/completions"), "chat")
    >>> reader.feed(b'data: {"model":"llama-3"')
    b''
    >>> reader.feed(b',"usage":{"prompt_tokens":3}}' + b"\n\n")
    b'data: {"model": "chat", "usage": {"prompt_tokens": 3}}\n\n'
    >>> reader.usage.prompt_tokens, reader.events
    (3, 1)

    Attributes:
        usage: what the engine has reported so far.
        events: how many events with data have passed, the closing ``[DONE]`` not among them.
        is_failed: whether the engine has told of a failure itself, so that nobody need tell it again.

    Complexity: a few searches in a chunk that is one event with nothing to find; one JSON decoding for an event that
    may have the usage, and one decoding and one writing for an event with a model's name that is not the client's.
    Memory: at most `LONGEST_EVENT`, while an event is incomplete.
    """

    __slots__ = (
        "_dumps",
        "_held",
        "_is_rewriting",
        "_loads",
        "_mark",
        "_model",
        "_null",
        "_null_spaced",
        "_operation",
        "_passed",
        "events",
        "is_failed",
        "usage",
    )

    def __init__(
        self,
        operation: Operation,
        restore_model: str | None = None,
        *,
        loads: Callable[[bytes], Any] = json.loads,
        dumps: Dumps = json.dumps,
    ) -> None:
        self._operation = operation
        self._model = restore_model
        self._is_rewriting = restore_model is not None and operation.has_model
        self._loads = loads
        self._dumps = dumps
        self._mark = _MARKS.get(operation.api, _USAGE)
        self._null = self._mark + b":null"
        self._null_spaced = self._mark + b": null"
        self._held = bytearray()
        self._passed = 0
        self.usage = Usage()
        self.events = 0
        self.is_failed = False

    def feed(self, chunk: bytes) -> bytes:
        """Take what has arrived, and return what to pass on: the same object where nothing is to be changed.

        With a model to restore, an event that is not complete is held back until it is.
        """
        if (
            self._held
            or not chunk.endswith(b"\n\n")
            or chunk.find(b"\n\n") != len(chunk) - 2
            or len(chunk) > LONGEST_EVENT
            or b"\r" in chunk
        ):
            return self._read(chunk)
        if chunk.startswith(b"data: {"):  # one whole event, most likely with nothing in it for us
            if not self._is_telling(chunk):
                self.events += 1
                return chunk
            if b"\n" not in chunk[:-2]:
                data = self._data(chunk[6:-2])
                return chunk if data is None else b"data: " + data + b"\n\n"
        elif chunk.startswith(b"event:") and b"\ndata: {" in chunk and not self._is_telling(chunk):
            self.events += 1
            return chunk
        return self._read(chunk)

    def end(self) -> bytes:
        """Take the end of the stream, and return what was held back. An event without its blank line is read too."""
        rest = b"" if self._passed else self._event(bytes(self._held))
        self._held.clear()
        self._passed = 0
        return rest if self._is_rewriting else b""

    def _read(self, chunk: bytes) -> bytes:
        """Put events together and read each; the slow and complete way."""
        held, begin = self._held, 0
        start = max(len(held) - 2, 0)  # an end that began in the chunk before: "\n\r", then "\n"
        held += chunk
        out: list[bytes] = []
        for match in _END_OF_EVENT.finditer(held, start):
            event = bytes(held[begin : match.end()])
            out.append(event[self._passed :] if self._passed else self._event(event))
            begin, self._passed = match.end(), 0
        del held[:begin]
        if self._passed or len(held) > LONGEST_EVENT:
            out.append(bytes(held[self._passed :]))
            del held[:-2]
            self._passed = len(held)
        return b"".join(out) if self._is_rewriting else chunk

    def _event(self, event: bytes) -> bytes:
        """Read one whole event, and return it as it is to be passed on."""
        if len(event) > LONGEST_EVENT:
            return event
        lines = event.splitlines(keepends=True)
        data = [line for line in lines if line.startswith(b"data:")]
        if not data:
            return event
        payload = b"\n".join([line[5:].strip() for line in data]) if len(data) > 1 else data[0][5:].strip()
        if payload == b"[DONE]":
            return event
        written = self._data(payload)
        return event if written is None else _with_data(lines, written)

    def _data(self, payload: bytes) -> bytes | None:
        """Count and read the data of one event; return what is to stand in its place, None if that is itself."""
        self.events += 1
        if not self._is_telling(payload):
            return None
        try:
            content = self._loads(payload)
        except (ValueError, RecursionError):
            return None
        if self._operation.has_usage and (usage := usage_in(self._operation, content)) is not None:
            self.usage = self.usage.merged(usage)
        self.is_failed = self.is_failed or _is_error(content)
        if not self._is_rewriting or self._model is None or not restore_model(self._operation, content, self._model):
            return None
        written = self._dumps(content)
        return encoded(written) if isinstance(written, str) else written

    def _is_telling(self, text: bytes) -> bool:
        """Whether there may be something in the text of an event: a name to restore, a failure, or the usage."""
        if (self._is_rewriting and _MODEL in text) or _ERROR in text:
            return True
        return self._mark in text and text.count(self._mark) > text.count(self._null) + text.count(self._null_spaced)


def _is_error(content: Any) -> bool:
    """Whether an event tells of a failure, in the words of any of the APIs."""
    return isinstance(content, dict) and (bool(content.get("error")) or content.get("type") == "response.failed")


def _with_data(lines: list[bytes], data: bytes) -> bytes:
    """Return an event with other data; its other lines and its ends of lines stay."""
    out: list[bytes] = []
    for line in lines:
        if not line.startswith(b"data:"):
            out.append(line)
        elif data:
            out += (b"data: ", data, line[len(line.rstrip(b"\r\n")) :])
            data = b""
    return b"".join(out)
