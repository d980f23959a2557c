"""Feed: the sources of one pool while they are open. They are entered and left in one task of their own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from inferencesched import Config, Registry
from inferencesched.interfaces import Source
from inferencesched_gateway.pool import Pool

__all__ = ["Feed"]

_MODELS = "models-data-source"


class Feed:
    """Opens the sources that a configuration asks for.

    Args:
        pool: whose endpoints they follow, and where their facts go.
        config: the configuration in force there.
    """

    def __init__(self, pool: Pool, config: Config) -> None:
        self.pool = pool
        self.sources = _with_models(config.sources(pool.dispatcher.scheduler))
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open all of them, or none.

        Raises:
            ConfigError: what one of them needs from the start is not there.
        """
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._run(opened))
        await opened

    async def close(self) -> None:
        """Close all of them; what they said stays, and grows old."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _run(self, opened: asyncio.Future[None]) -> None:
        async with AsyncExitStack() as stack:
            try:
                for source in self.sources:
                    await stack.enter_async_context(source.open(self.pool))
            except Exception as error:  # noqa: BLE001 — it belongs to whoever waits in `open`
                opened.set_exception(error)
                return
            opened.set_result(None)
            await self._stop.wait()


def _with_models(sources: tuple[Source, ...]) -> tuple[Source, ...]:
    """Return the sources and, for the list of models, the one that asks engines for theirs, unless it is among them."""
    registry = Registry()
    if _MODELS not in registry or any(getattr(source, "type", "") == _MODELS for source in sources):
        return sources
    source: Any = registry.create(_MODELS)
    return *sources, source.read_by([registry.create(name) for name in source.default_extractors])
