"""The parsers of a configuration say which calls are understood, and what becomes of others."""

from typing import Any

import pytest

from inferencesched import ConfigError, Registry, load_config
from inferencesched.apis import OPERATIONS, Operation, Operations, operation_for

KIND = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}


def operations(*parsers: str, plugins: Any = ()) -> Operations:
    references = [{"pluginRef": parser} for parser in parsers]
    return load_config({**KIND, "plugins": list(plugins), "requestHandler": {"parsers": references}}).operations()


def names(found: Operations) -> set[str]:
    return {operation.name for operation in found.operations}


def test_left_out_they_are_those_of_the_field_and_everything_else_passes() -> None:
    found = load_config(KIND).operations()

    assert names(found) == {operation.name for operation in OPERATIONS} - {"sglang_generate"}
    assert found.passes_through


@pytest.mark.parametrize(
    ("parser", "claimed"),
    [
        ("anthropic-parser", {"messages", "count_tokens"}),
        ("vllmhttp-parser", {"generate"}),
        ("sglanghttp-parser", {"sglang_generate"}),
        ("passthrough-parser", set()),
    ],
)
def test_each_parser_claims_what_it_claims_upstream(parser: str, claimed: set[str]) -> None:
    found = operations(parser)

    assert names(found) == claimed
    assert found.passes_through is (parser == "passthrough-parser")


def test_without_the_passthrough_parser_other_paths_do_not_pass() -> None:
    found = operations("openai-parser")

    assert found.at("/v1/chat/completions") is operation_for("/v1/chat/completions")
    assert found.at("/v1/messages") is None
    assert not found.passes_through


def test_a_parser_may_be_declared_under_a_name_of_its_own() -> None:
    declared = [{"type": "openai-parser", "name": "mine"}, {"type": "passthrough-parser"}]

    found = operations("mine", "passthrough-parser", plugins=declared)

    assert "chat" in names(found)
    assert found.passes_through


def test_a_parser_of_somebodys_own_claims_operations_of_its_own() -> None:
    class Ours:
        def claims(self) -> list[Operation]:
            chat = operation_for("/v1/chat/completions")
            assert chat is not None
            return [Operation("ask", "ask", "openai", "our-parser", chat.read)]

    spec = {**KIND, "plugins": [{"type": "our-parser"}], "requestHandler": {"parsers": [{"pluginRef": "our-parser"}]}}
    found = load_config(spec, registry=Registry({"our-parser": Ours})).operations()

    asked = found.at("/api/ask")
    assert asked is not None
    assert asked.name == "ask"


def test_a_parser_that_nothing_implements_yet_claims_nothing_and_is_told() -> None:
    config = load_config({**KIND, "requestHandler": {"parsers": [{"pluginRef": "vertexai-parser"}]}})

    assert names(config.operations()) == set()
    assert not config.operations().passes_through
    assert [(each.path, each.message) for each in config.warnings] == [
        ("requestHandler.parsers[0].pluginRef", "'vertexai-parser' (parser) has no effect yet")
    ]


def test_what_is_no_parser_cannot_be_one() -> None:
    with pytest.raises(ConfigError, match="expected a plugin of role 'parser', 'queue-scorer' is a scorer"):
        operations("queue-scorer", plugins=[{"type": "queue-scorer"}])
