"""Prefix keys for blocks that arrive one by one: each follows from the key before it and the block's own content.

::

    content(i) = xxh3_64(extras(i) + tokens(i), seed of the space)
    key(i)     = key(i-1) · K + content(i)   mod 2^64,   key(-1) = seed of the space

An engine names a block's parent and tells the block's tokens, so whole-prefix hashes (see `hashing`) cannot be had:
what came before is gone. These can, and they do for the tree just as well. They cost a hash per block, and so are for
the index that events feed only. A block whose parent is not known yet keeps its content until the parent's key is.

Nothing here knows engines or trees.
"""

from __future__ import annotations

from array import array
from typing import overload

import xxhash

from inferencesched.request import BYTES_PER_TOKEN

__all__ = ["ChainKeys", "chained", "content_digest"]

_FACTOR = 0x9E3779B97F4A7C15  # odd, so that no bit of a key is lost on the way
_MASK = (1 << 64) - 1


def content_digest(content: bytes | memoryview, extras: bytes, seed: int) -> int:
    """Return what a block adds to the key of its parent. O(block)."""
    if extras:
        content = extras + content
    return xxhash.xxh3_64_intdigest(content, seed)


def chained(parent: int, content: int) -> int:
    """Return the key of a block from its parent's key (the space's seed for a first block) and its content. O(1)."""
    return (parent * _FACTOR + content) & _MASK


class ChainKeys:
    """The chained keys of one prompt of token ids, computed as far down as is asked for.

    Args:
        content: the token ids, as `hashing.prompt_content` returns them.
        block_size_tokens: tokens per block of the engine.
        seed: of the key space.
        first_extras: extras of the first block (an engine puts the cache salt there).
        limit: blocks that count.

    Complexity: each key once, O(block); a prompt that nobody holds costs one.
    """

    __slots__ = ("_content", "_count", "_extras", "_keys", "_seed", "_width")

    def __init__(
        self,
        content: memoryview,
        *,
        block_size_tokens: int,
        seed: int,
        first_extras: bytes = b"",
        limit: int | None = None,
    ) -> None:
        self._content = content
        self._width = block_size_tokens * BYTES_PER_TOKEN
        count = content.nbytes // self._width
        self._count = count if limit is None else min(count, limit)
        self._seed = seed
        self._extras = first_extras
        self._keys = array("Q")

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> array[int]: ...
    def __getitem__(self, index: int | slice, /) -> int | array[int]:
        if isinstance(index, slice):
            self._advance(index.indices(self._count)[1])
            return self._keys[index]
        if not 0 <= index < self._count:
            raise IndexError(f"block {index} of {self._count}")
        self._advance(index + 1)
        return self._keys[index]

    def _advance(self, blocks: int) -> None:
        keys, width, content, seed = self._keys, self._width, self._content, self._seed
        key = keys[-1] if keys else seed
        for block in range(len(keys), blocks):
            part = content[block * width : (block + 1) * width]
            key = chained(key, content_digest(part, b"" if block else self._extras, seed))
            keys.append(key)
