"""Conversations as bytes: a longer one begins with the shorter one, and no two give the same bytes."""

import copy
from typing import Any

from hypothesis import given, strategies as st

from inferencesched.apis import Operation, operation_for, read_request
from inferencesched.prefix import PrefixKeys


def at(path: str) -> Operation:
    found = operation_for(path)
    assert found is not None
    return found


CHAT, MESSAGES, RESPONSES = at("/v1/chat/completions"), at("/v1/messages"), at("/v1/responses")
WORDS = st.text(st.sampled_from("ab\x00\xff\ue000 {}\"'") | st.characters(exclude_categories=()), max_size=6)
ROLES = st.sampled_from(["system", "user", "assistant", "tool"]) | WORDS
BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, WORDS),
    st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, WORDS),
    st.builds(lambda name, value: {"type": "tool_use", "name": name, "input": value}, WORDS, WORDS),
)
CONTENTS = WORDS | st.lists(BLOCKS, min_size=2, max_size=3)
CALLS = st.lists(st.builds(lambda name: {"function": {"name": name}}, WORDS), min_size=1, max_size=2)
HISTORY = st.lists(
    st.builds(lambda role, content: {"role": role, "content": content}, ROLES, CONTENTS)
    | st.builds(lambda calls: {"role": "assistant", "content": "", "tool_calls": calls}, CALLS),
    min_size=1,
    max_size=4,
)
TOOLS = st.none() | st.lists(st.builds(lambda name: {"name": name}, WORDS), min_size=1, max_size=2)


def chat(messages: Any, **more: Any) -> bytes:
    prompt = read_request(CHAT, {"messages": messages, **more}).prompt
    assert isinstance(prompt, bytes)
    return prompt


@given(HISTORY, HISTORY, TOOLS)
def test_one_more_turn_leaves_the_bytes_before_it_as_they_were(history: Any, turn: Any, tools: Any) -> None:
    """Holds from the first message on that is no system's; before it, tools are yet to come."""
    history = [*history, {"role": "user", "content": "?"}]

    assert chat([*history, *turn], tools=tools).startswith(chat(history, tools=tools))


@given(HISTORY, HISTORY, TOOLS, TOOLS)
def test_two_different_conversations_never_give_the_same_bytes(one: Any, other: Any, tools: Any, others: Any) -> None:
    assert (chat(one, tools=tools) == chat(other, tools=others)) == (one == other and tools == others)


@given(WORDS, WORDS, WORDS)
def test_where_one_text_ends_and_the_next_begins_is_part_of_the_bytes(a: str, b: str, c: str) -> None:
    def said(*texts: str) -> bytes:
        return chat([{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}])

    assert (said(a + b, c) == said(a, b + c)) == (not b)
    assert said(a, b) != said(a + b)


def test_a_string_is_one_block_of_text() -> None:
    assert chat([{"role": "user", "content": "Hi"}]) == chat(
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    )


def test_two_long_messages_share_their_bytes_up_to_where_they_differ() -> None:
    """A document with a question behind it: nothing that is counted stands in front."""
    document = "a long document. " * 100
    one, other = (chat([{"role": "user", "content": document + question}]) for question in ("Who?", "When was that?"))
    keys, others = PrefixKeys(one, width=256), PrefixKeys(other, width=256)

    assert keys[5] == others[5]
    assert one != other


def test_c18_the_whole_history_counts_and_roles_do_too() -> None:
    first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    middle, role = copy.deepcopy(first), copy.deepcopy(first)
    middle[1]["content"] = "B"
    role[1]["role"] = "user"

    assert len({chat(first), chat(middle), chat(role)}) == 3


def test_c7_tools_and_system_text_are_part_of_the_bytes_the_salt_stands_apart() -> None:
    said = [{"role": "user", "content": "a"}]

    with_tools = chat(said, tools=[{"type": "function", "function": {"name": "f"}}])
    with_system = chat([{"role": "system", "content": "s"}, *said])

    assert len({chat(said), with_tools, with_system}) == 3
    assert chat(said, cache_salt="x") == chat(said)


def test_tools_stand_behind_the_systems_text_as_templates_put_them() -> None:
    prompt = chat(
        [{"role": "system", "content": "SYSTEM"}, {"role": "user", "content": "USER"}], tools=[{"name": "TOOL"}]
    )

    assert prompt.index(b"SYSTEM") < prompt.index(b"TOOL") < prompt.index(b"USER")


def test_what_only_the_api_reads_moves_no_byte() -> None:
    """Clients move ``cache_control`` to the last message at each turn, and send what an answer had as null."""
    plain: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "x"}]}]
    marked = copy.deepcopy(plain)
    marked[0]["content"][0]["cache_control"] = marked[0]["content"][1]["cache_control"] = {"type": "ephemeral"}
    marked[0] |= {"refusal": None, "annotations": [], "tool_calls": None}

    assert chat(marked) == chat(plain)


def test_the_same_conversation_has_the_same_bytes_in_three_apis() -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    tools = [{"name": "f"}]

    of_chat = chat([{"role": "system", "content": "Be brief."}, *said], tools=tools)
    of_messages = read_request(MESSAGES, {"system": "Be brief.", "messages": said, "tools": tools}).prompt
    of_responses = read_request(RESPONSES, {"instructions": "Be brief.", "input": said, "tools": tools}).prompt

    assert of_chat == of_messages == of_responses


def test_an_earlier_response_and_its_calls_are_part_of_the_bytes() -> None:
    items = [{"type": "function_call", "name": "f", "arguments": "{}"}, {"role": "user", "content": "Hi"}]

    one = read_request(RESPONSES, {"input": items}).prompt
    other = read_request(RESPONSES, {"input": items, "previous_response_id": "resp_1"}).prompt

    assert one != other
    assert one != read_request(RESPONSES, {"input": items[1:]}).prompt


def test_c10_c11_another_image_is_another_prompt_and_the_same_one_is_the_same() -> None:
    def asked(url: str) -> bytes:
        return chat([{"role": "user", "content": [{"type": "image_url", "image_url": url}]}])

    assert asked("https://example.com/a.png") == asked("https://example.com/a.png")
    assert asked("https://example.com/a.png") != asked("https://example.com/b.png")
