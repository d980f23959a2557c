"""The smallest way to say "given these endpoints and this request": `make_batch` and `make_request`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from typing import Any

from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.request import Request

__all__ = ["make_batch", "make_request"]


def make_batch(
    *,
    n: int | None = None,
    names: Iterable[str] | None = None,
    labels: Sequence[Mapping[str, str]] | None = None,
    now: float = 0.0,
    **columns: Sequence[float | AbstractSet[str] | None],
) -> EndpointBatch:
    """Return a batch made of columns; endpoints are called ``e0``, ``e1`` and so on unless `names` says otherwise.

    Args:
        n: how many endpoints; needed only where nothing else tells.
        names: the endpoints' names.
        labels: the labels of each.
        now: the time, and when every fact was observed.
        columns: a number per endpoint (NaN or None is unknown), or a set of strings per endpoint.

    Raises:
        ValueError: lengths differ, or nothing tells how many endpoints there are.

    >>> make_batch(waiting_requests=[3, float("nan")])["waiting_requests"]
    array([ 3., nan])
    >>> make_batch(active_adapters=[{"sql"}, set()]).contains("active_adapters", "sql")
    array([ True, False])
    """
    given: dict[str, Sequence[Any]] = {**columns}
    if names is not None:
        given["names"] = names = list(names)
    if labels is not None:
        given["labels"] = labels
    sizes = {what: len(values) for what, values in given.items()} | ({} if n is None else {"n": n})
    if len(set(sizes.values())) != 1:
        told = ", ".join(f"{what}: {size}" for what, size in sizes.items()) or "nothing"
        raise ValueError(f"expected everything to tell one number of endpoints, got {told}")
    (size,) = set(sizes.values())
    names = [f"e{row}" for row in range(size)] if names is None else names
    labels = [{} for _ in range(size)] if labels is None else labels
    endpoints = [Endpoint(name, labels=own) for name, own in zip(names, labels, strict=True)]
    sets: dict[str, Any] = {c: v for c, v in columns.items() if any(isinstance(x, AbstractSet) for x in v)}
    numbers: dict[str, Any] = {c: v for c, v in columns.items() if c not in sets}
    return EndpointBatch.build(endpoints, numbers, sets=sets, now=now)


def make_request(id: str = "r-1", **fields: Any) -> Request:
    """Return a request with these fields (see `inferencesched.Request`).

    >>> make_request(model="llama-70b", priority=-1).priority
    -1
    """
    return Request(id, **fields)
