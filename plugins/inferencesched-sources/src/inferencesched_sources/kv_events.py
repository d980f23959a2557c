"""kv-events-source: subscribes to the KV-cache events of every endpoint and hands them to the precise producer.

Sockets, decoding and time are here; what the events mean is computed by `PrecisePrefixCacheProducer`. The source
follows the scheduler's endpoints as an observer, from before it is started, too; or those of the fleet that it is
opened with. One task per endpoint runs in the event loop that the scheduler is used in; nothing needs a lock.

    subscription:  SUB  →  tcp://HOST:(socketPort + rank)         frames: topic, sequence (8 bytes, big-endian), payload
    replay:        DEALER → tcp://HOST:(replaySocketPort + rank)  asked: empty, first sequence; answered: …, sequence,
                                                                  payload, and at last an empty payload
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

import attrs
import msgpack  # type: ignore[import-untyped]
import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from inferencesched import Endpoint, Observer
from inferencesched.interfaces import Fleet
from inferencesched.prefix import KvEventsConfig, PrecisePrefixCacheProducer
from inferencesched_sources.addresses import split

__all__ = ["KvEventsSource", "Topic", "decode"]

_SEQUENCE_BYTES = 8
_ATTEMPTS = 3
_IDLE_SECONDS = 2.0
_COOLDOWN_SECONDS = 30.0
_COMPARE_SECONDS = 0.1

_log = logging.getLogger("inferencesched.sources")


@attrs.frozen
class Topic:
    """Who speaks: ``kv@POD@MODEL``; a topic of another shape is the pod's name as a whole.

    >>> Topic.parse(b"kv@10.0.0.7:8000@llama-70b")
    Topic(pod='10.0.0.7:8000', model='llama-70b')
    """

    pod: str
    model: str = ""

    @classmethod
    def parse(cls, frame: bytes) -> Topic:
        """Return the topic of a message. Never raises: what is no UTF-8 is kept readable."""
        parts = frame.decode("utf-8", "backslashreplace").split("@", 2)
        return cls(parts[1], parts[2]) if len(parts) == 3 else cls("@".join(parts))


def decode(payload: bytes) -> Any:
    """Return a message as lists, maps, numbers and strings; None for what is no MessagePack."""
    try:
        return msgpack.unpackb(payload, raw=False, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException):
        return None


@attrs.define(eq=False)
class KvEventsSource(Observer):
    """Subscribes to the events of every endpoint while it is entered as an asynchronous context.

    Args:
        producer: the precise producer; its ``kvEventsConfig`` says how to reach the engines.
        clock: seconds, monotonic; the same that the host passes as `now`.

    ::

        source = KvEventsSource(producer)
        scheduler = Scheduler(profile, rng=rng, observers=[source])
        async with source:
            ...

    Unknown: an endpoint that does not speak, or whose events went missing, is guessed about.
    Source: ours; the Endpoint Picker subscribes by itself where a `precise-prefix-cache-producer` is declared, and so
        does a host that opens `Config.sources`.
    """

    producer: PrecisePrefixCacheProducer = attrs.field(metadata={"plugin_ref": "precise-prefix-cache-producer"})
    clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)

    _endpoints: set[Endpoint] = attrs.field(init=False, repr=False, factory=set)
    _tasks: dict[Endpoint | None, asyncio.Task[None]] = attrs.field(init=False, repr=False, factory=dict)
    _context: zmq.asyncio.Context | None = attrs.field(init=False, repr=False, default=None)
    _cooling: dict[Endpoint, float] = attrs.field(init=False, repr=False, factory=dict)

    @property
    def config(self) -> KvEventsConfig:
        """How the engines are reached."""
        return self.producer.kv_events_config

    # --- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect to the endpoints known so far; later ones follow as they are added.

        Raises:
            zmq.ZMQError: the local address cannot be bound.
        """
        self._context = zmq.asyncio.Context()
        try:
            if self.config.zmq_endpoint is not None:
                socket = self._subscriber(self._context)
                socket.bind(self.config.zmq_endpoint)
                self._start(None, self._listen(self._context, socket))
            for endpoint in self._endpoints:
                self._connect(endpoint)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect from all; what is known stays, but is trusted no longer."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        for endpoint in self._endpoints:
            self.producer.disconnected(endpoint, now=self.clock())
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def endpoint_added(self, endpoint: Endpoint, *, now: float) -> None:
        """Subscribe to the endpoint, now or as soon as the source is started."""
        if endpoint not in self._endpoints:
            self._endpoints.add(endpoint)
            self._connect(endpoint)

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """Unsubscribe; what it says from now on reaches nobody."""
        self._endpoints.discard(endpoint)
        self._cooling.pop(endpoint, None)
        task = self._tasks.pop(endpoint, None)
        if task is not None:
            task.cancel()

    @contextlib.asynccontextmanager
    async def open(self, fleet: Fleet, /) -> AsyncIterator[Self]:
        """Do the same for the endpoints of a fleet: for a host that does not register the source as an observer.

        Raises:
            zmq.ZMQError: the local address cannot be bound.
        """
        async with self:
            self._compare(fleet)
            following = asyncio.get_running_loop().create_task(self._follow_fleet(fleet))
            try:
                yield self
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _follow_fleet(self, fleet: Fleet) -> None:
        while True:
            await asyncio.sleep(_COMPARE_SECONDS)
            self._compare(fleet)

    def _compare(self, fleet: Fleet) -> None:
        present = set(fleet.endpoints)
        for endpoint in self._endpoints - present:
            self.endpoint_removed(endpoint, now=self.clock())
        for endpoint in present - self._endpoints:
            self.endpoint_added(endpoint, now=self.clock())

    # --- subscription ----------------------------------------------------------------------------------------------

    def _connect(self, endpoint: Endpoint) -> None:
        if self._context is None or not self.config.discover_pods or self.config.zmq_endpoint is not None:
            return
        if self.config.pod_discovery_config.replay_socket_port is not None:
            self.producer.replay_offered(endpoint)
        socket = self._subscriber(self._context)
        address = self._address(endpoint, self.config.pod_discovery_config.socket_port)
        try:
            socket.connect(address)
        except zmq.ZMQError as error:  # no address that can be
            socket.close(linger=0)
            if self.producer.events_not_offered(endpoint, str(error), now=self.clock()):
                _log.warning("kv-events-source: no events of %s: %s: %s", endpoint.name, address, error)
            return
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._start(endpoint, self._follow(self._context, socket, monitor, endpoint))

    def _subscriber(self, context: zmq.asyncio.Context) -> zmq.asyncio.Socket:
        socket = context.socket(zmq.SUB)
        socket.subscribe(self.config.topic_filter)
        return socket

    def _start(self, endpoint: Endpoint | None, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[endpoint] = asyncio.get_running_loop().create_task(work)

    def _address(self, endpoint: Endpoint, port: int) -> str:
        _, host, _ = split(endpoint.address)
        return f"tcp://{host}:{port + endpoint.rank}"

    async def _follow(
        self,
        context: zmq.asyncio.Context,
        socket: zmq.asyncio.Socket,
        monitor: zmq.asyncio.Socket,
        endpoint: Endpoint,
    ) -> None:
        """Receive from one engine until cancelled; ZeroMQ itself connects again when the connection breaks."""
        watching = asyncio.get_running_loop().create_task(self._watch(monitor, endpoint))
        with socket:
            try:
                while True:
                    await self._take(context, endpoint, await socket.recv_multipart())
            finally:
                watching.cancel()
                socket.disable_monitor()

    async def _watch(self, monitor: zmq.asyncio.Socket, endpoint: Endpoint) -> None:
        """Say when the connection breaks: what the engine does then is not heard."""
        while True:
            await recv_monitor_message(monitor)
            self.producer.disconnected(endpoint, now=self.clock())

    async def _listen(self, context: zmq.asyncio.Context, socket: zmq.asyncio.Socket) -> None:
        """Receive from all engines that connect to us; topics say who speaks."""
        with socket:
            while True:
                frames = await socket.recv_multipart()
                endpoint = self._speaker(Topic.parse(frames[0]))
                if endpoint is not None:
                    await self._take(context, endpoint, frames)

    def _speaker(self, topic: Topic) -> Endpoint | None:
        return next((e for e in self._endpoints if topic.pod in {e.name, e.address}), None)

    async def _take(self, context: zmq.asyncio.Context, endpoint: Endpoint, frames: list[bytes]) -> None:
        if len(frames) != 3 or len(frames[1]) != _SEQUENCE_BYTES:
            return  # not a message of this protocol; the gap it leaves in the numbers will be noticed
        topic = Topic.parse(frames[0])
        sequence = int.from_bytes(frames[1], "big")
        self.producer.receive(endpoint, sequence, decode(frames[2]), model=topic.model, now=self.clock())
        if self.producer.missing(endpoint) is not None:
            await self._replay(context, endpoint, topic.model)

    # --- replay ----------------------------------------------------------------------------------------------------

    async def _replay(self, context: zmq.asyncio.Context, endpoint: Endpoint, model: str) -> None:
        """Ask for what is missing, as long as that brings something; then give up, for a while."""
        port = self.config.pod_discovery_config.replay_socket_port
        if port is not None and self.clock() >= self._cooling.get(endpoint, 0.0):
            address = self._address(endpoint, port)
            attempts = _ATTEMPTS
            while attempts and (missing := self.producer.missing(endpoint)) is not None:
                before = missing[0]
                await self._ask(context, endpoint, address, before, model)
                missing = self.producer.missing(endpoint)
                if missing is None:
                    return
                attempts = attempts - 1 if missing[0] == before else _ATTEMPTS
            self._cooling[endpoint] = self.clock() + _COOLDOWN_SECONDS
        self.producer.replay_failed(endpoint, now=self.clock())

    async def _ask(
        self, context: zmq.asyncio.Context, endpoint: Endpoint, address: str, first: int, model: str
    ) -> None:
        with context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)
            await socket.send_multipart([b"", first.to_bytes(_SEQUENCE_BYTES, "big")])
            while self.producer.missing(endpoint) is not None:
                try:
                    *_, sequence, payload = await asyncio.wait_for(socket.recv_multipart(), _IDLE_SECONDS)
                except TimeoutError:
                    return
                except ValueError:
                    return  # an answer of one frame is none
                if not payload:
                    return
                number = int.from_bytes(sequence, "big")
                self.producer.replayed(endpoint, number, decode(payload), model=model, now=self.clock())
