"""Wrong filters."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, EndpointBatch
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, one_more


@breaks("filter", "mask")
@attrs.frozen
class KeepsAsNumbers:
    """Returns ones and zeros: as an index, they are positions and not a mask."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        return np.ones(len(endpoints), np.int64)


@breaks("filter", "pure")
@attrs.frozen
class LeavesANote:
    """Writes into the request for a scorer to read."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        request.attributes["seen"] = True  # type: ignore[index]
        return np.ones(len(endpoints), np.bool_)


@breaks("filter", "order")
@attrs.frozen
class KeepsTheFirstHalf:
    """Cuts a long list short, wherever everybody stands in it."""

    relative: ClassVar[bool] = True

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.arange(len(endpoints)) < (len(endpoints) + 1) // 2


@breaks("filter", "subset")
@attrs.frozen
class KeepsTheBest:
    """Keeps the shortest queue of all, and does not say that it compares."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        waiting = np.nan_to_num(endpoints["waiting_requests"])
        return np.asarray(waiting == waiting.min())


@breaks("filter", "unknown")
@attrs.frozen
class CountsOnFacts:
    """Makes an integer of what may be unknown."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.array([int(each["waiting_requests"]) < 10 for each in endpoints], np.bool_)


@breaks("filter", "consumes")
@attrs.frozen
class FiltersInSecret:
    """Declares one column and reads another as well."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return ~((endpoints["waiting_requests"] > 10) & endpoints.contains("active_adapters", "sql"))


@breaks("filter", "any-request")
@attrs.frozen
class NeedsAHeader:
    """Takes for granted that the gateway sets a header."""

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        wanted = (request.session or request.adapter or request.attributes["zone"]).lower()
        return np.full(len(endpoints), wanted != "nowhere")


class _KeepsAll:
    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        return np.ones(len(endpoints), np.bool_)


@breaks("filter", "printable")
@attrs.frozen(repr=False)
class AnonymousFilter(_KeepsAll):
    """Says in receipts that endpoints were dropped by an address."""


@breaks("filter", "comparable")
@attrs.frozen(eq=False)
class IncomparableFilter(_KeepsAll):
    """Is equal to itself alone, and memoised under a key that is never found again."""


@breaks("filter", "travels")
@attrs.frozen
class ForgetsOnTheWay(_KeepsAll):
    """Comes out of a pickle with another limit than it went in."""

    limit: int = 10

    def __getstate__(self) -> dict[str, int]:
        return {"limit": 0}

    def __copy__(self) -> ForgetsOnTheWay:
        return self


@breaks("filter", "rebuilt")
@attrs.frozen
class Accumulates(_KeepsAll):
    """Adds to what it is given: loaded from its own parameters it has a label more each time."""

    labels: tuple[str, ...] = attrs.field(default=(), converter=one_more)
