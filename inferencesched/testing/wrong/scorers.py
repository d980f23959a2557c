"""Wrong scorers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, thousandfold


@breaks("scorer", "shape")
@attrs.frozen
class ScoresAsList:
    """Returns a list: a fine answer, but not an array."""

    def score(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        return [0.5] * len(endpoints)


@breaks("scorer", "range")
@attrs.frozen
class Unbounded:
    """Takes for granted that no queue is longer than a hundred."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        free = 1.0 - endpoints["waiting_requests"] / 100
        return np.where(np.isnan(free), 0.5, free)


@breaks("scorer", "pure")
@attrs.frozen(eq=False)
class ReusesItsArray:
    """Saves an allocation: its answer to one request is overwritten by the next."""

    _scores: dict[int, FloatArray] = attrs.field(factory=dict, init=False, repr=False)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        scores = self._scores.setdefault(len(endpoints), np.zeros(len(endpoints)))
        scores[:] = len(request.model) % 10 / 10
        return scores

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReusesItsArray)

    def __hash__(self) -> int:
        return 0


@breaks("scorer", "order")
@attrs.frozen
class PrefersTheFirst:
    """Breaks ties by position, so that whoever joined first gets everything."""

    relative: ClassVar[bool] = True

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.linspace(1.0, 0.0, len(endpoints))


@breaks("scorer", "subset")
@attrs.frozen
class SecretlyRelative:
    """Compares with the longest queue of all, and does not say so."""

    consumes: ClassVar[tuple[str, ...]] = ("running_requests",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        running = np.nan_to_num(endpoints["running_requests"])
        return np.asarray(1.0 - running / (running.max() + 1.0))


@breaks("scorer", "few")
@attrs.frozen
class ForgetsTheUnknown:
    """Takes nobody's queue for an empty one, but only in the form for few endpoints."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        waiting = endpoints["waiting_requests"]
        return np.where(np.isnan(waiting), 0.5, 1.0 / (1.0 + waiting))

    def score_few(self, request: Request, endpoints: EndpointBatch, /) -> list[float]:
        return [1.0 / (1.0 + waiting) if waiting > 0 else 1.0 for waiting in endpoints.numbers("waiting_requests")]


@breaks("scorer", "unknown")
@attrs.frozen
class PassesNanOn:
    """Lets an unknown fact be an unknown score."""

    consumes: ClassVar[tuple[str, ...]] = ("kv_cache_utilization",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.clip(1.0 - endpoints["kv_cache_utilization"], 0.0, 1.0)


@breaks("scorer", "consumes")
@attrs.frozen
class ReadsInSecret:
    """Reads a column that it does not declare: no receipt will show how old the fact was."""

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.where(endpoints["kv_cache_utilization"] > 0.9, 0.0, 1.0)


@breaks("scorer", "any-request")
@attrs.frozen
class NeedsAPrompt:
    """Takes for granted that there is a prompt."""

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        prompt: Any = request.prompt
        return np.full(len(endpoints), 1.0 / (1 + len(prompt)))


class _Plain:
    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        return np.full(len(endpoints), 0.5)


@breaks("scorer", "printable")
@attrs.frozen(repr=False)
class Anonymous(_Plain):
    """Has the default `repr`: an address in every receipt."""


@breaks("scorer", "comparable")
@attrs.frozen(eq=False)
class Incomparable(_Plain):
    """Is equal to itself alone: after a reload everything has changed."""


@breaks("scorer", "travels")
@attrs.frozen
class StaysAtHome(_Plain):
    """Holds what cannot be pickled, so that policies cannot be compared in several processes."""

    weigh: Callable[[float], float] = attrs.field(default=lambda share: share**2, repr=False)


@breaks("scorer", "rebuilt")
@attrs.frozen
class Converts(_Plain):
    """Converts what it is given to another unit: shown and loaded again, a second becomes a thousand."""

    half_life: float = attrs.field(default=1.0, converter=thousandfold)
