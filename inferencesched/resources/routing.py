"""From a request to the pool that serves it: the routes, shares, mirrors and rewrites of some `Manifests`, put to work.

The model in the body decides together with host, path, method, headers and query: it stands in for the header
``X-Gateway-Model-Name``, and the base model of an adapter for ``X-Gateway-Base-Model-Name``. The rule says which pools
there are, weights say which one it is, and an InferenceModelRewrite of that pool says which model is asked for there.

A table is made once from manifests and never changes; a host that reloads makes a new one. Nothing here knows an
endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from types import MappingProxyType

import attrs

from inferencesched.errors import near_miss
from inferencesched.resources.manifests import Manifests
from inferencesched.resources.matching import Seen, matches_of
from inferencesched.resources.rewrite import RewriteRule, RewriteTarget
from inferencesched.resources.route import Backend, HeaderChanges, HTTPRoute, RouteRule
from inferencesched.resources.shares import Shares

__all__ = ["NoRoute", "PoolId", "Routed", "RoutingTable"]

PoolId = tuple[str, str]
"""Namespace and name of a pool."""


@attrs.frozen
class Routed:
    """Where a request goes, and what happens to it on the way.

    Attributes:
        pool: namespace and name.
        backend: the backend that was chosen; None where no route decided.
        rule: the rule that held; None where no route decided.
        route: namespace and name of its route, as ``namespace/name``; empty where no route decided.
        model: the model to ask for, put into the body; None leaves it alone.
        path: the path to ask for; None leaves it alone.
        hostname: the host to ask for; None leaves it alone.
        request_headers: changes on the way in, to be applied in this order.
        response_headers: changes on the way out.
        mirrors: pools that get a copy of this very request; those drawn by a fraction stand last.
        timeout: seconds for the whole answer; None for no limit.
    """

    pool: PoolId
    backend: Backend | None = None
    rule: RouteRule | None = None
    route: str = ""
    model: str | None = None
    path: str | None = None
    hostname: str | None = None
    request_headers: tuple[HeaderChanges, ...] = ()
    response_headers: tuple[HeaderChanges, ...] = ()
    mirrors: tuple[PoolId, ...] = ()
    timeout: float | None = None


@attrs.frozen
class NoRoute:
    """A request that goes nowhere.

    Attributes:
        status: 404 when nothing matches, 500 when a rule does and has no backend with weight.
        code: ``model_not_found``, ``route_not_found`` or ``no_backend``.
        message: a sentence for the client.
        hint: for operators: what there is instead, and what is nearest.
    """

    status: int
    code: str
    message: str
    hint: str = ""


class _Target:
    """A rule, made ready: its shares, and a `Routed` for each backend that lacks only what differs between requests."""

    __slots__ = ("name", "routed", "shares")

    def __init__(self, route: HTTPRoute, rule: RouteRule) -> None:
        self.name = f"{route.namespace}/{route.name}"
        pools = [f"{backend.namespace}/{backend.pool}" for backend in rule.backends]
        # The salt is the route and not the rule: one tenant gets one variant, whether it chats or completes.
        self.shares = Shares(pools, [backend.weight for backend in rule.backends], f"route {self.name}")
        self.routed = [self._routed(rule, backend) for backend in rule.backends]

    def _routed(self, rule: RouteRule, backend: Backend) -> Routed:
        rewrite = rule.rewrite
        return Routed(
            (backend.namespace, backend.pool),
            backend,
            rule,
            self.name,
            path=None if rewrite is None else rewrite.full_path,
            hostname=None if rewrite is None else rewrite.hostname,
            request_headers=_effective(rule.request_headers, backend.request_headers),
            response_headers=_effective(rule.response_headers),
            mirrors=tuple((mirror.namespace, mirror.pool) for mirror in rule.mirrors if mirror.fraction >= 1.0),
            timeout=rule.timeout or None,
        )


class _Rewrites:
    """The rewrites of one pool, made ready: an exact match beats a rule for all, otherwise the first rule counts."""

    __slots__ = ("_general", "_salt", "by_model")

    def __init__(self, pool: PoolId) -> None:
        # Not a route's salt: how models are split is independent of how pools are.
        self._salt = f"rewrite {pool[0]}/{pool[1]}"
        self._general: tuple[Shares, tuple[RewriteTarget, ...]] | None = None
        self.by_model: dict[str, tuple[Shares, tuple[RewriteTarget, ...]]] = {}

    def add(self, rule: RewriteRule) -> None:
        is_weighted = any(target.weight is not None for target in rule.targets)
        weights = [(target.weight or 0) if is_weighted else 1 for target in rule.targets]
        made = Shares([target.model for target in rule.targets], weights, self._salt), rule.targets
        if rule.models is None:
            self._general = self._general or made
        for model in rule.models or ():
            self.by_model.setdefault(model, made)

    def pick(self, model: str | None, key: str | None, rng: Random) -> str | None:
        """Return the model to ask for in place of `model`, which may be missing; `model` itself where no rule holds."""
        found = self._general if model is None else self.by_model.get(model, self._general)
        position = None if found is None else found[0].pick(key, rng)
        return model if found is None or position is None else found[1][position].model


class RoutingTable:
    """The routes and rewrites of some manifests.

    Args:
        manifests: as `resolve` gives them. Without any route, everything goes to the pool if there is exactly one.
        bases: adapter → base model, beside those that the manifests tell: what engines say of their adapters.

    >>> import random
    >>> from inferencesched.resources import InferencePool, Manifests
    >>> table = RoutingTable(Manifests(pools=(InferencePool("llama"),)))
    >>> table.route(path="/v1/chat/completions", model="llama-3", rng=random.Random(1)).pool
    ('default', 'llama')

    Complexity: O(matches + rewrites) to make.
    """

    def __init__(self, manifests: Manifests, *, bases: Mapping[str, str] = MappingProxyType({})) -> None:
        self._bases = {**bases, **manifests.bases}
        matches = [
            match
            for position, route in enumerate(manifests.routes)
            for match in matches_of(route, position, [_Target(route, rule) for rule in route.rules])
        ]
        matches.sort(key=lambda match: match.precedence)
        self._matches = tuple(matches)
        self._models = tuple(dict.fromkeys(match.model for match in matches if match.model is not None))
        self._others = [match for match in matches if match.model is None]
        self._by_model = {model: [match for match in matches if match.model in (model, None)] for model in self._models}
        self._rewrites: dict[PoolId, _Rewrites] = {}
        for rewrite in manifests.rewrites:
            pool = (rewrite.namespace, rewrite.pool)
            for rule in rewrite.rules:
                self._rewrites.setdefault(pool, _Rewrites(pool)).add(rule)
        pools = [(pool.namespace, pool.name) for pool in manifests.pools]
        self._made: dict[tuple[int, str | None], Routed] = {}
        self._only = Routed(pools[0]) if len(pools) == 1 and not manifests.routes else None
        self._pools = pools

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are known by name: those that routes match exactly, and those that are rewritten."""
        rewritten = [model for rewrites in self._rewrites.values() for model in rewrites.by_model]
        return tuple(dict.fromkeys([*self._models, *rewritten]))

    def route(
        self,
        *,
        host: str = "",
        method: str = "POST",
        path: str,
        query: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        model: str | None,
        key: str | None = None,
        rng: Random,
    ) -> Routed | NoRoute:
        """Return where a request goes.

        Args:
            host: as the client wrote it, a port and capitals included.
            method: in capitals.
            path: without the query.
            query: without the question mark.
            headers: names in lower case. ``x-gateway-model-name`` and ``x-gateway-base-model-name`` are ignored.
            model: the model in the body; None if it names none.
            key: of a session or a tenant: the same key gets the same backend and the same model for as long as the
                weights are the same. None draws anew each time.
            rng: needed where shares are drawn without a key, and for mirrors of a fraction.

        Complexity: O(matches that come before the one that holds); those for another model by name are not looked at.
        """
        routed, prefix = self._only, None
        if routed is not None and not self._rewrites:
            return routed
        if routed is None:
            seen = Seen(
                _plain(host), method, path, query, headers, model, self._bases.get(model, model) if model else None
            )
            for match in self._by_model.get(model or "", self._others):
                if match.holds(seen):
                    break
            else:
                return self._nowhere(seen)
            target: _Target = match.rule
            position = target.shares.pick(key, rng)
            if position is None:
                hint = f"route '{target.name}': no backend has weight"
                return NoRoute(500, "no_backend", "The route has no backend.", hint)
            routed, prefix = target.routed[position], match.prefix
        return self._finished(routed, prefix, path, model, key=key, rng=rng)

    def _finished(
        self, routed: Routed, prefix: str | None, path: str, model: str | None, *, key: str | None, rng: Random
    ) -> Routed:
        """Return the route with what differs from request to request: model, path and mirrors."""
        rewrites = self._rewrites.get(routed.pool)
        if rewrites is not None and (name := rewrites.pick(model, key, rng)) != model:
            routed = self._renamed(routed, name)
        rule = routed.rule
        if rule is None:
            return routed
        if rule.rewrite is not None and rule.rewrite.prefix is not None and prefix is not None:
            routed = attrs.evolve(routed, path=_replaced(path, prefix, rule.rewrite.prefix))
        for mirror in rule.mirrors:
            if mirror.fraction < 1.0 and rng.random() < mirror.fraction:
                routed = attrs.evolve(routed, mirrors=(*routed.mirrors, (mirror.namespace, mirror.pool)))
        return routed

    def _renamed(self, routed: Routed, model: str | None) -> Routed:
        """Return the route with another model; made once, for there are as many as backends times targets."""
        made = self._made.get((id(routed), model))
        if made is None:
            made = self._made[id(routed), model] = attrs.evolve(routed, model=model)
        return made

    def _nowhere(self, seen: Seen) -> NoRoute:
        """Say what is unknown: the model, if any other would have been routed, or the path."""
        if not self._matches:
            hint = f"there are {len(self._pools)} pools and no HTTPRoute: one that names a pool is needed"
            return NoRoute(404, "route_not_found", f"There is no route for '{_short(seen.path)}'.", hint)
        if any(match.holds_but_for_the_model(seen) for match in self._matches):
            hint = f"routed models: {', '.join(self._models) or 'by regular expression'}"
            if not seen.model:
                return NoRoute(404, "model_not_found", "The request names no model.", hint)
            near = near_miss(seen.model, self._models)
            return NoRoute(404, "model_not_found", f"The model '{_short(seen.model)}' does not exist.", hint + near)
        paths = dict.fromkeys(match.path for match in self._matches)
        hint = f"routed paths: {', '.join(paths)}{near_miss(seen.path, paths)}"
        return NoRoute(404, "route_not_found", f"There is no route for '{_short(seen.path)}'.", hint)


def _effective(*changes: HeaderChanges) -> tuple[HeaderChanges, ...]:
    return tuple(each for each in changes if each != HeaderChanges())


def _plain(host: str) -> str:
    """Return a host name in lower case, without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _replaced(path: str, prefix: str, new: str) -> str:
    return (new.rstrip("/") + path[len(prefix) :]) or "/"


def _short(text: str) -> str:
    """Return what a client said, at a length that can be answered and logged."""
    return text if len(text) <= 100 else f"{text[:100]}…"
