"""Engines: simulated model servers in a process of their own, for demonstrations on a machine without a GPU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator

from inferencesched import ConfigError
from inferencesched.errors import Problem

__all__ = ["simulated_engines"]

_LONGEST_START = 30.0  # seconds


@contextlib.asynccontextmanager
async def simulated_engines(count: int, *options: str) -> AsyncIterator[tuple[str, ...]]:
    """Start so many of them, and stop them in the end; yields their URLs.

    Args:
        options: further arguments of ``inferencesched enginesim``.

    Raises:
        ConfigError: that command is not installed, or does not start.
    """
    arguments = ["-m", "inferencesched", "enginesim", "--engines", str(count), "--port", "0", "--json", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for whoever started them: answers under way need them a little longer
    )
    try:
        yield await _addresses(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _addresses(process: asyncio.subprocess.Process) -> tuple[str, ...]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _LONGEST_START)
        return tuple(engine["address"] for engine in json.loads(line)["engines"])
    except (TimeoutError, ValueError, KeyError):
        raise ConfigError([Problem("", await _trouble(process))]) from None


async def _trouble(process: asyncio.subprocess.Process) -> str:
    said = b""
    if process.returncode is None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 1.0)
    if process.stderr is not None and process.returncode is not None:
        said = await process.stderr.read()
    if b"No such command" in said:
        return "simulated engines come with a distribution of their own: pip install inferencesched-enginesim"
    return f"the simulated engines did not start: {said.decode(errors='replace').strip() or 'no answer'}"
