# ruff: noqa: D102 — the methods of a protocol that asyncio, or the library, describes
"""CPU of scraping: 100 endpoints, 20 times a second each, in the process that schedules.

    python bench/scrape.py             # the table of docs/performance/scraping.md
    python bench/scrape.py --quick     # two seconds a row instead of ten
    python bench/scrape.py --peers     # the same with aiohttp's client and a task for each endpoint, too
    python bench/scrape.py --endpoints 300 --rate 10

A second process answers for all endpoints, each on a port of its own, with pages of the shape and size that vLLM 0.32
publishes (some 670 lines, 55 KB), whose numbers change with every answer. Here `metrics-data-source` with
`core-metrics-extractor` brings the eight columns of the default policy and of LoRA affinity to a scheduler's table, and
the table is read as often as it is written. Reported is the CPU time of this process, in cores, and per look, on the
event loops that hosts use; and of that, what finding the facts in a page costs, by itself: in the first page of a
server, and in those that follow.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import numpy as np
import uvloop
from inferencesched_sources import CoreMetricsExtractor, MetricsDataSource

from inferencesched import Endpoint, EndpointTable
from inferencesched.signals import DIALECTS

COLUMNS = frozenset(column for part in DIALECTS["vllm"].parts for column in part.columns)
HISTOGRAMS = 24
BUCKETS = 18
COUNTERS = 60
WARM_UP_SECONDS = 1.0


def page(look: int) -> bytes:
    """Return a page of vLLM's shape: process metrics, load, counters, histograms, and last adapters and cache."""
    rng = random.Random(look)
    lines: list[str] = []

    def metric(name: str, kind: str, *samples: tuple[str, float]) -> None:
        lines.extend((f"# HELP {name} What it is about, in a sentence of this length or so.", f"# TYPE {name} {kind}"))
        lines.extend(f"{name}{{{labels}}} {value}" for labels, value in samples)

    own = 'engine="0",model_name="some-model"'
    metric("python_gc_objects_collected_total", "counter", *((f'generation="{i}"', rng.random()) for i in range(3)))
    metric("process_resident_memory_bytes", "gauge", ('role="api"', 1e9 * rng.random()))
    metric("vllm:num_requests_running", "gauge", (own, float(rng.randrange(64))))
    metric("vllm:num_requests_waiting", "gauge", (own, float(rng.randrange(64))))
    metric("vllm:kv_cache_usage_perc", "gauge", (own, rng.random()))
    for i in range(COUNTERS):
        metric(f"vllm:some_counter_of_tokens_{i}_total", "counter", (own, float(rng.randrange(10**7))))
    for i in range(HISTOGRAMS):
        name = f"vllm:some_latency_{i}_seconds"
        metric(name, "histogram")
        limits = [2.0**bucket / 1000 for bucket in range(BUCKETS)]
        lines.extend(f'{name}_bucket{{engine="0",le="{limit}",model_name="some-model"}} 7.0' for limit in limits)
        lines.append(f"{name}_sum{{{own}}} {rng.random()}")
    adapters = 'max_lora="4",running_lora_adapters="{}",waiting_lora_adapters=""'
    metric(
        "vllm:lora_requests_info", "gauge", *((adapters.format(a), 1.7e9 + rng.random()) for a in ("", "sql", "chat"))
    )
    cache = ",".join(f'setting_{i}="None"' for i in range(35))
    metric("vllm:cache_config_info", "gauge", (f'block_size="32",{cache},num_gpu_blocks="1000"', 1.0))
    return ("\n".join(lines) + "\n").encode()


# --- the other process -----------------------------------------------------------------------------------------------


class Engine(asyncio.Protocol):
    """Answers every request on a connection with the next of the pages, and reads no more of it than its end."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = answers
        self._next = random.randrange(len(answers))
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n") and self._transport is not None:
            self._next = (self._next + 1) % len(self._answers)
            self._transport.write(self._answers[self._next])


async def answer(ports: int) -> None:
    """Serve the pages on so many ports, print them, and go on until this process is ended."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {}\r\n\r\n"
    answers = [head.format(len(body)).encode() + body for body in map(page, range(16))]
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Engine(answers), "127.0.0.1", 0) for _ in range(ports)]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.Event().wait()


# --- this process ----------------------------------------------------------------------------------------------------


class Fleet:
    """A table with a clock: what a host lends its sources."""

    columns = COLUMNS

    def __init__(self, ports: Sequence[int]) -> None:
        self.table = EndpointTable()
        for port in ports:
            self.table.add(f"gpu-{port}", f"127.0.0.1:{port}", now=time.monotonic())

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return self.table.endpoints

    def add_endpoint(self, name: str, address: str, /, *, labels: Mapping[str, str], rank: int = 0) -> Endpoint:
        return self.table.add(name, address, labels=labels, rank=rank, now=time.monotonic())

    def remove_endpoint(self, name: str, /) -> None:
        self.table.remove(name)

    def update(self, name: str, facts: Mapping[str, Any], /) -> None:
        self.table.update(name, facts, now=time.monotonic())
        self.table.snapshot(now=time.monotonic())  # somebody decides on it: the next write has to copy


async def measured(looks: Callable[[], int], seconds: float) -> tuple[float, int]:
    """Return the CPU seconds and the looks of so many seconds, after a warm-up."""
    await asyncio.sleep(WARM_UP_SECONDS)
    cpu, before = time.process_time(), looks()
    await asyncio.sleep(seconds)
    return time.process_time() - cpu, looks() - before


async def scrape(ports: Sequence[int], rate: float, seconds: float) -> tuple[float, int]:
    fleet = Fleet(ports)
    source = MetricsDataSource(interval=1 / rate).read_by([CoreMetricsExtractor()])
    async with source.open(fleet) as scraping:
        found = await measured(lambda: scraping.looks, seconds)
        assert scraping.failures * 10 < scraping.looks  # some, where the other process is given no time to answer in
    batch = fleet.table.snapshot(now=time.monotonic())
    assert not any(np.isnan(batch[column]).any() for column in COLUMNS)
    return found


async def scrape_with_aiohttp(ports: Sequence[int], rate: float, seconds: float) -> tuple[float, int]:
    """The least that does the same: fixed waits, no reasons, no endpoints that come and go."""
    import aiohttp  # noqa: PLC0415 - a peer, of the sources' dev extra

    fleet, extractor, looks = Fleet(ports), CoreMetricsExtractor(), [0]

    async def follow(session: aiohttp.ClientSession, endpoint: Endpoint) -> None:
        due = asyncio.get_running_loop().time() + random.random() / rate
        while True:
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            due += 1 / rate
            async with session.get(f"http://{endpoint.address}/metrics", timeout=timeout) as response:
                body = await response.read()
            fleet.update(endpoint.name, extractor.extract(endpoint, body, COLUMNS).facts)
            looks[0] += 1

    timeout = aiohttp.ClientTimeout(total=1.0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [asyncio.create_task(follow(session, endpoint)) for endpoint in fleet.endpoints]
        found = await measured(lambda: looks[0], seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return found


Scrape = Callable[[Sequence[int], float, float], Coroutine[Any, Any, tuple[float, int]]]


def microseconds(work: Callable[[], object], *, repeats: int = 200) -> float:
    """Return the CPU time of a call, the best of seven rounds."""
    rounds = []
    for _ in range(7):
        before = time.thread_time()
        for _ in range(repeats):
            work()
        rounds.append(time.thread_time() - before)
    return min(rounds) / repeats * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", action="store_true", help="measure aiohttp, too")
    parser.add_argument("--endpoints", type=int, default=100)
    parser.add_argument("--rate", type=float, default=20.0, help="looks a second, of each")
    parser.add_argument("--answer", type=int, metavar="PORTS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        asyncio.run(answer(options.answer))
        return
    bodies = itertools.cycle([page(look) for look in range(16)])
    body = next(bodies)
    fresh = itertools.count(1)
    known, extractor = Endpoint("gpu-0"), CoreMetricsExtractor()
    lines = body.count(b"\n")
    print(f"python {platform.python_version()}, {options.endpoints} endpoints × {options.rate:g} Hz")
    print(f"a page: {lines} lines, {len(body)} bytes; {len(COLUMNS)} columns")
    first = microseconds(lambda: extractor.extract(Endpoint("gpu-0", instance=next(fresh)), next(bodies), COLUMNS))
    later = microseconds(lambda: extractor.extract(known, next(bodies), COLUMNS))
    print(f"finding the facts in the first page of a server: {first:.0f} µs, in another one: {later:.0f} µs\n")
    engines = subprocess.Popen(  # noqa: S603 — ourselves
        [sys.executable, __file__, "--answer", str(options.endpoints)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert engines.stdout is not None
        ports = [int(port) for port in engines.stdout.readline().split()]
        print("| client | event loop | looks/s | cores | µs of CPU per look |\n| --- | --- | ---: | ---: | ---: |")
        seconds = 2.0 if options.quick else 10.0
        ways: dict[str, Scrape] = {"ours": scrape}
        if options.peers:
            ways["aiohttp"] = scrape_with_aiohttp
        for loop, run in (("asyncio", asyncio.run), ("uvloop", uvloop.run)):
            for way, asked in ways.items():
                cpu, looks = run(asked(ports, options.rate, seconds))
                figures = f"{looks / seconds:,.0f} | {cpu / seconds:.2f} | {cpu / looks * 1e6:.0f}"
                print(f"| {way} | {loop} | {figures} |", flush=True)
    finally:
        engines.terminate()
        engines.wait()


if __name__ == "__main__":
    main()
