"""What engines say about their KV caches: decoded messages in, values out.

An engine publishes batches ``[timestamp, [event, …], data-parallel rank]``. An event is an array whose first element is
its kind, or a map with a ``type`` (vLLM has sent both), and fields were appended over the years; SGLang sends the same
shapes. So a short event is completed with what the missing fields mean, an unknown field is passed over, and an event
of unknown kind is counted and skipped. What cannot be right (a block without a hash, tokens that do not fill their
blocks) makes the event malformed: it is counted too, and whoever applies the batch has to take it for lost.

Nothing here reads sockets or bytes of a message, and nothing here knows what a block is held for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

__all__ = ["AllCleared", "BlocksRemoved", "BlocksStored", "EventBatch", "KvEvent", "block_hash", "parse_batch"]

_STORED = (
    "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name", "extra_keys",
    "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window",
)  # fmt: skip
_REMOVED = ("block_hashes", "medium", "group_idx")
_MASK = (1 << 64) - 1

INDEXED_KINDS = frozenset({None, "full_attention", "mla_attention", "sink_full_attention"})
"""Kinds of cache group whose blocks, once there, serve any longer prompt. A sliding window's do not."""


@attrs.frozen
class BlocksStored:
    """Blocks came into a cache.

    Attributes:
        hashes: the engine's own names for the blocks, in order: each is the parent of the next.
        parent: the block before the first of them; None where a prompt begins.
        contents: the token ids of each block, as little-endian uint32; empty when only the place of known blocks
            changed (offloading).
        block_size: tokens per block.
        tier: where they are: ``gpu``, ``cpu``…
        lora: name of the LoRA adapter, or an empty string.
        extras: per block, what besides its tokens told it apart (cache salt, digests of images).
        group: cache group of a hybrid model.
        kind: the group's kind of attention, when told.
    """

    hashes: tuple[int, ...]
    parent: int | None
    contents: tuple[bytes, ...]
    block_size: int
    tier: str = "gpu"
    lora: str = ""
    extras: tuple[bytes, ...] = ()
    group: int | None = None
    kind: str | None = None


@attrs.frozen
class BlocksRemoved:
    """Blocks left a cache tier."""

    hashes: tuple[int, ...]
    tier: str = "gpu"
    group: int | None = None


@attrs.frozen
class AllCleared:
    """Everything left every cache of the engine."""


KvEvent = BlocksStored | BlocksRemoved | AllCleared


@attrs.frozen
class EventBatch:
    """One message of an engine.

    Attributes:
        timestamp: on the engine's clock: good for telling a repetition from a restart, and for nothing else.
        events: in order.
        rank: data-parallel rank, when told.
        unknown: how many events were of a kind that is not known, and were skipped.
        malformed: what was wrong with each event that could not be used.
        model: the base model, when the topic named it.
    """

    timestamp: float
    events: tuple[KvEvent, ...]
    rank: int | None = None
    unknown: int = 0
    malformed: tuple[str, ...] = ()
    model: str = ""


def block_hash(given: int | bytes) -> int:
    """Return an engine's block hash as 64 bits: an integer as it is, bytes by their last eight, big-endian.

    >>> block_hash(b"a longer digest" + bytes([0, 0, 0, 0, 0, 0, 1, 2])), block_hash(-1) == 2**64 - 1
    (258, True)

    Raises:
        ValueError: it is neither, or empty.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return given & _MASK
    if isinstance(given, bytes | bytearray) and given:
        return int.from_bytes(given[-8:], "big")
    raise ValueError(f"a block hash is an integer or bytes, got {type(given).__name__}")


def parse_batch(payload: Any, *, model: str = "") -> EventBatch:
    """Return the batch that a decoded message holds. Never raises for what is inside an event.

    Args:
        payload: lists, maps, numbers, strings and bytes, as any MessagePack decoder returns them.

    Raises:
        ValueError: the message as a whole is no batch of events.

    Complexity: O(size of the message).
    """
    if isinstance(payload, Mapping):
        payload = [payload.get("ts"), payload.get("events"), payload.get("data_parallel_rank")]
    if not _is_list(payload) or len(payload) < 2 or not _is_list(payload[1]):
        raise ValueError(f"expected [timestamp, [event, …], rank], got {type(payload).__name__}")
    timestamp, events, *rest = payload
    if not isinstance(timestamp, int | float):
        raise ValueError(f"expected a timestamp, got {type(timestamp).__name__}")
    parsed: list[KvEvent] = []
    malformed: list[str] = []
    unknown = 0
    for event in events:
        try:
            value = _event(event)
        except (ValueError, TypeError, OverflowError) as error:
            malformed.append(str(error))
            continue
        if value is None:
            unknown += 1
        else:
            parsed.append(value)
    rank = rest[0] if rest and isinstance(rest[0], int) else None
    return EventBatch(float(timestamp), tuple(parsed), rank, unknown, tuple(malformed), model)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _event(event: Any) -> KvEvent | None:
    """One event; None if its kind is not known."""
    if isinstance(event, Mapping):
        kind, fields = event.get("type"), dict(event)
    elif _is_list(event) and event:
        kind = event[0]
        names = {"BlockStored": _STORED, "BlockRemoved": _REMOVED}.get(kind, ())
        fields = dict(zip(names, event[1:], strict=False))
    else:
        raise ValueError(f"an event is an array or a map, got {type(event).__name__}")
    if kind == "BlockStored":
        return _stored(fields)
    if kind == "BlockRemoved":
        return BlocksRemoved(_hashes(fields), _tier(fields), _optional(int, fields.get("group_idx")))
    if kind == "AllBlocksCleared":
        return AllCleared()
    if not isinstance(kind, str):
        raise ValueError("an event does not say of which kind it is")
    return None


def _stored(fields: Mapping[str, Any]) -> BlocksStored:
    hashes = _hashes(fields)
    parent, size = fields.get("parent_block_hash"), fields.get("block_size")
    tokens = fields.get("token_ids") or []
    if not isinstance(size, int) or size <= 0:
        raise ValueError(f"block_size must be an integer > 0, got {size!r}")
    if not _is_list(tokens):
        raise ValueError(f"token_ids must be a list, got {type(tokens).__name__}")
    if len(tokens) not in {0, size * len(hashes)}:
        raise ValueError(f"{len(tokens)} tokens do not fill {len(hashes)} blocks of {size}")
    packed = np.asarray(tokens, dtype="<u4")
    if packed.ndim != 1:
        raise ValueError("token_ids must be a list of integers")
    content = packed.tobytes()
    lora = _optional(str, fields.get("lora_name")) or ""
    return BlocksStored(
        hashes,
        None if parent is None else block_hash(parent),
        tuple(content[at : at + 4 * size] for at in range(0, len(content), 4 * size)),
        size,
        _tier(fields),
        lora,
        _extras(fields.get("extra_keys"), len(hashes), lora),
        _optional(int, fields.get("group_idx")),
        _optional(str, fields.get("kv_cache_spec_kind")),
    )


def _hashes(fields: Mapping[str, Any]) -> tuple[int, ...]:
    hashes = fields.get("block_hashes")
    if not _is_list(hashes):
        raise ValueError(f"block_hashes must be a list, got {type(hashes).__name__}")
    return tuple(map(block_hash, hashes or ()))


def _tier(fields: Mapping[str, Any]) -> str:
    return (_optional(str, fields.get("medium")) or "gpu").lower()


def _optional(kind: type, value: Any) -> Any:
    if value is None or isinstance(value, kind):
        return value
    raise ValueError(f"expected {kind.__name__} or nothing, got {type(value).__name__}")


def _extras(given: Any, blocks: int, lora: str) -> tuple[bytes, ...]:
    """The extra keys of each block as bytes; the adapter's name is left out, for it is said elsewhere."""
    if given is None:
        return (b"",) * blocks
    if not _is_list(given) or len(given) != blocks:
        raise ValueError(f"extra_keys must be a list with an entry for each of {blocks} blocks")
    return tuple(extra_digest([key for key in keys or () if key != lora]) for keys in given)


def extra_digest(keys: Sequence[Any]) -> bytes:
    """Return extra keys of one block (strings, numbers, bytes, or pairs of a digest and an offset) as bytes."""
    return b"".join(_labelled(repr(key if not isinstance(key, list) else tuple(key)).encode()) for key in keys)


def _labelled(part: bytes) -> bytes:
    return len(part).to_bytes(4, "little") + part
