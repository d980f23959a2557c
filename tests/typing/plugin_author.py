"""What a plugin author and a host write, as a type checker sees it. Checked by mypy with everything else; never run.

A line with an `ignore` is one that has to be an error: mypy complains about the comment if it is not.
"""

import random
from collections.abc import Mapping, Sequence
from typing import ClassVar, assert_type

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched import (
    Decision,
    EndpointBatch,
    Filter,
    Observer,
    Picker,
    Producer,
    Profile,
    Registry,
    Rejection,
    Request,
    Scheduler,
    Scorer,
    load_config,
)
from inferencesched.testing import Result, check_filter, check_observer, check_picker, check_producer, check_scorer


@attrs.frozen
class CarbonAware:
    consumes: ClassVar[tuple[str, ...]] = ("grid_intensity",)

    def score(self, request: Request, endpoints: EndpointBatch, /) -> NDArray[np.float64]:
        return np.where(endpoints["grid_intensity"] > 400, 0.0, 1.0)


class ParametersHaveAnyName:
    def keep(self, asked: Request, candidates: EndpointBatch) -> NDArray[np.bool_]:
        return candidates["waiting_requests"] < 10


class First:
    def pick(
        self, request: Request, endpoints: EndpointBatch, totals: NDArray[np.float64], n: int, rng: random.Random, /
    ) -> Sequence[int]:
        return range(min(n, len(endpoints)))


class Lengths:
    produces = ("prompt_length",)

    def produce(self, request: Request, endpoints: EndpointBatch, /) -> Mapping[str, NDArray[np.float64]]:
        return {"prompt_length": np.zeros(len(endpoints))}


class Counts(Observer):
    def assigned(self, request: Request, decision: Decision, *, now: float) -> None: ...


scorer: Scorer = CarbonAware()
keeper: Filter = ParametersHaveAnyName()
picker: Picker = First()
producer: Producer = Lengths()
not_a_filter: Filter = CarbonAware()  # type: ignore[assignment]

assert_type(check_scorer(scorer), tuple[Result, ...])
check_filter(keeper, expected={"printable": "a plain class"})
check_picker(picker)
check_producer(producer)
check_observer(Counts())
check_scorer(keeper)  # type: ignore[arg-type]

profile = Profile(producers=[producer], filters=[keeper], scorers=[(scorer, 2.0)], picker=picker)
Profile(scorers=[scorer], picker=picker)  # type: ignore[list-item]
Profile(scorers=[(scorer, 1.0)])  # type: ignore[call-arg]

scheduler = Scheduler(profile, rng=random.Random(0), observers=[Counts()])
answer = scheduler.schedule(Request("r-1"), now=0.0)
assert_type(answer, Decision | Rejection)
nowhere = answer.endpoint  # type: ignore[union-attr]
if isinstance(answer, Decision):
    assert_type(answer.endpoint.address, str)
    assert_type(scheduler.finish(answer, now=1.0), bool)
scheduler.schedule(Request("r-1"))  # type: ignore[call-arg]

config = load_config({}, registry=Registry({"carbon-aware-scorer": CarbonAware}))
assert_type(config.scheduler(rng=random.Random()), Scheduler)
