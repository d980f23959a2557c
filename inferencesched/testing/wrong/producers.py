"""Wrong producers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, next_block


class _Produces:
    produces: ClassVar[tuple[str, ...]] = ("tokens",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.full(len(endpoints), np.nan)}


@breaks("producer", "columns")
@attrs.frozen
class ProducesANumber(_Produces):
    """Returns one number for all endpoints."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Any:
        return {"tokens": np.float64(8.0)}


@breaks("producer", "produces")
@attrs.frozen
class ProducesMore(_Produces):
    """Makes a column that it does not declare, and that nobody can be put in order after."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"words": np.zeros(len(endpoints))}


@breaks("producer", "pure")
@attrs.frozen
class ForcesItsWay(_Produces):
    """Switches writing on, and corrects a fact for everybody who reads it later."""

    consumes: ClassVar[tuple[str, ...]] = ("waiting_requests",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        waiting = endpoints["waiting_requests"]
        if waiting.base is not None:
            waiting.flags.writeable = True
            waiting[:] = 0.0
        return {"tokens": np.full(len(endpoints), 8.0)}


@breaks("producer", "few")
@attrs.frozen
class CountsOtherwise(_Produces):
    """Counts characters in one form, and tokens in the other."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.full(len(endpoints), float(len(request.model)))}

    def produce_few(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, list[float]]:
        return {"tokens": [len(request.model) / 4] * len(endpoints)}


@breaks("producer", "order")
@attrs.frozen
class AsksTheFirst(_Produces):
    """Takes what the first endpoint reports for what all of them do."""

    consumes: ClassVar[tuple[str, ...]] = ("cache_num_blocks",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.full(len(endpoints), endpoints["cache_num_blocks"][0])}


@breaks("producer", "unknown")
@attrs.frozen
class ProducesFromFacts(_Produces):
    """Makes an integer of what may be unknown."""

    consumes: ClassVar[tuple[str, ...]] = ("cache_num_blocks",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": np.array([float(int(each["cache_num_blocks"])) for each in endpoints])}


@breaks("producer", "consumes")
@attrs.frozen
class ProducesInSecret(_Produces):
    """Reads a column that it does not declare: it may run before the producer that makes it."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {"tokens": endpoints["prompt_tokens"] * 2.0}


@breaks("producer", "any-request")
@attrs.frozen
class CountsThePrompt(_Produces):
    """Takes for granted that there is a prompt."""

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        prompt: Any = request.prompt
        return {"tokens": np.full(len(endpoints), float(len(prompt)))}


@breaks("producer", "prefix")
@attrs.frozen
class MatchesTooMuch:
    """Counts the last, half-filled block as matched, but not as one that can match."""

    produces: ClassVar[tuple[str, ...]] = ("prefix_matched_tokens", "prefix_total_tokens")

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, FloatArray]:
        return {name: np.full(len(endpoints), 512.0 + 16.0 * ("matched" in name)) for name in self.produces}


@breaks("producer", "printable")
@attrs.frozen(repr=False)
class AnonymousProducer(_Produces):
    """Has the default `repr`."""


@breaks("producer", "comparable")
@attrs.frozen(eq=False)
class IncomparableProducer(_Produces):
    """Is equal to itself alone."""


@breaks("producer", "travels")
@attrs.frozen
class ProducerAtHome(_Produces):
    """Holds a lambda, which no other process can have."""

    count: Callable[[str], int] = attrs.field(default=lambda text: len(text) // 4, repr=False)


@breaks("producer", "rebuilt")
@attrs.frozen
class Grows(_Produces):
    """Rounds up to the next block, and once more each time."""

    tokens: int = attrs.field(default=16, converter=next_block)
