"""Routers in front of two real vLLM servers: what a policy is worth when the prefix cache is not a model of one.

    python bench/real_vllm.py --peers --sessions FILE    # installs vLLM's CPU build and the routers (4 GB) in build/
    python bench/real_vllm.py --sessions FILE            # with what is installed
    python bench/real_vllm.py --sessions FILE --quick    # one round of four sessions

Two vLLM servers (CPU, a random model of 0.8 million parameters, 1,000 blocks of 32 tokens each) answer agent sessions
of tau-bench (`bench.peers.tau`): ten at once, each asking its next call when the last is answered. Each round has
sessions of its own, the same for every contender; before each replay the routers are started anew and the engines'
prefix caches emptied, which is verified once; the order within a round is drawn. Affinity is told which session a call
belongs to; nobody else is. All of it twice: as chats, and with prompts as token ids, by which KV-cache events name what
an engine holds (a gateway that sees text has to guess, whatever the events say).

Hit ratio: prompt tokens that the engines found in their caches, of all they looked up, by their own counters. Engines,
router and client share all cores, so a router's own CPU counts too; on two cores, a second engine brings memory for
prefixes, and hardly any speed: *one server* shows what it is worth. When others use the machine too, the engines' own
CPU tells policies apart better than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import aiohttp
import attrs

from bench.peers import vllm
from bench.peers.environment import EnvironmentFailed
from bench.peers.processes import CoreUse, NotUp, free_ports, running
from bench.peers.routers import Router, Setting, ours, routers
from bench.peers.seen import NotSeen, configuration, look
from bench.peers.tau import Choose, Replayed, Session, replay, sessions, tokenized

DEFAULT_SESSIONS = Path(__file__).resolve().parent.parent.parent / "shared/data/tau-airline-sessions-0-69.jsonl.gz"
ROUNDS = 3
AT_ONCE = 10
WITH_UTILIZATION = {"expected-work-scorer": 4, "kv-cache-utilization-scorer": 1}
PEERS = ("smg", "vllm-router")
HITS, QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
CORES = range(os.cpu_count() or 1)
DONE = "vllm:request_success_total"


@attrs.frozen
class Outcome:
    """One replay through one contender."""

    replayed: Replayed
    hit_ratio: float
    calls: tuple[int, ...]
    """By server."""

    engine_cpu: float
    """Seconds of CPU of all servers: what a replay cost them, whoever else was on the machine."""

    others: float
    """Cores that were used by neither engines nor client: by the router, and by whoever else there was."""


Contender = Callable[[list[Session]], AbstractContextManager[Choose]]
"""Lends, for as long as sessions are replayed, the choice of where their calls are sent."""


def round_robin(urls: list[str]) -> Choose:
    """Return the choice that takes turns."""
    turns = itertools.cycle(urls)
    return lambda _: next(turns)


def affinity(urls: list[str], chosen: list[Session]) -> Choose:
    """Return the choice that gives each session a server, equally many to each."""
    homes = {session.number: urls[i % len(urls)] for i, session in enumerate(chosen)}
    return homes.__getitem__


# --- contenders -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Fleet:
    """The servers, the port where they look for somebody to tell of their caches, and a folder for files."""

    servers: list[vllm.Server]
    events_port: int
    folder: Path

    @property
    def urls(self) -> list[str]:
        """Where they answer."""
        return [server.url for server in self.servers]

    def cpu_seconds(self) -> float:
        """Return what they have used."""
        return sum(server.process.cpu_seconds() for server in self.servers)

    def counted(self) -> list[dict[str, float]]:
        """Return the counters of each."""
        return [server.counters(HITS, QUERIES, DONE) for server in self.servers]


@contextlib.contextmanager
def through(fleet: Fleet, router: Router, _: list[Session]) -> Iterator[Choose]:
    """Lend the choice of a router that is started for it and ended after it."""
    port, spare = free_ports(2)
    start = router.start(Setting(port, spare, tuple(fleet.urls), fleet.folder, vllm.MODEL))
    log = fleet.folder / f"{router.name}.log"
    with running(
        router.name, start.command, core=None, log=log, environment=start.environment, folder=fleet.folder
    ) as started:
        url = f"http://127.0.0.1:{port}"
        started.wait_until_answers(f"{url}/v1/models", within=60)
        yield lambda _: url


def contenders(fleet: Fleet, chosen_routers: list[Router]) -> dict[str, Contender]:
    """Return each by name."""
    known: dict[str, Contender] = {
        "one server, direct": lambda _: contextlib.nullcontext(lambda _: fleet.urls[0]),
        "round robin, direct": lambda _: contextlib.nullcontext(round_robin(fleet.urls)),
        "session affinity, direct": lambda chosen: contextlib.nullcontext(affinity(fleet.urls, chosen)),
    }
    for router in (*chosen_routers, *ours_on(fleet)):
        known[f"{router.name}, {router.policy}"] = partial(through, fleet, router)
    return known


def ours_on(fleet: Fleet) -> list[Router]:
    """Return the gateway as it is, with a scorer of utilization beside it, and listening to cache events."""
    policies = {
        "with KV utilization": configuration(weights=WITH_UTILIZATION),
        "KV-cache events": configuration(fleet.events_port),
    }
    known = [Router("ours", "default", ours())]
    for number, (policy, document) in enumerate(policies.items()):
        path = fleet.folder / f"policy-{number}.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        known.append(Router("ours", policy, ours("-f", path)))
    return known


# --- a run ------------------------------------------------------------------------------------------------------------


def observe(fleet: Fleet, contender: Contender, chosen: list[Session]) -> Outcome:
    """Empty the caches, replay, and read from the engines what they made of it."""
    for server in fleet.servers:
        server.forget_prefixes()
    with contender(chosen) as choose:
        before = fleet.counted()
        engines, own, uses = fleet.cpu_seconds(), own_cpu(), [CoreUse.now(core) for core in CORES]
        replayed = asyncio.run(replay(chosen, choose))
        engines = fleet.cpu_seconds() - engines
        known = (engines + own_cpu() - own) / replayed.wall
        share = sum(CoreUse.now(use.core).share_since(use) for use in uses)
    grown = [{name: now[name] - then[name] for name in now} for now, then in zip(fleet.counted(), before, strict=True)]
    ratio = sum(each[HITS] for each in grown) / sum(each[QUERIES] for each in grown)
    return Outcome(replayed, ratio, tuple(int(each[DONE]) for each in grown), engines, max(0.0, share - known))


def own_cpu() -> float:
    """Return the CPU seconds of this process: the client's."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def check_forgetting(server: vllm.Server) -> None:
    """See for ourselves that an emptied cache is empty: a prompt that hit before does not after."""
    body = {"model": vllm.MODEL, "max_tokens": 1, "prompt": "def forget(self): pass\n" * 40}
    hits = []
    for empty in (True, False, True):
        if empty:
            server.forget_prefixes()
        before = server.counters(HITS)[HITS]
        server.post("/v1/completions", body)
        hits.append(server.counters(HITS)[HITS] - before)
    if not (hits[0] == 0 and hits[1] > 0 and hits[2] == 0):
        raise RuntimeError(f"the prefix cache was not emptied: {hits} tokens were found in it")


def say(*parts: object) -> None:
    """Tell progress: a run that is stopped has not been for nothing."""
    print(*parts, file=sys.stderr, flush=True)


def available(*, install: bool) -> tuple[list[Router], list[str]]:
    """Return the routers that can be started, and why the others cannot."""
    chosen, missing = [], []
    known = routers()
    for name in PEERS:
        router = known[name]
        assert router.environment
        if install:
            try:
                router.environment.install()
            except EnvironmentFailed as error:
                missing.append(f"{name}: {error}")
                continue
        if router.environment.is_installed:
            chosen.append(router)
        else:
            missing.append(f"{name}: not installed; --peers installs it")
    return chosen, missing


def report(outcomes: dict[str, list[Outcome]]) -> None:
    """Print the median of the rounds for each contender, and each round's wall time."""
    heads = ["contender", "wall s", "p50 s", "p90 s", "token hit ratio", "engines' CPU s", "calls by server"]
    heads += ["wall s, each round", "others, cores"]
    print("\n| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    for name, rounds in outcomes.items():
        if not rounds:
            continue
        replays = [each.replayed for each in rounds]
        row = [
            f"{statistics.median(each.wall for each in replays):.1f}",
            f"{statistics.median(each.percentile(50) for each in replays):.2f}",
            f"{statistics.median(each.percentile(90) for each in replays):.2f}",
            f"{statistics.median(each.hit_ratio for each in rounds):.3f}",
            f"{statistics.median(each.engine_cpu for each in rounds):.1f}",
            " + ".join(str(sum(each.calls[i] for each in rounds)) for i in range(len(rounds[0].calls))),
            ", ".join(f"{each.wall:.1f}" for each in replays),
            ", ".join(f"{each.others:.2f}" for each in rounds),
        ]
        print(f"| {name} | " + " | ".join(row) + " |")


def measure(fleet: Fleet, groups: list[list[Session]], known: dict[str, Contender], seed: int) -> None:
    """Replay each group through everybody, in an order that is drawn, and print what came of it."""
    outcomes: dict[str, list[Outcome]] = {name: [] for name in known}
    failed: dict[str, str] = {}
    dice = random.Random(seed)
    for number, chosen in enumerate(groups):
        for name in dice.sample(sorted(known), len(known)):
            if name in failed:
                continue
            try:
                outcomes[name].append(observe(fleet, known[name], chosen))
                say(number, name, outcomes[name][-1])
            except (NotUp, aiohttp.ClientError) as error:
                failed[name] = str(error)
                say(number, name, repr(error))
    report(outcomes)
    for name, reason in failed.items():
        print(f"\nNot measured: {name}: {reason}")


def run(fleet: Fleet, groups: list[list[Session]], chosen_routers: list[Router], seed: int) -> None:
    """Measure chats, the same prompts as token ids, and what our sources see."""
    check_forgetting(fleet.servers[0])
    known = contenders(fleet, chosen_routers)
    observe(fleet, known["round robin, direct"], groups[0])  # the engines' first requests are slower
    print("\nAs chats:")
    measure(fleet, groups, known, seed)
    print("\nThe same prompts as token ids, to /v1/completions:")
    measure(fleet, [[tokenized(each, fleet.servers[0].tokens) for each in group] for group in groups], known, seed)
    print("\nSeen by our sources:\n")
    try:
        for line in asyncio.run(look(fleet.events_port, fleet.servers)):
            print(f"- {line}")
    except NotSeen as error:
        print(f"- not all: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="install what is missing: vLLM's CPU build, the routers")
    parser.add_argument("--sessions", type=Path, default=DEFAULT_SESSIONS, metavar="FILE", help="tau sessions, gzipped")
    parser.add_argument("--quick", action="store_true", help="one round of four sessions")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=0, help="of the order within a round")
    given = parser.parse_args()
    if not given.sessions.exists():
        print(f"No sessions at {given.sessions}: name a file with --sessions (bench/peers/tau.py says how it looks).")
        return
    if given.peers:
        vllm.install()
    if not vllm.is_installed():
        print("vLLM's CPU build is not installed (4 GB): --peers installs it.")
        return
    chosen_routers, missing = available(install=given.peers)
    for line in missing:
        print(f"Not measured: {line}")
    rounds, at_once = (1, 4) if given.quick else (given.rounds, AT_ONCE)
    everybody = sessions(given.sessions, vllm.MODEL)
    groups = [everybody[i * at_once : (i + 1) * at_once] for i in range(rounds)]
    with tempfile.TemporaryDirectory(prefix="real-vllm-") as folder, vllm.fleet(2, Path(folder)) as (servers, events):
        print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} CPUs, vLLM {vllm.VERSION} for CPUs, seed {given.seed}")
        calls = [sum(len(session.calls) for session in group) for group in groups]
        print(f"{len(groups)} rounds of {at_once} sessions, {', '.join(map(str, calls))} calls; medians of the rounds")
        run(Fleet(servers, events, Path(folder)), groups, chosen_routers, given.seed)


if __name__ == "__main__":
    main()
