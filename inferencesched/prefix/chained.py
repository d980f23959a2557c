"""The Endpoint Picker's own block hashes: for comparing with it, and for tools that read its caches.

Each block's hash covers the block and the hash before it (xxh64, seed 0)::

    h(-1) = xxh64(model + cache_salt)
    h(i)  = xxh64(LE64(xxh64(LE32 of the block's tokens)) + LE64(h(i-1)))

The last block may be short. These are prefix keys too, and the tree works with them as well; the index does not use
them because each costs a pass through the interpreter, whether it is asked for or not.
"""

from __future__ import annotations

from array import array

import xxhash

from inferencesched.prefix.hashing import prompt_content
from inferencesched.request import BYTES_PER_TOKEN, Prompt

__all__ = ["chained_hashes"]


def chained_hashes(
    prompt: Prompt, *, block_size_tokens: int, model: str = "", cache_salt: str = "", max_blocks: int | None = None
) -> array[int]:
    """Return the hashes that ``approx-prefix-cache-producer`` of the Endpoint Picker computes for a prompt.

    Text is packed four bytes a token, the last one padded with zeros, as its estimate backend does.

    Raises:
        ValueError: the block size is not positive, or the prompt is no text, bytes or token ids.

    Complexity: O(bytes), with two hashes a block.
    """
    if block_size_tokens <= 0:
        raise ValueError(f"block_size_tokens must be > 0, got {block_size_tokens}")
    content = bytes(prompt_content(prompt))
    content += bytes(-len(content) % BYTES_PER_TOKEN)
    width = block_size_tokens * BYTES_PER_TOKEN
    digest = xxhash.xxh64_intdigest
    before = digest(model.encode() + cache_salt.encode())
    hashes = array("Q")
    for start in range(0, len(content), width)[:max_blocks]:
        block = digest(content[start : start + width])
        before = digest(block.to_bytes(8, "little") + before.to_bytes(8, "little"))
        hashes.append(before)
    return hashes
