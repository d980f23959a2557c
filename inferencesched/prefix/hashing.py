"""Prompts become prefix keys: one 64-bit number per block that stands for everything up to the end of that block.

The rule is one line, and every replica and every tool can follow it::

    key(i) = xxh3_64(content[: (i + 1) * width], seed)

*content* is the prompt as bytes: UTF-8 of a text, the bytes themselves, or token ids as little-endian uint32. *width*
is the block's width in bytes: ``4 × block_size_tokens``, for a token id has four bytes and a token of text is counted
as four. *seed* separates what must never share a cache: model, adapter, cache salt, media (see `space_seed`). A tail
shorter than a block has no key.

Why whole prefixes, and not a digest per block: equality of one key proves equality of all that came before it. A match
asks for a handful of keys, not for every block; hashing runs at memory speed only over long spans (64 KiB cost as much
as fifteen single blocks); and what is never asked for is never computed.

Nothing here knows trees or endpoints.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Any, Protocol, overload

import numpy as np
import xxhash
from numpy.typing import NDArray

from inferencesched.request import BYTES_PER_TOKEN, Prompt, Request

__all__ = ["KeyMaker", "Keys", "PrefixKeys", "prompt_content", "request_keys", "space_seed"]

_DIRECT = 16384
"""Bytes up to which hashing from the start (0.4 µs) is cheaper than to keep a state to go on from."""

_SEEDS_KEPT = 1024
"""Spaces whose seed is remembered; at the limit all are forgotten, for a seed is made in a microsecond."""

_NOTHING = memoryview(b"")


class Keys(Protocol):
    """What the tree asks of a prompt: how many blocks, the key of one block, the keys of a run of blocks.

    Keys must be prefix keys: two prompts with the same key at a position are the same up to and including that block.
    An ``array("Q")`` of such numbers is a `Keys`.
    """

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> array[int]: ...


def space_seed(
    *, width: int = 0, model: str = "", adapter: str = "", cache_salt: str = "", media: Iterable[bytes] = ()
) -> int:
    """Return the seed of a key space: prompts in different spaces never share a key, whatever their content.

    The width of a block belongs to the space, so that an index that changes it never takes four blocks for one. The
    lengths of all fields are hashed before the fields, so no two lists of fields run into each other.

    >>> space_seed(model="ab", adapter="c") == space_seed(model="a", adapter="bc")
    False

    Complexity: O(length of the fields).
    """
    names = (model.encode(), adapter.encode(), cache_salt.encode(), *media)
    lengths = ",".join([str(len(name)) for name in names])
    return xxhash.xxh3_64_intdigest(b"".join((f"{width};{lengths};".encode(), *names)))


def prompt_content(prompt: Prompt) -> memoryview:
    """Return the bytes that keys are made of.

    Text that is not valid Unicode (a lone surrogate from a broken client) is encoded all the same: it only needs to be
    the same bytes for the same text.

    Raises:
        ValueError: a token id is negative or needs more than 32 bits, or an array is not one-dimensional integers.

    Complexity: O(1) for bytes and little-endian uint32 arrays; else one pass at C speed. Lists of Python ints are by
    far the slowest to read (6 ns a token); a host that has an array should hand it over as it is.
    """
    if isinstance(prompt, bytes):
        return memoryview(prompt)
    if isinstance(prompt, str):
        return memoryview(prompt.encode("utf-8", "surrogatepass"))
    if isinstance(prompt, np.ndarray):
        return _array_content(prompt)
    try:
        packed = array("I", prompt)
    except (OverflowError, TypeError) as error:
        raise ValueError(f"a prompt must be text, bytes or token ids in [0, 2**32): {error}") from None
    if sys.byteorder == "big":
        packed.byteswap()
    return memoryview(packed).cast("B")


def _array_content(tokens: NDArray[Any]) -> memoryview:
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise ValueError(f"token ids must be a 1-d integer array, got {tokens.ndim}-d {tokens.dtype}")
    every_bit = int(np.bitwise_or.reduce(tokens)) if tokens.size else 0  # one pass instead of a minimum and a maximum
    if not 0 <= every_bit < 2**32:
        raise ValueError("token ids must be in [0, 2**32)")
    return np.ascontiguousarray(tokens, dtype="<u4").data.cast("B")


class PrefixKeys:
    """The prefix keys of one prompt, computed when asked for and remembered.

    Args:
        content: the bytes of the prompt (see `prompt_content`).
        width: bytes per block.
        seed: of the key space (see `space_seed`).
        limit: blocks that count; what is beyond is not matched.

    Attributes:
        note: a tree's own, of where it found the prompt last; means nothing to anybody else.

    >>> keys = PrefixKeys(b"the same system prompt; question", width=8)
    >>> len(keys), keys[1] == PrefixKeys(b"the same system text", width=8)[1]
    (4, True)

    Complexity: a key on the way down costs O(bytes since the deepest key asked for so far); asking for a shallower one
    goes on from the nearest saved hash state above it. Descending and then bisecting hash each byte about once.
    """

    __slots__ = ("_content", "_count", "_known", "_seed", "_states", "_width", "note")

    def __init__(self, content: bytes | memoryview, *, width: int, seed: int = 0, limit: int | None = None) -> None:
        if width <= 0:
            raise ValueError(f"a block must be at least one byte wide, got {width}")
        self._content = content if isinstance(content, memoryview) else memoryview(content)
        self._width = width
        self._seed = seed
        count = self._content.nbytes // width
        self._count = count if limit is None else min(count, limit)
        self._known: dict[int, int] = {}
        self.note: Any = None
        self._states: list[tuple[int, xxhash.xxh3_64]] = []

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> array[int]: ...
    def __getitem__(self, index: int | slice, /) -> int | array[int]:
        if isinstance(index, slice):
            return self._run(*index.indices(self._count))
        key = self._known.get(index)
        if key is None:
            if not 0 <= index < self._count:
                raise IndexError(f"block {index} of {self._count}")
            end = (index + 1) * self._width
            if end <= _DIRECT:
                key = xxhash.xxh3_64_intdigest(self._content[:end], self._seed)
            else:
                key = self._state_at(end).intdigest()
            self._known[index] = key
        return key

    def _state_at(self, end: int) -> xxhash.xxh3_64:
        """Hash the first `end` bytes, going on from the deepest saved state that is not beyond them."""
        states = self._states
        while states and states[-1][0] > end:
            states.pop()
        if not states:
            state = xxhash.xxh3_64(self._content[:end], self._seed)
        else:
            done, state = states[-1]
            if done == end:
                return state
            state = state.copy()
            state.update(self._content[done:end])
        states.append((end, state))
        return state

    def _run(self, start: int, stop: int, step: int) -> array[int]:
        """All keys of a stretch, block by block (0.2 µs each): needed only for blocks that are new to the index."""
        if step != 1:
            raise ValueError("keys are read in order, one after another")
        keys = array("Q")
        if stop <= start:
            return keys
        content, width = self._content, self._width
        state = self._state_at(start * width).copy()
        update, digest, append = state.update, state.intdigest, keys.append
        for begin in range(start * width, stop * width, width):
            update(content[begin : begin + width])
            append(digest())
        return keys


class KeyMaker:
    """Makes the keys of requests, for one block size; remembers the seeds of spaces seen lately.

    Media count as a whole: where in the prompt each one stands is not known here, so two prompts share keys only when
    all their media are equal. A host that knows the place writes the digest into the prompt there, as the Endpoint
    Picker's estimate does, and says so by `Request.media_placed`. One medium without a digest (``b""``) means that the
    content is not known: such a request has no keys.

    Args:
        block_size_tokens: tokens per block.
        max_blocks: blocks of a prompt that count; None for all.

    Raises:
        ValueError: the block size is not positive.

    >>> len(KeyMaker(block_size_tokens=4).keys(Request("r", prompt="sixteen bytes … and a bit")))
    1

    Complexity: O(1) for bytes; one encoding pass for text and sequences of token ids.
    """

    __slots__ = ("_limit", "_seeds", "_width")

    def __init__(self, *, block_size_tokens: int, max_blocks: int | None = None) -> None:
        if block_size_tokens <= 0:
            raise ValueError(f"block_size_tokens must be > 0, got {block_size_tokens}")
        self._width = block_size_tokens * BYTES_PER_TOKEN
        self._limit = max_blocks
        self._seeds: dict[tuple[str, str | None, str, tuple[bytes, ...]], int] = {}

    def keys(self, request: Request) -> PrefixKeys:
        """Return the keys of a request's prompt, in the space of its model, adapter, cache salt and media.

        Raises:
            ValueError: the prompt is no text, bytes or token ids.
        """
        prompt, media = request.prompt, request.media_beside
        content = _NOTHING if prompt is None or (media and not all(media)) else prompt_content(prompt)
        return PrefixKeys(content, width=self._width, seed=self._seed(request, media), limit=self._limit)

    def _seed(self, request: Request, media: tuple[bytes, ...]) -> int:
        space = (request.model, request.adapter, request.cache_salt, media)
        seed = self._seeds.get(space)
        if seed is None:
            if len(self._seeds) >= _SEEDS_KEPT:
                self._seeds.clear()
            seed = self._seeds[space] = space_seed(
                width=self._width,
                model=request.model,
                adapter=request.adapter or "",
                cache_salt=request.cache_salt,
                media=media,
            )
        return seed


def request_keys(request: Request, *, block_size_tokens: int, max_blocks: int | None = None) -> PrefixKeys:
    """Return the keys of one request; see `KeyMaker`, which is better for many."""
    return KeyMaker(block_size_tokens=block_size_tokens, max_blocks=max_blocks).keys(request)
