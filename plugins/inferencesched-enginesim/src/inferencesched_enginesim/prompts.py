"""From what a client sent to token ids: a tokenizer and a chat template that anybody can compute in their head.

A token is four bytes of UTF-8, its id their value as a little-endian number (the last token is padded with zeros). So
equal text is equal tokens, a longer conversation begins with the tokens of the shorter one, and ids can be read back.
A message is ``<|role|>``, a line end, its content, and a line end. What is not text takes part as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from inferencesched_enginesim.problems import BadRequest

__all__ = ["Tokens", "chat_text", "content_text", "detokenize", "prompt_list", "tokenize"]

Tokens = NDArray[np.uint32]
_BYTES = 4
_PARTS_WITH_TEXT = ("text", "input_text", "output_text")


def tokenize(text: str) -> Tokens:
    """Return the text's token ids.

    >>> tokenize("abcdef").tolist() == [int.from_bytes(b"abcd", "little"), int.from_bytes(b"ef", "little")]
    True
    """
    content = text.encode("utf-8", "surrogatepass")
    return np.frombuffer(content + bytes(-len(content) % _BYTES), dtype="<u4")


def detokenize(tokens: Tokens) -> str:
    """Return the text of token ids; what is no UTF-8 (ids made up by a client) is replaced.

    >>> detokenize(tokenize("für alle"))
    'für alle'
    """
    return tokens.astype("<u4").tobytes().rstrip(b"\0").decode("utf-8", "replace")


def content_text(content: Any) -> str:
    """Return the content of a message as text: a string as it is, parts one after another.

    Raises:
        BadRequest: it is neither a string nor a list of parts.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest("'content' must be a string or a list of parts", param="messages")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            is_text = part.get("type") in _PARTS_WITH_TEXT and isinstance(part.get("text"), str)
            texts.append(part["text"] if is_text else _json(part))
        else:
            raise BadRequest("a part of 'content' must be a string or an object", param="messages")
    return "".join(texts)


def chat_text(messages: Any, *, system: Any = None, tools: Any = None) -> str:
    """Return the conversation as the one text that the engine sees, up to where the answer begins.

    Raises:
        BadRequest: `messages` is no list of messages, or an empty one.
    """
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list with at least one message", param="messages")
    turns = []
    if tools:
        turns.append(f"<|tools|>\n{_json(tools)}\n")
    if system:
        turns.append(f"<|system|>\n{content_text(system)}\n")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise BadRequest("a message must be an object with a 'role'", param="messages")
        calls = message.get("tool_calls")
        content = content_text(message.get("content")) + (_json(calls) if calls else "")
        turns.append(f"<|{message['role']}|>\n{content}\n")
    return "".join((*turns, "<|assistant|>\n"))


def prompt_list(given: Any, *, param: str = "prompt") -> list[Tokens]:
    """Return the prompts of a completion or embedding request: a text, token ids, or a list of either.

    Raises:
        BadRequest: it is none of these, or there is nothing in it.
    """
    if isinstance(given, str):
        return [_not_empty(tokenize(given), param)]
    if not isinstance(given, list) or not given:
        raise BadRequest(f"'{param}' must be a string, token ids, or a list of these, and not be empty", param=param)
    if _are_ids(given):
        return [np.asarray(given, dtype=np.uint32)]
    prompts = []
    for one in given:
        if isinstance(one, str):
            prompts.append(_not_empty(tokenize(one), param))
        elif isinstance(one, list) and one and _are_ids(one):
            prompts.append(np.asarray(one, dtype=np.uint32))
        else:
            raise BadRequest(f"each of several prompts in '{param}' must be a string or token ids", param=param)
    return prompts


def _not_empty(tokens: Tokens, param: str) -> Tokens:
    if not len(tokens):
        raise BadRequest(f"'{param}' must not be empty", param=param)
    return tokens


def _are_ids(given: Sequence[Any]) -> bool:
    return all(type(token) is int and 0 <= token < 1 << 32 for token in given)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
