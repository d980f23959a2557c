"""Manifest: what an operator says, read from files and the command line and found right. Values; nothing runs yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from inferencesched import Config, ConfigError, load_config
from inferencesched.cli.files import read
from inferencesched.errors import Problem
from inferencesched.prefix import estimate_memory
from inferencesched.resources import InferencePool, Manifests, StaticEndpoint, resolve
from inferencesched_gateway.wire import Origin

__all__ = ["DEFAULT_POOL", "SCHEME_LABEL", "Manifest", "load"]

SCHEME_LABEL = "inferencesched/scheme"
"""An endpoint with the value ``https`` under this label is spoken to over TLS."""

DEFAULT_POOL = InferencePool("default")
"""The pool of a gateway that was told of endpoints and of no pool."""


@attrs.frozen(eq=False)
class Manifest:
    """What is to be served.

    Attributes:
        config: how requests are placed, in every pool.
        resources: routes, objectives, rewrites.
        pools: with the endpoints that are known from the start; sources may find more.
        warnings: what is worth a word.
    """

    config: Config
    resources: Manifests
    pools: tuple[tuple[InferencePool, tuple[StaticEndpoint, ...]], ...]
    warnings: tuple[Problem, ...]

    @property
    def index_megabytes(self) -> float:
        """How much memory the prefix indexes of all pools take at most."""
        bounds = 0.0
        for _, endpoints in self.pools:
            for named in self.config.plugins.values():
                if getattr(named.plugin, "type", "") == "approx-prefix-cache-producer":
                    most = estimate_memory(max(len(endpoints), 1), named.plugin.lru_capacity_per_server) / 2**20
                    bounds += min(most, named.plugin.max_memory_mb)
        return bounds


def load(files: Sequence[Path] = (), urls: Iterable[str] = ()) -> Manifest:
    """Return what files and URLs say.

    Args:
        files: files, and folders of files.
        urls: endpoints in one pool of their own, for those who need no files.

    Raises:
        ConfigError: everything that is wrong with any of them.
    """
    given = [_endpoint(url) for url in urls]
    documents = read(*files) if files else []
    config = load_config(*documents)
    resources = resolve(*documents)
    if given and resources.pools:
        message = (
            "endpoints that are given by URL or simulated belong to no pool; with InferencePools, list them in a file"
        )
        raise ConfigError([Problem("", message)])
    resources = attrs.evolve(resources, endpoints=(*resources.endpoints, *given))
    if not resources.pools:
        resources = attrs.evolve(resources, pools=(DEFAULT_POOL,))
    pools = tuple((pool, resources.endpoints_of(pool)) for pool in resources.pools)
    return Manifest(config, resources, pools, (*config.warnings, *resources.warnings))


def _endpoint(url: str) -> StaticEndpoint:
    try:
        origin = Origin.parse(url)
    except ValueError as error:
        raise ConfigError([Problem("--endpoint", str(error))]) from error
    labels = {SCHEME_LABEL: "https"} if origin.tls else {}
    return StaticEndpoint(f"{origin.host}:{origin.port}", origin.host, origin.port, labels)
