"""What our sources make of real engines: metric pages, lists of models and KV-cache events, as facts by column.

Opens the sources that a configuration asks for, over endpoints of its own, in the calling loop; nothing is routed.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import numpy as np

from bench.peers import vllm
from inferencesched import Endpoint, Request, load_config
from inferencesched.interfaces import Producer

NUMBERS = (
    "running_requests",
    "waiting_requests",
    "kv_cache_utilization",
    "cache_block_size_tokens",
    "cache_num_blocks",
    "max_active_adapters",
)
SETS = ("active_adapters", "served_models", "served_adapters")
PATIENCE = 20.0
ASKED_AT_ONCE = 12
"""More than the eight that a server works on together, so that some wait."""

TOKENS = 20 * vllm.BLOCK_TOKENS


class NotSeen(Exception):
    """What the engines did has not become a fact."""


DEFAULT_WEIGHTS = {"expected-work-scorer": 1}


def configuration(events_port: int | None = None, weights: Mapping[str, int] = DEFAULT_WEIGHTS) -> dict[str, Any]:
    """Return a policy with the engines' lists of models and, given a port, their cache events.

    Args:
        events_port: where the engines look for somebody to tell.
        weights: of the scorers.
    """
    producers = []
    if events_port is not None:
        events = {"zmqEndpoint": f"tcp://127.0.0.1:{events_port}", "topicFilter": "kv@"}
        producers.append({"type": "precise-prefix-cache-producer", "parameters": {"kvEventsConfig": events}})
    return {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            *producers,
            {"type": "models-data-source"},
            {"type": "models-data-extractor"},
            *({"type": name} for name in weights),
        ],
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [{"pluginRef": name, "weight": weight} for name, weight in weights.items()],
            }
        ],
        "dataLayer": {
            "sources": [{"pluginRef": "models-data-source", "extractors": [{"pluginRef": "models-data-extractor"}]}]
        },
    }


class Bystander:
    """A fleet whose facts are only looked at.

    Attributes:
        told: the latest of each fact, by endpoint.
    """

    def __init__(self, events_port: int, servers: list[vllm.Server]) -> None:
        config = load_config(configuration(events_port))
        self._scheduler = config.scheduler(rng=random.Random(0))
        self.told: dict[str, dict[str, Any]] = {}
        for server in servers:
            self.add_endpoint(server.address, server.address, labels={})
        self.sources = config.sources(self._scheduler)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those that are looked at."""
        return self._scheduler.table.endpoints

    @property
    def columns(self) -> frozenset[str]:
        """All that is printed."""
        return frozenset((*NUMBERS, *SETS))

    def add_endpoint(self, name: str, address: str, /, *, labels: Mapping[str, str], rank: int = 0) -> Endpoint:
        """Add one."""
        return self._scheduler.add_endpoint(name, address, labels=labels, rank=rank, now=time.monotonic())

    def remove_endpoint(self, name: str, /) -> None:
        """Remove one."""
        self._scheduler.remove_endpoint(name, now=time.monotonic())

    def update(self, name: str, facts: Mapping[str, Any], /) -> None:
        """Record facts."""
        self._scheduler.update(name, facts, now=time.monotonic())
        self.told.setdefault(name, {}).update(facts)

    def says(self, server: vllm.Server, column: str, item: str) -> bool:
        """Return whether a set of the server has an item."""
        return item in (self.told.get(server.address, {}).get(column) or ())

    def number(self, server: vllm.Server, column: str) -> float:
        """Return a number of the server, NaN if it is unknown."""
        value = self.told.get(server.address, {}).get(column)
        return math.nan if value is None else float(value)

    def prefix(self, tokens: list[int]) -> dict[str, list[float]]:
        """Return what the precise producer knows of a prompt, by column."""
        named = next(each for each in self._scheduler.plugins if "prefix_events_trusted" in _produced(each.plugin))
        assert isinstance(named.plugin, Producer)
        made = named.plugin.produce(
            Request("r", vllm.MODEL, np.array(tokens)), self._scheduler.candidates(now=time.monotonic())
        )
        return {name: list(map(float, column)) for name, column in made.items()}


def _produced(plugin: object) -> tuple[str, ...]:
    return getattr(plugin, "produces", ())


async def look(events_port: int, servers: list[vllm.Server]) -> list[str]:
    """Make the first server do things, and return, a line each, how our sources saw them.

    Raises:
        NotSeen: one of them did not become a fact in time.
    """
    fleet = Bystander(events_port, servers)
    first = servers[0]
    adapter = vllm.ADAPTERS[1]
    tokens = random.Random(1).choices(range(10, 4000), k=TOKENS)
    lines = []
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(ASKED_AT_ONCE))
    async with AsyncExitStack() as stack:
        for source in fleet.sources:
            await stack.enter_async_context(source.open(fleet))
        await until("metrics", lambda: all(fleet.number(each, "cache_num_blocks") == vllm.BLOCKS for each in servers))
        lines.append("metric page, idle: " + shown(fleet.told[first.address]))

        for server in servers:
            # From here on all is known: nothing can have been missed of an emptied cache.
            await asyncio.to_thread(server.forget_prefixes)
        await asyncio.sleep(0.5)
        body = {"model": vllm.MODEL, "prompt": tokens, "max_tokens": 1}
        await asyncio.to_thread(first.post, "/v1/completions", body)
        await until("cache events", lambda: fleet.prefix(tokens)["prefix_matched_tokens"][0] == TOKENS)
        lines.append(f"cache events, {TOKENS} tokens computed by the first: {json.dumps(fleet.prefix(tokens))}")

        path = str(vllm.HOME / "tiny" / adapter)
        await asyncio.to_thread(first.post, "/v1/load_lora_adapter", {"lora_name": adapter, "lora_path": path})
        long = {"model": adapter, "prompt": "import ", "max_tokens": 500, "ignore_eos": True}
        asked = [asyncio.to_thread(first.post, "/v1/completions", long) for _ in range(ASKED_AT_ONCE)]
        answers = asyncio.gather(*asked)
        await until("a running adapter", lambda: fleet.says(first, "active_adapters", adapter))
        await until("a queue", lambda: fleet.number(first, "waiting_requests") > 0)
        lines.append(f"metric page, {ASKED_AT_ONCE} requests to {adapter}: " + shown(fleet.told[first.address]))
        await answers

        await until("a loaded adapter", lambda: fleet.says(first, "served_models", adapter))
        loaded = sets_shown(fleet.told[first.address])
        await asyncio.to_thread(first.post, "/v1/unload_lora_adapter", {"lora_name": adapter})
        await until("an unloaded adapter", lambda: not fleet.says(first, "served_models", adapter))
        lines.append(f"list of models, loaded: {loaded}; unloaded: {sets_shown(fleet.told[first.address])}")
    return lines


async def until(what: str, is_seen: Callable[[], bool]) -> None:
    """Wait for a fact."""
    last = time.monotonic() + PATIENCE
    while not is_seen():
        if time.monotonic() > last:
            raise NotSeen(f"{what}: not seen within {PATIENCE:.0f} s")
        await asyncio.sleep(0.02)


def shown(facts: Mapping[str, Any]) -> str:
    """Return the facts of one endpoint on a line."""
    numbers = ", ".join(f"{name} {facts.get(name)}" for name in NUMBERS)
    return f"{numbers}; {sets_shown(facts)}"


def sets_shown(facts: Mapping[str, Any]) -> str:
    """Return its sets."""
    return ", ".join(f"{name} {sorted(facts.get(name) or ())}" for name in SETS)
