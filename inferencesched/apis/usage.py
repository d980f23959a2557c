"""How many tokens an answer took, wherever its API says so: in a body, or in one or several events of a stream.

What is no count is not there: an engine that reports nonsense is no reason to fail an answer.
"""

from __future__ import annotations

from typing import Any

import attrs

from inferencesched.apis.operations import Operation

__all__ = ["Usage", "usage_in", "usage_of"]

_TOO_MANY = 10**18
_PROMPT, _OUTPUT = ("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")
_CACHED_DETAILS, _CACHED = ("cached_tokens",), ("cache_read_input_tokens", "cached_tokens")


@attrs.frozen
class Usage:
    """Tokens, as the engine counted them; None where it did not say.

    Attributes:
        prompt_tokens: of the prompt (Anthropic's API: those not read from a cache, if the engine follows it there).
        output_tokens: generated.
        cached_tokens: of the prompt, found in a prefix cache.
    """

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def total(self) -> int:
        """Prompt and output together; what is unknown counts nothing."""
        return (self.prompt_tokens or 0) + (self.output_tokens or 0)

    def merged(self, later: Usage) -> Usage:
        """Return this usage with every number that `later` knows: numbers of a stream replace, and never add up."""
        return Usage(
            self.prompt_tokens if later.prompt_tokens is None else later.prompt_tokens,
            self.output_tokens if later.output_tokens is None else later.output_tokens,
            self.cached_tokens if later.cached_tokens is None else later.cached_tokens,
        )


def usage_of(operation: Operation, body: Any) -> Usage | None:
    """Return the usage in the decoded body of a whole answer; None when there is none.

    >>> from inferencesched.apis import operation_for
    >>> usage_of(operation_for("/v1/messages"), {"usage": {"input_tokens": 9, "output_tokens": "3"}})
    Usage(prompt_tokens=9, output_tokens=3, cached_tokens=None)
    """
    if not operation.has_usage:
        return None
    if operation.api == "sglang" and isinstance(body, list):  # a batch has an answer for each of its prompts
        found = [usage for each in body if (usage := usage_in(operation, each)) is not None]
        return _sum(found) if found else None
    return usage_in(operation, body)


def usage_in(operation: Operation, event: Any) -> Usage | None:
    """Return the usage in one decoded event or body: at its top, in its ``response``, or in its ``message``."""
    if not isinstance(event, dict):
        return None
    if operation.api == "sglang":
        return _read(event.get("meta_info"))
    if (usage := _read(event.get("usage"))) is not None:
        return usage
    for holder in (event.get("response"), event.get("message")):
        if isinstance(holder, dict) and (usage := _read(holder.get("usage"))) is not None:
            return usage
    return None


def _read(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt = _first(usage, _PROMPT)
    output = _first(usage, _OUTPUT)
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _first(details, _CACHED_DETAILS) if isinstance(details, dict) else None
    if cached is None:
        cached = _first(usage, _CACHED)
    return None if prompt is None and output is None and cached is None else Usage(prompt, output, cached)


def _first(counts: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """Return the first that is a count of tokens: a non-negative whole number, or the text of one."""
    for name in names:
        value = counts.get(name)
        if value is None:
            continue
        if type(value) is int and 0 <= value < _TOO_MANY:  # nearly always
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
            return int(value)
        if isinstance(value, float) and value.is_integer() and 0 <= value < _TOO_MANY:
            return int(value)
    return None


def _sum(found: list[Usage]) -> Usage:
    def total(counts: list[int | None]) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    return Usage(
        total([usage.prompt_tokens for usage in found]),
        total([usage.output_tokens for usage in found]),
        total([usage.cached_tokens for usage in found]),
    )
