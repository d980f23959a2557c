"""file-discovery: the endpoints are those of a file, and while it is watched, those of the file as it is now.

    read ─▶ decode ─▶ compare with what this source added ─▶ fleet.add_endpoint / remove_endpoint
     ▲                                                               │
     └────── the file's time, size or inode has changed ◀── wait ────┘

The first reading is strict. Later ones take what is right and keep what is known of the rest: an entry that cannot be
read any more, or a file, removes nobody; an entry that is gone does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, ClassVar

import attrs
import yaml

from inferencesched import ConfigError, LifecycleError
from inferencesched.documents import Document
from inferencesched.errors import Problem
from inferencesched.interfaces import Fleet
from inferencesched.resources import StaticEndpoint, examine

__all__ = ["FileDiscovery"]

_LARGEST = 1024 * 1024  # bytes, as upstream has it
_LOOK_SECONDS = 0.5
_RECONCILE_SECONDS = 30.0

_log = logging.getLogger("inferencesched.sources")

_Stamp = tuple[int, int, int]


@attrs.frozen
class FileDiscovery:
    """Take the endpoints from a file: ``endpoints: [{name, namespace, address, port, labels}]``, in YAML or JSON.

    Args:
        path: of the file, at most 1 MiB.
        watch_file: follow its changes; otherwise it is read once.

    Formula: an endpoint is called ``namespace/name``. One that is gone from the file is removed, one whose address has
        changed is a new instance; an entry that is wrong is passed over with a word in the log, and what it said before
        holds on. The file is looked at twice a second, and compared with the fleet every 30 s all the same.
    Unknown: what cannot be read at the start is an error; later, everything stays as it was.
    Source: Endpoint Picker ``file-discovery``. Differences: host names and IPv6 addresses are taken too; an entry that
        becomes wrong keeps its endpoint.
    """

    type: ClassVar[str] = "file-discovery"

    path: str = attrs.field(validator=attrs.validators.min_len(1))
    watch_file: bool = False

    @contextlib.asynccontextmanager
    async def open(self, fleet: Fleet, /) -> AsyncIterator[None]:
        """Bring the endpoints of the file, and go on while the context is entered. Leaving it removes nobody.

        Raises:
            ConfigError: the file cannot be read, or something is wrong with it; all of it at once.
        """
        problems: list[Problem] = []
        stamp = self._stamp()
        content = self._content(problems)
        endpoints = self._endpoints(content, problems)
        if problems:
            raise ConfigError(problems)
        own = _Own(fleet)
        own.become(endpoints, ())
        if not self.watch_file:
            yield
            return
        watching = asyncio.get_running_loop().create_task(self._watch(own, stamp))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, own: _Own, applied: _Stamp | None) -> None:
        """Follow the file, each time it was changed and then left alone for a while: who writes may be half way."""
        loop = asyncio.get_running_loop()
        reconcile_at = loop.time() + _RECONCILE_SECONDS
        seen = applied
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            before, seen = seen, self._stamp()
            is_new = seen != applied and seen == before
            if not is_new and loop.time() < reconcile_at:
                continue
            reconcile_at = loop.time() + _RECONCILE_SECONDS
            problems: list[Problem] = []
            content = self._content(problems)
            endpoints = self._endpoints(content, problems)
            if is_new:
                applied = seen
                if problems:
                    _log.warning("%s: %s", self.type, "; ".join(map(str, problems)))
            if seen is not None:
                own.become(endpoints, _mentioned(content))

    def _stamp(self) -> _Stamp | None:
        """Return what changes when the file does; None while there is none."""
        try:
            stat = Path(self.path).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _content(self, problems: list[Problem]) -> Any:
        """Return what the file says, decoded; None if it says nothing that can be read."""
        try:
            with Path(self.path).open("rb") as file:
                text = file.read(_LARGEST + 1)
        except OSError as error:
            problems.append(Problem("", f"cannot be read: {error.strerror}", self.path))
            return None
        if len(text) > _LARGEST:
            problems.append(Problem("", "larger than 1 MiB", self.path))
            return None
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            problems.append(Problem("", f"is neither YAML nor JSON: {' '.join(str(error).split())}", self.path))
            return None
        if not isinstance(content, dict) or "endpoints" not in content:
            problems.append(Problem("", "expected a mapping with the key 'endpoints'", self.path))
            return None
        return content

    def _endpoints(self, content: Any, problems: list[Problem]) -> tuple[StaticEndpoint, ...]:
        """Return the entries that are right."""
        if content is None:
            return ()
        return examine(Document(content, self.path), problems=problems, warnings=[]).endpoints


class _Own:
    """The endpoints that this source has brought, and nobody else's."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._names: set[str] = set()

    def become(self, endpoints: Iterable[StaticEndpoint], kept: Iterable[str] | None) -> None:
        """Announce the endpoints, again where they are known, and remove those that are neither here nor to be kept.

        Args:
            kept: names to leave alone; None for all of them.
        """
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        for name, endpoint in wanted.items():
            self._fleet.add_endpoint(name, endpoint.address, labels=endpoint.labels)
        self._names |= wanted.keys()
        for name in () if kept is None else self._names - wanted.keys() - set(kept):
            self._names.discard(name)
            with contextlib.suppress(LifecycleError):  # somebody has removed it already
                self._fleet.remove_endpoint(name)


def _mentioned(content: Any) -> frozenset[str] | None:
    """Return the names of all entries, right or wrong; None where not even those can be read."""
    entries = content.get("endpoints") if isinstance(content, dict) else None
    if entries is not None and not isinstance(entries, list):
        return None
    if content is None:
        return None
    return frozenset(
        f"{each.get('namespace', 'default')}/{each.get('name')}" for each in entries or () if isinstance(each, dict)
    )
