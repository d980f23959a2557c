"""All resources together: each read, then resolved against the others. What a host needs to know, as one value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from inferencesched.documents import Document
from inferencesched.errors import ConfigError, Problem, near_miss
from inferencesched.resources.adapters import AdapterBase
from inferencesched.resources.endpoints import StaticEndpoint
from inferencesched.resources.kinds import read_one
from inferencesched.resources.objective import InferenceObjective
from inferencesched.resources.pool import InferencePool
from inferencesched.resources.rewrite import InferenceModelRewrite
from inferencesched.resources.route import HTTPRoute

__all__ = ["Manifests", "examine", "resolve"]

Resource = InferencePool | InferenceObjective | InferenceModelRewrite | HTTPRoute | AdapterBase
T = TypeVar("T")


@attrs.frozen
class Manifests:
    """Resources that were found right and that fit each other. Made by `resolve`.

    Attributes:
        pools: every InferencePool.
        objectives: every InferenceObjective.
        rewrites: every InferenceModelRewrite, the oldest first, as that is their precedence.
        routes: every HTTPRoute.
        endpoints: what endpoints files list.
        adapters: which LoRA adapters share which base model.
        warnings: what is deprecated, has no effect, or is not read.
    """

    pools: tuple[InferencePool, ...] = ()
    objectives: tuple[InferenceObjective, ...] = ()
    rewrites: tuple[InferenceModelRewrite, ...] = ()
    routes: tuple[HTTPRoute, ...] = ()
    endpoints: tuple[StaticEndpoint, ...] = ()
    warnings: tuple[Problem, ...] = ()
    adapters: tuple[AdapterBase, ...] = ()

    def pool(self, name: str, namespace: str = "default") -> InferencePool | None:
        """Return the pool of that name, if there is one."""
        return next((pool for pool in self.pools if (pool.name, pool.namespace) == (name, namespace)), None)

    def endpoints_of(self, pool: InferencePool) -> tuple[StaticEndpoint, ...]:
        """Return the endpoints that belong to a pool: those of its namespace that have every label it asks for."""
        wanted = pool.match_labels.items()
        return tuple(
            endpoint
            for endpoint in self.endpoints
            if endpoint.namespace == pool.namespace and wanted <= endpoint.labels.items()
        )

    @property
    def bases(self) -> dict[str, str]:
        """Adapter → its base model; the last ConfigMap counts for an adapter that stands in several."""
        return {adapter: each.base for each in self.adapters for adapter in each.adapters}

    def priority(self, objective: str, pool: str, namespace: str = "default") -> int:
        """Return the priority of requests to `pool` that name `objective`; 0 when there is no such objective."""
        wanted = (objective, pool, namespace)
        return next((o.priority for o in self.objectives if (o.name, o.pool, o.namespace) == wanted), 0)


def resolve(*documents: Document | Mapping[str, Any]) -> Manifests:
    """Return what the resources among `documents` say; an ``EndpointPickerConfig`` among them is passed over.

    Raises:
        ConfigError: everything that is wrong with every resource, and every reference from one to nothing.

    >>> resolve({"endpoints": [{"name": "a", "address": "10.0.0.1", "port": "8000"}]}).endpoints[0].address
    '10.0.0.1:8000'
    """
    problems: list[Problem] = []
    manifests = examine(*documents, problems=problems, warnings=[])
    if problems:
        raise ConfigError(problems)
    return manifests


def examine(*documents: Document | Mapping[str, Any], problems: list[Problem], warnings: list[Problem]) -> Manifests:
    """Do as `resolve` does, and append what is wrong, and what is only worth a word, instead of raising."""
    read: list[tuple[Document, Any]] = []
    given = [Document.of(document) for document in documents]
    for document in given:
        found: list[Problem] = []
        noted: list[Problem] = []
        value = read_one(document, found, noted)
        if value is not None:
            read.append((document, value))
        problems += sorted(document.place(found), key=lambda problem: problem.line or 0)
        warnings += document.place(noted)
    resources = [(document, value) for document, value in read if isinstance(value, Resource)]
    endpoints = [endpoint for _, value in read if isinstance(value, tuple) for endpoint in value]
    problems += [*_repeated(resources), *_repeated_endpoints(read), *_dangling(resources, _pools_in(given))]
    values = [value for _, value in resources]
    manifests = Manifests(
        pools=_only(InferencePool, values),
        objectives=_only(InferenceObjective, values),
        rewrites=tuple(sorted(_only(InferenceModelRewrite, values), key=lambda each: (not each.created, each.created))),
        routes=_only(HTTPRoute, values),
        endpoints=tuple(endpoints),
        adapters=_only(AdapterBase, values),
    )
    if not problems:
        warnings += _outside(manifests, read)
    return attrs.evolve(manifests, warnings=tuple(warnings))


def _only(kind: type[T], values: list[Resource]) -> tuple[T, ...]:
    return tuple(value for value in values if isinstance(value, kind))


def _repeated(resources: list[tuple[Document, Resource]]) -> Iterator[Problem]:
    first: dict[tuple[str, str, str], Document] = {}
    for document, value in resources:
        key = (document.kind, value.namespace, value.name)
        if key in first:
            message = f"the {key[0]} '{key[1]}/{key[2]}' stands {_place(first[key])} already"
            yield from document.place([Problem("metadata.name", message)])
        first.setdefault(key, document)


def _repeated_endpoints(read: list[tuple[Document, Any]]) -> Iterator[Problem]:
    first: dict[str, Document] = {}
    for document, value in read:
        for endpoint in value if isinstance(value, tuple) else ():
            if first.setdefault(endpoint.id, document) is not document:
                message = f"the endpoint '{endpoint.id}' stands {_place(first[endpoint.id])} already"
                yield from document.place([Problem("endpoints", message)])


def _outside(manifests: Manifests, read: list[tuple[Document, Any]]) -> Iterator[Problem]:
    """Yield a warning for each endpoint that belongs to no pool, if there are pools: nothing will be sent to it."""
    inside = {endpoint.id for pool in manifests.pools for endpoint in manifests.endpoints_of(pool)}
    for document, value in read if manifests.pools else ():
        for i, endpoint in enumerate(value if isinstance(value, tuple) else ()):
            if endpoint.id not in inside:
                message = f"'{endpoint.id}' belongs to no InferencePool: none of its namespace selects its labels"
                yield from document.place([Problem(f"endpoints[{i}]", message)])


def _place(document: Document) -> str:
    line = document.line("metadata.name") or document.line("")
    return f"at {document.file}:{line}" if document.file else "above"


def _pools_in(documents: Iterable[Document]) -> set[tuple[str, str]]:
    """Return namespace and name of every pool, right or wrong: one that is wrong is not one that is missing."""
    pools = [document.content for document in documents if document.kind == "InferencePool"]
    metadata = [pool["metadata"] for pool in pools if isinstance(pool.get("metadata"), Mapping)]
    return {(str(each.get("namespace") or "default"), str(each.get("name"))) for each in metadata}


def _dangling(resources: list[tuple[Document, Resource]], pools: set[tuple[str, str]]) -> Iterator[Problem]:
    """Yield a problem for each reference to a pool that is not there."""
    for document, value in resources:
        for path, namespace, name in _references(value):
            if (namespace, name) not in pools:
                known = [other for where, other in pools if where == namespace]
                elsewhere = [where for where, other in pools if other == name]
                offer = f"; there is one in '{elsewhere[0]}'" if elsewhere else near_miss(name, known)
                message = f"no InferencePool '{name}' in namespace '{namespace}'{offer}"
                yield from document.place([Problem(path, message)])


def _references(value: Resource) -> Iterator[tuple[str, str, str]]:
    """Yield path, namespace and name of every pool that a resource refers to."""
    if isinstance(value, InferenceObjective | InferenceModelRewrite):
        yield "spec.poolRef.name", value.namespace, value.pool
    if isinstance(value, HTTPRoute):
        for i, rule in enumerate(value.rules):
            for backend in rule.backends:
                yield f"spec.rules[{i}].backendRefs", backend.namespace, backend.pool
            for mirror in rule.mirrors:
                yield f"spec.rules[{i}].filters", mirror.namespace, mirror.pool
