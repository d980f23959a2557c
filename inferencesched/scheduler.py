"""Scheduler: the endpoint table, the ledger and the profiles, put together: places requests one after another.

    facts ──update──▶ table ─┐
                             ├─▶ candidates ─▶ producers ─▶ profiles (chosen by the handler) ─▶ Decision + leases
    ledger (in flight) ──────┘                                                                └▶ Rejection

A pick reserves before `schedule` returns, so the very next pick sees it. A plugin that fails is done without and named
in the receipt. One thread owns a scheduler; decisions may go anywhere. It never waits: what should queue until a place
is free is the business of flow control, one floor up.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import numpy as np

from inferencesched.decision import Decision, Lease, Pass, Rejection, Skip
from inferencesched.endpoints import Endpoint, EndpointBatch, EndpointTable
from inferencesched.errors import ConfigError, Problem
from inferencesched.interfaces import Annotator, Conclusion, Observer, ProfileHandler, Responder, Stateful
from inferencesched.isolation import Isolation
from inferencesched.ledger import Ledger
from inferencesched.profile import Named, Profile, in_order
from inferencesched.request import Request
from inferencesched.vocabulary import RANK_HEADER

__all__ = ["Scheduler"]

_HOOKS = tuple(name for name in vars(Observer) if not name.startswith("_"))
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_RETRY_AFTER = 1.0
"""Seconds: the least a client is ever told. Who knows the drain rate (flow control) says more."""


@attrs.frozen(eq=False)
class _Setup:
    """Everything a configuration decides; replaced as a whole by `Scheduler.reconfigure`."""

    profiles: Mapping[str, Profile]
    handler: Named | None
    plainly: Conclusion
    """What is made of the first profile's pass where no handler is asked."""
    annotators: tuple[Named, ...]
    producers: tuple[Named, ...]
    responders: tuple[Named, ...]
    plugins: tuple[Named, ...]
    hooks: Mapping[str, tuple[Callable[..., None], ...]]
    generation: int


class Scheduler:
    """Places requests on endpoints and keeps account of them.

    Args:
        profiles: one profile, or several by name; several need a `handler`.
        handler: decides which profiles run and which one answers; without one, the single profile does.
        plugins: further plugins of the configuration, that stand in no profile: observers among them are told,
            annotators asked.
        rng: the only source of chance; the same seed and calls give the same decisions.
        table: facts; a new one by default (give one to set its `max_age`).
        observers: told what happens, besides those plugins that are observers themselves.
        lease_ttl: seconds after which a placement that nobody mentioned again is taken for lost.
        isolation: how plugin failures are contained (thresholds, and a stopwatch where a budget is wanted).

    Raises:
        ConfigError: several profiles and no handler, or none at all.

    >>> from inferencesched.builtin.pickers import MaxScorePicker
    >>> scheduler = Scheduler(Profile(picker=MaxScorePicker()), rng=random.Random(7))
    >>> _ = scheduler.add_endpoint("a", "10.0.0.1:8000", now=0.0)
    >>> decision = scheduler.schedule(Request("r-1"), now=0.0)
    >>> decision.endpoint.address, scheduler.ledger.requests(decision.endpoint)
    ('10.0.0.1:8000', 1)
    >>> scheduler.finish(decision, now=1.0), len(scheduler.ledger)
    (True, 0)
    """

    def __init__(
        self,
        profiles: Profile | Mapping[str, Profile],
        *,
        handler: ProfileHandler | Named | None = None,
        plugins: Iterable[object] = (),
        rng: random.Random,
        table: EndpointTable | None = None,
        observers: Iterable[Observer] = (),
        lease_ttl: float = 600.0,
        isolation: Isolation | None = None,
    ) -> None:
        self.table = EndpointTable() if table is None else table
        self.ledger = Ledger(ttl=lease_ttl)
        self._rng = rng
        self._isolation = Isolation() if isolation is None else isolation
        self._observers = tuple(observers)
        self._setup = self._assemble(profiles, handler, plugins, generation=1)
        self._isolation.observe(self._plugin_failed)
        for endpoint in self.table.endpoints:
            self.ledger.add(endpoint)
            self.tell("endpoint_added", endpoint, now=0.0)

    @property
    def generation(self) -> int:
        """Which configuration is in force: 1, then one more with each `reconfigure`."""
        return self._setup.generation

    @property
    def profiles(self) -> Mapping[str, Profile]:
        """The profiles in force, by name."""
        return self._setup.profiles

    @property
    def plugins(self) -> tuple[Named, ...]:
        """Every plugin in force, each once: those of the profiles, the handler, and those that stand in no profile."""
        return self._setup.plugins

    @property
    def isolation(self) -> Isolation:
        """What keeps a bad plugin from failing a request; a machine built on this one calls its plugins through it."""
        return self._isolation

    @property
    def faults(self) -> Mapping[str, int]:
        """How often each plugin failed since the start, by name."""
        return MappingProxyType(self._isolation.faults_total)

    # --- the fleet -----------------------------------------------------------------------------------------------

    def add_endpoint(
        self, name: str, address: str = "", *, labels: Mapping[str, str] | None = None, rank: int = 0, now: float
    ) -> Endpoint:
        """Add an endpoint, or announce it again (see `EndpointTable.add`); a restart ends what was in flight on it."""
        before = self.table.get(name)
        endpoint = self.table.add(name, address, labels=labels, rank=rank, now=now)
        if before is not None and before.instance != endpoint.instance:
            self._gone(before, now=now)
        if before is None or before.instance != endpoint.instance:
            self.ledger.add(endpoint)
            self.tell("endpoint_added", endpoint, now=now)
        return endpoint

    def remove_endpoint(self, name: str, *, now: float) -> Endpoint:
        """Remove an endpoint; its leases are closed, and their requests count as ended in error.

        Raises:
            LifecycleError: there is no endpoint of that name.
        """
        endpoint = self.table.remove(name)
        self._gone(endpoint, now=now)
        return endpoint

    def update(self, name: str, facts: Mapping[str, Any], *, now: float) -> None:
        """Record facts about one endpoint (see `EndpointTable.update`)."""
        self.table.update(name, facts, now=now)

    # --- placing -------------------------------------------------------------------------------------------------

    def candidates(self, *, now: float, subset: Collection[str] | None = None) -> EndpointBatch:
        """Return the endpoints as of `now` with what is in flight on them; only those in `subset`, if given.

        Args:
            subset: names or addresses that may be used (upstream's subset hint). None is no restriction; an empty
                collection, or one that names nobody present, leaves no endpoint.
        """
        batch = self.table.snapshot(now=now)
        batch.grow(self.ledger.columns(batch.endpoints))
        if subset is None:
            return batch
        wanted = frozenset(subset)
        return batch.select(np.array([e.name in wanted or e.address in wanted for e in batch.endpoints], np.bool_))

    def annotate(self, request: Request, *, now: float) -> Request:
        """Return `request` with what the annotators read off it, for a host that wants to know before it schedules."""
        self._isolation.now = now
        annotated = self._annotate(request)
        self._isolation.drain()
        return annotated

    def schedule(
        self, request: Request, *, now: float, n: int = 1, subset: Collection[str] | None = None
    ) -> Decision | Rejection:
        """Place one request now, or say why not.

        Args:
            n: how many ranked endpoints are wanted: the place and `n - 1` fallbacks.
            subset: see `candidates`.

        Complexity: O(plugins × endpoints), array operations; no column is copied that nobody reads.
        """
        setup, guard = self._setup, self._isolation
        guard.now = now
        batch = self.candidates(now=now, subset=subset)
        if not len(batch):
            return self._reject(request, {}, (), self._nobody(subset), now=now)
        if setup.annotators:
            request = self._annotate(request)
        for producer in setup.producers:
            columns = guard.call(producer.name, "producer", producer.produce, request, batch)
            if columns:
                batch.grow(columns)
        skipped = guard.drain()
        passes: dict[str, Pass] = {}
        if setup.handler is None:
            (only,) = setup.profiles.values()
            passes[only.name] = only.place(request, batch, self._rng, n=n, guard=guard)
            conclusion = setup.plainly
        else:
            conclusion = self._consult(setup, setup.handler, request, batch, n=n, passes=passes)
            skipped += guard.drain()
        if conclusion.primary is None or not passes[conclusion.primary].picked:
            return self._reject(request, passes, skipped, conclusion.message, now=now)
        return self._assign(request, passes, skipped, conclusion, now=now)

    def fallback(self, request: Request, decision: Decision, *, now: float) -> Decision | None:
        """Move a placement to its next fallback that is still present, before its first byte; the lease moves along.

        Returns:
            The decision with its new endpoint, or None when no fallback is left (the lease is then released and the
            placement has ended in error).
        """
        if not self.ledger.release(decision.lease):
            return None
        request = self.annotate(request, now=now)
        for place, target in enumerate(decision.fallbacks):
            if target.name in self.table and self.table[target.name] == target:
                former = decision.lease
                lease = self.ledger.reserve(
                    former.request_id,
                    target,
                    stage=former.stage,
                    prefill_tokens=former.prefill_tokens,
                    output_tokens=former.output_tokens,
                    now=now,
                )
                rest = decision.fallbacks[place + 1 :]
                headers = _headers(decision.headers, target, decision.primary_port)
                moved = attrs.evolve(decision, endpoint=target, lease=lease, fallbacks=rest, headers=headers, now=now)
                if self._setup.responders:
                    moved = self._respond(request, moved)
                self.tell("moved", request, moved, decision.endpoint, now=now)
                return moved
        self.tell("finished", decision.request_id, decision.endpoint, "error", now=now)
        for lease in decision.others:
            self._end(lease, "error", now=now)
        return None

    def first_token(self, decision: Decision, *, now: float) -> None:
        """Say that the first output arrived: prefill work is given back, and stages other than the primary end."""
        if self.ledger.first_token(decision.lease, now=now):
            self.tell("first_token", decision.request_id, decision.endpoint, now=now)
        for lease in decision.others:
            if lease in self.ledger:
                self._end(lease, "success", now=now)

    def report_cached_tokens(self, decision: Decision, cached_tokens: float, *, now: float) -> None:
        """Say how many prompt tokens the engine had in cache, where the answer's usage has the figure.

        OpenAI-shaped answers have it in ``usage.prompt_tokens_details.cached_tokens``. The prefix index compares it
        with what it predicted, and trusts its entries for that endpoint accordingly.
        """
        self.tell("cached_tokens_reported", decision, cached_tokens, now=now)

    def touch(self, decision: Decision, *, now: float) -> None:
        """Say that the placement is alive, so that the reaper leaves it alone."""
        for lease in decision.leases:
            self.ledger.touch(lease, now=now)

    def finish(self, placement: Decision | Iterable[Lease], *, now: float, outcome: str = "success") -> bool:
        """Say that a placement has ended. Safe from every path that may end it: only the first call counts.

        Args:
            placement: the decision, or just its `leases` where keeping receipts would cost too much memory.
            outcome: ``success``, ``error`` or ``cancelled``.

        Returns:
            Whether this was the call that ended it.
        """
        leases = placement.leases if isinstance(placement, Decision) else tuple(placement)
        first, *others = leases
        for lease in others:
            if lease in self.ledger:
                self._end(lease, outcome, now=now)
        return self._end(first, outcome, now=now)

    @property
    def hooks(self) -> Mapping[str, tuple[Callable[..., None], ...]]:
        """Who listens to which hook: what nobody hears need not be told."""
        return self._setup.hooks

    def tell(self, hook: str, *what: Any, now: float) -> None:
        """Tell every observer that listens to a hook (of `Observer`); one that fails is noted and stops nobody else.

        The scheduler tells what it does; a machine built on it (`Dispatcher`) tells what it adds.
        """
        for told in self._setup.hooks[hook]:
            try:
                told(*what, now=now)
            except Exception as error:  # noqa: BLE001 — an observer must not fail a request
                self._isolation.note(type(told.__self__).__name__, error)  # type: ignore[attr-defined]

    # --- time ----------------------------------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """Return when `handle_timer` next has something to do, or None. Calling it early, late or twice is harmless."""
        return self.ledger.next_timer()

    def handle_timer(self, *, now: float) -> None:
        """Reap placements that nobody mentioned for `lease_ttl` seconds."""
        for lease in self.ledger.reap(now=now):
            self.tell("finished", lease.request_id, lease.endpoint, "reaped", now=now)

    # --- configuration and state -----------------------------------------------------------------------------------

    def reconfigure(
        self,
        profiles: Profile | Mapping[str, Profile],
        *,
        handler: ProfileHandler | Named | None = None,
        plugins: Iterable[object] = (),
        now: float,
    ) -> int:
        """Put another configuration in force, whole or not at all; the fleet, its facts and all leases stay.

        A plugin of the new configuration with the name and class of an old one takes over its memory, if it has any.

        Returns:
            The new generation.
        """
        setup = self._assemble(profiles, handler, plugins, generation=self.generation + 1)
        kept = {id(named.plugin) for named in self._setup.plugins}
        predecessors = {(named.name, type(named.plugin)): named.plugin for named in self._setup.plugins}
        by_name = {endpoint.name: endpoint for endpoint in self.table.endpoints}
        for named in setup.plugins:
            if id(named.plugin) in kept:
                continue
            if isinstance(named.plugin, Observer):
                for endpoint in self.table.endpoints:
                    named.plugin.endpoint_added(endpoint, now=now)
            predecessor = predecessors.get((named.name, type(named.plugin)))
            if isinstance(named.plugin, Stateful) and isinstance(predecessor, Stateful):
                named.plugin.restore(predecessor.snapshot(), by_name, now=now)
        self._setup = setup
        return setup.generation

    def snapshot(self) -> dict[str, Any]:
        """Return the memory of every stateful plugin by name, for `restore` after a restart. Leases are not in it."""
        return {n.name: n.plugin.snapshot() for n in self._setup.plugins if isinstance(n.plugin, Stateful)}

    def restore(self, state: Mapping[str, Any], *, now: float) -> None:
        """Give stateful plugins back what `snapshot` returned; endpoints are matched by name, unknown parts ignored."""
        endpoints = {endpoint.name: endpoint for endpoint in self.table.endpoints}
        for named in self._setup.plugins:
            if named.name in state and isinstance(named.plugin, Stateful):
                named.plugin.restore(state[named.name], endpoints, now=now)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _assemble(
        self,
        profiles: Profile | Mapping[str, Profile],
        handler: ProfileHandler | Named | None,
        further: Iterable[object],
        *,
        generation: int,
    ) -> _Setup:
        by_name = {profiles.name: profiles} if isinstance(profiles, Profile) else dict(profiles)
        if not by_name:
            raise ConfigError([Problem("profiles", "expected at least one profile, got none")])
        if len(by_name) > 1 and handler is None:
            names = ", ".join(f"'{name}'" for name in by_name)
            raise ConfigError([Problem("profiles", f"several profiles ({names}) need a profile handler")])
        named_handler = None if handler is None else Named.of(handler)
        everything = [named for profile in by_name.values() for named in profile.plugins]
        if named_handler is not None:
            everything.append(named_handler)
        everything += map(Named.of, further)
        plugins = tuple({id(named.plugin): named for named in everything}.values())
        producers = in_order(named for profile in by_name.values() for named in profile.producers)
        listeners = [*(n.plugin for n in plugins if isinstance(n.plugin, Observer)), *self._observers]
        hooks = {name: _overriding(listeners, name) for name in _HOOKS}
        return _Setup(
            MappingProxyType(by_name),
            named_handler,
            Conclusion(next(iter(by_name))),
            tuple(named for named in plugins if isinstance(named.plugin, Annotator)),
            producers,
            tuple(named for named in plugins if isinstance(named.plugin, Responder)),
            plugins,
            hooks,
            generation,
        )

    def _annotate(self, request: Request) -> Request:
        for named in self._setup.annotators:
            found = self._isolation.call(named.name, "annotator", named.annotate, request)
            if found:
                mine = {f"{attribute}/{named.name}": value for attribute, value in found.items()}
                request = attrs.evolve(request, attributes={**found, **mine, **request.attributes})
        return request

    def _respond(self, request: Request, decision: Decision) -> Decision:
        headers: dict[str, str] = {}
        for named in self._setup.responders:
            headers |= self._isolation.call(named.name, "responder", named.respond, request, decision) or {}
        skipped = decision.skipped + self._isolation.drain()
        return attrs.evolve(decision, response_headers=MappingProxyType(headers), skipped=skipped)

    def _consult(
        self,
        setup: _Setup,
        handler: Named,
        request: Request,
        batch: EndpointBatch,
        *,
        n: int,
        passes: dict[str, Pass],
    ) -> Conclusion:
        """Run the profiles that the handler chooses, each at most once, until it chooses no more."""
        guard, names = self._isolation, setup.profiles.keys()
        while True:
            chosen = guard.call(handler.name, "profile-handler", handler.plugin.choose, request, names, passes)
            if chosen is None:  # it failed: the first profile answers in its place
                chosen = () if passes else (next(iter(names)),)
            before = len(passes)
            for name in dict.fromkeys(chosen):
                if name in names and name not in passes:
                    passes[name] = setup.profiles[name].place(request, batch, self._rng, n=n, guard=guard)
            if len(passes) == before or len(passes) == len(names):
                break  # nothing more is wanted, or nothing is left to choose
            picked = {name: each.endpoints[0] for name, each in passes.items() if each.picked}
            request = attrs.evolve(request, attributes={**request.attributes, "picked": picked})
        conclusion = guard.call(handler.name, "profile-handler", handler.plugin.conclude, request, passes)
        if isinstance(conclusion, Conclusion) and (conclusion.primary is None or conclusion.primary in passes):
            return conclusion
        return Conclusion(next((name for name, each in passes.items() if each.picked), None))

    def _assign(
        self,
        request: Request,
        passes: dict[str, Pass],
        skipped: tuple[Skip, ...],
        conclusion: Conclusion,
        *,
        now: float,
    ) -> Decision:
        assert conclusion.primary is not None
        stages = [passes[name] for name in conclusion.stages if name in passes and passes[name].picked]
        chosen = passes[conclusion.primary]
        endpoints = chosen.endpoints
        decision = Decision(
            request.id,
            request.model,
            endpoints[0],
            endpoints[1:],
            self._lease(request, chosen, now=now),
            MappingProxyType(passes),
            conclusion.primary,
            self._setup.generation,
            now,
            tuple([self._lease(request, stage, now=now) for stage in stages]) if stages else (),
            _headers(conclusion.headers, endpoints[0], conclusion.primary_port),
            skipped,
            conclusion.owned_headers,
            primary_port=conclusion.primary_port,
            message=conclusion.message,
        )
        if self._setup.responders:
            decision = self._respond(request, decision)
        if self._setup.hooks["assigned"]:
            self.tell("assigned", request, decision, now=now)
        return decision

    def _lease(self, request: Request, chosen: Pass, *, now: float) -> Lease:
        """Reserve a pick: the work that the producers say it adds there, or else the prompt's length."""
        row, kept = chosen.picked[0], chosen.kept
        work = kept.at("uncached_request_tokens", row)
        if math.isnan(work):
            work = kept.at("prompt_tokens", row)
        if math.isnan(work):
            work = float(request.prompt_tokens or 0)
        output = kept.at("estimated_output_tokens", row) if work else 0.0
        output = 0.0 if math.isnan(output) else min(output, work)
        return self.ledger.reserve(
            request.id,
            kept.endpoint(row),
            stage=chosen.profile,
            prefill_tokens=work - output,
            output_tokens=output,
            now=now,
        )

    def _reject(
        self, request: Request, passes: dict[str, Pass], skipped: tuple[Skip, ...], message: str, *, now: float
    ) -> Rejection:
        failed = [each for each in passes.values() if not each.picked] or list(passes.values())
        drops = [drop for each in failed for drop in each.drops]
        contended = any(drop.transient for drop in drops)
        counts = " · ".join(f"{len(drop.endpoints)} removed by {drop.filter} ({drop.why})" for drop in drops)
        known = next((len(each.candidates) for each in passes.values()), 0)
        rejection = Rejection(
            request_id=request.id,
            model=request.model,
            reason="rejected-saturated" if contended else "rejected-no-endpoints",
            http_status=429 if contended else 503,
            transient=contended,
            message="; ".join(filter(None, [message, f"{known} candidates, {counts}" if drops else ""])),
            retry_after=_RETRY_AFTER,
            generation=self._setup.generation,
            now=now,
            passes=MappingProxyType(passes),
            skipped=skipped,
        )
        self.tell("rejected", request, rejection, now=now)
        return rejection

    def _nobody(self, subset: Collection[str] | None) -> str:
        if subset is None or not len(self.table):
            return "the fleet is empty"
        if not subset:
            return "the subset given with the request is empty"
        return f"none of the {len(subset)} endpoints in the request's subset is present"

    def _gone(self, endpoint: Endpoint, *, now: float) -> None:
        for lease in self.ledger.remove(endpoint):
            self.tell("finished", lease.request_id, endpoint, "error", now=now)
        self.tell("endpoint_removed", endpoint, now=now)

    def _end(self, lease: Lease, outcome: str, *, now: float) -> bool:
        ended = self.ledger.release(lease)
        if ended and self._setup.hooks["finished"]:
            self.tell("finished", lease.request_id, lease.endpoint, outcome, now=now)
        return ended

    def _plugin_failed(self, plugin: str, role: str, error: Exception) -> None:
        if role != "observer":
            self.tell("plugin_failed", plugin, role, error, now=self._isolation.now)


def _overriding(listeners: Iterable[Observer], hook: str) -> tuple[Callable[..., None], ...]:
    return tuple(getattr(each, hook) for each in listeners if getattr(type(each), hook) is not getattr(Observer, hook))


def _headers(headers: Mapping[str, str], endpoint: Endpoint, primary_port: int | None) -> Mapping[str, str]:
    if primary_port is None:
        return MappingProxyType(headers) if headers else _NO_HEADERS
    return MappingProxyType({**headers, RANK_HEADER: endpoint.address})
