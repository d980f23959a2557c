"""What clients are told: one status, reason and retry hint for each outcome, in the shape of the API they speak.

The tests named after a letter and a number are behaviours that other projects got wrong.
"""

import json
import random
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from inferencesched import Profile, Registry, Rejection, Request, Scheduler
from inferencesched.apis import (
    REASON_HEADER,
    RETRY_AFTER_MOST,
    BadBody,
    ErrorAnswer,
    anthropic_error,
    error_answer,
    openai_error,
    operation_for,
    read_request,
    rejection_answer,
    upstream_answer,
)
from inferencesched.flow.outcomes import ANSWERS, Refusal, refuse

RENDERERS = (openai_error, anthropic_error)

BUSY = Rejection("r-1", "m", "rejected-saturated", 429, True, "8 of 8 at capacity", 2.2, generation=1, now=0.0)


def refused(status: int, reason: str, retry_after: float | None) -> Rejection:
    return attrs.evolve(BUSY, http_status=status, reason=reason, retry_after=retry_after)


def told(answer: ErrorAnswer) -> Any:
    """What the client reads off the wire."""
    return json.loads(answer.content)


def seconds_told(answer: ErrorAnswer) -> float:
    """How long both clients wait: milliseconds come first."""
    if "retry-after-ms" in answer.headers:
        return float(answer.headers["retry-after-ms"]) / 1000
    return float(answer.headers.get("retry-after", 0))


def does_openai_retry(answer: ErrorAnswer) -> bool:
    """openai-python 3.54.0, ``BaseClient._should_retry``."""
    if seconds_told(answer) > 120:
        return False
    hint = answer.headers.get("x-should-retry")
    return hint == "true" if hint in {"true", "false"} else answer.status in {408, 409, 429} or answer.status >= 500


@pytest.mark.parametrize(
    ("status", "reason", "retry_after", "types", "seconds"),
    [
        (400, "", None, ("invalid_request_error", "invalid_request_error"), None),
        (404, "model-not-found", None, ("invalid_request_error", "not_found_error"), None),
        (413, "", None, ("invalid_request_error", "request_too_large"), None),
        (429, "rejected-saturated", 2.2, ("rate_limit_error", "rate_limit_error"), "3"),
        (429, "rejected-ttl-expired", 7.0, ("rate_limit_error", "rate_limit_error"), "7"),
        (429, "rejected-quota", 30.5, ("rate_limit_error", "rate_limit_error"), "31"),
        (429, "rejected-quota", None, ("insufficient_quota", "rate_limit_error"), "120"),
        (429, "evicted", 1.0, ("rate_limit_error", "rate_limit_error"), "1"),
        (499, "rejected-context-cancelled", None, ("invalid_request_error", "invalid_request_error"), None),
        (500, "", None, ("server_error", "api_error"), None),
        (503, "rejected-no-endpoints", 1.0, ("service_unavailable_error", "overloaded_error"), "1"),
        (503, "rejected-no-endpoints", None, ("service_unavailable_error", "overloaded_error"), "120"),
        (503, "rejected-shutting-down", 1.0, ("service_unavailable_error", "overloaded_error"), "1"),
    ],
)
def test_f1_every_outcome_has_one_status_reason_and_retry_hint(
    status: int, reason: str, retry_after: float | None, types: tuple[str, str], seconds: str | None
) -> None:
    """Both renderers agree on status and headers; only the body's shape and its words are the API's own."""
    openai, anthropic = (render(refused(status, reason, retry_after)) for render in RENDERERS)

    assert openai.status == anthropic.status == status
    assert openai.headers == anthropic.headers
    assert openai.headers.get(REASON_HEADER, "") == reason
    assert openai.headers.get("retry-after") == seconds
    assert openai.headers.get("x-should-retry") == ("false" if retry_after is None else None)
    assert (openai.body["error"]["type"], anthropic.body["error"]["type"]) == types


@pytest.mark.parametrize("why", Refusal)
def test_f1_flow_control_never_says_anything_that_clients_do_not_understand(why: Refusal) -> None:
    """Each of its refusals has a sentence of its own reason, and is tried again exactly if that can help."""
    rejection = refuse(Request("r", "m", "secret"), why, retry_after=3.5, generation=1, now=0.0, detail="8 of 8")
    answer = openai_error(rejection)

    assert answer.status == ANSWERS[why].http_status
    assert answer.headers.get(REASON_HEADER, "") == ANSWERS[why].reason
    assert answer.headers.get("x-should-retry", "true") == ("true" if ANSWERS[why].transient else "false")
    assert does_openai_retry(answer) == ANSWERS[why].transient
    assert "8 of 8" not in answer.content.decode()
    assert (why is Refusal.INTERNAL) == ("failed" in answer.body["error"]["message"])


def test_f7_bodies_have_the_shape_of_their_api() -> None:
    """The fields that the official clients read, and no others."""
    sentence = "All model servers are at capacity. Try again in 3 s."

    assert told(openai_error(BUSY)) == {
        "error": {"message": sentence, "type": "rate_limit_error", "param": None, "code": "rejected-saturated"}
    }
    assert told(anthropic_error(BUSY)) == {"type": "error", "error": {"type": "rate_limit_error", "message": sentence}}
    assert openai_error(BUSY).headers["content-type"] == "application/json"


@given(seconds=st.floats(0, allow_nan=False), status=st.sampled_from((429, 503)))
def test_f4_retry_after_is_whole_seconds_from_1_to_120(seconds: float, status: int) -> None:
    """Never less than was said, unless it was more than the official clients would wait."""
    for render in RENDERERS:
        answer = render(refused(status, "rejected-saturated", seconds))

        said = int(answer.headers["retry-after"])
        assert 1 <= said <= RETRY_AFTER_MOST
        assert said >= min(seconds, RETRY_AFTER_MOST)
        assert said - 1 < seconds_told(answer) <= said
        assert seconds_told(answer) >= min(seconds, RETRY_AFTER_MOST)
        assert does_openai_retry(answer)


def test_f4_jitter_survives_the_rounding_to_whole_seconds() -> None:
    """Fifty who were refused together come back at fifty times, though their Retry-After is the same."""
    answers = [openai_error(refused(429, "rejected-saturated", 1.01 + i / 60)) for i in range(50)]

    assert {answer.headers["retry-after"] for answer in answers} == {"2"}
    assert len({seconds_told(answer) for answer in answers}) == 50


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 503])
def test_f5_where_retrying_cannot_help_the_official_clients_do_not(status: int) -> None:
    """``x-should-retry: false`` overrules their list of statuses; who knows only Retry-After is held off longest."""
    for render in RENDERERS:
        answer = render(refused(status, "", None))

        assert not does_openai_retry(answer)
        assert answer.headers.get("retry-after") == ("120" if status in {429, 503} else None)


@pytest.mark.parametrize("status", [418, 502])
def test_a_status_of_somebody_else_is_passed_on(status: int) -> None:
    """A host may make rejections of its own; the body says whose fault it is, at least."""
    types = [render(refused(status, "", None)).body["error"]["type"] for render in RENDERERS]

    assert types == (["invalid_request_error"] * 2 if status == 418 else ["server_error", "api_error"])


def test_k3_neither_the_prompt_nor_the_fleet_is_in_an_answer() -> None:
    """A real rejection with endpoints, filters and a prompt: the client learns of none of them."""
    create = Registry().create
    nobody = create("label-selector-filter", {"matchLabels": {"zone": "zone-of-nobody"}})
    scheduler = Scheduler(Profile(filters=[nobody], picker=create("max-score-picker")), rng=random.Random(0))
    scheduler.add_endpoint("endpoint-seven", "10.9.8.7:8000", now=0.0)
    rejection = scheduler.schedule(Request("r-1", "model-x", "my secret prompt"), now=0.0)
    assert isinstance(rejection, Rejection)

    for render in RENDERERS:
        answer = render(rejection)
        everything = answer.content.decode() + repr(answer)
        for secret in ("secret", "endpoint-seven", "10.9.8.7", "label", "zone-of-nobody", "model-x"):
            assert secret not in everything


MESSAGES = operation_for("/v1/messages")


@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "authentication_error", "authentication_error"),
        (403, "permission_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (408, "invalid_request_error", "invalid_request_error"),
        (413, "invalid_request_error", "request_too_large"),
        (500, "server_error", "api_error"),
        (502, "server_error", "api_error"),
        (504, "server_error", "timeout_error"),
    ],
)
def test_f3_what_fails_outside_of_the_scheduler_is_told_in_the_shape_of_the_api(
    status: int, openai: str, anthropic: str
) -> None:
    for operation in (None, operation_for("/v1/chat/completions"), operation_for("/v1/responses")):
        answer = error_answer(operation, status, code="some-code")
        assert (answer.status, answer.body["error"]["type"], answer.body["error"]["code"]) == (
            status,
            openai,
            "some-code",
        )
        assert answer.headers == {"content-type": "application/json", REASON_HEADER: "some-code"}
    answer = error_answer(MESSAGES, status)
    assert (answer.body["type"], answer.body["error"]["type"]) == ("error", anthropic)
    assert answer.body["error"]["message"].endswith(".")


def test_f3_a_body_that_cannot_be_read_names_the_parameter() -> None:
    operation = operation_for("/v1/chat/completions")
    assert operation is not None
    with pytest.raises(BadBody) as caught:
        read_request(operation, {"messages": "secret"})

    answer = error_answer(operation, 400, caught.value)

    assert told(answer)["error"] == {
        "message": "'messages' must be a non-empty array of messages.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": None,
    }


def test_f4_every_429_and_503_says_when_to_try_again() -> None:
    assert error_answer(None, 503).headers["retry-after"] == "1"
    assert error_answer(MESSAGES, 429, retry_after=500.0).headers["retry-after"] == "120"
    assert "retry-after" not in error_answer(None, 502).headers


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The model `x` does not exist.", "type": "NotFoundError"}},
        {"type": "error", "error": {"type": "not_found_error", "message": "x"}},
        {"error": "overloaded"},
    ],
)
def test_f7_an_error_of_the_engine_in_a_clients_shape_is_not_wrapped_again(body: Any) -> None:
    assert upstream_answer(operation_for("/v1/chat/completions"), 404, body) is None
    assert upstream_answer(None, 404, {"anything": 1}) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"object": "error", "message": "too long", "code": 400}, "too long"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body"]}]}, "The request is malformed."),
        (None, "The request is malformed."),
        (["x"], "The request is malformed."),
    ],
)
def test_f7_an_error_in_no_clients_shape_gets_one(body: Any, message: str) -> None:
    answer = upstream_answer(MESSAGES, 400, body)

    assert answer is not None
    assert told(answer) == {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def test_the_shape_of_a_refusal_is_told_by_the_operation() -> None:
    assert rejection_answer(MESSAGES, BUSY) == anthropic_error(BUSY)
    assert rejection_answer(operation_for("/v1/responses"), BUSY) == openai_error(BUSY)
    assert rejection_answer(None, BUSY) == openai_error(BUSY)
