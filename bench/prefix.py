# ruff: noqa: D102, PLC0415, S603 — each contender's packages are imported, and its process started, only to measure it
"""The prefix index against what one would write first, and against the indexes of other schedulers, in one run.

    python bench/prefix.py            # the tables of docs/performance/prefix-index.md (five minutes)
    python bench/prefix.py --quick    # four cells of them
    python bench/prefix.py --peers    # the peers as well, from the package index, in build/peers

A token is four characters, a block sixteen tokens. A prompt is 70 % a prefix shared by its group and 30 % its own; a
group's prefix is held by a sixteenth of the endpoints (at least two) or by all of them; 100,000 blocks are loaded.
Queries: 80 % a new prompt of a known group, 10 % a loaded one, 10 % unknown. What is timed is a whole match: from the
text (or the token ids) to a number per endpoint, hashing included; and a whole insertion, 70 % of which is cached.

Every cell is a process of its own, and contenders follow each other closely in time. Memory is what Python allocated
for the index (tracemalloc); for the peers it is what the process grew by. The machine may be shared: compare ratios.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK_TOKENS = 16
BLOCK_CHARS = 4 * BLOCK_TOKENS
LOADED_BLOCKS = 100_000
PEERS_HOME = Path(__file__).resolve().parent.parent / "build" / "peers"
PEER_PACKAGES = ("ai-dynamo-runtime>=1.6", "ray>=2.60", "xxhash")


class Cell(NamedTuple):
    """What one process measures."""

    contender: str
    tokens: int
    endpoints: int
    holders: int


class Result(NamedTuple):
    """What it found: microseconds, and bytes per block."""

    match_p50: float
    match_p99: float
    insert_p50: float
    insert_p99: float
    bytes_per_block: float


# --- the workload ---------------------------------------------------------------------------------------------------


class Workload:
    """Prompts of one cell: the same for every contender."""

    def __init__(self, cell: Cell) -> None:
        self._dice = random.Random(f"{cell.tokens} {cell.endpoints} {cell.holders}")
        blocks = cell.tokens // BLOCK_TOKENS
        self.shared = int(blocks * 0.7)
        self.own = blocks - self.shared
        groups = 8 if blocks > 2048 else 16
        self._prefixes = [self._text(self.shared) for _ in range(groups)]
        self._homes = [self._dice.sample(range(cell.endpoints), cell.holders) for _ in range(groups)]
        self._loaded = [self.fresh() for _ in range(20)]

    def _text(self, blocks: int) -> str:
        return self._dice.randbytes(blocks * BLOCK_CHARS // 2).hex()

    def residents(self) -> Iterator[tuple[str, int]]:
        """Group prefixes, on every endpoint that holds them."""
        for prefix, homes in zip(self._prefixes, self._homes, strict=True):
            for home in homes:
                yield prefix, home

    def fresh(self) -> tuple[str, int]:
        """A new prompt of a known group, and an endpoint that holds the group's prefix."""
        group = self._dice.randrange(len(self._prefixes))
        return self._prefixes[group] + self._text(self.own), self._dice.choice(self._homes[group])

    def load(self) -> Iterator[tuple[str, int]]:
        """Prompts until 100,000 different blocks are in."""
        blocks = len(self._prefixes) * self.shared
        repeated = iter(self._loaded)
        while blocks < LOADED_BLOCKS:
            yield next(repeated, None) or self.fresh()
            blocks += self.own

    def query(self) -> str:
        """80 % new, 10 % repeated, 10 % unknown."""
        which = self._dice.random()
        if which < 0.8:
            return self.fresh()[0]
        return self._dice.choice(self._loaded)[0] if which < 0.9 else self._text(self.shared + self.own)


def tokens_of(text: str) -> Any:
    """The text as an int64 array of token ids, four characters each."""
    import numpy as np

    return np.frombuffer(text.encode(), "<u4").astype(np.int64)


# --- contenders: `prepare` is not timed, `match` and `insert` are ---------------------------------------------------


class Ours:
    """`inferencesched.prefix`, from text."""

    def __init__(self, endpoints: int) -> None:
        from inferencesched import EndpointBatch, Request
        from inferencesched.prefix import KeyMaker, PrefixIndex

        self._request = Request
        self._keys = KeyMaker(block_size_tokens=BLOCK_TOKENS).keys
        self._index = PrefixIndex()
        self._batch = EndpointBatch.build([f"endpoint-{i}" for i in range(endpoints)])
        self._endpoints = self._batch.endpoints

    def prepare(self, text: str) -> Any:
        return self._request("r", "llama", text)

    def match(self, request: Any) -> Any:
        return self._index.column(self._keys(request), self._batch, unit=BLOCK_TOKENS)

    def insert(self, request: Any, endpoint: int) -> None:
        self._index.insert(self._keys(request), self._endpoints[endpoint])


class OursTokens(Ours):
    """The same, from an int64 array of token ids."""

    def prepare(self, text: str) -> Any:
        return self._request("r", "llama", tokens_of(text))


class Dictionary:
    """The honest baseline: chained xxh3 per block in one dictionary, holders as integer bitsets."""

    def __init__(self, endpoints: int) -> None:
        import numpy as np
        import xxhash

        self._np, self._digest = np, xxhash.xxh3_64_intdigest
        self._holders: dict[int, int] = {}
        self._endpoints = endpoints

    def prepare(self, text: str) -> str:
        return text

    def _chain(self, text: str) -> Iterator[int]:
        data, key, digest = text.encode(), 0, self._digest
        for start in range(0, len(data) - BLOCK_CHARS + 1, BLOCK_CHARS):
            key = digest(data[start : start + BLOCK_CHARS], key)
            yield key

    def match(self, text: str) -> Any:
        np, get = self._np, self._holders.get
        column = np.zeros(self._endpoints)
        before, depth = -1, 0
        for key in self._chain(text):
            holders = get(key, 0) & before
            if holders != before and depth:
                self._write(column, before ^ holders, depth)
            if not holders:
                return column
            before = holders
            depth += 1
        if depth:
            self._write(column, before, depth)
        return column

    def _write(self, column: Any, bits: int, depth: int) -> None:
        np = self._np
        packed = np.frombuffer(bits.to_bytes(self._endpoints + 7 >> 3, "little"), np.uint8)
        column[np.unpackbits(packed, count=self._endpoints, bitorder="little").view(bool)] = depth * BLOCK_TOKENS

    def insert(self, text: str, endpoint: int) -> None:
        holders, bit = self._holders, 1 << endpoint
        for key in self._chain(text):
            holders[key] = holders.get(key, 0) | bit


class Dynamo:
    """Dynamo's radix tree (Rust) through its Python package, from a list of token ids."""

    def __init__(self, endpoints: int) -> None:
        from dynamo.llm import RadixTree, compute_block_hash_for_seq  # type: ignore[import-not-found]

        self._tree, self._hash, self._event = RadixTree(), compute_block_hash_for_seq, 0

    def prepare(self, text: str) -> Any:
        import array

        return array.array("I", text.encode()).tolist()

    def match(self, tokens: Any) -> Any:
        return self._tree.find_matches(self._hash(tokens, BLOCK_TOKENS)).scores

    def insert(self, tokens: Any, endpoint: int) -> None:
        self._event += 1
        blocks = []
        chained = 0
        for digest in self._hash(tokens, BLOCK_TOKENS):
            chained = hash((chained, digest)) & 0xFFFF_FFFF_FFFF_FFFF
            blocks.append({"block_hash": chained, "tokens_hash": digest})
        event = {"event_id": self._event, "data": {"stored": {"parent_hash": None, "blocks": blocks}}}
        self._tree.apply_event(endpoint, json.dumps(event).encode())


class Ray:
    """Ray Serve LLM's prefix tree as a plain object, from text; it answers with the deepest holders only."""

    def __init__(self, endpoints: int) -> None:
        root = next(PEERS_HOME.glob("lib/python*/site-packages/ray"))
        path = root / "llm/_internal/serve/routing_policies/prefix_aware/prefix_tree.py"
        tree = ast.parse(path.read_text())
        # The classes alone: the module as it stands wants the whole of Ray Serve installed and an actor system running.
        kept = [
            node
            for node in tree.body
            if not (isinstance(node, ast.ClassDef) and node.name == "PrefixTreeActor")
            and not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ray"))
            and not (isinstance(node, ast.Import) and node.names[0].name == "ray")
            and not isinstance(node, ast.Assign)
        ]
        names: dict[str, Any] = {}
        exec(compile(ast.Module(kept, []), str(path), "exec"), names)  # noqa: S102 — the peer's own source
        self._tree = names["PrefixTree"]()
        self._names = [f"endpoint-{i}" for i in range(endpoints)]
        self._now = 0.0
        self._tree.add_tenants(self._names, 0.0)

    def prepare(self, text: str) -> str:
        return text

    def match(self, text: str) -> Any:
        return self._tree.prefix_match(text, self._names)

    def insert(self, text: str, endpoint: int) -> None:
        self._now += 1.0
        self._tree.insert(text, self._names[endpoint], self._now)


CONTENDERS: dict[str, Callable[[int], Any]] = {
    "ours": Ours,
    "ours, token array": OursTokens,
    "dictionary": Dictionary,
    "dynamo": Dynamo,
    "ray": Ray,
}
PEERS = ("dynamo", "ray")
GROWN = ("dynamo", "ray")
"""Contenders whose memory is what the process grew by: one is native, the other would take minutes to trace."""

SLOW = {"ray": 40, "dynamo": 100}
"""Queries of contenders that take milliseconds for one."""


# --- measuring ------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Return what the process occupies now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def traced_bytes() -> int:
    """Return what Python objects take now."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def timed(call: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[float]:
    """Return the microseconds of each call, sorted."""
    times = []
    for each in arguments:
        start = time.perf_counter_ns()
        call(*each)
        times.append((time.perf_counter_ns() - start) / 1000)
    return sorted(times)


def measure(cell: Cell) -> Result:
    """Load, then match, then insert, in this process."""
    CONTENDERS[cell.contender](1)  # imports what it needs, which is not the index
    occupied = resident_bytes if cell.contender in GROWN else traced_bytes
    workload = Workload(cell)
    if occupied is traced_bytes:
        tracemalloc.start()
    before = occupied()
    contender = CONTENDERS[cell.contender](cell.endpoints)
    for text, home in workload.residents():
        contender.insert(contender.prepare(text), home)
    for text, home in workload.load():
        contender.insert(contender.prepare(text), home)
    grown = occupied() - before
    tracemalloc.stop()
    rounds = SLOW.get(cell.contender, 300)
    queries = [(contender.prepare(workload.query()),) for _ in range(rounds)]
    timed(contender.match, queries[:20])
    matches = timed(contender.match, queries)
    fresh = [workload.fresh() for _ in range(min(rounds, 100))]
    inserts = timed(contender.insert, [(contender.prepare(text), home) for text, home in fresh])
    p99 = len(matches) * 99 // 100, len(inserts) * 99 // 100
    return Result(
        statistics.median(matches), matches[p99[0]], statistics.median(inserts), inserts[p99[1]], grown / LOADED_BLOCKS
    )


def run(cell: Cell) -> Result:
    """Measure in a process of its own, with the interpreter that has the contender's packages."""
    python = PEERS_HOME / "bin" / "python" if cell.contender in PEERS else Path(sys.executable)
    command = [str(python), __file__, "--cell", json.dumps(cell)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Result(*json.loads(done.stdout.splitlines()[-1]))


def cells(*, quick: bool, contenders: list[str]) -> list[Cell]:
    """Return what to measure, the contenders of one configuration next to each other."""
    if quick:
        shapes = [(256, 8, 2), (2048, 64, 4), (16384, 256, 16), (16384, 1000, 1000)]
    else:
        shapes = [(t, n, max(2, n // 16)) for t in (256, 2048, 16384, 131072) for n in (8, 64, 256, 1000)]
        shapes += [(2048, n, n) for n in (256, 1000)] + [(16384, 1000, 16), (16384, 1000, 1000)]
    return [Cell(contender, *shape) for shape in shapes for contender in contenders]


def install_peers() -> None:
    """Make the side environment, once."""
    if not (PEERS_HOME / "bin" / "python").exists():
        venv.create(PEERS_HOME, with_pip=True)
    pip = [str(PEERS_HOME / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEER_PACKAGES], check=True)


def report(results: dict[Cell, Result]) -> None:
    """Print one table per figure: a row for each shape, a column for each contender."""
    contenders = list(dict.fromkeys(cell.contender for cell in results))
    shapes = list(dict.fromkeys(cell[1:] for cell in results))
    for title, figure in (
        ("Match, p50 / p99 in µs", lambda r: f"{r.match_p50:,.1f} / {r.match_p99:,.0f}"),
        ("Insertion, p50 / p99 in µs", lambda r: f"{r.insert_p50:,.0f} / {r.insert_p99:,.0f}"),
        ("Memory, bytes per block", lambda r: f"{r.bytes_per_block:,.1f}"),
    ):
        print(f"\n{title}\n")
        print("| tokens | endpoints | holders | " + " | ".join(contenders) + " |")
        print("|---" * (3 + len(contenders)) + "|")
        for shape in shapes:
            row = [figure(results[Cell(each, *shape)]) for each in contenders]  # type: ignore[no-untyped-call]
            print("| " + " | ".join([*(f"{part:,}" for part in shape), *row]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four shapes instead of twenty")
    parser.add_argument("--peers", action="store_true", help="install and measure the peers as well")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(measure(Cell(*json.loads(arguments.cell)))))
        return
    contenders = [each for each in CONTENDERS if each not in PEERS or arguments.peers]
    if arguments.peers:
        install_peers()
    results = {}
    for cell in cells(quick=arguments.quick, contenders=contenders):
        results[cell] = run(cell)
        print(cell, results[cell], file=sys.stderr)  # a run that is stopped has not been for nothing
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, medians of 300 matches")
    report(results)


if __name__ == "__main__":
    main()
