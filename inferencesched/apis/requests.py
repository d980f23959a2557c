"""Bodies of requests → what scheduling needs of them, one reader for each API.

A reader takes a decoded body and gives an `Asked`, or raises `BadBody`. It is tolerant: what a reader does not need it
does not look at, for the engine will; what it does need and cannot read is the client's mistake, told at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from inferencesched.apis.prompts import BadBody, Dumps, PromptWriter, encoded, media_digest

__all__ = [
    "Asked",
    "read_chat",
    "read_completion",
    "read_conversation",
    "read_embedding",
    "read_image",
    "read_messages",
    "read_responses",
    "read_sglang",
    "read_tokens",
]

_TEMPLATE = ("chat_template", "chat_template_kwargs", "documents")  # beside messages and tools, what a template reads
_BETWEEN = 2**32 - 1  # no vocabulary has this token: it keeps [[1, 2], [3]] and [[1], [2, 3]] apart


@attrs.frozen
class Asked:
    """What a client asked for, as much of it as scheduling needs.

    Attributes:
        model: as the body names it; None when it does not.
        stream: whether the answer is to come as a stream; only ``true`` means so.
        prompt: bytes of the whole conversation (see `inferencesched.apis.prompts`), or token ids; None when there is
            nothing to match. Kept out of ``repr``.
        media: digests of images, sounds and videos, in their order.
        is_media_placed: whether they stand in `prompt` too, each at its place, as those of conversations do
            (``Request.media_placed``).
        cache_salt: separates prefix caches that must not be shared.
        max_output_tokens: the client's limit.
        include_usage: whether the client of a stream of chat or completions asked for the usage at its end.
        prompt_tokens: how many token ids the prompt has; None when it is text.
    """

    model: str | None
    stream: bool = False
    prompt: bytes | Sequence[int] | None = attrs.field(default=None, repr=False)
    media: tuple[bytes, ...] = ()
    cache_salt: str = attrs.field(default="", repr=False)
    max_output_tokens: int | None = None
    include_usage: bool = False
    prompt_tokens: int | None = None
    is_media_placed: bool = False


def read_chat(body: Mapping[str, Any], dumps: Dumps) -> Asked:
    """Read ``chat/completions``, and its render variant."""
    writer = PromptWriter(dumps)
    for key in _TEMPLATE:
        if key in body:
            writer.head(key, body[key])
    writer.messages(body.get("messages"), "messages", body.get("tools"))
    return _asked(body, writer, ("max_completion_tokens", "max_tokens"))


def read_completion(body: Mapping[str, Any], _dumps: Dumps) -> Asked:
    """Read ``completions``, and its render variant: a text, texts, token ids, or lists of token ids."""
    return _asked(body, _given(body.get("prompt"), "prompt"), ("max_tokens",))


def read_embedding(body: Mapping[str, Any], dumps: Dumps) -> Asked:
    """Read ``embeddings``: as completions, or the messages that vLLM takes for pictures."""
    if "input" not in body and "messages" in body:
        return read_chat(body, dumps)
    return _asked(body, _given(body.get("input"), "input"), ())


def read_responses(body: Mapping[str, Any], dumps: Dumps) -> Asked:
    """Read ``responses``; what an earlier response holds is known by its id only."""
    writer = PromptWriter(dumps)
    writer.head("previous_response_id", body.get("previous_response_id"))
    writer.head("conversation", body.get("conversation"))
    writer.head("prompt", body.get("prompt"))
    if (instructions := body.get("instructions")) is not None:
        writer.say("system", instructions, "instructions")
    writer.head("tools", body.get("tools"))
    given = body.get("input")
    if isinstance(given, str) and given:
        writer.say("user", given, "input")
    else:
        _items(writer, given, "input")
    return _asked(body, writer, ("max_output_tokens",))


def read_conversation(body: Mapping[str, Any], dumps: Dumps) -> Asked:
    """Read ``conversations``: items that are to be kept for later."""
    writer = PromptWriter(dumps)
    _items(writer, body.get("items"), "items")
    return _asked(body, writer, ())


def read_image(body: Mapping[str, Any], _dumps: Dumps) -> Asked:
    """Read ``images/generations``."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise BadBody("prompt", "a non-empty string")
    return _asked(body, encoded(prompt), ())


def read_messages(body: Mapping[str, Any], dumps: Dumps) -> Asked:
    """Read Anthropic's ``messages``, and ``messages/count_tokens``."""
    writer = PromptWriter(dumps)
    if (system := body.get("system")) is not None:
        writer.say("system", system, "system")
    writer.head("tools", body.get("tools"))
    writer.messages(body.get("messages"), "messages")
    return _asked(body, writer, ("max_tokens",))


def read_tokens(body: Mapping[str, Any], _dumps: Dumps) -> Asked:
    """Read vLLM's ``inference/v1/generate``, in which the prompt is token ids already."""
    prompt = _ids(body.get("token_ids"), "token_ids")
    features = body.get("features")
    hashes = features.get("mm_hashes") if isinstance(features, dict) else None
    media = tuple(map(encoded, _strings(hashes)))
    return _asked(body, prompt, ("max_tokens",), limits=body.get("sampling_params"), media=media)


def read_sglang(body: Mapping[str, Any], _dumps: Dumps) -> Asked:
    """Read SGLang's ``generate``: ``text`` or ``input_ids``, one or a batch; ``extra_key`` is its cache salt."""
    if body.get("text") is not None:
        prompt = _given(body["text"], "text")
    elif body.get("input_ids") is not None:
        prompt = _given(body["input_ids"], "input_ids")
    else:
        raise BadBody("text", "a non-empty string, or 'input_ids' an array of token ids")
    media = tuple(map(media_digest, _strings(body.get("image_data"))))
    return _asked(body, prompt, ("max_new_tokens",), limits=body.get("sampling_params"), salt="extra_key", media=media)


def _asked(
    body: Mapping[str, Any],
    prompt: PromptWriter | bytes | Sequence[int],
    limit_keys: tuple[str, ...],
    *,
    limits: Any = None,
    salt: str = "cache_salt",
    media: tuple[bytes, ...] = (),
) -> Asked:
    """Put together what all APIs have; `limits` is where the limit on output stands, the body if left out."""
    model, cache_salt, options = body.get("model"), body.get(salt), body.get("stream_options")
    if model is not None and not isinstance(model, str):
        raise BadBody("model", "a string")
    tokens = None
    is_placed = isinstance(prompt, PromptWriter)
    if isinstance(prompt, PromptWriter):
        media, prompt = tuple(prompt.media), prompt.content()
    elif isinstance(prompt, array):
        tokens = len(prompt)
    limit = None
    holder = limits if isinstance(limits, dict) else body
    for key in limit_keys:
        if key in holder and (limit := _whole(holder[key])) is not None:
            break
    return Asked(
        model or None,
        body.get("stream") is True,
        prompt,
        media,
        cache_salt if isinstance(cache_salt, str) else "",
        limit,
        isinstance(options, dict) and options.get("include_usage") is True,
        tokens,
        is_placed,
    )


def _whole(value: Any) -> int | None:
    """Return a non-negative whole number, None for anything else: such a limit is as good as none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and value >= 0 else None  # True is an int too


def _given(value: Any, field: str) -> bytes | array[int]:
    """Return a prompt that is a text, texts, token ids or lists of token ids; texts are parted like messages."""
    if isinstance(value, str) and value:
        return encoded(value)
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int):
        return _ids(value, field)
    if isinstance(first, list):
        ids = array("I")
        for position, each in enumerate(value):
            if position:
                ids.append(_BETWEEN)
            ids += _ids(each, f"{field}[{position}]")
        return ids
    if isinstance(first, str) and all(isinstance(each, str) for each in value):
        return b"\xff".join([encoded(each) for each in value])
    raise BadBody(field, "a non-empty string, or an array of strings, or an array of token ids")


def _ids(value: Any, field: str) -> array[int]:
    if isinstance(value, list) and value and set(map(type, value)) == {int}:
        try:
            return array("I", value)
        except OverflowError:
            pass
    raise BadBody(field, "a non-empty array of token ids (whole numbers from 0 to 4294967295)")


def _items(writer: PromptWriter, items: Any, field: str) -> None:
    if not isinstance(items, list) or not items:
        raise BadBody(field, "a non-empty string or array" if field == "input" else "a non-empty array")
    for position, item in enumerate(items):
        if isinstance(item, dict) and "role" not in item:
            writer.item(item, f"{field}[{position}]")
        else:
            writer.message(item, field, position)


def _strings(value: Any, levels: int = 3) -> list[str]:
    """Return the strings in a value: one, in a list, by modality; deeper ones are none of any engine's."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list) or not levels:
        return []
    return [found for each in value for found in _strings(each, levels - 1)]
