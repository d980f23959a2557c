"""The end of a path says what is asked for."""

import pytest

from inferencesched.apis import OPERATIONS, Operations, operation_for


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/completions", "completions"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/responses", "responses"),
        ("/v1/conversations", "conversations"),
        ("/v1/chat/completions/render", "chat_render"),
        ("/v1/completions/render", "completions_render"),
        ("/v1/images/generations", "images"),
        ("/v1/messages", "messages"),
        ("/v1/messages/count_tokens", "count_tokens"),
        ("/inference/v1/generate", "generate"),
        ("/generate", "sglang_generate"),
        ("/a/prefix/of/any/depth/v1/chat/completions/", "chat"),
        ("completions", "completions"),
        (" /v1/completions ", "completions"),
    ],
)
def test_the_longest_suffix_in_whole_segments_decides(path: str, name: str) -> None:
    found = operation_for(path)

    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "path", ["/v1/audio/speech", "/v1/my-completions", "/v1/generate", "/a/generate", "/", "", "/v1/responses/resp_1"]
)
def test_anything_else_is_passed_through(path: str) -> None:
    assert operation_for(path) is None


def test_every_operation_is_found_by_its_own_suffix_and_has_a_name_of_its_own() -> None:
    assert [operation_for(f"/{operation.suffix}") for operation in OPERATIONS] == list(OPERATIONS)
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


def test_an_operation_that_is_not_in_force_does_not_hide_a_shorter_one() -> None:
    some = Operations([operation for operation in OPERATIONS if operation.name == "completions"])

    found = some.at("/v1/chat/completions")

    assert found is not None
    assert found.name == "completions"
    assert Operations([]).at("/v1/completions") is None
