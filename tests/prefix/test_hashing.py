"""Prefix keys: the one-line rule, and that every shortcut keeps to it."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
import xxhash
from hypothesis import given, strategies as st

from inferencesched.prefix.hashing import PrefixKeys, prompt_content, request_keys, space_seed
from inferencesched.request import Prompt, Request

BLOCK = 16  # tokens
WIDTH = 4 * BLOCK


def plain(content: bytes, width: int, seed: int) -> list[int]:
    """The rule, as the module's docstring states it."""
    return [xxhash.xxh3_64_intdigest(content[:end], seed) for end in range(width, len(content) + 1, width)]


@given(st.binary(max_size=400), st.integers(1, 40), st.integers(0, 2**64 - 1))
def test_keys_follow_the_rule(content: bytes, width: int, seed: int) -> None:
    """A run of keys is what hashing every prefix from its start gives."""
    keys = PrefixKeys(content, width=width, seed=seed)

    assert list(keys[:]) == plain(content, width, seed)
    assert len(keys) == len(content) // width


@given(st.lists(st.integers(0, 511), min_size=1, max_size=30))
def test_keys_do_not_depend_on_the_order_of_asking(order: list[int]) -> None:
    """Going on from saved states, backwards and forwards, gives the same keys as starting anew."""
    content = bytes(range(256)) * 256  # 64 KiB: far beyond what is hashed directly
    keys = PrefixKeys(content, width=128, seed=7)

    assert [keys[index] for index in order] == [plain(content[: 128 * (i + 1)], 128 * (i + 1), 7)[0] for i in order]


@given(st.integers(0, 511), st.integers(0, 511))
def test_a_run_in_the_middle_is_a_slice_of_all_keys(start: int, stop: int) -> None:
    """Slices are what slices of a list are."""
    keys = PrefixKeys(bytes(65536), width=128)

    assert keys[start:stop] == keys[:][start:stop]


@given(st.lists(st.integers(0, 511), min_size=1, max_size=8), st.integers(0, 512))
def test_a_run_does_not_depend_on_what_was_asked_before(order: list[int], start: int) -> None:
    """An insertion asks for the run behind what the match before it asked for, and the same object answers both."""
    content = bytes(range(256)) * 256
    keys = PrefixKeys(content, width=128)
    for index in order:
        keys[index]

    assert keys[start:] == PrefixKeys(content, width=128)[start:]
    assert keys[order[-1] + 1 :] == PrefixKeys(content, width=128)[order[-1] + 1 :]


def test_a_tail_shorter_than_a_block_has_no_key() -> None:
    """Nine bytes are two blocks of four."""
    assert len(PrefixKeys(b"123456789", width=4)) == 2
    assert PrefixKeys(b"123456789", width=4)[:] == PrefixKeys(b"12345678", width=4)[:]


def test_the_layout_is_fixed_for_all_time() -> None:
    """Replicas of different versions exchange keys: a change here is a new format, and not a refactoring."""
    request = Request(
        "r", "llama", "You are a helpful assistant." * 10, adapter="sql", cache_salt="t1", media=(b"\x01",)
    )

    assert space_seed() == 0x5E2E4A1C6653C7AE
    assert request_keys(request, block_size_tokens=16)[3] == 0x591B8E12174F4DA4


@given(st.lists(st.integers(0, 2**32 - 1), max_size=80))
def test_every_form_of_the_same_tokens_has_the_same_keys(tokens: list[int]) -> None:
    """Lists, tuples, arrays of any integer type and their bytes are one prompt."""
    forms: list[Prompt] = [
        tuple(tokens),
        array("Q", tokens),
        np.array(tokens, np.int64),
        np.array(tokens, np.uint32),
        np.array(tokens * 2, np.uint64)[: len(tokens)],
        np.array([[t, 0] for t in tokens], np.int64).reshape(-1, 2)[:, 0],  # not contiguous
        np.array(tokens, ">u4"),
        b"".join(token.to_bytes(4, "little") for token in tokens),
    ]

    assert {bytes(prompt_content(form)) for form in forms} == {bytes(prompt_content(tokens))}


@given(st.text(max_size=100))
def test_text_and_its_bytes_have_the_same_keys(text: str) -> None:
    """Whoever has the bytes already need not decode them."""
    assert bytes(prompt_content(text)) == text.encode("utf-8", "surrogatepass")


def test_a_lone_surrogate_is_no_error() -> None:
    """Clients send broken Unicode; it still is a prompt."""
    assert len(prompt_content("caf\udce9")) == 6


@pytest.mark.parametrize(
    "prompt", [[-1], [2**32], np.array([-1]), np.array([2**40]), np.array([1.0]), np.zeros((2, 2), int), ["a"]]
)
def test_what_is_no_token_id_is_refused(prompt: object) -> None:
    """Wrapping around in silence would make two prompts one."""
    with pytest.raises(ValueError, match="token ids"):
        prompt_content(prompt)  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["", "a", "b", "ab"]), min_size=6, max_size=6))
def test_spaces_never_share_a_key(names: list[str]) -> None:
    """Two spaces are one only if every field is equal; names do not run into each other."""
    one, other = names[:3], names[3:]
    seeds = [space_seed(model=m, adapter=a, cache_salt=s) for m, a, s in (one, other)]

    assert (seeds[0] == seeds[1]) == (one == other)


def test_block_sizes_never_share_a_key() -> None:
    """Else an index that changes its block size would take sixteen tokens for sixty-four."""
    request = Request("r", prompt=bytes(1024))

    assert not {*request_keys(request, block_size_tokens=16)[:]} & {*request_keys(request, block_size_tokens=64)[:]}


def test_the_limit_cuts_the_prompt() -> None:
    """What is beyond the limit has no key."""
    assert len(request_keys(Request("r", prompt=bytes(64 * 10)), block_size_tokens=16, max_blocks=3)) == 3


def test_no_prompt_has_no_keys() -> None:
    """A request without a prompt matches nothing."""
    assert len(request_keys(Request("r"), block_size_tokens=16)) == 0


def test_beyond_the_last_block_is_an_index_error() -> None:
    """Keys behave as a sequence does."""
    with pytest.raises(IndexError):
        PrefixKeys(b"12345678", width=4)[2]


def test_media_that_stand_in_the_prompt_leave_the_beginning_of_a_conversation_alone() -> None:
    """A turn that adds an image keeps the prefix of the turns before it."""
    first = Request("r", prompt=b"x" * 64)
    second = Request("s", prompt=b"x" * 64 + b"digest of an image", media=(b"digest",), media_placed=True)
    beside = Request("t", prompt=b"x" * 64, media=(b"digest",))

    assert request_keys(second, block_size_tokens=4)[0:4] == request_keys(first, block_size_tokens=4)[0:4]
    assert request_keys(beside, block_size_tokens=4)[0:4] != request_keys(first, block_size_tokens=4)[0:4]
