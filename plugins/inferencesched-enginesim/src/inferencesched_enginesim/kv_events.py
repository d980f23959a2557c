"""KV-cache events as vLLM publishes them: MessagePack over ZeroMQ, numbered, and kept for whoever missed some.

    subscription: PUB     topic, sequence (8 bytes, big-endian), payload
    replay:       ROUTER  asked: empty, first sequence; answered: empty, sequence, payload for each that is kept, and at
                          last sequence −1 with an empty payload

A payload is ``[timestamp, [event, …], data-parallel rank]``, an event a map. Block hashes are equal for equal tokens in
every engine with the same block size.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import msgpack  # type: ignore[import-untyped]
import zmq
import zmq.asyncio

from inferencesched.sim import CacheChange, Served
from inferencesched_enginesim.prompts import Tokens
from inferencesched_enginesim.spec import KvEventPorts

__all__ = ["KvEvents"]

_KEPT = 10_000  # batches, as in vLLM's default buffer_steps
_END = (-1).to_bytes(8, "big", signed=True)


class KvEvents:
    """Publishes what happens in one engine's cache.

    Args:
        host: to bind at.
        ports: to bind at.
        topic: of every message; vLLM's convention is ``kv@ADDRESS@MODEL``.
        block_tokens: tokens per block.

    Attributes:
        address: where subscribers connect.
        replay_address: where to ask for lost batches.
    """

    def __init__(self, host: str, ports: KvEventPorts, *, topic: str, block_tokens: int) -> None:
        self._topic = topic.encode()
        self._block_tokens = block_tokens
        self._prompts: dict[str, Tokens] = {}
        self._pending: list[dict[str, Any]] = []
        self._sequence = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=_KEPT)
        self._context = zmq.asyncio.Context()
        self._live = zmq.Context(self._context).socket(zmq.PUB)
        self._replay = self._context.socket(zmq.ROUTER)
        try:
            self.address = _bind(self._live, host, ports.events)
            self.replay_address = _bind(self._replay, host, ports.replay)
        except BaseException:
            self._destroy()
            raise
        self._answering = asyncio.get_running_loop().create_task(self._answer_replays())

    async def close(self) -> None:
        """Unbind; nothing is published any more."""
        self._answering.cancel()
        await asyncio.gather(self._answering, return_exceptions=True)
        self._destroy()

    def _destroy(self) -> None:
        self._live.close(linger=0)
        self._replay.close(linger=0)
        self._context.term()

    def admit(self, request: str, tokens: Tokens) -> None:
        """Know the prompt of a request that goes to the engine."""
        self._prompts[request] = tokens

    def forget(self, request: str) -> None:
        """Know it no longer."""
        self._prompts.pop(request, None)

    def watch(self, change: CacheChange) -> None:
        """Take note of a change; `publish` sends it."""
        if change.served is None:
            self._removed(change.key[1] if isinstance(change.key, tuple) else change.key)
        else:
            self._stored(change.served, change.place)

    def _removed(self, block: Any) -> None:
        last = self._pending[-1] if self._pending else None
        if last is not None and last["type"] == "BlockRemoved":
            last["block_hashes"].append(block)
        else:
            self._pending.append({"type": "BlockRemoved", "block_hashes": [block], "medium": "GPU", "group_idx": 0})

    def _stored(self, served: Served, place: int) -> None:
        request = served.request
        tokens = self._prompts[request.id][place * self._block_tokens : (place + 1) * self._block_tokens].tolist()
        parent = request.blocks[place - 1] if place else None
        last = self._pending[-1] if self._pending else None
        if last is not None and last["type"] == "BlockStored" and last["block_hashes"][-1] == parent:
            last["block_hashes"].append(request.blocks[place])
            last["token_ids"] += tokens
            last["extra_keys"].append(_extra_keys(request.adapter))
            return
        self._pending.append(
            {
                "type": "BlockStored",
                "block_hashes": [request.blocks[place]],
                "parent_block_hash": parent,
                "token_ids": tokens,
                "block_size": self._block_tokens,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": request.adapter,
                "extra_keys": [_extra_keys(request.adapter)],
                "group_idx": 0,
                "kv_cache_spec_kind": "full_attention",
            }
        )

    def publish(self) -> None:
        """Send one batch of what was noted since the last one, if there was anything."""
        if not self._pending:
            return
        payload = msgpack.packb([time.time(), self._pending, 0])
        self._pending = []
        self._kept.append((self._sequence, payload))
        self._live.send_multipart([self._topic, self._sequence.to_bytes(8, "big"), payload], zmq.NOBLOCK)
        self._sequence += 1

    async def _answer_replays(self) -> None:
        while True:
            client, *_, first = await self._replay.recv_multipart()
            asked = int.from_bytes(first, "big")
            for sequence, payload in tuple(self._kept):
                if sequence >= asked:
                    await self._replay.send_multipart([client, b"", sequence.to_bytes(8, "big"), payload])
            await self._replay.send_multipart([client, b"", _END, b""])


def _extra_keys(adapter: str | None) -> list[str] | None:
    return None if adapter is None else [adapter]


def _bind(socket: zmq.Socket[Any], host: str, port: int) -> str:
    address = f"tcp://{host}"
    if not port:
        return f"{address}:{socket.bind_to_random_port(address)}"
    socket.bind(f"{address}:{port}")
    return f"{address}:{port}"
