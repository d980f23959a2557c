"""What goes wrong on purpose, and how each API says so: vLLM's OpenAI shape, and Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["BadRequest", "ModelNotFound", "Problem", "QueueFull", "anthropic_error", "openai_error"]

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Problem(Exception):
    """An answer other than 200.

    Args:
        message: a sentence.
        status: of the answer.
        kind: vLLM's name for it.
        param: the field that is wrong, if it is one.
    """

    def __init__(self, message: str, *, status: int, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.param = param


class BadRequest(Problem):
    """The request makes no sense."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, status=400, kind="BadRequestError", param=param)


class ModelNotFound(Problem):
    """Neither the base model nor a loaded adapter has that name."""

    def __init__(self, model: object) -> None:
        super().__init__(f"The model `{model}` does not exist.", status=404, kind="NotFoundError", param="model")


class QueueFull(Problem):
    """As many requests wait as may."""

    def __init__(self) -> None:
        super().__init__("Too many requests are waiting.", status=429, kind="RateLimitError")


def openai_error(problem: Problem) -> Mapping[str, Any]:
    """Return the body that vLLM's OpenAI server sends."""
    return {
        "error": {
            "message": problem.message,
            "type": problem.kind,
            "param": problem.param,
            "code": problem.status,
        }
    }


def anthropic_error(problem: Problem) -> Mapping[str, Any]:
    """Return the body that the Messages API sends."""
    kind = _ANTHROPIC_TYPES.get(problem.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": problem.message}}
