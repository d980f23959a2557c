"""Which models there are, loading and unloading adapters, and the tokenizer by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiohttp import web

from inferencesched_enginesim.fields import string
from inferencesched_enginesim.problems import BadRequest, Problem
from inferencesched_enginesim.prompts import chat_text, detokenize, tokenize
from inferencesched_enginesim.service import Service
from inferencesched_enginesim.web import Call, json_answer

__all__ = ["detokenize_ids", "list_models", "load_adapter", "tokenize_text", "unload_adapter"]


async def list_models(service: Service, _: Call) -> web.StreamResponse:
    """Answer ``/v1/models``: the base model, and each adapter with its parent."""
    spec = service.spec
    cards = [_card(service, spec.model, spec.model, None)]
    cards += [_card(service, name, path, spec.model) for name, path in service.adapters.items()]
    return json_answer({"object": "list", "data": cards})


def _card(service: Service, name: str, root: str, parent: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": service.spec.max_model_len if parent is None else None,
    }


async def load_adapter(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/load_lora_adapter``. Time passes when a request first uses the adapter."""
    name, path = string(call.body, "lora_name", ""), string(call.body, "lora_path", "")
    if not name or not path:
        raise BadRequest("Both 'lora_name' and 'lora_path' must be provided.")
    if not service.spec.engine.max_adapters:
        raise BadRequest("This engine has no room for adapters.")
    if name in service.adapters or name == service.spec.model:
        raise Problem(
            f"The lora adapter '{name}' has already been loaded.",
            status=400,
            kind="InvalidUserInput",
            param="lora_name",
        )
    service.adapters[name] = path
    return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")


async def unload_adapter(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/v1/unload_lora_adapter``. Requests that use the adapter go on."""
    name = string(call.body, "lora_name")
    if service.adapters.pop(name, None) is None:
        message = f"The lora adapter '{name}' cannot be found."
        raise Problem(message, status=404, kind="NotFoundError", param="lora_name")
    return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")


async def tokenize_text(service: Service, call: Call) -> web.StreamResponse:
    """Answer ``/tokenize``, for a prompt or for messages."""
    body = call.body
    text = chat_text(body["messages"], tools=body.get("tools")) if "messages" in body else string(body, "prompt")
    tokens = tokenize(text).tolist()
    return json_answer({"count": len(tokens), "max_model_len": service.spec.max_model_len, "tokens": tokens})


async def detokenize_ids(_: Service, call: Call) -> web.StreamResponse:
    """Answer ``/detokenize``."""
    tokens = call.body.get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int and 0 <= token < 1 << 32 for token in tokens):
        raise BadRequest("'tokens' must be a list of token ids", param="tokens")
    return json_answer({"prompt": detokenize(np.asarray(tokens, dtype=np.uint32))})
