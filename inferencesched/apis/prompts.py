"""Conversations become bytes: what an engine would put into its prompt, in its order, without its template.

The bytes are a prefix key's content (`inferencesched.prefix`) and promise two things:

* A conversation with one more turn begins with the bytes of the earlier one. Nothing is counted or hashed in front of a
  text; what ends a part stands behind it, so that two long texts share their bytes up to where they differ.
* Two different conversations never give the same bytes. Texts are UTF-8, in which the bytes 0xF7 to 0xFF do not occur
  (a lone surrogate from a broken client is three bytes from 0xED on); they are the marks:

      message  = role FE block (FD block)* extra* FF
      block    = text | FC json | FB digest | F9 block
      extra    = F8 key FE json
      head     = F7 key FE json FF

  F9 stands before what is inside a tool's result, FB before the digest of an image, a sound or a video.

A content that is a string is one block of text, as engines take it. What only the API reads (``cache_control``, which
clients move from turn to turn) is left out, and so is what is null or empty. Knows messages and blocks, and no API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import xxhash

from inferencesched.errors import InferenceschedError

__all__ = ["BadBody", "Dumps", "PromptWriter", "encoded", "media_digest"]

Dumps = Callable[[Any], "str | bytes"]
"""A function that gives the JSON of a decoded value: ``json.dumps``, ``orjson.dumps``."""

_TEXTS = frozenset({"text", "input_text", "output_text"})
_MEDIA = frozenset(
    {"image_url", "input_image", "image", "input_audio", "audio_url", "video_url", "input_video", "document"}
)
_OF_THE_API = frozenset({"cache_control", "content", "role", "type"})
_NOTHING: tuple[Any, ...] = (None, [], {})
_HEADS = {role: role.encode() + b"\xfe" for role in ("system", "developer", "user", "assistant", "tool")}


class BadBody(InferenceschedError, ValueError):
    """The body of a request is not what its API takes (400).

    The sentence names the field and what is expected there, and never what was found: that may be a prompt.

    Attributes:
        field: where, in the body (``messages[2].content``); empty for the body itself.
        expected: what should have stood there.
    """

    def __init__(self, field: str, expected: str) -> None:
        self.field = field
        self.expected = expected
        super().__init__(field, expected)

    def __str__(self) -> str:
        return f"'{self.field}' must be {self.expected}." if self.field else f"The body must be {self.expected}."


def encoded(text: str) -> bytes:
    """Return a text as UTF-8, lone surrogates included."""
    return text.encode("utf-8", "surrogatepass")


def media_digest(content: str) -> bytes:
    """Return the digest of a picture, a sound or a video, given as base64, as ``data:`` URL or by its address.

    A ``data:`` URL has the digest of the data in it, so that it is the same content in every API.

    >>> media_digest("data:image/png;base64,iVBORw0=") == media_digest("iVBORw0=")
    True
    """
    data = content.partition(",")[2] if content.startswith("data:") else content
    return xxhash.xxh3_128_hexdigest(encoded(data)).encode()


class PromptWriter:
    """Writes one prompt, part by part.

    Args:
        dumps: how tools, calls and whatever else is no text become JSON.
    """

    __slots__ = ("_dumps", "_parts", "media")

    def __init__(self, dumps: Dumps) -> None:
        self._dumps = dumps
        self._parts: list[bytes] = []
        self.media: list[bytes] = []

    def content(self) -> bytes:
        """Return what was written."""
        return b"".join(self._parts)

    def head(self, key: str, value: Any) -> None:
        """Write something that is no message and that the template puts in: tools, documents; nothing if empty."""
        if value not in _NOTHING:
            self._parts += (b"\xf7", encoded(key), b"\xfe", self._json(value, key), b"\xff")

    def messages(self, messages: Any, field: str, tools: Any = None) -> None:
        """Write a history; tools stand behind the system's text, as most templates put them.

        Raises:
            BadBody: it is no history.
        """
        if not isinstance(messages, list) or not messages:
            raise BadBody(field, "a non-empty array of messages")
        is_head = tools is not None
        for position, message in enumerate(messages):
            if is_head and not (isinstance(message, dict) and message.get("role") in ("system", "developer")):
                self.head("tools", tools)
                is_head = False
            self.message(message, field, position)
        if is_head:
            self.head("tools", tools)

    def message(self, message: Any, field: str, position: int) -> None:
        """Write one message: its role, its content, and what else a template could read of it."""
        if not isinstance(message, dict):
            raise BadBody(f"{field}[{position}]", "an object")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            raise BadBody(f"{field}[{position}].role", "a string")
        parts = self._parts
        parts.append(_HEADS.get(role) or encoded(role) + b"\xfe")
        if isinstance(content, str):
            parts.append(encoded(content))
        elif isinstance(content, list):
            self._blocks(content, f"{field}[{position}].content")
        elif content is not None or role != "assistant":
            raise BadBody(f"{field}[{position}].content", "a string or an array of content blocks")
        if len(message) > 2:
            for key in sorted(message.keys() - _OF_THE_API):
                value = message[key]
                if value not in _NOTHING:
                    parts += (b"\xf8", encoded(key), b"\xfe", self._json(value, f"{field}[{position}]"))
        parts.append(b"\xff")

    def say(self, role: str, content: Any, field: str) -> None:
        """Write a message whose role is told by its field: a system's text, an input."""
        self._parts.append(_HEADS[role])
        if isinstance(content, str):
            self._parts.append(encoded(content))
        elif isinstance(content, list):
            self._blocks(content, field)
        else:
            raise BadBody(field, "a string or an array of content blocks")
        self._parts.append(b"\xff")

    def item(self, item: Mapping[str, Any], field: str) -> None:
        """Write a part of a history that nobody says: a call, its output, a thought."""
        self._parts += (b"\xfe\xfc", self._json(item, field), b"\xff")

    def digest(self, content: str) -> None:
        """Write a medium by its digest."""
        digest = media_digest(content)
        self.media.append(digest)
        self._parts += (b"\xfb", digest)

    def _blocks(self, blocks: list[Any], field: str, inside: bytes = b"") -> None:
        parts = self._parts
        for position, block in enumerate(blocks):
            if position or inside:
                parts.append(b"\xfd")
            parts.append(inside)
            if isinstance(block, str):
                parts.append(encoded(block))
                continue
            if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str):
                raise BadBody(f"{field}[{position}]", "a content block with a type")
            if kind in _TEXTS:
                if not isinstance(text := block.get("text"), str):
                    raise BadBody(f"{field}[{position}].text", "a string")
                parts.append(encoded(text))
            elif kind in _MEDIA and (medium := _medium(block.get(kind, block))) is not None:
                self.digest(medium)
            elif kind == "tool_result" and not inside and isinstance(block.get("content"), list):
                rest = {key: value for key, value in block.items() if key not in _OF_THE_API}
                parts += (b"\xfc", self._json(rest, f"{field}[{position}]"))
                self._blocks(block["content"], f"{field}[{position}].content", b"\xf9")
            else:
                seen = {key: value for key, value in block.items() if key != "cache_control"}
                parts += (b"\xfc", self._json(seen, f"{field}[{position}]"))

    def _json(self, value: Any, field: str) -> bytes:
        try:
            written = self._dumps(value)
        except (TypeError, ValueError, RecursionError):
            raise BadBody(field, "JSON of text, numbers and at most some hundred levels") from None
        return encoded(written) if isinstance(written, str) else written


def _medium(holder: Any) -> str | None:
    """Return the address or the data of a medium, wherever an API puts it; None where there is none."""
    if isinstance(holder, str):
        return holder
    if not isinstance(holder, dict):
        return None
    source = holder.get("source", holder)
    if not isinstance(source, dict):
        return None
    return next((found for key in ("url", "data", "image_url") if isinstance(found := source.get(key), str)), None)
