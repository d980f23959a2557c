"""Whole routers on loopback, one after the other in one run: what a request, a chunk and an open stream cost in each.

    python bench/gateway.py                     # ours and the references
    python bench/gateway.py --peers             # the other routers too, each installed under build/peers on demand
    python bench/gateway.py --peers --quick     # four cells instead of nine, two seconds each
    python bench/gateway.py --only ours,smg     # these, if they are installed

A router has the second core to itself; client and model servers share the first. The model servers are nginx with a
fixed answer (ours where it is not installed, and for streams), the client is wrk (ours where it is not installed, and
slower; ours for the thousand streams). Prompts: 512 different ones (256 of 64 KiB) in 16 groups that share 70 %.

Before a router is measured, a whole answer and a whole stream must have come through it unchanged; one that cannot be
installed, does not start or answers wrongly is named with the reason. What other processes took of the two cores is
measured during each cell; one that is disturbed by more than a tenth of a core is repeated, and the quietest is kept.

CPU is user and system time of all the router's processes, from /proc. "Added" is the latency through the router minus
the latency straight to a model server, percentile by percentile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from bench.peers.backend import nginx_configuration
from bench.peers.environment import EnvironmentFailed
from bench.peers.load import ClientFailed, Loaded, Question, client_command, finished, load, wrk
from bench.peers.processes import CoreUse, NotUp, Running, free_ports, running
from bench.peers.routers import Router, Setting, routers, verify

LOAD_CORE, ROUTER_CORE = (0, 1) if (os.cpu_count() or 1) > 1 else (0, 0)
ENDPOINTS = 4
CHUNKS = 32
HELD_STREAMS = 1000
HELD_INTERVAL = 0.1
KIB = 1024
LARGE_BODY_CHARS = 500_000
QUIET = 0.1
"""Cores that others may take before a cell is repeated."""

DIRECT = "(direct)"


@attrs.frozen
class Cell:
    """What is asked, and by how many connections."""

    question: Question
    connections: int


@attrs.frozen
class Measured:
    """One cell of one router; CPU in µs a request, `others` in cores: on the router's core, on the other."""

    loaded: Loaded
    cpu_us: float
    resident_mib: float
    others: tuple[float, float]


Rows = dict[str, dict[Cell, Measured]]


def cells(*, quick: bool) -> list[Cell]:
    """Return the cells with whole answers."""
    if quick:
        shapes = [(1, 1), (1, 32), (64, 32)]
    else:
        shapes = [(kib, connections) for kib in (1, 16, 64) for connections in (1, 32, 128)]
    return [
        *(Cell(Question(kib * KIB), connections) for kib, connections in shapes),
        Cell(Question(LARGE_BODY_CHARS), 1),
    ]


def stream_cells(*, quick: bool) -> list[Cell]:
    """Return the cells with streams of chunks that follow each other at once."""
    return [Cell(Question(KIB, stream=True), connections) for connections in ((32,) if quick else (1, 32))]


# --- measuring --------------------------------------------------------------------------------------------------------


class Bench:
    """What all cells share: a folder for files, seconds for each cell, and what is done about disturbance.

    A disturbed cell is tried `attempts` times; before each, at most `patience` seconds are waited for a quiet moment.
    """

    def __init__(self, folder: Path, *, seconds: float, attempts: int, patience: float) -> None:
        self.folder = folder
        self._seconds = seconds
        self._attempts = attempts
        self._patience = patience

    @contextlib.contextmanager
    def model_servers(self, *, chunks: int = 0, interval: float = 0.0) -> Iterator[tuple[list[int], Running]]:
        """Start them, on several ports; with chunks, those that stream."""
        ports = free_ports(ENDPOINTS)
        if not chunks and shutil.which("nginx"):
            configuration = self.folder / "nginx.conf"
            configuration.write_text(nginx_configuration(self.folder, ports))
            command: list[str | Path] = ["nginx", "-c", configuration]
        else:
            command = [
                sys.executable,
                "-m",
                "bench.peers.backend",
                "--chunks",
                str(chunks),
                "--interval",
                f"{interval}",
            ]
            command += [part for port in ports for part in ("--port", str(port))]
        with running("model servers", command, core=LOAD_CORE, log=self.folder / "model-servers.log") as started:
            for port in ports:
                started.wait_until_answers(f"http://127.0.0.1:{port}/health", within=10)
            yield ports, started

    @contextlib.contextmanager
    def router(self, router: Router, endpoints: list[int], *, streams: bool) -> Iterator[tuple[int, Running]]:
        """Start it, and go on when it has answered correctly."""
        port, spare = free_ports(2)
        urls = tuple(f"http://127.0.0.1:{endpoint}" for endpoint in endpoints)
        start = router.start(Setting(port, spare, urls, self.folder))
        log = self.folder / f"{router.name}.log"
        with running(
            router.name, start.command, core=ROUTER_CORE, log=log, environment=start.environment, folder=self.folder
        ) as started:
            verify(started, port, streams=streams)
            yield port, started

    def cell(self, cell: Cell, port: int, servers: Running, router: Running | None) -> Measured:
        """Measure it, again while others disturb it; return the quietest attempt."""
        best: Measured | None = None
        for _ in range(self._attempts):
            self._wait_for_quiet()
            measured = self._once(cell, port, servers, router)
            if best is None or max(measured.others) < max(best.others):
                best = measured
            if max(best.others) <= QUIET:
                break
        assert best
        return best

    def _wait_for_quiet(self) -> None:
        until = time.monotonic() + self._patience
        while time.monotonic() < until:
            before = CoreUse.now(ROUTER_CORE), CoreUse.now(LOAD_CORE)
            time.sleep(0.3)
            after = CoreUse.now(ROUTER_CORE), CoreUse.now(LOAD_CORE)
            if all(end.share_since(begin) <= QUIET for begin, end in zip(before, after, strict=True)):
                return

    def _once(self, cell: Cell, port: int, servers: Running, router: Running | None) -> Measured:
        before = CoreUse.now(ROUTER_CORE), CoreUse.now(LOAD_CORE)
        router_before = router.cpu_seconds() if router else 0.0
        load_before = servers.cpu_seconds() + _children_cpu()
        loaded = load(
            port,
            cell.question,
            connections=cell.connections,
            seconds=self._seconds,
            core=LOAD_CORE,
            folder=self.folder,
        )
        used = (router.cpu_seconds() if router else 0.0) - router_before
        served = servers.cpu_seconds() + _children_cpu() - load_before
        return Measured(
            loaded,
            used / max(1, loaded.requests) * 1e6,
            router.resident_bytes() / 2**20 if router else 0.0,
            (
                # Straight to a model server, nothing of ours is on the router's core.
                CoreUse.now(ROUTER_CORE).share_since(before[0], but=used) if router else 0.0,
                CoreUse.now(LOAD_CORE).share_since(before[1], but=served),
            ),
        )

    def held(self, port: int, router: Running) -> tuple[Loaded, float, float]:
        """Return what a thousand slow streams at once came to, and the router's MiB before them and at most."""
        before = most = router.resident_bytes()
        bodies = Question(KIB, stream=True).written(self.folder)
        command = client_command(port, bodies, connections=HELD_STREAMS, seconds=0)
        log = self.folder / "client.log"
        log.write_text("")
        with running("client", command, core=LOAD_CORE, log=log) as client:
            while client.process.poll() is None:
                most = max(most, router.resident_bytes())
                time.sleep(0.2)
            return finished(client, within=1), before / 2**20, most / 2**20


def _children_cpu() -> float:
    """Return what processes that this one has started and seen end have used: the clients."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- a run ------------------------------------------------------------------------------------------------------------


def say(*parts: object) -> None:
    """Tell progress: a run that is stopped has not been for nothing."""
    print(*parts, file=sys.stderr, flush=True)


def measure(bench: Bench, chosen: list[Router], wanted: list[Cell], *, chunks: int) -> tuple[Rows, dict[str, str]]:
    """Measure the cells straight and through each router; return also why some could not be."""
    rows: Rows = {}
    failed: dict[str, str] = {}
    with bench.model_servers(chunks=chunks) as (endpoints, servers):
        rows[DIRECT] = {cell: bench.cell(cell, endpoints[0], servers, None) for cell in wanted}
        for router in chosen:
            try:
                with bench.router(router, endpoints, streams=chunks > 0) as (port, started):
                    rows[router.name] = {}
                    for cell in wanted:
                        rows[router.name][cell] = bench.cell(cell, port, servers, started)
                        say(router.name, cell, rows[router.name][cell])
            except (NotUp, ClientFailed) as error:
                failed[router.name] = str(error)
                say(router.name, error)
    return rows, failed


def measure_held(bench: Bench, chosen: list[Router]) -> dict[str, tuple[Loaded, float, float] | str]:
    """Hold a thousand streams through each router."""
    found: dict[str, tuple[Loaded, float, float] | str] = {}
    with bench.model_servers(chunks=CHUNKS, interval=HELD_INTERVAL) as (endpoints, _):
        for router in chosen:
            try:
                with bench.router(router, endpoints, streams=True) as (port, started):
                    found[router.name] = bench.held(port, started)
            except (NotUp, ClientFailed) as error:
                found[router.name] = str(error)
            say(router.name, found[router.name])
    return found


def available(names: list[str], *, install: bool) -> tuple[list[Router], dict[str, str]]:
    """Return the routers that can be started, and why the others cannot."""
    chosen, failed = [], {}
    known = routers()
    for name in names:
        router = known[name]
        if router.missing:
            failed[name] = router.missing
        elif router.environment and not router.environment.is_installed and not install:
            failed[name] = "not installed; --peers installs it"
        elif router.name == "nginx" and not shutil.which("nginx"):
            failed[name] = "not installed"
        else:
            try:
                if router.environment:
                    router.environment.install()
                chosen.append(router)
            except EnvironmentFailed as error:
                failed[name] = str(error)
    return chosen, failed


# --- the report -------------------------------------------------------------------------------------------------------


def table(heads: list[str], rows: list[list[str]]) -> None:
    """Print one, the first column to the left and the others to the right."""
    print("\n| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def report_whole(rows: Rows, policies: dict[str, str]) -> None:
    """Print a table for each length of prompt."""
    wanted = list(rows[DIRECT])
    for question in dict.fromkeys(cell.question for cell in wanted):
        columns = [cell for cell in wanted if cell.question == question]
        print(f"\nPrompt of {question.chars:,} characters")
        heads = ["router"]
        for cell in columns:
            c = f"c={cell.connections}"
            heads += [f"req/s {c}", "added p50 ms", "p99 ms", "CPU µs/req", "errors"]
        body = []
        for name, cells_of in rows.items():
            line = [f"{name}, {policies[name]}" if name in policies else name]
            for cell in columns:
                line += figures(cells_of.get(cell), rows[DIRECT][cell])
            body.append([*line, *state(cells_of, columns)])
        table([*heads, "RSS MiB", "others, cores"], body)


def figures(measured: Measured | None, direct: Measured) -> list[str]:
    """Return the figures of one cell; the direct row shows its whole latency. A cell without any answer has none."""
    if measured is None or not measured.loaded.requests:
        return ["–"] * 5
    loaded = measured.loaded
    base = None if measured is direct else direct.loaded
    return [
        f"{loaded.per_second:,.0f}",
        f"{loaded.p50_ms - (base.p50_ms if base else 0):,.2f}",
        f"{loaded.p99_ms - (base.p99_ms if base else 0):,.2f}",
        f"{measured.cpu_us:,.0f}" if base else "–",
        str(loaded.errors),
    ]


def state(cells_of: dict[Cell, Measured], columns: list[Cell]) -> list[str]:
    """Return memory after the cells, and the worst that others took on router's and client's core."""
    seen = [cells_of[cell] for cell in columns if cell in cells_of]
    if not seen:
        return ["–", "–"]
    worst = [max(each.others[core] for each in seen) for core in (0, 1)]
    return [f"{seen[-1].resident_mib:,.0f}" if seen[-1].resident_mib else "–", f"{worst[0]:.2f} / {worst[1]:.2f}"]


def report_streams(streamed: Rows, whole: Rows) -> None:
    """Print what a stream costs, and a chunk of it: with its share of the request, and without."""
    wanted = list(streamed[DIRECT])
    print(f"\nStreams of {CHUNKS} chunks, prompt of 1,024 characters")
    body = []
    for name, cells_of in streamed.items():
        line = [name]
        for cell in wanted:
            measured = cells_of.get(cell)
            if measured is None or not measured.loaded.requests:
                line += ["–"] * 7
                continue
            request = whole.get(name, {}).get(Cell(Question(KIB), cell.connections))
            only = f"{(measured.cpu_us - request.cpu_us) / CHUNKS:,.1f}" if request and measured.cpu_us else "–"
            shared = f"{measured.cpu_us / CHUNKS:,.1f}" if measured.cpu_us else "–"
            shown = figures(measured, streamed[DIRECT][cell])
            line += [*shown[:3], shared, only, shown[4], f"{measured.others[0]:.2f} / {measured.others[1]:.2f}"]
        body.append(line)
    heads = ["router"]
    for cell in wanted:
        heads += [f"streams/s c={cell.connections}", "added p50 ms", "p99 ms", "CPU µs/chunk", "without the request"]
        heads += ["errors", "others, cores"]
    table(heads, body)


def report_held(found: dict[str, tuple[Loaded, float, float] | str]) -> None:
    """Print what holding many streams takes."""
    paced = (CHUNKS - 1) * HELD_INTERVAL
    print(f"\n{HELD_STREAMS:,} streams at once, {CHUNKS} chunks {HELD_INTERVAL} s apart ({paced:.1f} s at least)")
    body = []
    for name, result in found.items():
        if isinstance(result, str):
            body.append([name, "–", "–", "–", "–", "–", "–"])
            continue
        loaded, before, most = result
        each = (most - before) * 1024 / HELD_STREAMS
        line = [name, str(loaded.requests - loaded.errors), str(loaded.errors), f"{loaded.p50_ms / 1000:.1f}"]
        body.append([*line, f"{loaded.p99_ms / 1000:.1f}", f"{before:,.0f} → {most:,.0f}", f"{each:,.0f}"])
    table(["router", "whole", "errors", "p50 s", "p99 s", "RSS MiB", "KiB a stream"], body)


def machine() -> str:
    """Return what this ran on."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    tools = f"client {'wrk' if wrk() else 'bench.peers.client'}, servers {'nginx' if shutil.which('nginx') else 'own'}"
    return f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {tools}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="install and measure the other routers as well")
    parser.add_argument("--quick", action="store_true", help="four cells instead of ten, two seconds each")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(routers())}")
    parser.add_argument("--seconds", type=float, metavar="S", help="for each cell: 4, or 2 with --quick")
    parser.add_argument("--patience", type=float, default=5, metavar="S", help="at most, for a quiet moment (5)")
    parser.add_argument("--attempts", type=int, default=3, metavar="N", help="at a cell that others disturb (3)")
    given = parser.parse_args()
    known = routers()
    names = given.only.split(",") if given.only else [n for n, r in known.items() if given.peers or not r.is_peer]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown router {', '.join(unknown)}; there are {', '.join(known)}")
    chosen, failed = available(names, install=given.peers)
    seconds = given.seconds or (2 if given.quick else 4)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        bench = Bench(Path(folder), seconds=seconds, attempts=given.attempts, patience=given.patience)
        whole, failed_whole = measure(bench, chosen, cells(quick=given.quick), chunks=0)
        streamed, failed_streams = measure(bench, chosen, stream_cells(quick=given.quick), chunks=CHUNKS)
        held = measure_held(bench, chosen)
    print(machine())
    for router in chosen:
        print(f"- {router.name} ({router.policy}): {router.origin() or 'this project or this machine'}")
    report_whole(whole, {router.name: router.policy for router in chosen})
    report_streams(streamed, whole)
    report_held(held)
    for name, reason in {**failed, **failed_whole, **failed_streams}.items():
        print(f"\nNot measured: {name}: {reason}")


if __name__ == "__main__":
    main()
