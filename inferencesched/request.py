"""Request: what must be placed. A value; nothing here knows where it will go.

The prompt may come as token ids, as text or as bytes, whichever the host already has; the body is never parsed here.
Prompt, headers and attributes are kept out of ``repr`` so that they reach no log by accident.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

__all__ = ["BYTES_PER_TOKEN", "DEFAULT_FLOW", "Prompt", "Request"]

Prompt = str | bytes | Sequence[int] | np.ndarray
"""Text, UTF-8 bytes, or token ids (any sequence or 1-d integer array)."""

DEFAULT_FLOW = "default-flow"
"""The flow of a request that names none (upstream's fairness id of the same name)."""

BYTES_PER_TOKEN = 4
"""How text is counted when no tokenizer ran: the Endpoint Picker's estimate backend packs four bytes a token."""

_NUMBERS = ("prompt_tokens", "max_output_tokens", "size_bytes", "deadline", "ttft_slo", "tpot_slo")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _lower_names(headers: Mapping[str, str]) -> Mapping[str, str]:
    """HTTP header names are case-insensitive; they are looked up in lower case from here on."""
    if not headers:
        return _EMPTY
    names = "".join(headers)
    if names == names.lower():  # as a host mostly has them: copied, and not one by one
        return MappingProxyType(dict(headers))
    return MappingProxyType({name.lower(): value for name, value in headers.items()})


@attrs.frozen(eq=False)
class Request:
    """One inference request, as much of it as scheduling needs.

    Only `id` is required. Two requests may carry the same id (a client that retries, two tenants that count from
    one): every placement has a lease of its own, so nothing is shared between them.

    Attributes:
        id: the host's name for the request; appears in receipts.
        model: the model to be served, after any rewrite.
        prompt: token ids, text or bytes; None when there is nothing to match (the request is then balanced by load).
        adapter: LoRA adapter, when it is not simply the model's name.
        priority: larger is more urgent; below 0 may be shed; default 0 (upstream InferenceObjective).
        flow: fairness id, from an authenticated attribute, never by default from a raw client header.
        session: session id for affinity, if the host knows one.
        headers: names are lower-cased here.
        cache_salt: separates prefix caches that must not be shared (OpenAI-compatible ``cache_salt``).
        media: content digests of images, audio or video in prompt order; they are part of the prefix key.
        media_placed: whether each digest stands in `prompt` too, at its place; they are then no part of the key again.
        prompt_tokens: prompt length in tokens when the host counted them; estimated from the prompt otherwise.
        max_output_tokens: the client's limit on generated tokens.
        size_bytes: size of the body as received.
        deadline: absolute, on the host's monotonic clock (the `now` of every call): no use starting after it.
        ttft_slo: seconds from arrival to first token that the client hopes for.
        tpot_slo: seconds per output token that the client hopes for.
        attributes: anything a plugin of yours wants to read.
    """

    id: str
    model: str = ""
    prompt: Prompt | None = attrs.field(default=None, repr=False)
    adapter: str | None = attrs.field(default=None, kw_only=True)
    priority: int = attrs.field(default=0, kw_only=True)
    flow: str = attrs.field(default=DEFAULT_FLOW, kw_only=True)
    session: str | None = attrs.field(default=None, kw_only=True, repr=False)
    headers: Mapping[str, str] = attrs.field(default=_EMPTY, kw_only=True, repr=False, converter=_lower_names)
    cache_salt: str = attrs.field(default="", kw_only=True, repr=False)
    media: tuple[bytes, ...] = attrs.field(default=(), kw_only=True, repr=False)
    media_placed: bool = attrs.field(default=False, kw_only=True)
    prompt_tokens: int | None = attrs.field(default=None, kw_only=True)
    max_output_tokens: int | None = attrs.field(default=None, kw_only=True)
    size_bytes: int | None = attrs.field(default=None, kw_only=True)
    deadline: float | None = attrs.field(default=None, kw_only=True)
    ttft_slo: float | None = attrs.field(default=None, kw_only=True)
    tpot_slo: float | None = attrs.field(default=None, kw_only=True)
    attributes: Mapping[str, Any] = attrs.field(default=_EMPTY, kw_only=True, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse NaN, infinities and negatives: a deadline that compares false with everything would never expire."""
        for value in (
            self.prompt_tokens,
            self.max_output_tokens,
            self.size_bytes,
            self.deadline,
            self.ttft_slo,
            self.tpot_slo,
        ):
            if value is not None and not 0 <= value < math.inf:
                name = next(name for name in _NUMBERS if getattr(self, name) is value)
                raise ValueError(f"{name} must be a finite number ≥ 0, got {value!r}")

    @property
    def media_beside(self) -> tuple[bytes, ...]:
        """The media that the prompt says nothing of."""
        return () if self.media_placed else self.media

    @property
    def lora(self) -> str:
        """The name to look for among an endpoint's adapters: `adapter`, or else the model's own name.

        The field addresses a LoRA adapter as a model (vLLM serves each under its own model name), so a host that
        does not tell them apart need not.
        """
        return self.adapter if self.adapter is not None else self.model
