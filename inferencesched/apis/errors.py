"""What a client is told when its request fails here: status, headers, and a body in its own API's shape.

`rejection_answer` makes it from a `Rejection`, and from three of its fields only: status, reason, and when to try
again. The receipt in it (filters, endpoints, numbers) is for the operator; a client gets one plain sentence per reason,
so that neither a prompt nor the inside of the fleet can get out this way. `error_answer` is for what happens before or
behind the scheduler: a body that cannot be read, an engine that broke off. What an engine answered itself is in its
API's shape already, and `upstream_answer` leaves it alone.

The headers speak to the official clients, which retry 429 and 5xx on their own, twice, unless told otherwise:

* ``Retry-After`` is in whole seconds, rounded up, between 1 and 120. Beyond 120 openai-python (3.54.0) does not retry
  at all, and anthropic-sdk-python (2.12.0) sleeps as long as it is told.
* ``retry-after-ms`` says the same to the millisecond. Both clients prefer it, and neither adds jitter of its own to a
  wait that it was told: without it, all who were refused within a second would come back in the same one.
* ``x-should-retry: false`` stops both. It is sent where retrying cannot help, together with the longest ``Retry-After``
  for those who know only that one.
* ``x-llm-d-request-dropped-reason`` is the reason, in the Endpoint Picker's words. In OpenAI's shape it is the error's
  ``code`` too; Anthropic's has no field for it.

Which exception comes of it: OpenAI's client raises ``RateLimitError`` for 429 and ``InternalServerError`` for every
5xx; Anthropic's the same, but ``ServiceUnavailableError`` for 503.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from inferencesched.apis.operations import Operation
from inferencesched.apis.prompts import BadBody
from inferencesched.decision import Rejection

__all__ = [
    "REASON_HEADER",
    "RETRY_AFTER_MOST",
    "ErrorAnswer",
    "anthropic_error",
    "error_answer",
    "error_object",
    "openai_error",
    "rejection_answer",
    "upstream_answer",
]

REASON_HEADER = "x-llm-d-request-dropped-reason"
"""The response header that names why a request was dropped (Endpoint Picker)."""

RETRY_AFTER_MOST = 120
"""Seconds: the longest wait that openai-python still obeys."""

_SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "rejected-saturated": "All model servers are at capacity.",
        "rejected-ttl-expired": "No model server became free in time.",
        "rejected-no-endpoints": "No model server is available for this request.",
        "rejected-shutting-down": "This gateway is shutting down.",
        "rejected-context-cancelled": "The client closed the request.",
        "rejected-quota": "The quota of this account is used up.",
        "evicted": "The request had to make room for more urgent work.",
        "evicted-priority": "The request had to make room for more urgent work.",
        "evicted-queue-pressure": "The request had to make room for more urgent work.",
    }
)
_BY_STATUS: Mapping[int, str] = MappingProxyType(
    {
        400: "The request is malformed.",
        404: "There is no such model.",
        408: "The request did not arrive in time.",
        413: "The request is too large.",
        429: "All model servers are at capacity.",
        499: "The client closed the request.",
        500: "The gateway failed.",
        502: "The model server failed.",
        503: "No model server is available for this request.",
        504: "The model server did not answer in time.",
    }
)

# developers.openai.com, error codes: 429 rate_limit_error, but insufficient_quota where waiting does not help;
# 503 service_unavailable_error.
_OPENAI_TYPES = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 503: "service_unavailable_error"}
)

# docs.claude.com/en/api/errors; invalid_request_error serves further 4xx, and overloaded_error their own status 529.
_ANTHROPIC_TYPES = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


@attrs.frozen
class ErrorAnswer:
    """A whole HTTP answer.

    Attributes:
        status: HTTP status code.
        headers: names in lower case; ``content-type`` among them, ``content-length`` not.
        body: plain JSON values.
    """

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def content(self) -> bytes:
        """The body as UTF-8 JSON."""
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()


def openai_error(rejection: Rejection) -> ErrorAnswer:
    """Return the answer that clients of the OpenAI API (chat, completions, responses, embeddings) understand.

    >>> from inferencesched.decision import Rejection
    >>> busy = Rejection("r-1", "m", "rejected-saturated", 429, True, "2 of 2 full", 2.4, generation=1, now=0.0)
    >>> answer = openai_error(busy)
    >>> answer.status, answer.headers["retry-after"], answer.body["error"]["code"]
    (429, '3', 'rejected-saturated')
    """
    status, code = rejection.http_status, rejection.reason or None
    error = _openai(status, _sentence(rejection), code, None, is_final=rejection.retry_after is None)
    return ErrorAnswer(status, _headers(rejection), {"error": error})


def anthropic_error(rejection: Rejection) -> ErrorAnswer:
    """Return the answer that clients of the Anthropic API (messages) understand."""
    status = rejection.http_status
    return ErrorAnswer(status, _headers(rejection), _anthropic(status, _sentence(rejection)))


def rejection_answer(operation: Operation | None, rejection: Rejection) -> ErrorAnswer:
    """Return the answer in the shape of the operation's API; OpenAI's, where it is none that we know."""
    speaks_anthropic = operation is not None and operation.api == "anthropic"
    return anthropic_error(rejection) if speaks_anthropic else openai_error(rejection)


def error_answer(
    operation: Operation | None,
    status: int,
    message: str | BadBody = "",
    *,
    code: str | None = None,
    retry_after: float | None = None,
) -> ErrorAnswer:
    """Return the answer to a request that failed outside of the scheduler, in the shape of the operation's API.

    Args:
        operation: what was asked for; None gives OpenAI's shape.
        status: 400 to 599.
        message: a sentence for the client, or what was wrong with its body; what the status says if left out.
        code: for machines (``model_not_found``); OpenAI's shape only, and the reason header in every shape.
        retry_after: seconds; left out, it is for the client to decide, but 1 for 429 and 503.

    >>> from inferencesched.apis import operation_for
    >>> error_answer(operation_for("/v1/messages"), 504).body["error"]
    {'type': 'timeout_error', 'message': 'The model server did not answer in time.'}
    """
    body = error_object(operation, status, message, code=code)
    headers = {"content-type": "application/json"}
    if code:
        headers[REASON_HEADER] = code
    if retry_after is None and status in (429, 503):
        retry_after = 1.0
    if retry_after is not None:
        headers |= _retry_headers(min(max(retry_after, 1.0), float(RETRY_AFTER_MOST)))
    return ErrorAnswer(status, MappingProxyType(headers), body)


def error_object(
    operation: Operation | None, status: int, message: str | BadBody = "", *, code: str | None = None
) -> dict[str, Any]:
    """Return the body of `error_answer` by itself: a stream has it in an event."""
    param = message.field or None if isinstance(message, BadBody) else None
    sentence = str(message) or _BY_STATUS.get(status, "The request failed.")
    if operation is not None and operation.api == "anthropic":
        return _anthropic(status, sentence)
    return {"error": _openai(status, sentence, code, param)}


def upstream_answer(operation: Operation | None, status: int, body: Any) -> ErrorAnswer | None:
    """Return an answer in place of an engine's error that no client understands; None if it is to be passed as it is.

    An error in the API's own shape is not wrapped again. FastAPI's ``detail`` and vLLM's older flat errors are put into
    the API's shape with their message; of anything else only the status is told.

    Args:
        operation: what was asked for; None passes everything.
        status: what the engine answered, 400 to 599.
        body: decoded, or None if it is no JSON.
    """
    if operation is None or (isinstance(body, dict) and isinstance(body.get("error"), dict | str)):
        return None
    told = [body.get("message"), body.get("detail")] if isinstance(body, dict) else []
    plain = "The model server knows nothing at this path." if status == 404 else ""
    return error_answer(operation, status, next((each for each in told if isinstance(each, str)), plain))


def _openai(
    status: int, sentence: str, code: str | None, param: str | None, *, is_final: bool = False
) -> dict[str, Any]:
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if status == 429 and is_final:
        kind = "insufficient_quota"
    return {"message": sentence, "type": kind, "param": param, "code": code}


def _anthropic(status: int, sentence: str) -> dict[str, Any]:
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": sentence}}


def _sentence(rejection: Rejection) -> str:
    by_status = _BY_STATUS.get(rejection.http_status, "The gateway failed to place the request.")
    sentence = _SENTENCES.get(rejection.reason, by_status)
    wait = _wait(rejection)
    return sentence if wait is None else f"{sentence} Try again in {math.ceil(wait)} s."


def _wait(rejection: Rejection) -> float | None:
    return None if rejection.retry_after is None else min(max(rejection.retry_after, 1.0), float(RETRY_AFTER_MOST))


def _headers(rejection: Rejection) -> Mapping[str, str]:
    headers = {"content-type": "application/json"}
    if rejection.reason:
        headers[REASON_HEADER] = rejection.reason
    wait = _wait(rejection)
    if wait is not None:
        headers |= _retry_headers(wait)
    else:
        headers["x-should-retry"] = "false"
        if rejection.http_status in (429, 503):
            headers["retry-after"] = str(RETRY_AFTER_MOST)
    return MappingProxyType(headers)


def _retry_headers(wait: float) -> dict[str, str]:
    return {"retry-after": str(math.ceil(wait)), "retry-after-ms": str(math.ceil(wait * 1000.0))}
