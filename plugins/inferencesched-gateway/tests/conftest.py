"""Gateways that run, in a thread of their own, in front of simulated engines in a process of their own."""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import orjson
import pytest
from inferencesched_gateway import Service, ServiceSettings, load
from inferencesched_gateway.engines import simulated_engines
from inferencesched_gateway.gateway import GatewaySettings
from inferencesched_gateway.wire import Exchange, Server

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

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """Return what `condition` gives as soon as that is true."""
        for _ in range(400):
            if found := condition():
                return found
            time.sleep(0.025)
        raise AssertionError("it did not come true in 10 s")

    def wait_until_ready(self) -> None:
        self.wait_for(lambda: self.http.get("/readyz").status_code == 200)

    def in_flight(self) -> dict[str, float]:
        """Return how many requests each endpoint works on, by the ledger."""

        async def look() -> dict[str, float]:
            (pool,) = self.service.pools
            batch = pool.dispatcher.scheduler.candidates(now=self.service.gateway.clock())
            return dict(zip(batch.names, batch["in_flight_requests"].tolist(), strict=True))

        found: dict[str, float] = self.background.run(look())
        return found

    def touched(self) -> float:
        """Return when the placement that has been silent longest gave its last sign of life; 0 if there is none."""

        async def look() -> float:
            (pool,) = self.service.pools
            timer = pool.dispatcher.scheduler.next_timer()
            return 0.0 if timer is None else timer - pool.dispatcher.scheduler.ledger.ttl

        found: float = self.background.run(look())
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/-/status").raise_for_status().json()
        return found


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@attrs.frozen
class Engine:
    """A simulated engine, and what can be asked of the simulator."""

    url: str
    name: str = ""

    def requests(self) -> list[dict[str, Any]]:
        """Return what has been asked of it, the latest last; looking at its pages does not count."""
        arrived = httpx.get(f"{self.url}/sim/requests").raise_for_status().json()["requests"]
        return [request for request in arrived if request["method"] == "POST"]

    def fail(self, kind: str, **fields: Any) -> None:
        httpx.post(f"{self.url}/sim/faults", json={"kind": kind, **fields}).raise_for_status()

    def mend(self, neighbour: "Engine | None" = None) -> None:
        at = f"{neighbour.url}/sim/faults?engine={self.name}" if neighbour else f"{self.url}/sim/faults"
        httpx.delete(at).raise_for_status()

    def forget(self) -> None:
        httpx.delete(f"{self.url}/sim/requests").raise_for_status()


class HandEngine:
    """An engine that answers when it is told to: for what must not depend on who is quicker."""

    def __init__(self, background: Background, tls: ssl.SSLContext | None = None) -> None:
        self._background = background
        self._server = Server(self._take, tls=tls)
        self.waiting: list[Exchange] = []
        self.seen: list[dict[str, Any]] = []
        self.handler: Callable[[Exchange], Any] | None = None
        background.run(self._server.start("127.0.0.1", 0))
        self.port = self._server.port
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"
        self.looked_at: set[str] = set()

    def _take(self, exchange: Exchange) -> None:
        if self.handler is not None and exchange.method == "POST":
            self.handler(exchange)
        elif exchange.method == "POST":
            headers = {name.decode(): value.decode() for name, value in exchange.headers}
            self.seen.append({"path": exchange.path, "headers": headers, "body": exchange.body})
            self.waiting.append(exchange)
        else:
            self.looked_at.add(exchange.path)
            exchange.respond(404, [])

    def __len__(self) -> int:
        return len(self.waiting)

    def tell(self, what: Callable[[Exchange], Any]) -> None:
        """Do something with the request that has waited longest, in its loop."""

        async def do() -> None:
            what(self.waiting.pop(0))

        self._background.run(do())

    def do(self, what: Callable[[], Any]) -> None:
        """Do something in its loop."""

        async def now() -> None:
            what()

        self._background.run(now())

    def answer(
        self, body: dict[str, Any] | bytes = b'{"choices":[]}', status: int = 200, kind: str = "application/json"
    ) -> None:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        self.tell(lambda exchange: exchange.respond(status, [(b"content-type", kind.encode())], content))

    def close(self) -> None:
        async def stop() -> None:
            self._server.stop_accepting()
            self._server.abort_all()

        self._background.run(stop())


@pytest.fixture
def hand_engine(background: Background) -> Iterator[Callable[..., HandEngine]]:
    """Return a function that starts an engine which answers when it is told to."""
    made: list[HandEngine] = []

    def start(tls: ssl.SSLContext | None = None) -> HandEngine:
        made.append(HandEngine(background, tls))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def engines(background: Background) -> Callable[..., list[Engine]]:
    """Return a function that starts simulated engines."""

    def start(count: int = 2, *options: str) -> list[Engine]:
        addresses = background.enter(simulated_engines(count, "--speed", "1000", *options))
        return [Engine(f"http://{address}", f"engine-{i}") for i, address in enumerate(addresses)]

    return start


@pytest.fixture(scope="session")
def shared_engines(background: Background) -> list[Engine]:
    adapters = ("--lora", "english-bot", "--lora", "spanish-bot")
    addresses = background.enter(simulated_engines(2, "--speed", "1000", *adapters))
    return [Engine(f"http://{address}") for address in addresses]


@pytest.fixture
def fleet(shared_engines: list[Engine]) -> Iterator[list[Engine]]:
    """Return two engines that others use too, one test at a time."""
    for engine in shared_engines:
        engine.forget()
    yield shared_engines
    for engine in shared_engines:
        engine.mend()


@pytest.fixture
def gateway(
    background: Background,
    hand_engine: Callable[..., HandEngine],  # ends after those who would connect to it again
) -> Iterator[Callable[..., Running]]:
    """Return a function that starts a gateway."""
    running: list[Running] = []

    def start(
        *files: Path, urls: Iterable[Engine | str] = (), settings: ServiceSettings | None = None, **options: Any
    ) -> Running:
        settings = settings or ServiceSettings(
            **{"port": 0, "gateway": TRUSTED, "seed": 1, "reload_seconds": 0.05, **options}
        )
        given = tuple(each if isinstance(each, str) else each.url for each in urls)

        async def build() -> Service:
            return Service(lambda: load(files, given), settings, files=files)

        service = background.run(build())
        background.run(service.__aenter__())
        running.append(Running(background, service))
        return running[-1]

    yield start
    for each in running:
        each.http.close()
        background.run(each.service.__aexit__())
