"""Processes that a benchmark starts: on a core of their own, watched through /proc, and ended with all their children.

Linux only. Nothing here knows what the processes do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
ENDED_AFTER = 5.0
"""Seconds between the polite signal and the other one."""


class NotUp(Exception):
    """A process did not come up: what it wrote last."""


@attrs.frozen
class Running:
    """A process, the processes it has started, and the file with what they say."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tree(self) -> list[int]:
        """Return its process id and those of all its descendants."""
        children: dict[int, list[int]] = {}
        for pid, fields in _stats():
            children.setdefault(int(fields[1]), []).append(pid)
        found = [self.process.pid]
        for pid in found:
            found.extend(children.get(pid, ()))
        return found

    def cpu_seconds(self) -> float:
        """Return user and system time that the living processes of the tree have used."""
        members = set(self.tree())
        return sum(int(fields[11]) + int(fields[12]) for pid, fields in _stats() if pid in members) / TICKS

    def resident_bytes(self) -> int:
        """Return what the tree occupies; shared pages count once for each process."""
        members = set(self.tree())
        return sum(int(fields[21]) for pid, fields in _stats() if pid in members) * PAGE

    def last_words(self) -> str:
        """Return the end of its log, on one line."""
        return " ".join(self.log.read_text(errors="replace").split())[-300:]

    def wait_until_answers(self, url: str, *, within: float) -> None:
        """Return when a GET of `url` is answered with 200.

        Raises:
            NotUp: the process has ended, or the seconds are over.
        """
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise NotUp(f"{self.name} ended with {self.process.returncode}: {self.last_words()}")
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 — loopback
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise NotUp(f"{self.name} did not answer within {within:.0f} s: {self.last_words()}")

    def end(self) -> None:
        """End the whole tree: politely, and then not."""
        members = self.tree()
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDED_AFTER)
        alive = {pid for pid, _ in _stats()}
        for pid in members:
            if pid in alive or self.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    *,
    core: int | None,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Running]:
    """Start a process, bound to a core if one is named, and end its tree on the way out."""
    bound = [str(part) for part in command]
    if core is not None and (taskset := shutil.which("taskset")) and (os.cpu_count() or 1) > core:
        bound = [taskset, "-c", str(core), *bound]
    with log.open("ab") as said:
        process = subprocess.Popen(  # noqa: S603 — our own command
            bound,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
    started = Running(name, process, log)
    try:
        yield started
    finally:
        started.end()


@attrs.frozen
class CoreUse:
    """What a core had been doing up to one moment, in seconds since the machine started."""

    core: int
    busy: float
    at: float

    @classmethod
    def now(cls, core: int) -> CoreUse:
        """Read /proc/stat. Time stolen by the hypervisor's other guests counts as busy: we could not have used it."""
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name == f"cpu{core}":
                user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
                return cls(core, (user + nice + system + irq + softirq + steal) / TICKS, time.monotonic())
        raise ValueError(f"no core {core} in /proc/stat")

    def share_since(self, before: CoreUse, *, but: float = 0.0) -> float:
        """Return how much of the core was used between two moments, without `but` seconds of it."""
        return max(0.0, (self.busy - before.busy - but) / (self.at - before.at))


def free_ports(count: int) -> list[int]:
    """Return ports on loopback that nobody listens on now, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Yield each process with the fields of its stat file that follow its name: [1] is its parent."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(folder.name), (folder / "stat").read_text().rpartition(") ")[2].split()
