"""Producers: facts about one request on each endpoint, made for those that score it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray, Numbers, constant
from inferencesched.extremes import smallest
from inferencesched.request import BYTES_PER_TOKEN, Request

__all__ = ["InflightLoadProducer", "TokenProducer", "estimate_tokens"]


def estimate_tokens(request: Request) -> int | None:
    """Return the prompt's length in tokens: counted by the host, or token ids, or four bytes of text a token.

    Returns None when the request has neither a count nor a prompt. O(1) for ids and bytes, O(n) for text.
    """
    if request.prompt_tokens is not None:
        return request.prompt_tokens
    prompt = request.prompt
    if prompt is None:
        return None
    if isinstance(prompt, str):
        # Characters beyond ASCII are two to four bytes of UTF-8; `isascii` is O(1), so most prompts are not encoded.
        size = len(prompt) if prompt.isascii() else len(prompt.encode("utf-8", "surrogatepass"))
        return -(-size // BYTES_PER_TOKEN)
    return -(-len(prompt) // BYTES_PER_TOKEN) if isinstance(prompt, bytes | bytearray) else len(prompt)


@attrs.frozen
class TokenProducer:
    """Say how many tokens the prompt has, estimated where no tokenizer ran.

    Upstream's backends that call a tokenizer over the network have no place in a library without sockets: a host that
    wants exact counts tokenizes, and sets `Request.prompt` to the ids, or `Request.prompt_tokens`.

    Args:
        estimate: accepted for compatibility: what media count for is the host's to say, who reads the body.
        vllm: accepted for compatibility; nothing is called.
        model_name: likewise.
        uds_tokenizer_config: likewise (deprecated there).

    Formula: the host's count; else the number of token ids; else ⌈bytes / 4⌉.
    Unknown: a request without prompt and count has an unknown number of tokens.
    Source: Endpoint Picker ``token-producer``, estimate backend (a pseudo-token is four bytes).
    """

    type: ClassVar[str] = "token-producer"
    produces: ClassVar[tuple[str, ...]] = ("prompt_tokens",)

    estimate: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    vllm: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    model_name: str | None = None
    uds_tokenizer_config: Mapping[str, Any] | None = attrs.field(default=None, hash=False)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return the same count for every endpoint."""
        tokens = estimate_tokens(request)
        return {} if tokens is None else {"prompt_tokens": constant(tokens, len(endpoints))}

    def produce_few(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, Numbers]:
        """Return the same as a list."""
        tokens = estimate_tokens(request)
        return {} if tokens is None else {"prompt_tokens": [float(tokens)] * len(endpoints)}


@attrs.frozen
class InflightLoadProducer:
    """Say how much work the request would add to each endpoint: what of its prompt is not cached there.

    The ledger reserves that much at the pick, and gives the prompt's share back at the first token of the answer.

    Args:
        add_estimated_output_tokens: count output as well; it stays reserved to the end of the answer.
        output_ratio: estimated output tokens per prompt token.
        max_estimated_output_tokens: upper bound of that estimate.
        prefix_match_info_producer_name: accepted for compatibility; the columns come from the profile's producer.
        sync_cross_replica_state: accepted for compatibility; whether counts are shared is the host's choice.

    Formula: (total − matched) + max(0, prompt − total), where total and matched are the prefix columns, or the prompt's
        tokens where those are unknown; plus round(prompt · outputRatio), at most the request's max_output_tokens.
    Unknown: a prompt of unknown length is unknown work, and reserves 0 tokens.
    Source: Endpoint Picker ``inflight-load-producer``. Upstream holds the prompt's tokens to the end of the stream when
        output is counted; here prefill ends with the first token in either case.
    """

    type: ClassVar[str] = "inflight-load-producer"
    consumes: ClassVar[tuple[str, ...]] = ("prompt_tokens", "prefix_matched_tokens", "prefix_total_tokens")
    optional: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens")
    produces: ClassVar[tuple[str, ...]] = ("uncached_request_tokens", "estimated_output_tokens")

    add_estimated_output_tokens: bool = False
    output_ratio: float = attrs.field(default=1.5, validator=attrs.validators.ge(0))
    max_estimated_output_tokens: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.ge(0))
    )
    prefix_match_info_producer_name: str | None = None
    sync_cross_replica_state: bool = True

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return the work added to each endpoint."""
        prompt = endpoints["prompt_tokens"]
        matched, total = endpoints["prefix_matched_tokens"], endpoints["prefix_total_tokens"]
        work = np.maximum(prompt, total) - np.minimum(matched, total)  # the formula's sum, in fewer steps
        if not smallest(work) >= 0:  # unknown compares false
            work = np.where(np.isnan(work), prompt, work)
        if not self.add_estimated_output_tokens:
            return {"uncached_request_tokens": work}
        bounds = [b for b in (request.max_output_tokens, self.max_estimated_output_tokens) if b is not None]
        output = np.minimum(np.rint(prompt * self.output_ratio), min(bounds, default=np.inf))
        return {"uncached_request_tokens": work + output, "estimated_output_tokens": output}

    def produce_few(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, Numbers]:
        """Return the same as a list, where output is not counted."""
        if self.add_estimated_output_tokens:
            return self.produce(request, endpoints)
        rows = zip(
            endpoints.numbers("prompt_tokens"),
            endpoints.numbers("prefix_matched_tokens"),
            endpoints.numbers("prefix_total_tokens"),
            strict=True,
        )
        # The prompt stands first: unknown, it makes the greater of the two unknown.
        return {
            "uncached_request_tokens": [
                prompt if isnan(matched) or isnan(total) else max(prompt, total) - min(matched, total)
                for prompt, matched, total in rows
            ]
        }
