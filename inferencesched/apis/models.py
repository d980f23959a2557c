"""Names of models: in answers, where a client finds the name that it asked for, and in the list of what there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from inferencesched.apis.operations import Operation

__all__ = ["models_list", "restore_model"]


def restore_model(operation: Operation, body: Any, model: str) -> bool:
    """Put the client's name of the model into a decoded answer or event, in place; return whether that changed it.

    Only a name that is there is replaced: the answer's own, its ``response``'s (responses) and its ``message``'s
    (Anthropic). A text that happens to contain the name is left alone.

    >>> from inferencesched.apis import operation_for
    >>> event = {"type": "message_start", "message": {"model": "llama-3-next"}}
    >>> restore_model(operation_for("/v1/messages"), event, "chat"), event["message"]["model"]
    (True, 'chat')
    """
    if not operation.has_model or not isinstance(body, dict):
        return False
    is_changed = _replace(body, model)
    for key in ("response", "message"):
        if isinstance(inner := body.get(key), dict):
            is_changed |= _replace(inner, model)
    return is_changed


def _replace(holder: MutableMapping[str, Any], model: str) -> bool:
    if not isinstance(holder.get("model"), str) or holder["model"] == model:
        return False
    holder["model"] = model
    return True


def models_list(
    names: Iterable[str],
    *,
    parents: Mapping[str, str] = MappingProxyType({}),
    created: int = 0,
    owned_by: str = "inferencesched",
) -> dict[str, Any]:
    """Return the body of ``/v1/models``, in OpenAI's shape with vLLM's ``root`` and ``parent``.

    Args:
        names: of models and of LoRA adapters, each once.
        parents: adapter → its base model.
        created: seconds since 1970.
        owned_by: whose they are.

    >>> models_list(["llm-base", "english-bot"], parents={"english-bot": "llm-base"})["data"][1]["parent"]
    'llm-base'
    """
    entries = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": owned_by,
            "root": name,
            "parent": parents.get(name),
        }
        for name in names
    ]
    return {"object": "list", "data": entries}
