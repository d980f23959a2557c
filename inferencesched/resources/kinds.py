"""Which documents are resources: a table of group, kind and version, and who reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from inferencesched.config import is_config
from inferencesched.documents import Document
from inferencesched.errors import Problem, near_miss
from inferencesched.resources.adapters import is_adapter_map, read_adapter_map
from inferencesched.resources.endpoints import read_endpoints
from inferencesched.resources.objective import read_objective
from inferencesched.resources.pool import read_pool, read_pool_v1alpha2
from inferencesched.resources.rewrite import read_rewrite
from inferencesched.resources.route_reading import read_route

__all__ = ["read_one"]

Reader = Callable[[Document, list[Problem], list[Problem]], Any]


def _silent(read: Callable[[Document, list[Problem]], Any]) -> Reader:
    return lambda document, problems, _warnings: read(document, problems)


_POOLS = "inference.networking.k8s.io/v1"
_OLD = "inference.networking.x-k8s.io/v1alpha2"
_NEW = "llm-d.ai/v1alpha2"
_ROUTES = "gateway.networking.k8s.io/v1"

_READERS: Mapping[tuple[str, str], Reader] = MappingProxyType(
    {
        (_POOLS, "InferencePool"): _silent(read_pool),
        (_OLD, "InferencePool"): _silent(read_pool_v1alpha2),
        (_NEW, "InferenceObjective"): _silent(read_objective),
        (_OLD, "InferenceObjective"): _silent(read_objective),
        (_NEW, "InferenceModelRewrite"): read_rewrite,
        (_OLD, "InferenceModelRewrite"): read_rewrite,
        (_ROUTES, "HTTPRoute"): read_route,
        ("gateway.networking.k8s.io/v1beta1", "HTTPRoute"): read_route,
    }
)
_KINDS = {kind: [version for version, other in _READERS if other == kind] for _, kind in _READERS}
_GROUPS = {version.partition("/")[0] for version, _ in _READERS}
_REMOVED = {
    "InferenceModel": "it was replaced by InferenceObjective and InferenceModelRewrite",
    "InferencePoolImport": "pools of other clusters are not scheduled here",
}


def read_one(document: Document, problems: list[Problem], warnings: list[Problem]) -> Any:
    """Return the value of one document; None for one that is no resource, or a wrong one, which is then reported."""
    content = document.content
    if content is None or is_config(document):
        return None
    if not document.kind and isinstance(content, Mapping) and "endpoints" in content:
        return read_endpoints(document, problems)
    if is_adapter_map(document):
        return read_adapter_map(document, problems)
    reader = _READERS.get((document.api_version, document.kind))
    if reader is None:
        _report(document, problems, warnings)
        return None
    if document.api_version == _OLD:
        better = _POOLS if document.kind == "InferencePool" else _NEW
        warnings.append(Problem("apiVersion", f"'{_OLD}' is deprecated; write '{better}'"))
    before = len(problems)
    value = reader(document, problems, warnings)
    return value if len(problems) == before else None


def _report(document: Document, problems: list[Problem], warnings: list[Problem]) -> None:
    """Say what a document is that nobody reads: a mistake if it looks like one of ours, otherwise by the way."""
    version, kind = document.api_version, document.kind
    if kind in _KINDS:
        expected = " or ".join(f"'{known}'" for known in _KINDS[kind])
        problems.append(Problem("apiVersion", f"expected {expected} for kind '{kind}', got '{version}'"))
    elif kind in _REMOVED:
        problems.append(Problem("kind", f"'{kind}' is not supported: {_REMOVED[kind]}"))
    elif not kind or (version.partition("/")[0] in _GROUPS and near_miss(kind, _KINDS)):
        offer = near_miss(kind, _KINDS) or f"; known are EndpointPickerConfig, {', '.join(_KINDS)}"
        problems.append(Problem("kind", f"unknown kind '{kind}'{offer}" if kind else f"required{offer}"))
    else:
        warnings.append(Problem("kind", f"'{kind}' ({version or 'no apiVersion'}) is not read here"))
