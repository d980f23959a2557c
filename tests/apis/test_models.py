"""Names of models in answers and in the list."""

from typing import Any

import pytest

from inferencesched.apis import models_list, operation_for, restore_model


@pytest.mark.parametrize(
    ("path", "body", "after"),
    [
        ("/v1/chat/completions", {"model": "a"}, {"model": "chat"}),
        ("/v1/responses", {"response": {"model": "a"}}, {"response": {"model": "chat"}}),
        ("/v1/messages", {"message": {"model": "a"}}, {"message": {"model": "chat"}}),
    ],
)
def test_l2_the_clients_name_is_put_where_a_name_is(path: str, body: Any, after: Any) -> None:
    operation = operation_for(path)
    assert operation is not None

    assert restore_model(operation, body, "chat") is True
    assert body == after
    assert restore_model(operation, body, "chat") is False


@pytest.mark.parametrize("body", [None, [], {}, {"model": None}, {"model": 5}, {"choices": [{"model": "a"}]}])
def test_where_no_name_is_none_is_put(body: Any) -> None:
    operation = operation_for("/v1/chat/completions")
    assert operation is not None

    assert restore_model(operation, body, "chat") is False


def test_the_list_of_models_tells_which_adapter_belongs_to_which_base() -> None:
    body = models_list(["llm-base", "english-bot"], parents={"english-bot": "llm-base"}, created=5)

    assert body["object"] == "list"
    assert [(each["id"], each["object"], each["parent"], each["created"]) for each in body["data"]] == [
        ("llm-base", "model", None, 5),
        ("english-bot", "model", "llm-base", 5),
    ]
