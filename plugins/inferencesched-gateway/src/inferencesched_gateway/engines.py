"""Engines: simulated model servers in a process of their own, for demonstrations on a machine without a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from typing import IO

from inferencesched import ConfigError
from inferencesched.errors import Problem

__all__ = ["simulated_engines"]

_LONGEST_START = 60.0  # seconds; a second or two on an idle machine
_LONGEST_END = 5.0


@contextlib.asynccontextmanager
async def simulated_engines(count: int, *options: str) -> AsyncIterator[tuple[str, ...]]:
    """Start so many of them, and stop them in the end; yields their addresses.

    Args:
        options: further arguments of ``inferencesched enginesim``.

    Raises:
        ConfigError: that command is not installed, or does not start.
    """
    arguments = ["-m", "inferencesched", "enginesim", "--engines", str(count), "--port", "0", "--json", *options]
    with tempfile.TemporaryFile() as log:  # and no pipe: nobody reads it while all is well
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for whoever started them: answers under way need them a little longer
        )
        try:
            yield await _addresses(process, log)
        finally:
            await _end(process)


async def _addresses(process: asyncio.subprocess.Process, log: IO[bytes]) -> tuple[str, ...]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _LONGEST_START)
        return tuple(engine["address"] for engine in json.loads(line)["engines"])
    except (TimeoutError, ValueError, KeyError):
        raise ConfigError([Problem("", await _trouble(process, log))]) from None


async def _trouble(process: asyncio.subprocess.Process, log: IO[bytes]) -> str:
    await _end(process)
    log.seek(0)
    said = log.read().decode(errors="replace").strip()
    if "No such command" in said:
        return "simulated engines come with a distribution of their own: pip install inferencesched-enginesim"
    return f"the simulated engines did not start: {said or 'no answer'}"


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask it to end; insist if it does not."""
    for ask in (process.terminate, process.kill):
        with contextlib.suppress(ProcessLookupError):
            ask()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _LONGEST_END)
            return
