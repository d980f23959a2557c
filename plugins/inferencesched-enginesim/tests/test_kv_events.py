"""Cache events as a subscriber gets them: real sockets, decoded here, numbered, and asked for again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import msgpack  # type: ignore[import-untyped]
import zmq
import zmq.asyncio
from inferencesched_enginesim import INSTANT, EngineServer, KvEventPorts, ServerSpec

from inferencesched.prefix import parse_batch

SPEC = ServerSpec(model="base", loras=("french",), engine=INSTANT, block_tokens=4, kv_events=KvEventPorts())
SMALL = attrs.evolve(SPEC, engine=attrs.evolve(INSTANT, cache_tokens=24, max_running=1))


class Subscriber:
    """A server, a session to ask it, and a subscription to its events."""

    def __init__(self, server: EngineServer, session: aiohttp.ClientSession, context: zmq.asyncio.Context) -> None:
        self.server = server
        self.topics: list[bytes] = []
        self.numbers: list[int] = []
        self._session = session
        self._context = context
        self._socket = context.socket(zmq.SUB)
        self._socket.subscribe(b"")
        assert server.kv_events is not None
        self._socket.connect(server.kv_events.address)

    async def ask(self, prompt: list[int], **fields: Any) -> None:
        body = {"model": "base", "prompt": prompt, "max_tokens": 1, **fields}
        async with self._session.post(f"{self.server.url}/v1/completions", json=body) as answer:
            assert answer.status == 200
            await answer.read()

    async def next(self) -> list[dict[str, Any]]:
        """The events of the next batch."""
        topic, sequence, payload = await asyncio.wait_for(self._socket.recv_multipart(), 5)
        self.topics.append(topic)
        self.numbers.append(int.from_bytes(sequence, "big"))
        decoded = msgpack.unpackb(payload)
        assert parse_batch(decoded).malformed == ()
        _, events, rank = decoded
        assert rank == 0
        return list(events)

    async def replay(self, first: int) -> list[tuple[int, Any]]:
        """What comes when batches from `first` on are asked for, up to the end mark."""
        assert self.server.kv_events is not None
        with self._context.socket(zmq.DEALER) as socket:
            socket.connect(self.server.kv_events.replay_address)
            await socket.send_multipart([b"", first.to_bytes(8, "big")])
            batches: list[tuple[int, Any]] = []
            while True:
                empty, sequence, payload = await asyncio.wait_for(socket.recv_multipart(), 5)
                assert empty == b""
                if not payload:
                    assert int.from_bytes(sequence, "big", signed=True) == -1
                    return batches
                batches.append((int.from_bytes(sequence, "big"), msgpack.unpackb(payload)))


@contextlib.asynccontextmanager
async def subscribed(spec: ServerSpec = SPEC) -> AsyncIterator[Subscriber]:
    context = zmq.asyncio.Context()
    try:
        async with EngineServer(spec) as server, aiohttp.ClientSession() as session:
            subscriber = Subscriber(server, session, context)
            await asyncio.sleep(0.5)  # a publisher does not wait for who is about to connect
            yield subscriber
    finally:
        context.destroy(linger=0)


def test_blocks_are_told_with_their_tokens_parents_and_adapter() -> None:
    async def run() -> None:
        async with subscribed() as subscriber:
            await subscriber.ask(list(range(10)))
            (first,) = await subscriber.next()
            assert first["type"] == "BlockStored"
            assert first["token_ids"] == list(range(8)), "whole blocks only"
            assert (first["parent_block_hash"], first["block_size"], first["lora_name"]) == (None, 4, None)

            await subscriber.ask([*range(8), 50, 51, 52, 53])
            (second,) = await subscriber.next()
            assert second["token_ids"] == [50, 51, 52, 53], "what is there is not told again"
            assert second["parent_block_hash"] == first["block_hashes"][-1]

            await subscriber.ask(list(range(10)), model="french")
            (third,) = await subscriber.next()
            assert third["lora_name"] == "french"
            assert not set(third["block_hashes"]) & set(first["block_hashes"])

            assert subscriber.numbers == [0, 1, 2]
            assert subscriber.topics == [f"kv@{subscriber.server.address}@base".encode()] * 3

    asyncio.run(run())


def test_equal_tokens_have_equal_hashes_in_every_engine() -> None:
    async def run() -> None:
        async with subscribed() as one, subscribed(attrs.evolve(SPEC, seed=9, name="e1")) as other:
            await one.ask(list(range(8)))
            await other.ask(list(range(8)))
            (first,), (second,) = await one.next(), await other.next()
            assert first["block_hashes"] == second["block_hashes"]

    asyncio.run(run())


def test_evicted_blocks_are_told_the_deepest_first() -> None:
    """Six blocks of room: the second prompt pushes the end of the first one out."""

    async def run() -> None:
        async with subscribed(SMALL) as subscriber:
            await subscriber.ask(list(range(16)))
            (stored,) = await subscriber.next()
            await subscriber.ask(list(range(100, 116)))
            removed, added = await subscriber.next()
            assert removed["type"] == "BlockRemoved"
            assert removed["block_hashes"] == [stored["block_hashes"][3], stored["block_hashes"][2]]
            assert added["type"] == "BlockStored"

    asyncio.run(run())


def test_what_was_missed_can_be_asked_for_again() -> None:
    async def run() -> None:
        async with subscribed() as subscriber:
            for start in range(0, 50, 10):
                await subscriber.ask(list(range(start, start + 8)))
            heard = [await subscriber.next() for _ in range(5)]
            replayed = await subscriber.replay(2)
            assert [number for number, _ in replayed] == [2, 3, 4]
            assert [events for _, (_, events, _) in replayed] == heard[2:]
            assert await subscriber.replay(99) == []

    asyncio.run(run())


def test_events_tell_exactly_what_is_in_the_cache() -> None:
    """Whatever is asked in whatever order: stored and not removed is what a prompt will find."""

    async def run() -> None:
        async with subscribed(SMALL) as subscriber:
            known: set[int] = set()
            for turn in range(30):
                await subscriber.ask([turn * 7 % 5] * 4 + [turn % 3] * 4 + [turn % 2] * 4)
            for _, (_, events, _) in await subscriber.replay(0):
                for event in events:
                    hashes = set(event["block_hashes"])
                    if event["type"] == "BlockStored":
                        assert not hashes & known
                        known |= hashes
                    else:
                        assert hashes <= known
                        known -= hashes
            cache = subscriber.server.service.driver.engine.cache
            assert len(known) == cache.idle <= 6
            assert all(cache.match([block]) for block in known)

    asyncio.run(run())
