"""Scraping: one task per endpoint that asks, reads and waits, so that a slow endpoint holds up nobody but itself.

    fleet.endpoints ──compared at every step──▶ one task each:  ask ─▶ extract ─▶ fleet.update ─▶ wait, with jitter
                                                                 └─ failed: facts stay as they are and grow old

What is wrong is remembered per endpoint, and said once when it changes: one line in the log for all endpoints together.
A failure removes nothing; who wants old facts forgotten gives the endpoint table a `max_age`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

from inferencesched import Endpoint, LifecycleError
from inferencesched.interfaces import Extractor, Fleet

__all__ = ["FLOOR_SECONDS", "Scraping"]

FLOOR_SECONDS = 0.05
"""The shortest time between two looks at one endpoint, as upstream has it."""

_TIMEOUT_SECONDS = 1.0
_JITTER = 0.1
"""Share by which each wait is longer or shorter, so that endpoints do not fall into step."""

_REPORT_SECONDS = 1.0
_NAMED = 5
"""Endpoints that a line in the log names; of the others it says how many."""

_log = logging.getLogger("inferencesched.sources")


class Asking(Protocol):
    """What the scraping has to know of its source."""

    @property
    def type(self) -> str: ...
    @property
    def largest(self) -> int: ...
    @property
    def interval(self) -> float: ...
    @property
    def pause(self) -> float: ...
    @property
    def extractors(self) -> tuple[Extractor, ...]: ...
    def url(self, endpoint: Endpoint) -> str: ...


class Watched:
    """One endpoint, and how it went lately."""

    def __init__(self, endpoint: Endpoint, url: str) -> None:
        self.endpoint = endpoint
        self.url = url
        self.looks = 0
        self.trouble = ""
        self.absent: Mapping[str, str] = {}
        self.known: set[str] = set()
        self.told = ""

    @property
    def state(self) -> str:
        """What is wrong, in words that are the same for every endpoint with the same trouble."""
        return self.trouble or "; ".join(f"{column} is unknown: {why}" for column, why in sorted(self.absent.items()))


class Scraping:
    """Asks the endpoints of a fleet while it is entered as an asynchronous context.

    Attributes:
        looks: pages asked for since the start.
        failures: of these, how many brought nothing.
    """

    def __init__(self, source: Asking, fleet: Fleet, session: aiohttp.ClientSession, *, rng: random.Random) -> None:
        self.looks = 0
        self.failures = 0
        self._source = source
        self._fleet = fleet
        self._session = session
        self._rng = rng
        self._timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        self._watched: dict[str, Watched] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._brought = _brought(source.extractors)
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._source.interval < FLOOR_SECONDS:
            asked, floor = f"{self._source.interval * 1e3:g}", f"{FLOOR_SECONDS * 1e3:g}"
            _log.warning("%s: an interval of %s ms is too short; %s ms is used", self._source.type, asked, floor)
        self._compare()
        self._keeper = asyncio.get_running_loop().create_task(self._keep_up())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks.values(), *([] if self._keeper is None else [self._keeper])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    def explain(self, endpoint: str, column: str) -> str | None:
        """Return why a column of an endpoint, by name, is not known; None if the last look was all right."""
        watched = self._watched.get(endpoint)
        if watched is None:
            return None
        why = watched.trouble or watched.absent.get(column) or ("" if watched.looks else "has not answered yet")
        return f"{watched.url}: {why}" if why else None

    # --- who is there ------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Follow the fleet, and say what has changed."""
        loop = asyncio.get_running_loop()
        report_at = loop.time() + _REPORT_SECONDS
        while True:
            await asyncio.sleep(self._source.pause)
            self._compare()
            if loop.time() >= report_at:
                self._report()
                report_at = loop.time() + _REPORT_SECONDS

    def _compare(self) -> None:
        """Start with endpoints that are new, and stop with those that are gone: whatever was missed meanwhile."""
        present = {endpoint.name: endpoint for endpoint in self._fleet.endpoints}
        for name, watched in tuple(self._watched.items()):
            if present.get(name) != watched.endpoint:  # gone, or another instance of that name
                self._tasks.pop(name).cancel()
                del self._watched[name]
        for name, endpoint in present.items():
            if name not in self._watched:
                watched = self._watched[name] = Watched(endpoint, self._source.url(endpoint))
                self._tasks[name] = asyncio.get_running_loop().create_task(self._follow(watched))
            elif endpoint is not self._watched[name].endpoint:  # the same one, with other labels
                self._watched[name].endpoint, self._watched[name].url = endpoint, self._source.url(endpoint)

    # --- one endpoint ------------------------------------------------------------------------------------------------

    async def _follow(self, watched: Watched) -> None:
        pause, loop = self._source.pause, asyncio.get_running_loop()
        due = loop.time() + pause * self._rng.random()  # of the second look: the first is at once
        while True:
            columns = self._fleet.columns
            if self._brought is None or not self._brought.isdisjoint(columns):
                await self._look(watched, columns)
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due, loop.time() - pause) + pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    async def _look(self, watched: Watched, columns: frozenset[str]) -> None:
        self.looks += 1
        try:
            page = await self._ask(watched.url)
        except (OSError, aiohttp.ClientError, ValueError) as error:
            self.failures += 1
            watched.trouble = _in_words(error)
        else:
            watched.trouble = ""
            self._take(watched, page, columns)
        watched.looks += 1

    async def _ask(self, url: str) -> bytes:
        """Return the page.

        Raises:
            OSError, aiohttp.ClientError, ValueError: there is none.
        """
        async with self._session.get(url, timeout=self._timeout, allow_redirects=False) as response:
            if response.status != 200:
                raise _Refused(f"answered {response.status}")
            parts: list[bytes] = []
            room = self._source.largest
            async for part in response.content.iter_any():
                parts.append(part)
                room -= len(part)
                if room < 0:
                    raise _Refused(f"answered with more than {self._source.largest} bytes")
        return b"".join(parts)

    def _take(self, watched: Watched, page: bytes, columns: frozenset[str]) -> None:
        facts: dict[str, Any] = {}
        absent: dict[str, str] = {}
        for extractor in self._source.extractors:
            try:
                reading = extractor.extract(watched.endpoint, page, columns)
            except Exception as error:  # noqa: BLE001 — an extractor of somebody else's must not stop the others
                watched.trouble = f"{type(extractor).__name__} failed ({type(error).__name__}: {error})"
                continue
            facts.update(reading.facts)
            absent.update(reading.absent)
        watched.absent = {column: why for column, why in absent.items() if column not in facts}
        for column in watched.absent.keys() & watched.known:
            facts[column] = None  # it was there before: what it said holds no longer
        watched.known = facts.keys() - watched.absent.keys()
        with contextlib.suppress(LifecycleError):  # it may have left while it was answering
            self._fleet.update(watched.endpoint.name, facts)

    # --- the log -----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Say in one line what has gone wrong since the last one, and in another what is all right again."""
        troubles: dict[str, list[Watched]] = {}
        better: list[Watched] = []
        for watched in self._watched.values():
            state = watched.state
            if state == watched.told:
                continue
            if state:
                troubles.setdefault(state, []).append(watched)
            else:
                better.append(watched)
            watched.told = state
        if troubles:
            lines = [f"{state} ({_names(who)}: {who[0].url})" for state, who in troubles.items()]
            _log.warning("%s: %s", self._source.type, "; ".join(lines))
        if better:
            _log.info("%s: all right again: %s", self._source.type, _names(better))


class _Refused(ValueError):
    """The endpoint answered, and not with a page."""


def _in_words(error: Exception) -> str:
    """Say what went wrong, in words that do not name the endpoint: equal troubles are told together."""
    if isinstance(error, TimeoutError):
        return f"no answer within {_TIMEOUT_SECONDS:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        return f"cannot connect ({os.strerror(number) if number and number > 0 else error.os_error.strerror})"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"does not speak HTTP ({error.message})"
    return str(error) if isinstance(error, _Refused) else f"cannot be asked ({type(error).__name__}: {error})"


def _brought(extractors: Collection[Extractor]) -> frozenset[str] | None:
    """Return the columns that can be brought at all; None if some extractor does not say."""
    brings = [getattr(extractor, "brings", None) for extractor in extractors]
    return None if None in brings else frozenset(column for columns in brings for column in columns or ())


def _names(watched: list[Watched]) -> str:
    names = [each.endpoint.name for each in watched]
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
