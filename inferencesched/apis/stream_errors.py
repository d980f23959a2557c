"""A failure after the answer has begun: the event that tells it, so that the official clients raise their error.

Their stream code (openai-python 3.54.0, anthropic-sdk-python 2.12.0) decides what the event looks like:

* OpenAI's client raises ``APIError`` at the first event whose data has a non-empty ``error``, whatever the API. An
  ``error`` event of the responses API as it is documented has none, and would only be handed on as one more event;
  with both, it is what the documentation says and is raised too.
* ``[DONE]`` follows in chat and completions, as vLLM sends it: clients that do not know errors stop reading there.
* Anthropic's client raises ``APIStatusError`` at an event that is called ``error``.
"""

from __future__ import annotations

import json

from inferencesched.apis.errors import error_object
from inferencesched.apis.operations import Operation

__all__ = ["error_event"]


def error_event(
    operation: Operation | None, status: int = 502, message: str = "", *, code: str | None = None, events: int = 0
) -> bytes:
    """Return what ends a stream that cannot go on, to be sent between two events of it.

    Not for a stream in which the engine has told of its failure itself (`StreamReader.is_failed`): one error is enough.

    Args:
        operation: what was asked for; None gives OpenAI's shape.
        status: the status that the answer would have had, had it not begun; says which type of error it is.
        message: a sentence for the client; what the status says if left out.
        code: for machines.
        events: how many have been sent (`StreamReader.events`): the next number in a responses stream.

    >>> from inferencesched.apis import operation_for
    >>> error_event(operation_for("/v1/messages"), 504).splitlines()[0]
    b'event: error'
    """
    body = error_object(operation, status, message, code=code)
    api = "openai" if operation is None else operation.api
    if api == "responses":
        error = body["error"]
        told = {key: error[key] for key in ("code", "message", "param")}
        return b"event: error\ndata: " + _json({"type": "error", **told, "sequence_number": events, "error": error})
    if api == "anthropic":
        return b"event: error\ndata: " + _json(body)
    return b"data: " + _json(body) + b"data: [DONE]\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
