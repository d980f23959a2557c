"""Scraping: every endpoint has a line and a clock of its own, and nobody to wait for.

    fleet.endpoints ──compared at every step──▶ one Watched each:  ask ─▶ extract ─▶ fleet.update ─▶ wait, with jitter
                                                                    └─ failed: facts stay as they are and grow old

It is callbacks: a look takes no task, and an endpoint one timer, that of the next thing which is due. What is wrong is
remembered per endpoint, and said once when it changes: one line in the log for all endpoints together. A failure
removes nothing; who wants old facts forgotten gives the endpoint table a `max_age`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from inferencesched import Endpoint, LifecycleError
from inferencesched.interfaces import Extractor, Fleet
from inferencesched_sources.client import Client, Line

__all__ = ["FLOOR_SECONDS", "Scraping"]

FLOOR_SECONDS = 0.05
"""The shortest time between two looks at one endpoint, as upstream has it."""

_TIMEOUT_SECONDS = 1.0
_NEVER = math.inf
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
    """One endpoint: when it is looked at, and how it went lately."""

    def __init__(self, scraping: Scraping, endpoint: Endpoint, url: str, client: Client) -> None:
        self.endpoint = endpoint
        self.url = url
        self.looks = 0
        self.trouble = ""
        self.absent: Mapping[str, str] = {}
        self.known: set[str] = set()
        self.told = ""
        self._scraping = scraping
        self._line = Line(client, url, self)
        self._loop = client.loop
        self._due = self._deadline = _NEVER  # of the next look, and of the one under way
        self._wakes_at = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> str:
        """What is wrong, in words that are the same for every endpoint with the same trouble."""
        return self.trouble or "; ".join(f"{column} is unknown: {why}" for column, why in sorted(self.absent.items()))

    def start(self, *, then: float) -> None:
        """Look at once, and again after so many seconds."""
        now = self._loop.time()
        self._due = now + then
        self._look(now)

    def move(self, endpoint: Endpoint, url: str) -> None:
        """It is the same endpoint, with other labels."""
        self.endpoint = endpoint
        if url != self.url:
            self.url = url
            self._line.move(url)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._line.close()

    # What the line calls

    def answered(self, page: bytes) -> None:
        """There is a page."""
        self.trouble = ""
        self._scraping.take(self, page)
        self._over()

    def failed(self, why: str) -> None:
        """There is none."""
        self.trouble = why
        self._scraping.failures += 1
        self._over()

    # The clock. Its one timer is for whichever comes first, and what comes later is thought of when that has come.

    def _look(self, now: float) -> None:
        if not self._scraping.is_read:
            self._wake(self._due)
            return
        self._scraping.looks += 1
        self._deadline = now + _TIMEOUT_SECONDS
        self._wake(min(self._due, self._deadline))
        self._line.ask()

    def _over(self) -> None:
        self.looks += 1
        self._deadline = _NEVER
        if self._timer is None or self._wakes_at > self._due:
            self._wake(self._due)

    def _wake(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        self._timer = self._loop.call_at(at, self._woken)

    def _woken(self) -> None:
        self._timer = None
        now = max(self._loop.time(), self._wakes_at)  # a loop may be early, by the grain of its clock
        if now >= self._deadline:
            self._line.give_up(f"no answer within {_TIMEOUT_SECONDS:g} s")
        elif self._deadline != _NEVER:
            self._wake(self._deadline)
        elif now < self._due:
            self._wake(self._due)
        else:
            self._due = self._scraping.next_due(self._due, now)
            self._look(now)


class Scraping:
    """Asks the endpoints of a fleet while it is entered as an asynchronous context.

    Attributes:
        looks: pages asked for since the start.
        failures: of these, how many brought nothing.
        is_read: whether anybody reads a column of what these pages can bring.
    """

    def __init__(self, source: Asking, fleet: Fleet, client: Client, *, rng: random.Random) -> None:
        self.looks = 0
        self.failures = 0
        self.is_read = False
        self._source = source
        self._fleet = fleet
        self._client = client
        self._rng = rng
        self._pause = source.pause
        self._columns: frozenset[str] = frozenset()
        self._watched: dict[str, Watched] = {}
        self._brought = _brought(source.extractors)
        self._timer: asyncio.TimerHandle | None = None
        self._report_at = 0.0

    async def __aenter__(self) -> Self:
        if self._source.interval < FLOOR_SECONDS:
            asked, floor = f"{self._source.interval * 1e3:g}", f"{FLOOR_SECONDS * 1e3:g}"
            _log.warning("%s: an interval of %s ms is too short; %s ms is used", self._source.type, asked, floor)
        self._report_at = self._client.loop.time() + _REPORT_SECONDS
        self._step()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for watched in self._watched.values():
            watched.stop()
        await self._client.close()

    def explain(self, endpoint: str, column: str) -> str | None:
        """Return why a column of an endpoint, by name, is not known; None if the last look was all right."""
        watched = self._watched.get(endpoint)
        if watched is None:
            return None
        why = watched.trouble or watched.absent.get(column) or ("" if watched.looks else "has not answered yet")
        return f"{watched.url}: {why}" if why else None

    # --- who is there ------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        """Follow the fleet, and say what has changed."""
        loop = self._client.loop
        self._timer = loop.call_later(self._pause, self._step)
        self._compare()
        if loop.time() >= self._report_at:
            self._report()
            self._report_at = loop.time() + _REPORT_SECONDS

    def _compare(self) -> None:
        """Start with endpoints that are new, and stop with those that are gone: whatever was missed meanwhile."""
        self._columns = self._fleet.columns
        self.is_read = self._brought is None or not self._brought.isdisjoint(self._columns)
        present = {endpoint.name: endpoint for endpoint in self._fleet.endpoints}
        for name, watched in tuple(self._watched.items()):
            if present.get(name) != watched.endpoint:  # gone, or another instance of that name
                self._watched.pop(name).stop()
        for name, endpoint in present.items():
            known = self._watched.get(name)
            if known is None:
                watched = self._watched[name] = Watched(self, endpoint, self._source.url(endpoint), self._client)
                watched.start(then=self._pause * self._rng.random())
            elif endpoint is not known.endpoint:  # the same one, with other labels
                known.move(endpoint, self._source.url(endpoint))

    # --- one endpoint ------------------------------------------------------------------------------------------------

    def next_due(self, due: float, now: float) -> float:
        """Return when the look after the one that was due is: what was missed is not made up for."""
        return max(due, now - self._pause) + self._pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def take(self, watched: Watched, page: bytes) -> None:
        """Bring what the extractors find in a page to the fleet."""
        facts: dict[str, Any] = {}
        absent: dict[str, str] = {}
        for extractor in self._source.extractors:
            try:
                reading = extractor.extract(watched.endpoint, page, self._columns)
            except Exception as error:  # noqa: BLE001 — an extractor of somebody else's must not stop the others
                watched.trouble = f"{type(extractor).__name__} failed ({type(error).__name__}: {error})"
                continue
            facts.update(reading.facts)
            absent.update(reading.absent)
        watched.absent = {column: why for column, why in absent.items() if column not in facts}
        for column in watched.absent.keys() & watched.known:
            facts[column] = None  # it was there before: what it said holds no longer
        watched.known = facts.keys() - watched.absent.keys()
        try:
            self._fleet.update(watched.endpoint.name, facts)
        except LifecycleError:
            pass  # it has left while it was answering
        except Exception as error:  # noqa: BLE001 — nor may facts that the host cannot take end the looking
            watched.trouble = f"brought what cannot be taken ({type(error).__name__}: {error})"

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


def _brought(extractors: Collection[Extractor]) -> frozenset[str] | None:
    """Return the columns that can be brought at all; None if some extractor does not say."""
    brings = [getattr(extractor, "brings", None) for extractor in extractors]
    return None if None in brings else frozenset(column for columns in brings for column in columns or ())


def _names(watched: list[Watched]) -> str:
    names = [each.endpoint.name for each in watched]
    return ", ".join(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
