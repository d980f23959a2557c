"""OpenAI's embeddings: vectors of length one that depend on the tokens, the model and the seed, and on nothing else."""

from __future__ import annotations

import base64
from typing import Any

import attrs
import numpy as np
import xxhash
from aiohttp import web
from numpy.typing import NDArray

from inferencesched_enginesim.fields import string, whole
from inferencesched_enginesim.problems import BadRequest
from inferencesched_enginesim.prompts import Tokens, prompt_list
from inferencesched_enginesim.service import Asked, Service
from inferencesched_enginesim.web import Call, json_answer

__all__ = ["embeddings"]


async def embeddings(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/embeddings``. The engine computes the prompts, as for an answer of one token."""
    encoding = string(call.body, "encoding_format", "float")
    if encoding not in {"float", "base64"}:
        raise BadRequest("'encoding_format' must be 'float' or 'base64'", param="encoding_format")
    size = whole(call.body, "dimensions", least=1) or service.spec.embedding_size
    asked = Asked(
        string(call.body, "model"),
        prompt_list(call.body.get("input"), param="input"),
        max_tokens=1,
        cache_salt=string(call.body, "cache_salt", ""),
    )
    with service.job(attrs.evolve(asked, ignore_eos=True), call.received) as job:
        await job.complete()
        usage = job.usage
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding)}
        for index, vector in enumerate(
            _vector(tokens, asked.model, size, service.spec.seed) for tokens in asked.prompts
        )
    ]
    return json_answer(
        {
            "object": "list",
            "data": data,
            "model": asked.model,
            "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
        }
    )


def _vector(tokens: Tokens, model: str, size: int, seed: int) -> NDArray[np.float32]:
    digest = xxhash.xxh3_64_intdigest(tokens.tobytes() + model.encode(), seed=seed)
    vector = np.random.default_rng(digest).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _encoded(vector: NDArray[np.float32], encoding: str) -> Any:
    return vector.tolist() if encoding == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
