"""The event that ends a stream which cannot go on: valid in each API, and an error to its official client."""

import json
from typing import Any

import pytest

from inferencesched.apis import StreamReader, error_event, operation_for


def event_of(path: str, **options: Any) -> list[str]:
    return error_event(operation_for(path), **options).decode().split("\n\n")


def test_g7_chat_gets_an_error_and_the_end_of_the_stream() -> None:
    error, done, rest = event_of("/v1/chat/completions", status=502, code="upstream-failed")

    assert json.loads(error.removeprefix("data: ")) == {
        "error": {
            "message": "The model server failed.",
            "type": "server_error",
            "param": None,
            "code": "upstream-failed",
        }
    }
    assert (done, rest) == ("data: [DONE]", "")


def test_g7_responses_get_the_event_that_is_documented_with_the_error_that_its_client_raises() -> None:
    """openai-python raises at a non-empty ``error``; the documented event has its fields at the top."""
    event, rest = event_of("/v1/responses", status=504, events=7)
    name, data = event.split("\n")

    assert (name, rest) == ("event: error", "")
    told = json.loads(data.removeprefix("data: "))
    assert (told["type"], told["sequence_number"]) == ("error", 7)
    assert told["message"] == told["error"]["message"] == "The model server did not answer in time."


def test_g7_messages_get_an_event_that_is_called_error() -> None:
    event, rest = event_of("/v1/messages", status=504)
    name, data = event.split("\n")

    assert (name, rest) == ("event: error", "")
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "error": {"type": "timeout_error", "message": "The model server did not answer in time."},
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/generate", "/unknown"])
def test_our_own_error_is_an_error_to_our_own_reader(path: str) -> None:
    operation = operation_for(path)
    reader = StreamReader(operation or operation_for("/v1/completions"))  # type: ignore[arg-type]

    reader.feed(error_event(operation))

    assert reader.is_failed
    assert reader.events == 1
