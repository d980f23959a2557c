"""Setup: pools and routes as they are in force. Made from a manifest; a new one takes over what runs."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

import attrs

from inferencesched import Dispatcher, EndpointTable
from inferencesched.apis import Operations
from inferencesched.resources import InferencePool, RoutingTable, StaticEndpoint
from inferencesched_gateway.manifest import SCHEME_LABEL, Manifest
from inferencesched_gateway.pool import Pool

__all__ = ["MAX_AGE", "PoolKey", "Setup", "install"]

MAX_AGE = 2.0
"""Seconds: the Endpoint Picker's ``--metrics-staleness-threshold``."""

_LEAVE_SECONDS = 30.0

PoolKey = tuple[str, str]
"""Namespace and name of an InferencePool."""


@attrs.frozen(eq=False)
class Setup:
    """What requests are served with.

    Attributes:
        manifest: what was asked for.
        table: which request goes to which pool.
        pools: those that are running.
        operations: what is understood, by path.
    """

    manifest: Manifest
    table: RoutingTable
    pools: Mapping[PoolKey, Pool]
    operations: Operations


def install(
    manifest: Manifest,
    before: Setup | None,
    *,
    rng: random.Random,
    max_age: float = MAX_AGE,
    clock: Callable[[], float] = time.monotonic,
) -> Setup:
    """Return the setup that `manifest` asks for; pools that ran before go on, with the new configuration.

    Requests that are queued or in flight are not touched. A pool that is asked for no longer accepts nothing new; what
    is queued there has half a minute to find a place.

    Args:
        before: what is in force; None at the start.
        rng: seeds the dice of every new pool.
        max_age: seconds after which a fact that nobody has repeated is unknown again.
    """
    running = dict(before.pools) if before is not None else {}
    known = _listed(before.manifest) if before is not None else {}
    listed = _listed(manifest)
    pools: dict[PoolKey, Pool] = {}
    for key in listed:
        pool = running.pop(key, None)
        if pool is None:
            table = EndpointTable(max_age=max_age)
            dispatcher = Dispatcher.from_config(manifest.config, rng=random.Random(rng.getrandbits(64)), table=table)
            pool = Pool("/".join(key), dispatcher, clock=clock)
        elif before is not None and before.manifest.config != manifest.config:
            pool.reload(manifest.config)
        _announce(pool, known.get(key, {}), listed[key])
        pools[key] = pool
    for pool in running.values():
        pool.drain(grace=_LEAVE_SECONDS)
    return Setup(manifest, RoutingTable(manifest.resources), pools, manifest.config.operations())


def _listed(manifest: Manifest) -> dict[PoolKey, dict[str, StaticEndpoint]]:
    return {_key(pool): {_name(endpoint): endpoint for endpoint in endpoints} for pool, endpoints in manifest.pools}


def _key(pool: InferencePool) -> PoolKey:
    return pool.namespace, pool.name


def _name(endpoint: StaticEndpoint) -> str:
    return endpoint.name if endpoint.namespace == "default" else endpoint.id


def _announce(pool: Pool, before: Mapping[str, StaticEndpoint], after: Mapping[str, StaticEndpoint]) -> None:
    """Tell a pool of the endpoints that are listed; those that a source has found are the source's."""
    for name in before.keys() - after.keys():
        pool.remove_endpoint(name)
    for name, endpoint in after.items():
        if before.get(name) != endpoint:
            scheme = "https://" if endpoint.labels.get(SCHEME_LABEL) == "https" else ""
            pool.add_endpoint(name, scheme + endpoint.address, labels=endpoint.labels)
