"""The laboratory: servers that answer as engines do, and a fleet with a table; a source stands between them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiohttp import web

from inferencesched import Endpoint, EndpointBatch, EndpointTable

VLLM = """\
vllm:num_requests_running{{engine="0",model_name="m"}} 2.0
vllm:num_requests_waiting{{engine="0",model_name="m"}} {waiting}
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} 0.5
"""

LOAD = frozenset(("waiting_requests", "running_requests", "kv_cache_utilization"))


class Gate:
    """Lets nobody through until so many are waiting at the same time."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.waiting = 0
        self.open = asyncio.Event()

    async def passed(self) -> None:
        self.waiting += 1
        if self.waiting >= self.wanted:
            self.open.set()
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1


class Engine:
    """One server: what it says can be changed while it runs, and it counts who asks."""

    def __init__(self, page: str = VLLM.format(waiting=1), *, gate: Gate | None = None) -> None:
        self.page = page
        self.gate = gate
        self.status = 200
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.asked = 0
        self.paths: list[str] = []
        self.connections: set[object] = set()
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.paths.append(request.path)
        self.connections.add(request.transport)
        if self.gate is not None:
            await self.gate.passed()
        await self.speaks.wait()
        return web.Response(text=self.page, status=self.status)

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[Engine]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.answer)
        # A handler ends when its client has gone: who waits in vain is not waiting any more.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self.port, **options)
            await site.start()
            self.port = runner.addresses[0][1]
            yield self
        finally:
            self.speaks.set()
            if self.gate is not None:
                self.gate.open.set()
            await runner.cleanup()


class TableFleet:
    """A table with a clock: the whole of what a source needs of a host."""

    def __init__(self, *columns: str) -> None:
        self.table = EndpointTable()
        self.columns = frozenset(columns) or LOAD
        self.updates = 0

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.table.endpoints

    def add_endpoint(self, name: str, address: str, /, *, labels: Mapping[str, str], rank: int = 0) -> Endpoint:
        return self.table.add(name, address, labels=labels, rank=rank, now=time.monotonic())

    def remove_endpoint(self, name: str, /) -> None:
        self.table.remove(name)

    def update(self, name: str, facts: Mapping[str, Any], /) -> None:
        self.table.update(name, facts, now=time.monotonic())
        self.updates += 1

    def add(self, name: str, address: str, **labels: str) -> Endpoint:
        return self.add_endpoint(name, address, labels=labels)

    def batch(self) -> EndpointBatch:
        return self.table.snapshot(now=time.monotonic())

    def fact(self, name: str, column: str) -> float:
        batch = self.batch()
        return batch.at(column, batch.names.index(name))


async def until(true: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait for something to become true; fail after so many seconds."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 — what is waited for happens in another's hands
            await asyncio.sleep(0.005)


class Lab:
    """Both ends, and what a test does between them."""

    engine = Engine
    fleet = TableFleet
    until = staticmethod(until)
    load = LOAD
    vllm = VLLM

    @staticmethod
    @contextlib.asynccontextmanager
    async def engines(n: int = 1, *, together: bool = False, **options: Any) -> AsyncIterator[list[Engine]]:
        """Run so many engines; `together`: none answers before all were asked."""
        options["gate"] = Gate(n) if together else None
        async with contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(Engine(**options).running()) for _ in range(n)]


@pytest.fixture
def lab() -> Lab:
    return Lab()
