"""Service: a gateway that runs: listeners, sources of facts, reload of its files, and an end that loses nothing.

start:  pools ─▶ sources ─▶ listen ─▶ (first facts, or patience is over) ─▶ ready
reload: files change ─▶ read all ─▶ right? install : keep what is in force and say what is wrong
drain:  not ready ─▶ (balancers notice) ─▶ accept nothing new ─▶ wait for answers ─▶ cut what is left
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from inferencesched import InferenceschedError
from inferencesched_gateway.feed import Feed
from inferencesched_gateway.gateway import Gateway, GatewaySettings
from inferencesched_gateway.local import Local
from inferencesched_gateway.manifest import Manifest
from inferencesched_gateway.pool import Pool
from inferencesched_gateway.setup import MAX_AGE, Setup, install
from inferencesched_gateway.sight import has_facts, spots
from inferencesched_gateway.watch import Watch
from inferencesched_gateway.wire import Client, ClientTimeouts, Exchange, Limits, Server, ServerTimeouts

__all__ = ["Service", "ServiceSettings"]

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05
_LAST_WORDS_SECONDS = 1.0  # for errors to reach those who were cut off


@attrs.frozen
class ServiceSettings:
    """How a gateway runs.

    Attributes:
        host: address to listen on.
        port: 0 for any that is free.
        gateway: how requests are treated.
        limits: of headers and bodies.
        server_timeouts: of the clients' side.
        client_timeouts: of the engines' side.
        tls: certificate and key of the clients' side; None for plain HTTP.
        engine_tls: how engines' certificates are verified; None for the system's authorities.
        max_age: seconds after which what an engine has said of itself is unknown again.
        ready_seconds: how long readiness waits for the first facts of every endpoint.
        reload_seconds: how often files are looked at; 0 for never.
        drain_delay: seconds of going on as before while readiness says no, so that balancers notice.
        drain_seconds: how long answers under way may take after that.
        seed: of all dice.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    gateway: GatewaySettings = attrs.field(factory=GatewaySettings)
    limits: Limits = attrs.field(factory=Limits)
    server_timeouts: ServerTimeouts = attrs.field(factory=ServerTimeouts)
    client_timeouts: ClientTimeouts = attrs.field(factory=ClientTimeouts)
    tls: ssl.SSLContext | None = None
    engine_tls: ssl.SSLContext | None = None
    max_age: float = MAX_AGE
    ready_seconds: float = 5.0
    reload_seconds: float = 1.0
    drain_delay: float = 0.0
    drain_seconds: float = 30.0
    seed: int | None = None


class Service:
    """Runs a gateway while it is entered as an asynchronous context.

    Args:
        load: reads everything that can change while running; called again for every reload.
        settings: see there.
        files: what is watched for changes.

    Raises:
        ConfigError: what `load` reads is wrong.

    ::

        async with Service(lambda: load(urls=["http://127.0.0.1:8000"]), ServiceSettings(port=0)) as service:
            print(service.port)
            await service.stopped.wait()
    """

    def __init__(
        self, load: Callable[[], Manifest], settings: ServiceSettings | None = None, *, files: Sequence[Path] = ()
    ) -> None:
        self.settings = settings = ServiceSettings() if settings is None else settings
        self.stopped = asyncio.Event()
        self.is_draining = False
        self._load = load
        self._rng = random.Random(settings.seed)
        self._watch = Watch(files)
        self._has_facts = False
        self._feeds: list[Feed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: list[Pool] = []
        self._reloading = asyncio.Lock()
        client = Client(timeouts=settings.client_timeouts, limits=settings.limits, tls=settings.engine_tls)
        setup = install(load(), None, rng=self._rng, max_age=settings.max_age)
        self.gateway = Gateway(setup, client, settings.gateway, rng=self._rng)
        self._local = Local(self)
        self.server = Server(
            self._handle,
            limits=settings.limits,
            timeouts=settings.server_timeouts,
            tls=settings.tls,
            refuse=self.gateway.refuse_unread,
        )

    @property
    def setup(self) -> Setup:
        """What is in force."""
        return self.gateway.setup

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Every pool that still has something to do, those that are leaving included."""
        self._leaving = [pool for pool in self._leaving if not pool.dispatcher.drained]
        return (*self.setup.pools.values(), *self._leaving)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    @property
    def is_ready(self) -> bool:
        """Whether it should be sent requests."""
        return self._has_facts and not self.is_draining

    async def __aenter__(self) -> Self:
        """Start; returns when it listens, which may be before it is ready.

        Raises:
            ConfigError: a source lacks what it needs.
            OSError: the address cannot be listened on.
        """
        try:
            await self._open_feeds()
            await self.server.start(self.settings.host, self.settings.port)
        except BaseException:
            await self._close_feeds()
            raise
        self._begin(self._look_for_facts())
        if self.settings.reload_seconds > 0 and self._watch.files:
            self._begin(self._follow_files())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; what has not ended by now is cut."""
        self.is_draining = True
        self.server.stop_accepting()
        for pool in self.pools:
            pool.close()
        await self.server.wait_idle(_LAST_WORDS_SECONDS)
        self.server.abort_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_feeds()
        await self.gateway.client.close()

    async def reload(self) -> bool:
        """Read everything anew and put it in force; return whether it was right. If not, nothing changes.

        What is wrong is logged. Reloads that are asked for at once come one after another.
        """
        async with self._reloading:
            return await self._reload()

    async def drain(self) -> None:
        """End well: say so, accept nothing new, wait for what is under way; `stopped` tells when that is over."""
        if self.is_draining:
            return
        self.is_draining = True
        await asyncio.sleep(self.settings.drain_delay)
        self.server.stop_accepting()
        for pool in self.pools:
            pool.drain(grace=self.settings.drain_seconds)
        if not await self.server.wait_idle(self.settings.drain_seconds):
            _log.warning("%d answers take longer than %g s", self.server.exchanges, self.settings.drain_seconds)
        self.stopped.set()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _handle(self, exchange: Exchange) -> None:
        if not self._local.handle(exchange):
            self.gateway.handle(exchange)

    async def _reload(self) -> bool:
        before = self.setup
        try:
            manifest = self._load()
        except InferenceschedError as error:
            _log.error("not reloaded, everything stays as it was:\n%s", error)
            return False
        await self._close_feeds()
        try:
            self._install(manifest)
            await self._open_feeds()
        except InferenceschedError as error:
            _log.error("not reloaded, everything goes back to what it was:\n%s", error)
            await self._close_feeds()
            self._install(before.manifest)
            await self._open_feeds()
            return False
        _log.info("reloaded: %d pools", len(manifest.pools))
        self._begin(self._look_for_facts())
        return True

    def _install(self, manifest: Manifest) -> None:
        before = self.setup
        self.gateway.setup = setup = install(manifest, before, rng=self._rng, max_age=self.settings.max_age)
        self._leaving += [pool for key, pool in before.pools.items() if key not in setup.pools]

    async def _open_feeds(self) -> None:
        for pool in self.setup.pools.values():
            feed = Feed(pool, self.setup.manifest.config)
            await feed.open()
            self._feeds.append(feed)

    async def _close_feeds(self) -> None:
        feeds, self._feeds = self._feeds, []
        for feed in feeds:
            await feed.close()

    async def _look_for_facts(self) -> None:
        """Wait until every endpoint has been heard of, or patience is over; then say who decides blindly."""
        clock = self.gateway.clock
        for _ in range(int(self.settings.ready_seconds / _LOOK_SECONDS)):
            if all(has_facts(feed, now=clock()) for feed in self._feeds):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._has_facts = True
        for feed in self._feeds:
            for spot in spots(feed, now=clock()):
                _log.warning("pool %s: %s", feed.pool.name, spot)

    async def _follow_files(self) -> None:
        while True:
            await asyncio.sleep(self.settings.reload_seconds)
            try:
                if self._watch.has_changed():
                    await self.reload()
            except Exception:  # noqa: BLE001 — whatever it was: the next change is looked at all the same
                _log.exception("not reloaded")

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
