"""Several simulated servers in one process, who know of each other so that one can be asked to break another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from inferencesched_enginesim.server import EngineServer
from inferencesched_enginesim.spec import ServerSpec

__all__ = ["EngineFleet"]


class EngineFleet:
    """Servers that listen for as long as the context is entered.

    Args:
        specs: one for each server, each with a name of its own.

    Raises:
        ValueError: two have the same name.
    """

    def __init__(self, specs: Iterable[ServerSpec]) -> None:
        servers = [EngineServer(spec) for spec in specs]
        self._servers = {server.spec.name: server for server in servers}
        if len(self._servers) < len(servers):
            raise ValueError("two engines have the same name")
        for server in servers:
            server.peers = self._servers
        self._stack = AsyncExitStack()

    def __iter__(self) -> Iterator[EngineServer]:
        return iter(self._servers.values())

    def __getitem__(self, name: str) -> EngineServer:
        return self._servers[name]

    async def __aenter__(self) -> Self:
        """Let all of them listen, or none.

        Raises:
            OSError: a port is taken.
        """
        async with AsyncExitStack() as stack:
            for server in self:
                await stack.enter_async_context(server)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all of them."""
        await self._stack.aclose()
