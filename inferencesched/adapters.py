"""A small function becomes a full plugin: for authors who think of one endpoint at a time.

These loop over the endpoints in Python. They are a convenience, not a way to speed: one such scorer costs about half a
microsecond an endpoint, and only itself. A scorer that matters is written on columns.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from typing import Any, overload

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, EndpointBatch, EndpointView, FloatArray
from inferencesched.request import Request

__all__ = ["PerEndpointFilter", "PerEndpointScorer", "per_endpoint"]


def _name_of(function: Callable[..., Any]) -> str:
    return function.__qualname__


def _restored(module: str, qualname: str, kind: type[Any], *rest: Any) -> Any:
    """Return the plugin that goes by the function's name, or the function found there made a plugin again."""
    found = operator.attrgetter(qualname)(importlib.import_module(module))
    return found if isinstance(found, kind) else kind(found, *rest)


@attrs.frozen
class PerEndpointScorer:
    """A Scorer made of ``f(request, endpoint) -> float``; see `per_endpoint`."""

    function: Callable[[Request, EndpointView], float] = attrs.field(repr=_name_of)
    consumes: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """The function's name, for receipts."""
        return self.function.__name__

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return ``f(request, endpoint)`` for each endpoint."""
        return np.fromiter((self.function(request, e) for e in endpoints), np.float64, len(endpoints))

    def __call__(self, *args: Any) -> float:
        """Call the function itself."""
        return self.function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the function's name, under which the plugin itself is found where `per_endpoint` decorates."""
        return _restored, (self.function.__module__, _name_of(self.function), type(self), self.consumes)


@attrs.frozen
class PerEndpointFilter:
    """A Filter made of ``f(request, endpoint) -> bool``; see `per_endpoint`."""

    function: Callable[[Request, EndpointView], bool] = attrs.field(repr=_name_of)
    consumes: tuple[str, ...] = ()
    transient: bool = False

    @property
    def type(self) -> str:
        """The function's name, for receipts."""
        return self.function.__name__

    @property
    def why(self) -> str:
        """The first line of the function's docstring, or its name."""
        return (self.function.__doc__ or self.function.__name__).strip().splitlines()[0]

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return ``f(request, endpoint)`` for each endpoint."""
        return np.fromiter((self.function(request, e) for e in endpoints), np.bool_, len(endpoints))

    def __call__(self, *args: Any) -> bool:
        """Call the function itself."""
        return self.function(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the function's name; see `PerEndpointScorer`."""
        name = (self.function.__module__, _name_of(self.function))
        return _restored, (*name, type(self), self.consumes, self.transient)


@overload
def per_endpoint(function: Callable[[Request, EndpointView], bool], /) -> PerEndpointFilter: ...
@overload
def per_endpoint(function: Callable[[Request, EndpointView], float], /) -> PerEndpointScorer: ...
@overload
def per_endpoint(
    *, consumes: tuple[str, ...] = ...
) -> Callable[[Callable[[Request, EndpointView], float]], PerEndpointScorer]: ...
@overload
def per_endpoint(
    *, consumes: tuple[str, ...] = ..., transient: bool
) -> Callable[[Callable[[Request, EndpointView], bool]], PerEndpointFilter]: ...
def per_endpoint(
    function: Callable[..., Any] | None = None, /, *, consumes: tuple[str, ...] = (), transient: bool | None = None
) -> Any:
    """Turn ``f(request, endpoint) -> float`` into a Scorer, or ``-> bool`` into a Filter.

    The return annotation decides: ``bool`` (or a `transient` given) makes a filter, anything else a scorer.

    Args:
        consumes: the columns the function reads; shown in receipts with their ages.
        transient: for a filter: whether what it drops may pass a moment later.

    >>> @per_endpoint
    ... def same_zone(request, endpoint) -> float:
    ...     return 1.0 if endpoint.labels.get("zone") == request.attributes.get("zone") else 0.0
    >>> batch = EndpointBatch.build(["a"])
    >>> same_zone.score(Request("r"), batch)
    array([1.])
    """
    if function is None:
        return lambda named: per_endpoint(named, consumes=consumes, transient=transient)  # type: ignore[call-overload]
    if transient is not None or function.__annotations__.get("return") in {bool, "bool"}:
        return PerEndpointFilter(function, consumes, transient or False)
    return PerEndpointScorer(function, consumes)
