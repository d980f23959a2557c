"""Every contract a plugin can implement. A plugin author reads this one file.

There is no base class to inherit and no registration rite: a class takes a role by having the role's method, and one
class may take several (a producer that also learns from what happened is a Producer and an Observer). Parameters are
positional-only, so authors name them as they like; they are few and are objects, so what grows is the object and never
the signature.

One verb per role: an annotator *annotates*, a producer *produces*, a filter *keeps*, a scorer *scores*, a picker
*picks*, a profile handler *chooses* profiles and *concludes*, a decider *disaggregates*; a source is *opened*, an
extractor *extracts*, a parser *claims*; an observer is *told*, in the past tense.

What holds for all of them:

* They are called in one thread, never concurrently for one scheduler, and must return promptly: nothing here can be
  awaited.
* What they are given is read-only. What they return is theirs no longer.
* ``endpoints.now`` is the time. Only a Picker gets dice. A plugin with a clock or dice of its own cannot be replayed.
* A plugin that raises or breaks its contract is skipped for that decision, counted, named in the receipt, and kept out
  by a breaker after repeated failure; it never fails a request. `Profile.run` by itself raises instead.

Optional attributes, asked for once when a profile is built:

* ``consumes: tuple[str, ...]`` – the columns it reads (Filter, Scorer, Producer). Shown by ``inferencesched plugins``,
  used to order producers, and listed with their ages in receipts. A configuration adds the default producer of a
  column that is consumed and that nothing declared produces.
* ``optional: tuple[str, ...]`` – those of ``consumes`` it can do without: no producer is added for them.
* ``produces: tuple[str, ...]`` – the columns it makes (Producer).
* ``transient: bool`` (Filter) – True when it drops by load, so that a dropped endpoint may pass a moment later: it
  decides between 429 and 503 when nothing is left. Default False.
* ``relative: bool`` (Filter, Scorer) – True when the answer about one endpoint depends on which others are there.
  Default False.
* ``fair_ties: bool`` (Picker) – whether each of several equal totals is as likely. Default: True without memory, False
  for one that is an Observer.
* ``why: str`` (Filter) – its condition in words, for receipts. Default: ``repr`` of the filter.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

import attrs

from inferencesched.decision import Decision, Pass, Rejection
from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.values import value

__all__ = [
    "Annotator",
    "Conclusion",
    "Decider",
    "Extractor",
    "FairnessPolicy",
    "Filter",
    "Fleet",
    "FlowTuning",
    "Observer",
    "OrderingPolicy",
    "Parser",
    "Picker",
    "Producer",
    "ProfileHandler",
    "Reading",
    "Responder",
    "SaturationDetector",
    "Scorer",
    "Source",
    "Stateful",
    "Turns",
    "UsageLimitPolicy",
    "roles_of",
]


@runtime_checkable
class Filter(Protocol):
    """Says which endpoints may serve a request at all (upstream: Filter)."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return a mask, bool of shape (n,): True keeps the endpoint.

        Called once per profile run, with what earlier filters kept, and not at all when nothing was kept. Must be pure.
        """
        ...


@runtime_checkable
class Scorer(Protocol):
    """Says how good each endpoint is for a request (upstream: Scorer).

    Up to sixteen endpoints, lists are quicker than arrays. A scorer may have a second form for these,
    ``score_few(request, endpoints) -> list[float]``, that reads columns with ``endpoints.numbers(…)`` and says the
    same; it is asked in that form where the endpoints are few. So may a producer (``produce_few``: columns as lists)
    and a picker (``pick_few``: `totals` is a list).
    """

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return scores, float64 of shape (n,), each in [0, 1], 1 is best, no NaN.

        Called once per profile run with the endpoints that every filter kept (n ≥ 1). Must be pure. Unknown facts are
        NaN in ``endpoints[...]`` and have to be given a score of the scorer's choice, stated in its docstring.
        """
        ...


@runtime_checkable
class Picker(Protocol):
    """Chooses among scored endpoints (upstream: Picker)."""

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: FloatArray, n: int, rng: random.Random, /
    ) -> Sequence[int]:
        """Return distinct positions in `endpoints`, the best first: at least one, and `n` or more if there are so many.

        The first is where the request goes, the rest are ranked fallbacks. `totals` is float64 of shape (n,), in
        [0, 1]. All chance must come from `rng`.
        """
        ...


@runtime_checkable
class Producer(Protocol):
    """Makes columns about one request for those that score it (upstream: DataProducer)."""

    @property
    def produces(self) -> tuple[str, ...]:
        """The columns it makes; a class attribute will do."""
        ...

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        """Return columns, float64 of shape (n,), by the names in `produces`. NaN is unknown.

        Called once per request with all candidates, before any filter; after the producers whose columns it consumes.
        The batch is one for all producers of a request: it gains their columns, and loses or changes none.
        A name left out of the answer is unknown for this request.
        """
        ...


@runtime_checkable
class Annotator(Protocol):
    """Reads off a request what others want to know: its session, its tenant (upstream: RequestHeaderProcessor)."""

    def annotate(self, request: Request, /) -> Mapping[str, object]:
        """Return attributes by name; they are added to ``request.attributes``.

        Called once per request, before any producer; each annotator sees what earlier ones found. Must be pure. Of two
        that give one name the first is believed; ``<name>/<the plugin's name>`` tells them apart.
        """
        ...


@value
class Conclusion:
    """What a ProfileHandler made of the passes: the one that decides, and what else to do.

    Attributes:
        primary: the profile whose pick is the answer; None rejects the request.
        stages: further profiles whose first pick must be leased too (``("prefill",)``).
        headers: to be set on the forwarded request.
        message: why there is no answer, when `primary` is None; else what the answer had to do without.
        owned_headers: names that only a scheduler may set: what the client sent under them must not be forwarded.
        primary_port: where the ranks of a data-parallel server share one port: send to this port of the endpoint's
            host, and name the endpoint itself in the header ``x-data-parallel-host-port``.
    """

    primary: str | None
    stages: tuple[str, ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)
    message: str = ""
    owned_headers: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    primary_port: int | None = attrs.field(default=None, kw_only=True)


@runtime_checkable
class ProfileHandler(Protocol):
    """Decides which profiles run for a request, and which of them gives the answer (upstream: ProfileHandler)."""

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        """Return the profiles to run next; an empty sequence ends the loop.

        Called repeatedly; `passes` has the receipts so far (one without picks: that profile found no endpoint). A
        profile runs at most once per request, so the loop always ends.
        """
        ...

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        """Return the outcome. Called once, after the loop."""
        ...


@runtime_checkable
class Decider(Protocol):
    """Says whether a stage of its own is worth its while for a request (upstream: the deciders of P/D and E/P/D)."""

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        """Return whether to run the stage. Must be pure; may be asked more than once about one request.

        `chosen` is the receipt of the decode stage; None when that stage has not run yet.
        """
        ...


@runtime_checkable
class Responder(Protocol):
    """Has something to tell the client along with the answer (upstream: ResponseHeaderProcessor)."""

    def response_headers(self, request: Request, decision: Decision, /) -> Mapping[str, str]:
        """Return headers to set on the response. Called once per placement, and again when it moves to a fallback."""
        ...


class Turns(Protocol):
    """The memory of one band: which of its flows have something queued, and whose turn it is.

    A flow is *ready* while something of it is queued. Made by `FairnessPolicy.turns`, one for each band.
    """

    def ready(self, flow: str, head: tuple[float, int], /) -> None:
        """`flow` has something queued now, or another request came to its front.

        `head` sorts as the band's ordering policy sorts the fronts of all flows: the smaller, the sooner.
        """
        ...

    def idle(self, flow: str, /) -> None:
        """Nothing of `flow` is queued any more: forget what does not have to be remembered."""
        ...

    def next(self) -> str:
        """Return the ready flow whose turn it is. Called only while one is ready; asking changes nothing."""
        ...

    def served(self, flow: str, tokens: float, /) -> None:
        """A request of `flow`, which is ready, goes to an endpoint; it is worth `tokens` of work."""
        ...


@runtime_checkable
class FairnessPolicy(Protocol):
    """Says which flow of a band goes next (upstream: FairnessPolicy). The policy is a value, its memory is `Turns`."""

    def turns(self) -> Turns:
        """Return the memory of a band in which nothing is queued."""
        ...


@runtime_checkable
class OrderingPolicy(Protocol):
    """Says which request of a flow goes next (upstream: OrderingPolicy)."""

    def rank(self, request: Request, arrived: float, expires: float, /) -> float:
        """Return where the request stands: the smaller, the sooner. Equals go in the order of arrival. No NaN.

        Called once, when the request is queued: at `arrived`, to be given up at `expires` (infinity: never). Must be
        pure.
        """
        ...


@runtime_checkable
class UsageLimitPolicy(Protocol):
    """Says how full the pool may be for each band (upstream: UsageLimitPolicy)."""

    def ceilings(self, saturation: float, priorities: Sequence[int], /) -> Sequence[float]:
        """Return one ceiling per priority: requests of that band go to endpoints while saturation is below it.

        Called once per look at the pool, with all bands, the most urgent first. Ceilings must not rise towards lower
        bands: a band that is held back holds back those below it, whatever their ceiling, or it would starve.
        """
        ...


@runtime_checkable
class SaturationDetector(Protocol):
    """Says how full each endpoint is (upstream: SaturationDetector).

    Optional attributes: ``consumes`` – the columns it reads; it is asked anew when one of them may have changed.
    ``fresh_for`` – seconds after which its answer may change by itself (facts that grow stale). ``hysteresis`` – by
    what share of a ceiling saturation must fall below it before a closed gate opens again; 0 where load is counted and
    not measured.

    Optional method: ``load_of(requests, tokens)`` – for a detector whose `load` of an endpoint follows from its columns
    ``in_flight_requests`` and ``in_flight_tokens`` and from nothing else: that load, a float, where they have these
    values. It is asked where a placement has changed one endpoint's counters and nothing else has changed.
    """

    def load(self, endpoints: EndpointBatch, /) -> FloatArray:
        """Return each endpoint's load, float64 of shape (n,), n ≥ 1: 1.0 is as much as it should have, NaN is unknown.

        More than 1 is more than it should have and is not clamped. The pool's saturation is the mean of what is known.
        """
        ...


@runtime_checkable
class FlowTuning(Protocol):
    """Says which band goes next: the most urgent, or one that has waited long enough."""

    def lets_by(self, waited: float, since: int, /) -> bool:
        """Return whether a band may go before more urgent ones.

        `waited` is how many seconds its oldest request has waited; `since` how many requests were placed since a band
        was let by last.
        """
        ...


@runtime_checkable
class EvictionFilter(Protocol):
    """Says which placed requests may be asked to make room (upstream: EvictionFilterPolicy)."""

    def is_evictable(self, request: Request, /) -> bool:
        """Return whether `request` may be asked to make room for one that is more urgent.

        Called once, when it is placed, and only where eviction is on. Must be pure.
        """
        ...


@runtime_checkable
class EvictionOrderingPolicy(Protocol):
    """Says which of them goes first (upstream: EvictionOrderingPolicy)."""

    def regret(self, request: Request, placed: float, /) -> float:
        """Return what is lost by evicting `request`: the smaller, the sooner. Equals go the last placed first. No NaN.

        Called once, at `placed`, when it is placed. Must be pure. Nobody is evicted for the sake of a request that is
        not more urgent, whatever the order.
        """
        ...


class Observer:
    """Is told what happened. Every method is optional and empty; override what you need.

    The machines call only what a class overrides, so an observer costs nothing where it does not listen. An observer
    must not call back into the scheduler that is telling it.
    """

    def endpoint_added(self, endpoint: Endpoint, *, now: float) -> None:
        """A new endpoint instance joined the fleet."""

    def endpoint_removed(self, endpoint: Endpoint, *, now: float) -> None:
        """The instance is gone for good: forget what is known of it."""

    def assigned(self, request: Request, decision: Decision, *, now: float) -> None:
        """`request` got a place. Called before the next request is looked at."""

    def moved(self, request: Request, decision: Decision, origin: Endpoint, *, now: float) -> None:
        """`request` left `origin` for a fallback before its first byte; `decision` names where it is now."""

    def queued(self, request: Request, priority: int, flow: str, *, now: float) -> None:
        """`request` has to wait, in that band and that flow."""

    def dequeued(self, request: Request, priority: int, flow: str, waited: float, outcome: str, *, now: float) -> None:
        """`request` waits no longer: ``placed``, ``rejected`` or ``cancelled``. Exactly once for each `queued`."""

    def evicting(self, request_id: str, endpoint: Endpoint, *, now: float) -> None:
        """The placement was asked to make room for more urgent work."""

    def rejected(self, request: Request, rejection: Rejection, *, now: float) -> None:
        """`request` got no place."""

    def first_token(self, request_id: str, endpoint: Endpoint, *, now: float) -> None:
        """The first output of the answer arrived. At most once per placement."""

    def cached_tokens_reported(self, decision: Decision, cached_tokens: float, *, now: float) -> None:
        """The answer's usage said how many of its prompt's tokens the engine had in cache."""

    def usage_reported(
        self, request_id: str, flow: str, prompt_tokens: float, output_tokens: float, *, now: float
    ) -> None:
        """The answer's usage said how many tokens the prompt of a request of `flow` had, and how many it has itself."""

    def finished(self, request_id: str, endpoint: Endpoint, outcome: str, *, now: float) -> None:
        """The placement ended: ``success``, ``error``, ``cancelled`` or ``reaped``. Exactly once per placement."""

    def plugin_failed(self, plugin: str, role: str, error: BaseException, *, now: float) -> None:
        """A plugin was skipped because it raised or broke its contract."""


@runtime_checkable
class Stateful(Protocol):
    """Has memory worth keeping over a restart."""

    def snapshot(self) -> Mapping[str, Any]:
        """Return the state as plain values (JSON-able, or bytes). Endpoints are written by name."""
        ...

    def restore(self, state: Mapping[str, Any], endpoints: Mapping[str, Endpoint], /, *, now: float) -> None:
        """Take back what `snapshot` gave. `endpoints` are those present now, by name; ignore what is about others."""
        ...


class Fleet(Protocol):
    """What a host lends its sources: the endpoints, and where facts about them go. It knows the time; they need not."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those present now. A source looks again whenever it acts: what joins or leaves is found by comparing."""
        ...

    @property
    def columns(self) -> frozenset[str]:
        """The columns that somebody reads; what is not among them need not be brought."""
        ...

    def add_endpoint(self, name: str, address: str, /, *, labels: Mapping[str, str], rank: int = 0) -> Endpoint:
        """Add an endpoint, or announce it again (see `Scheduler.add_endpoint`)."""
        ...

    def remove_endpoint(self, name: str, /) -> None:
        """Remove an endpoint.

        Raises:
            LifecycleError: there is none of that name.
        """
        ...

    def update(self, name: str, facts: Mapping[str, Any], /) -> None:
        """Record facts about one endpoint, observed now (see `EndpointTable.update`); None makes a fact unknown.

        Raises:
            LifecycleError: there is no endpoint of that name.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """Brings facts or endpoints from outside (upstream: DataSource, EndpointDiscovery).

    The only role that does input and output: a host opens it inside its event loop, and it works there until it is
    left. It takes facts to the `Fleet` and never fails a request; what it cannot bring stays unknown and grows old.
    `Config.sources` gives those of a configuration.

    Optional methods: ``read_by(extractors) -> Source`` – the same source, its payloads read by these extractors (those
    that ``dataLayer.sources`` lists under it). ``explain(endpoint, column) -> str | None`` – by the endpoint's name,
    why the source could not bring a column lately, in words for `inferencesched.signals.blind_spots`.
    Optional attributes: ``extractors: tuple[str, ...]`` – types of the extractors it is read by where none are listed.
    """

    def open(self, fleet: Fleet, /) -> AbstractAsyncContextManager[Any]:
        """Return a context that works while it is entered. Entering does not wait for endpoints to answer.

        May be called again after the context was left, with the same fleet or another one.

        Raises (on entering):
            ConfigError: what it needs from the start is not there (a file of endpoints).
        """
        ...


@attrs.frozen
class Reading:
    """What an extractor found in one payload.

    Attributes:
        facts: numbers, or sets of strings, by column.
        absent: the columns that were asked for and should have been there → why they were not.
    """

    facts: Mapping[str, Any] = attrs.field(factory=dict)
    absent: Mapping[str, str] = attrs.field(factory=dict)


@runtime_checkable
class Extractor(Protocol):
    """Reads facts off what a source brought (upstream: Extractor)."""

    def extract(self, endpoint: Endpoint, payload: bytes, columns: Collection[str], /) -> Reading:
        """Return the facts among `columns` that the payload has.

        Called once per payload and endpoint, some twenty times a second: look for what is asked for, parse no more. A
        payload that makes no sense has everything absent; nothing is raised for it.
        """
        ...


@runtime_checkable
class Parser(Protocol):
    """Says which calls of clients are understood (upstream: Parser).

    Has effect where ``requestHandler.parsers`` names it; `Config.operations` puts those of a configuration together.
    """

    def claims(self) -> Sequence[Any]:
        """Return what it understands, as values of `inferencesched.apis.Operation`; the longest suffix of a path wins.

        None at all lets every path that nobody claims through as it is. Called when a configuration is put in force.
        """
        ...


_METHOD_OF_ROLE = {
    "filter": "keep",
    "scorer": "score",
    "picker": "pick",
    "producer": "produce",
    "profile-handler": "choose",
    "annotator": "annotate",
    "decider": "disaggregate",
    "responder": "response_headers",
    "fairness-policy": "turns",
    "ordering-policy": "rank",
    "usage-limit-policy": "ceilings",
    "saturation-detector": "load",
    "flow-tuning": "lets_by",
    "eviction-filter": "is_evictable",
    "eviction-ordering-policy": "regret",
    "source": "open",
    "extractor": "extract",
    "parser": "claims",
}


def roles_of(plugin: object) -> tuple[str, ...]:
    """Return the roles that a plugin, or a plugin class, takes: told by the methods it has.

    >>> roles_of(Observer())
    ('observer',)
    """
    kind = plugin if isinstance(plugin, type) else type(plugin)
    found = tuple(role for role, method in _METHOD_OF_ROLE.items() if callable(getattr(kind, method, None)))
    return (*found, "observer") if issubclass(kind, Observer) else found
