"""Gateways that run, in a thread of their own, in front of simulated engines in a process of their own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from inferencesched_gateway import Service, ServiceSettings, load
from inferencesched_gateway.engines import simulated_engines
from inferencesched_gateway.gateway import GatewaySettings

TRUSTED = GatewaySettings(trusted=("127.0.0.0/8",))


class Background:
    """An event loop in a thread, for the servers that synchronous tests talk to."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = contextlib.AsyncExitStack()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def enter(self, context: Any) -> Any:
        return self.run(self._stack.enter_async_context(context))

    def close(self) -> None:
        self.run(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Running:
    """A gateway that runs in the background, and a plain client for it."""

    def __init__(self, background: Background, service: Service) -> None:
        self.service = service
        self.background = background
        self.url = f"http://127.0.0.1:{service.port}"
        self.http = httpx.Client(base_url=self.url, timeout=30.0)

    def audit(self) -> None:
        """Prove that nothing is left: no lease, no queued request, no exchange."""

        async def look() -> None:
            for pool in self.service.pools:
                dispatcher = pool.dispatcher
                dispatcher.scheduler.ledger.audit()
                assert len(dispatcher.scheduler.ledger) == 0, pool.name
                assert dispatcher.queued == dispatcher.in_flight == 0, pool.name
            assert self.service.server.exchanges == 0

        self.background.run(look())

    def status(self) -> dict[str, Any]:
        return self.http.get("/-/status").raise_for_status().json()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def engines(background: Background) -> Callable[..., tuple[str, ...]]:
    """Return a function that starts simulated engines and returns their URLs."""

    def start(count: int = 2, *options: str) -> tuple[str, ...]:
        return background.enter(simulated_engines(count, "--speed", "1000", *options))

    return start


@pytest.fixture
def gateway(background: Background) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a gateway."""
    running: list[Running] = []

    def start(
        *files: Path, urls: tuple[str, ...] = (), settings: ServiceSettings | None = None, **options: Any
    ) -> Running:
        settings = settings or ServiceSettings(port=0, gateway=TRUSTED, seed=1, reload_seconds=0.05, **options)

        async def build() -> Service:
            return Service(lambda: load(files, urls), settings, files=files)

        service = background.run(build())
        background.enter(service)
        running.append(Running(background, service))
        return running[-1]

    yield start
    for each in running:
        each.http.close()
