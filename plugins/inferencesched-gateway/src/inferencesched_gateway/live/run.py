"""Run: one policy, a gateway that follows it, engines that nobody has used before; and the numbers they end with."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from inferencesched import ConfigError
from inferencesched.errors import Problem
from inferencesched.sim import EndpointWork, RequestRun, Result, Trace
from inferencesched_gateway.engines import simulated_engines
from inferencesched_gateway.live.child import GatewayProcess, gateway_process
from inferencesched_gateway.live.client import ask_all

__all__ = ["GatewayReceipt", "Stage", "fetch_receipt", "measure", "set_stage"]

_READY_SECONDS = 30.0
_LOG_SECONDS = 5.0  # for the last lines of the access log to arrive
_LOOK_SECONDS = 0.05
_RECEIPTS_KEPT = 200  # of the latest requests; the gateway keeps some more
_PREEMPTIONS = "vllm:num_preemptions_total"


@attrs.frozen
class Stage:
    """Engines and a gateway that run.

    Attributes:
        gateway: the gateway.
        engines: their addresses, which are their names too.
        http: to speak to all of them.
    """

    gateway: GatewayProcess
    engines: tuple[str, ...]
    http: aiohttp.ClientSession


@attrs.frozen
class GatewayReceipt:
    """What a gateway says of one decision: a `inferencesched.cli.comparison.Receipt`."""

    text: str
    content: Mapping[str, Any]

    def explain(self) -> str:
        """Return it for people."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return dict(self.content)


@contextlib.asynccontextmanager
async def set_stage(
    policy: Mapping[str, Any] | None, *, hardware: Sequence[str], block_tokens: int, seed: int, folder: Path
) -> AsyncIterator[Stage]:
    """Start engines and a gateway; end them in any case.

    Args:
        policy: an EndpointPickerConfig; None for what is in force without one.
        hardware: of each engine, all of one kind.
        block_tokens: tokens per block of the engines' caches.
        seed: of the gateway's dice.
        folder: where the gateway finds its configuration.

    Raises:
        ConfigError: one of them does not start, or does not get ready.
    """
    (kind,) = set(hardware)
    options = ["--seed", str(seed)]
    if policy is not None:
        file = folder / "policy.json"
        file.write_text(json.dumps(dict(policy)), encoding="utf-8")
        options += ["-f", str(file)]
    async with (
        simulated_engines(len(hardware), "--hardware", kind, "--block-size", str(block_tokens)) as engines,
        gateway_process([f"http://{engine}" for engine in engines], *options) as gateway,
        aiohttp.ClientSession() as http,
    ):
        await _until(_READY_SECONDS, lambda: _is_ready(http, gateway), "the gateway did not get ready")
        yield Stage(gateway, engines, http)


async def measure(
    stage: Stage,
    trace: Trace,
    bodies: Mapping[str, bytes],
    *,
    policy: str,
    seed: int,
    ended: Callable[[], object],
) -> Result:
    """Send the requests of a trace, and return what the client saw and who did the work.

    Raises:
        ConfigError: the gateway or an engine is gone, or nothing was answered.
    """
    try:
        runs = await ask_all(trace, stage.gateway.url, bodies, ended=ended)
    except aiohttp.ClientError as error:
        problem = f"the gateway is gone: {error}; {await stage.gateway.last_words()}"
        raise ConfigError([Problem("", problem)]) from None
    if all(run.endpoint is None for run in runs):
        raise ConfigError([Problem("", f"no request was answered; the first: {runs[0].reason}")])

    async def is_complete() -> bool:
        return len(stage.gateway.outcomes) >= len(runs)

    await _until(_LOG_SECONDS, is_complete, "the gateway did not tell where requests went")
    placed = [
        run if run.endpoint is None else attrs.evolve(run, endpoint=stage.gateway.outcomes[run.request.id]["endpoint"])
        for run in runs
    ]
    work = [await _work(stage, name, placed) for name in stage.engines]
    return Result(policy, seed, trace.name, tuple(placed), tuple(work))


async def fetch_receipt(stage: Stage, result: Result) -> GatewayReceipt | None:
    """Return the receipt of a request, out of the latest, that went where more than half of its prompt was cached.

    If there is none, that of any of the latest; None if nothing was placed.

    Raises:
        ConfigError: the gateway does not tell it.
    """
    latest = sorted((run for run in result.runs if run.endpoint is not None), key=lambda run: run.finished)
    latest = latest[-_RECEIPTS_KEPT:]
    warm = [run for run in latest if run.matched_tokens > run.request.prompt_tokens / 2]
    chosen = next(iter(warm or latest), None)
    if chosen is None:
        return None
    url = f"{stage.gateway.url}/-/receipts/{chosen.request.id}"
    text = await _get(stage.http, url, accept="text/plain")
    return GatewayReceipt(text.rstrip("\n"), json.loads(await _get(stage.http, url, accept="application/json")))


async def _work(stage: Stage, name: str, runs: Sequence[RequestRun]) -> EndpointWork:
    ours = [run for run in runs if run.endpoint == name]
    page = await _get(stage.http, f"http://{name}/metrics", accept="text/plain")
    preemptions = sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(_PREEMPTIONS))
    return EndpointWork(
        name,
        requests=len(ours),
        computed_tokens=sum(run.request.prompt_tokens - run.matched_tokens for run in ours),
        generated_tokens=sum(run.request.output_tokens for run in ours),
        busy_seconds=float("nan"),  # no client sees it
        preemptions=int(preemptions),
    )


async def _get(http: aiohttp.ClientSession, url: str, *, accept: str) -> str:
    try:
        async with http.get(url, headers={"accept": accept}, raise_for_status=True) as answer:
            return await answer.text()
    except aiohttp.ClientError as error:
        raise ConfigError([Problem("", f"{url} does not answer: {error}")]) from None


async def _is_ready(http: aiohttp.ClientSession, gateway: GatewayProcess) -> bool:
    try:
        async with http.get(f"{gateway.url}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError as error:
        raise ConfigError([Problem("", f"the gateway is gone: {error}; {await gateway.last_words()}")]) from None


async def _until(patience: float, condition: Callable[[], Any], trouble: str) -> None:
    """Wait for something to come true; ConfigError with `trouble` if it does not in so many seconds."""
    for _ in range(int(patience / _LOOK_SECONDS)):
        if await condition():
            return
        await asyncio.sleep(_LOOK_SECONDS)
    raise ConfigError([Problem("", trouble)])
