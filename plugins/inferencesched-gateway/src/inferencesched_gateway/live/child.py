"""Child: a gateway in a process of its own, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import IO, Any

import orjson

from inferencesched import ConfigError
from inferencesched.errors import Problem

__all__ = ["GatewayProcess", "gateway_process"]

_LONGEST_START = 60.0  # seconds; a second on an idle machine
_LONGEST_END = 5.0
_LAST_WORDS = 2000  # characters of its log that are worth repeating


class GatewayProcess:
    """A gateway that serves.

    Attributes:
        url: where.
        outcomes: what its access log says of every request that has ended, by the request's id.
    """

    def __init__(self, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        self.url = ""
        self.outcomes: dict[str, dict[str, Any]] = {}
        self._process = process
        self._log = log

    async def started(self) -> None:
        """Return once it listens.

        Raises:
            ConfigError: it does not; with what it said.
        """
        try:
            self.url = orjson.loads(await asyncio.wait_for(self._line(), _LONGEST_START))["url"]
        except (TimeoutError, ValueError):
            raise ConfigError([Problem("", f"the gateway did not start: {await self.last_words()}")]) from None

    async def listen(self) -> None:
        """Read its access log, to the end."""
        while line := await self._line():
            outcome = orjson.loads(line)
            self.outcomes[outcome["request_id"]] = outcome

    async def last_words(self) -> str:
        """Return the end of what it wrote to its log."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 1.0)
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()
        return said[-_LAST_WORDS:] or f"it said nothing (exit code {self._process.returncode})"

    async def end(self) -> None:
        """Ask it to end; insist if it does not."""
        for ask in (self._process.terminate, self._process.kill):
            with contextlib.suppress(ProcessLookupError):
                ask()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _LONGEST_END)
                return

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


@contextlib.asynccontextmanager
async def gateway_process(urls: Sequence[str], *options: str) -> AsyncIterator[GatewayProcess]:
    """Run ``inferencesched serve`` in front of these engines for as long as the context is entered.

    Args:
        urls: of the engines.
        options: further arguments of the command.

    Raises:
        ConfigError: it does not start.
    """
    command = [sys.executable, "-m", "inferencesched", "serve", "--json", "--access-log", "--port", "0"]
    command += ["--trust", "127.0.0.1", "--drain-timeout", "1"]
    command += [part for url in urls for part in ("--endpoint", url)]
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *command, *options, stdout=asyncio.subprocess.PIPE, stderr=log, stdin=asyncio.subprocess.DEVNULL
        )
        gateway = GatewayProcess(process, log)
        try:
            await gateway.started()
            listening = asyncio.create_task(gateway.listen())
            yield gateway
        finally:
            await gateway.end()
            if gateway.url:
                await listening
