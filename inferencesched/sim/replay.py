"""Replay: one trace, one fleet, one policy, one seed; what became of every request, and a log of everything.

The scheduler is the one that runs in production, fed with real token ids. Equal arguments give equal results, and
equal logs, byte for byte.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from inferencesched.decision import Rejection
from inferencesched.scheduler import Scheduler
from inferencesched.sim.fleet import Event, Fleet, FleetSpec
from inferencesched.sim.trace import Trace, TraceRequest

__all__ = ["EndpointWork", "RequestRun", "Result", "replay"]


@attrs.frozen
class RequestRun:
    """What became of one request; times are absolute, NaN where it never came to that.

    Attributes:
        request: as the trace has it.
        endpoint: where it ran; None when it was rejected.
        reason: why it was rejected.
        first_token: when the first token of the answer came.
        finished: when the last one came.
        matched_blocks: leading blocks of the prompt that the endpoint had in its cache.
        matched_tokens: the same in tokens.
        preemptions: how often the engine threw it out for lack of room.
    """

    request: TraceRequest
    endpoint: str | None
    reason: str | None = None
    first_token: float = float("nan")
    finished: float = float("nan")
    matched_blocks: int = 0
    matched_tokens: int = 0
    preemptions: int = 0

    @property
    def ttft(self) -> float:
        """Time to first token: from arrival, in seconds."""
        return self.first_token - self.request.arrival

    @property
    def tpot(self) -> float:
        """Time per output token after the first, in seconds; NaN for answers of one token."""
        further = self.request.output_tokens - 1
        return (self.finished - self.first_token) / further if further else float("nan")


@attrs.frozen
class EndpointWork:
    """What one endpoint did.

    Attributes:
        name: the endpoint.
        requests: placed on it.
        computed_tokens: prompt tokens it had to compute, those found in its cache not counted.
        generated_tokens: tokens of answers.
        busy_seconds: time in which it was not idle.
        preemptions: sequences it threw out for lack of room.
    """

    name: str
    requests: int
    computed_tokens: int
    generated_tokens: int
    busy_seconds: float
    preemptions: int

    @property
    def tokens(self) -> int:
        """Everything it computed."""
        return self.computed_tokens + self.generated_tokens


@attrs.frozen
class Result:
    """The outcome of one replay.

    Attributes:
        policy: the name under which it was replayed.
        seed: of the scheduler's dice.
        trace: its name.
        runs: one for each request, in the order of the trace.
        endpoints: one for each endpoint.
    """

    policy: str
    seed: int
    trace: str
    runs: tuple[RequestRun, ...] = attrs.field(repr=False)
    endpoints: tuple[EndpointWork, ...] = attrs.field(repr=False)


def replay(
    trace: Trace,
    fleet: FleetSpec,
    build: Callable[[random.Random], Scheduler],
    *,
    policy: str = "",
    seed: int = 0,
    log: Callable[[str], object] | None = None,
    watch: Callable[[Event], object] | None = None,
) -> Result:
    """Run every request of `trace` through a new scheduler on a new fleet, to the end.

    Args:
        trace: the requests.
        fleet: the engines.
        build: makes the scheduler from its dice.
        policy: a name for it in results and logs.
        seed: of the dice.
        log: gets one line of JSON (without the line end) for each event, after one that says what was replayed.
        watch: is told each event, decisions with their receipts included.

    Raises:
        ConfigError: a request is too long for an engine.
    """
    machines = Fleet(fleet, build(random.Random(seed)), block_tokens=trace.block_tokens)
    if log is not None:
        log(_header(trace, fleet, policy=policy, seed=seed))
    runs: dict[str, RequestRun] = {}
    for event in machines.run(trace):
        runs[event.request.id] = _after(event, runs.get(event.request.id))
        if log is not None:
            log(event.to_json())
        if watch is not None:
            watch(event)
    in_order = tuple(runs[request.id] for request in trace.requests)
    return Result(policy, seed, trace.name, in_order, _work(machines, in_order))


def _header(trace: Trace, fleet: FleetSpec, *, policy: str, seed: int) -> str:
    header: Mapping[str, Any] = {
        "event": "replay",
        "trace": trace.name,
        "requests": len(trace),
        "policy": policy,
        "seed": seed,
        "engines": [engine.name for engine in fleet.engines],
        "scrape_interval": fleet.scrape_interval,
    }
    return json.dumps(header, separators=(",", ":"))


def _after(event: Event, before: RequestRun | None) -> RequestRun:
    """Return what is known of a request after `event`."""
    if isinstance(event.outcome, Rejection):
        return RequestRun(event.request, None, event.outcome.reason)
    if before is None:
        return RequestRun(event.request, event.endpoint)
    if event.kind == "first_token":
        return attrs.evolve(before, first_token=event.time)
    served = event.served
    assert served is not None
    return attrs.evolve(
        before,
        finished=event.time,
        matched_blocks=served.matched_blocks,
        matched_tokens=served.matched_tokens,
        preemptions=served.preemptions,
    )


def _work(machines: Fleet, runs: tuple[RequestRun, ...]) -> tuple[EndpointWork, ...]:
    end = max((run.finished for run in runs if run.endpoint is not None), default=0.0)
    placed: dict[str, list[RequestRun]] = {name: [] for name in machines.engines}
    for run in runs:
        if run.endpoint is not None:
            placed[run.endpoint].append(run)
    return tuple(
        EndpointWork(
            name,
            len(placed[name]),
            engine.computed_tokens,
            sum(run.request.output_tokens for run in placed[name]),
            engine.busy_seconds(end),
            engine.preemptions,
        )
        for name, engine in machines.engines.items()
    )
