"""The resources of an inference gateway as values: pools, objectives, rewrites, routes, and endpoints files.

`resolve` takes decoded documents and gives one `Manifests`; everything wrong with any of them is in one `ConfigError`.
Reads no file and no cluster: what a cluster or a folder holds is for a host to bring.
"""

from inferencesched.resources.endpoints import StaticEndpoint
from inferencesched.resources.manifests import Manifests, examine, resolve
from inferencesched.resources.objective import InferenceObjective
from inferencesched.resources.pool import EndpointPickerRef, InferencePool
from inferencesched.resources.rewrite import InferenceModelRewrite, RewriteRule, RewriteTarget
from inferencesched.resources.route import (
    Backend,
    HeaderChanges,
    HTTPRoute,
    Mirror,
    PathRewrite,
    RouteMatch,
    RouteRule,
    ValueMatch,
)

__all__ = [
    "Backend",
    "EndpointPickerRef",
    "HTTPRoute",
    "HeaderChanges",
    "InferenceModelRewrite",
    "InferenceObjective",
    "InferencePool",
    "Manifests",
    "Mirror",
    "PathRewrite",
    "RewriteRule",
    "RewriteTarget",
    "RouteMatch",
    "RouteRule",
    "StaticEndpoint",
    "ValueMatch",
    "examine",
    "resolve",
]
