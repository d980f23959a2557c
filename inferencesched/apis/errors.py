"""What a client is told when there is no place for its request: status, headers, and a body in its own API's shape.

Made from a `Rejection`, and from three of its fields only: status, reason, and when to try again. The receipt in it
(filters, endpoints, numbers) is for the operator; a client gets one plain sentence per reason, so that neither a prompt
nor the inside of the fleet can get out this way.

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

from inferencesched.decision import Rejection

__all__ = ["REASON_HEADER", "RETRY_AFTER_MOST", "ErrorAnswer", "anthropic_error", "openai_error"]

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
        413: "The request is too large.",
        429: "All model servers are at capacity.",
        499: "The client closed the request.",
        503: "No model server is available for this request.",
    }
)

# developers.openai.com, error codes: 429 rate_limit_error, but insufficient_quota where waiting does not help;
# 503 service_unavailable_error.
_OPENAI_TYPES = MappingProxyType({429: "rate_limit_error", 503: "service_unavailable_error"})

# docs.claude.com/en/api/errors; invalid_request_error serves further 4xx, and overloaded_error their own status 529.
_ANTHROPIC_TYPES = MappingProxyType(
    {404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error"}
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
    status = rejection.http_status
    kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if status == 429 and rejection.retry_after is None:
        kind = "insufficient_quota"
    error = {"message": _sentence(rejection), "type": kind, "param": None, "code": rejection.reason or None}
    return ErrorAnswer(status, _headers(rejection), {"error": error})


def anthropic_error(rejection: Rejection) -> ErrorAnswer:
    """Return the answer that clients of the Anthropic API (messages) understand."""
    status = rejection.http_status
    kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": _sentence(rejection)}
    return ErrorAnswer(status, _headers(rejection), {"type": "error", "error": error})


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
        headers["retry-after"] = str(math.ceil(wait))
        headers["retry-after-ms"] = str(math.ceil(wait * 1000.0))
    else:
        headers["x-should-retry"] = "false"
        if rejection.http_status in (429, 503):
            headers["retry-after"] = str(RETRY_AFTER_MOST)
    return MappingProxyType(headers)
