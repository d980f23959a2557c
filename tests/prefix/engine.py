"""A model server's KV cache as it looks from outside: stores prompts in blocks, publishes what an engine would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any


class SpeakingEngine:
    """Publishes numbered messages; decoded, as a source would hand them on.

    Args:
        block_size: tokens per block.
        maps: events as maps with a type, or else as arrays.
        seed: makes hashes differ between engines, as they do in a fleet.
    """

    def __init__(self, *, block_size: int = 4, maps: bool = True, seed: str = "e") -> None:
        self.block_size = block_size
        self.maps = maps
        self.seed = seed
        self.sequence = 0
        self.clock = 100.0
        self.resident: set[int] = set()

    def hashes(self, tokens: Sequence[int]) -> list[int]:
        """The engine's own names of a prompt's whole blocks."""
        names, before = [], self.seed.encode()
        for at in range(0, len(tokens) - self.block_size + 1, self.block_size):
            before = hashlib.sha256(before + repr(list(tokens[at : at + self.block_size])).encode()).digest()
            names.append(int.from_bytes(before[-8:], "big"))
        return names

    def stored(self, tokens: Sequence[int], *, skip: int = 0, **fields: Any) -> Any:
        """The event for a prompt whose first `skip` blocks are there already."""
        names = self.hashes(tokens)
        size = self.block_size
        body = {
            "block_hashes": names[skip:],
            "parent_block_hash": names[skip - 1] if skip else None,
            "token_ids": list(tokens[skip * size : len(names) * size]),
            "block_size": size,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
            **fields,
        }
        self.resident |= set(names[skip:])
        return {"type": "BlockStored", **body} if self.maps else ["BlockStored", *body.values()]

    def removed(self, names: Iterable[int], *, medium: str | None = "GPU") -> Any:
        """The event for blocks that go."""
        names = list(names)
        self.resident -= set(names)
        if self.maps:
            return {"type": "BlockRemoved", "block_hashes": names, "medium": medium}
        return ["BlockRemoved", names, medium]

    def cleared(self) -> Any:
        """The event for an empty cache."""
        self.resident.clear()
        return {"type": "AllBlocksCleared"} if self.maps else ["AllBlocksCleared"]

    def message(self, *events: Any, rank: int | None = 0) -> tuple[int, list[Any]]:
        """The next message: its number, and what is in it."""
        number = self.sequence
        self.sequence += 1
        self.clock += 1.0
        return number, [self.clock, list(events), rank]

    def restart(self) -> None:
        """Begin anew: empty, and numbered from 0."""
        self.sequence = 0
        self.resident.clear()
