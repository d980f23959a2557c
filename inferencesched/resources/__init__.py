"""The resources of an inference gateway as values: pools, objectives, rewrites, routes, and endpoints files.

`resolve` takes decoded documents and gives one `Manifests`; everything wrong with any of them is in one `ConfigError`.
`RoutingTable` puts them to work: from a request's host, path and model to a pool.
Reads no file and no cluster: what a cluster or a folder holds is for a host to bring.
"""

from inferencesched.resources.adapters import AdapterBase
from inferencesched.resources.endpoints import StaticEndpoint
from inferencesched.resources.manifests import Manifests, examine, resolve
from inferencesched.resources.matching import BASE_MODEL_HEADER, MODEL_HEADER
from inferencesched.resources.objective import InferenceObjective
from inferencesched.resources.pool import EndpointPickerRef, InferencePool
from inferencesched.resources.rewrite import InferenceModelRewrite, RewriteRule, RewriteTarget
from inferencesched.resources.route import (
    Backend,
    HeaderChanges,
    Headers,
    HTTPRoute,
    Mirror,
    PathRewrite,
    RouteMatch,
    RouteRule,
    ValueMatch,
)
from inferencesched.resources.routing import NoRoute, PoolId, Routed, RoutingTable

__all__ = [
    "BASE_MODEL_HEADER",
    "MODEL_HEADER",
    "AdapterBase",
    "Backend",
    "EndpointPickerRef",
    "HTTPRoute",
    "HeaderChanges",
    "Headers",
    "InferenceModelRewrite",
    "InferenceObjective",
    "InferencePool",
    "Manifests",
    "Mirror",
    "NoRoute",
    "PathRewrite",
    "PoolId",
    "RewriteRule",
    "RewriteTarget",
    "RouteMatch",
    "RouteRule",
    "Routed",
    "RoutingTable",
    "StaticEndpoint",
    "ValueMatch",
    "examine",
    "resolve",
]
