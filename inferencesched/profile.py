"""Profile: one pass over the candidates, produce → filter → score → pick. No memory, no clock, no plugin names.

The pipeline knows one kind of scorer: an array per batch. Scores are put into one matrix (a row per scorer), checked by
one look at the whole of it, and multiplied by the weights; only when that look fails is the culprit searched for.
Nothing is ever clamped: a wrong score is the plugin's fault and is reported as such.

Weights are shares: they are divided by their sum, so (3, 2, 2) and (6, 4, 4) are the same profile and a total is again
in [0, 1].
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from inferencesched.decision import Decision, Drop, Pass
from inferencesched.endpoints import BoolArray, EndpointBatch, FloatArray, Numbers
from inferencesched.errors import ConfigError, ContractError, Problem
from inferencesched.extremes import among_the_best
from inferencesched.interfaces import Filter, Picker, Producer, Scorer
from inferencesched.isolation import Strict
from inferencesched.request import Request
from inferencesched.weighing import are_shares, shares_of, weighed_few

__all__ = ["Named", "Profile", "in_order"]

_STRICT = Strict()
_FLOAT64, _BOOL = np.dtype(np.float64), np.dtype(np.bool_)


@attrs.frozen(eq=False)
class Named:
    """A plugin under the name its user gave it, with the distribution it came from (for messages)."""

    plugin: Any
    name: str
    distribution: str | None = None
    _score_few: Callable[..., list[float]] | None = attrs.field(init=False, repr=False)
    _produce_few: Callable[..., Mapping[str, Numbers]] | None = attrs.field(init=False, repr=False)
    _pick_few: Callable[..., Sequence[int]] | None = attrs.field(init=False, repr=False)

    @_score_few.default
    def _form_of_score(self) -> Callable[..., list[float]] | None:
        return getattr(self.plugin, "score_few", None)

    @_produce_few.default
    def _form_of_produce(self) -> Callable[..., Mapping[str, Numbers]] | None:
        return getattr(self.plugin, "produce_few", None)

    @_pick_few.default
    def _form_of_pick(self) -> Callable[..., Sequence[int]] | None:
        return getattr(self.plugin, "pick_few", None)

    @classmethod
    def of(cls, plugin: Any) -> Named:
        """Return `plugin` itself if it is named; else name it by its ``type`` attribute, or by its class."""
        if isinstance(plugin, Named):
            return plugin
        kind = getattr(plugin, "type", None)
        return cls(plugin, kind if isinstance(kind, str) else type(plugin).__name__)

    def broken(self, message: str) -> ContractError:
        """Return the error that says how this plugin broke its contract."""
        return ContractError(self.name, message, distribution=self.distribution)

    def annotate(self, request: Request) -> dict[str, object]:
        """Return the annotator's attributes; what is no mapping raises here."""
        return dict(self.plugin.annotate(request))

    def respond(self, request: Request, decision: Decision) -> dict[str, str]:
        """Return the responder's headers; what is no mapping raises here."""
        return dict(self.plugin.response_headers(request, decision))

    def keep(self, request: Request, endpoints: EndpointBatch) -> BoolArray:
        """Return the filter's mask, checked."""
        mask = self.plugin.keep(request, endpoints)
        if type(mask) is not np.ndarray or mask.dtype != _BOOL or mask.shape != (len(endpoints),):
            raise self.broken(f"keep() must return a bool array of shape ({len(endpoints)},), got {_shape(mask)}")
        return mask

    def score(self, request: Request, endpoints: EndpointBatch) -> FloatArray:
        """Return the scorer's array, checked."""
        scores: FloatArray = self.plugin.score(request, endpoints)
        if type(scores) is not np.ndarray or scores.dtype != _FLOAT64 or scores.shape != (len(endpoints),):
            raise self.broken(f"score() must return a float64 array of shape ({len(endpoints)},), got {_shape(scores)}")
        if not are_shares(scores):
            raise self._out_of_range(scores, endpoints)
        return scores

    def score_few(self, request: Request, endpoints: EndpointBatch) -> list[float]:
        """Return the scorer's answer as a list, checked: in its form for few endpoints, if it has one."""
        if self._score_few is None:
            scores: list[float] = self.score(request, endpoints).tolist()
            return scores
        scores = self._score_few(request, endpoints)
        if type(scores) is not list or len(scores) != len(endpoints):
            raise self.broken(f"score_few() must return a list of {len(endpoints)} numbers, got {_shape(scores)}")
        if not are_shares(scores):
            raise self._out_of_range(scores, endpoints)
        return scores

    def _out_of_range(self, scores: Numbers, endpoints: EndpointBatch) -> ContractError:
        """Return the error for the first score that is not in [0, 1]."""
        row = next(row for row, score in enumerate(scores) if not 0.0 <= score <= 1.0)  # NaN compares false too
        name = endpoints.endpoint(row).name
        return self.broken(f"score {float(scores[row])!r} for endpoint '{name}' is not in [0, 1]")

    def produce(self, request: Request, endpoints: EndpointBatch) -> Mapping[str, Numbers]:
        """Return the producer's columns, checked; in its form for few endpoints, if there are few and it has one."""
        few = self._produce_few if endpoints.are_few else None
        columns: Mapping[str, Numbers] = (few or self.plugin.produce)(request, endpoints)
        produces = self.plugin.produces
        for column, values in columns.items():
            if column not in produces:
                extra = min(set(columns) - set(produces))
                raise self.broken(f"produce() returned '{extra}', which is not in its produces {produces}")
            if few is None and isinstance(values, list):
                raise self.broken(f"produce() must return arrays, got a list for '{column}'")
        try:
            endpoints.check_columns(columns)
        except (ValueError, AttributeError) as error:
            raise self.broken(f"produce(): {error}") from error
        return columns

    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: Numbers, n: int, rng: random.Random
    ) -> tuple[int, ...]:
        """Return the picker's positions, checked; few totals come as a list, and go on so if it has a form for that."""
        if not isinstance(totals, list):
            answer = self.plugin.pick(request, endpoints, totals, n, rng)
        elif self._pick_few is None:
            answer = self.plugin.pick(request, endpoints, np.array(totals, np.float64), n, rng)
        else:
            answer = self._pick_few(request, endpoints, totals, n, rng)
        picked = tuple(map(int, answer))
        if not picked or len(set(picked)) != len(picked) or min(picked) < 0 or max(picked) >= len(totals):
            raise self.broken(f"pick() must return distinct positions in 0…{len(endpoints) - 1}, got {picked}")
        return picked


class Profile:
    """What is asked of the endpoints, and how the answers are weighed.

    Args:
        name: appears in receipts.
        producers: make columns; put in the order of what they consume and produce.
        filters: applied in this order; the order changes receipts and cost, never the outcome.
        scorers: with their weights.
        picker: chooses by the totals.

    Every plugin may be given as an object or as `Named`.

    Raises:
        ConfigError: a weight is negative, NaN or infinite; producers consume each other's columns in a circle.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        producers: Iterable[Producer | Named] = (),
        filters: Iterable[Filter | Named] = (),
        scorers: Iterable[tuple[Scorer | Named, float]] = (),
        picker: Picker | Named,
    ) -> None:
        self.name = name
        self.producers = in_order(producers)
        self.filters = tuple(Named.of(each) for each in filters)
        weighed = [(Named.of(plugin), float(weight)) for plugin, weight in scorers]
        problems = [
            Problem(f"{name}.scorers[{i}].weight", f"expected a finite number ≥ 0, got {weight!r}")
            for i, (_, weight) in enumerate(weighed)
            if not 0 <= weight < math.inf
        ]
        if problems:
            raise ConfigError(problems)
        self.scorers = tuple(plugin for plugin, _ in weighed)
        self.picker = Named.of(picker)
        self.weights = tuple(weight for _, weight in weighed)
        self._shares = shares_of(self.weights)
        self._few_shares: list[float] = self._shares.tolist()
        self._labels = tuple((plugin.name, weight) for plugin, weight in weighed)
        readers = [*self.filters, *self.scorers, self.picker]
        self.consumes: tuple[str, ...] = tuple(dict.fromkeys(c for plugin in readers for c in _consumes(plugin.plugin)))

    @property
    def plugins(self) -> tuple[Named, ...]:
        """Every plugin of the profile."""
        return (*self.producers, *self.filters, *self.scorers, self.picker)

    def __repr__(self) -> str:
        return f"Profile({self.name!r}, {', '.join(plugin.name for plugin in self.plugins)})"

    def run(self, request: Request, endpoints: EndpointBatch, rng: random.Random, *, n: int = 1) -> Pass:
        """Return one whole pass: a pure function of its arguments, and of what the plugins remember.

        Raises:
            ContractError: a plugin broke its contract. Anything else a plugin raises comes out as it is.
        """
        for producer in self.producers:
            endpoints = endpoints.with_columns(producer.produce(request, endpoints))
        return self.place(request, endpoints, rng, n=n)

    def place(
        self, request: Request, endpoints: EndpointBatch, rng: random.Random, *, n: int = 1, guard: Strict = _STRICT
    ) -> Pass:
        """Return the pass over `endpoints` whose producers have run: filter → score → pick.

        Args:
            n: how many ranked picks are wanted at least (picker permitting, endpoints permitting).
            guard: what to do with a plugin that fails; by default its error comes out.

        Complexity: O(plugins × endpoints), a few array operations each.
        """
        kept, drops = self._filter(request, endpoints, guard) if self.filters else (endpoints, ())
        scores, totals = self._score(request, kept, guard)
        picked: tuple[int, ...] = ()
        if len(kept):
            answer = guard.call(self.picker.name, "picker", self.picker.pick, request, kept, totals, n, rng)
            picked = (among_the_best(np.asarray(totals), rng),) if answer is None else answer
        return Pass(
            self.name, endpoints, kept, drops, self._labels, scores, totals, picked, guard.drain(), self.consumes
        )

    def _filter(self, request: Request, kept: EndpointBatch, guard: Strict) -> tuple[EndpointBatch, tuple[Drop, ...]]:
        drops: list[Drop] = []
        for named in self.filters:
            if not len(kept):
                break
            mask = guard.call(named.name, "filter", named.keep, request, kept)
            narrowed = kept if mask is None else kept.select(mask)
            if mask is not None and narrowed is not kept:
                drops.append(Drop(named.name, named.plugin, kept, mask))
                kept = narrowed
        return kept, tuple(drops)

    def _score(
        self, request: Request, kept: EndpointBatch, guard: Strict
    ) -> tuple[FloatArray | list[list[float]], Numbers]:
        """Return the scores, a row for each scorer, and the totals: as lists where the endpoints are few."""
        few, size = kept.are_few, len(kept)
        rows: list[Any] = []
        skipped = []
        for k, named in enumerate(self.scorers if size else ()):
            ask: Callable[..., Numbers] = named.score_few if few else named.score
            row = guard.call(named.name, "scorer", ask, request, kept)
            if row is None:
                skipped.append(k)
                row = [0.0] * size if few else np.zeros(size)
            rows.append(row)
        shares = self._shares
        if skipped:
            shares = shares_of([0.0 if k in skipped else weight for k, weight in enumerate(self.weights)])
        if few:
            totals = weighed_few(shares.tolist() if skipped else self._few_shares, rows, size)
            for k in skipped:
                rows[k] = [math.nan] * size
            return rows, totals
        matrix = np.array(rows, np.float64).reshape(len(self.scorers), size)
        weighed = shares.dot(matrix)  # as `@`, at half its price for a few endpoints
        matrix[skipped] = np.nan
        return matrix, weighed


def in_order(producers: Iterable[Producer | Named]) -> tuple[Named, ...]:
    """Return `producers`, each after those whose columns it consumes; otherwise in the order given.

    Raises:
        ConfigError: they consume each other's columns in a circle.
    """
    waiting = list({id(named.plugin): named for named in map(Named.of, producers)}.values())
    ordered: list[Named] = []
    while waiting:
        unmade = {column for named in waiting for column in named.plugin.produces}
        ready = [n for n in waiting if not (unmade - set(n.plugin.produces)) & set(_consumes(n.plugin))]
        if not ready:
            circle = ", ".join(f"'{named.name}'" for named in waiting)
            raise ConfigError([Problem("producers", f"{circle} consume each other's columns in a circle")])
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return tuple(ordered)


def _consumes(plugin: object) -> Sequence[str]:
    return getattr(plugin, "consumes", ())


def _shape(answer: object) -> str:
    if isinstance(answer, np.ndarray):
        return f"{answer.dtype} of shape {answer.shape}"
    return type(answer).__name__
