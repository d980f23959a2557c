"""The contract of a Picker."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import attrs
import numpy as np

from inferencesched.endpoints import EndpointBatch, FloatArray
from inferencesched.interfaces import Picker
from inferencesched.request import Request
from inferencesched.testing.builders import make_batch, make_request
from inferencesched.testing.cases import ODD_REQUESTS, ORDINARY
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.values import add_value_clauses, remembers

__all__ = ["PICKER", "check_picker"]

PICKER = Contract("picker")

_TOTALS = ((0.0,), (1.0,), (0.5, 0.5), (1.0, 0.0), (0.0, 0.0, 0.0), (0.2, 0.9, 0.9, 0.1), (1.0, 1.0, 1.0, 1.0, 0.7))
_DRAWS = 400
_UNLIKELY = 34.0
"""Chi-square with three degrees of freedom: a fair picker exceeds it once in five million runs of the check."""


@attrs.frozen(eq=False)
class Choice:
    """The question put to a picker, as data."""

    fields: Mapping[str, Any]
    totals: tuple[float, ...]
    n: int = 1

    def request(self) -> Request:
        """Return the request."""
        return make_request(**self.fields)

    def batch(self) -> EndpointBatch:
        """Return the endpoints."""
        return make_batch(n=len(self.totals))

    def scores(self) -> FloatArray:
        """Return the totals as an array of their own."""
        return np.array(self.totals)

    def smaller(self) -> Iterator[Choice]:
        """Yield the choice with one endpoint less, fewer to pick, a plainer request."""
        for row in range(len(self.totals)) if len(self.totals) > 1 else ():
            yield attrs.evolve(self, totals=self.totals[:row] + self.totals[row + 1 :])
        if self.n > 1:
            yield attrs.evolve(self, n=self.n - 1)
        for gone in self.fields:
            yield attrs.evolve(self, fields={name: value for name, value in self.fields.items() if name != gone})

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}"[:120] for name, value in self.fields.items())
        call = f"picker.pick(request, endpoints, np.array({list(self.totals)}), {self.n}, random.Random(0))"
        return f"  request, endpoints = make_request({fields}), make_batch(n={len(self.totals)})\n  {call}"


CHOICES = tuple(
    Choice(ORDINARY[number % len(ORDINARY)], totals, n)
    for number, totals in enumerate(_TOTALS)
    for n in (1, 2, len(totals) + 1)
)
"""Among few and more endpoints, with and without ties, of one and of several."""

ODD_CHOICES = tuple(Choice(fields, (0.4, 0.6)) for fields in ODD_REQUESTS)
FOUR_ALIKE = (Choice(ORDINARY[0], (0.75,) * 4),)


def _pick(picker: Picker, choice: Choice, rng: random.Random) -> Sequence[int]:
    return picker.pick(choice.request(), choice.batch(), choice.scores(), choice.n, rng)


@PICKER.clause(CHOICES)
def positions(picker: Picker, choice: Choice) -> str | None:
    """The answer is at least one position, each that of an endpoint, none twice."""
    return _malformed(_pick(picker, choice, random.Random(0)), choice)


@PICKER.clause(CHOICES)
def count(picker: Picker, choice: Choice) -> str | None:
    """As many endpoints are ranked as were asked for, or all if there are not so many."""
    picked = _pick(picker, choice, random.Random(0))
    wanted = min(choice.n, len(choice.totals))
    if 0 < len(picked) < wanted:  # none at all breaks another clause
        return f"asked for {choice.n} of {len(choice.totals)}, it picked {list(picked)}"
    return None


def _has_few(plugin: object) -> bool:
    return hasattr(plugin, "pick_few")


@PICKER.clause(CHOICES, applies=_has_few)
def few(picker: Any, choice: Choice) -> str | None:
    """Where it has a form for few endpoints, `pick_few`, that picks the same by the same dice."""
    plain, rng = list(map(int, _pick(picker, choice, random.Random(0)))), random.Random(0)
    picked = list(picker.pick_few(choice.request(), choice.batch(), list(choice.totals), choice.n, rng))
    return None if picked == plain else f"it picks {picked} by a list, and {plain} by an array"


@PICKER.clause(CHOICES)
def pure(picker: Picker, choice: Choice) -> str | None:
    """The totals it is given are left as they were."""
    totals = choice.scores()
    picker.pick(choice.request(), choice.batch(), totals, choice.n, random.Random(0))
    return None if np.array_equal(totals, choice.scores()) else f"it changed the totals to {totals.tolist()}"


@PICKER.clause(CHOICES)
def deterministic(picker: Picker, choice: Choice) -> str | None:
    """The same question and the same state of `rng` have the same answer."""
    answers = []
    for _ in range(3):
        with _Frozen():
            answers.append([list(_pick(picker, choice, random.Random(seed))) for seed in range(8)])
    return None if answers[0] == answers[1] == answers[2] else "asked again with equal dice, it picked otherwise"


@PICKER.clause(CHOICES)
def dice(picker: Picker, choice: Choice) -> str | None:
    """All chance comes from `rng`, never from the dice that modules share."""
    with _Frozen() as frozen:
        _pick(picker, choice, random.Random(0))
        return frozen.thrown()


def _claims_fair_ties(plugin: object) -> bool:
    return bool(getattr(plugin, "fair_ties", not remembers(plugin)))


@PICKER.clause(FOUR_ALIKE, applies=_claims_fair_ties)
def ties(picker: Picker, choice: Choice) -> str | None:
    """Among equal totals each endpoint is as likely; a picker with memory, or with `fair_ties = False`, need not."""
    rng, counts = random.Random(0), [0] * len(choice.totals)
    for _ in range(_DRAWS):
        counts[_pick(picker, choice, rng)[0]] += 1
    mean = _DRAWS / len(counts)
    unlikely = sum((n - mean) ** 2 / mean for n in counts) > _UNLIKELY
    return f"in {_DRAWS} picks among equals, the endpoints came first {counts} times" if unlikely else None


@PICKER.clause(ODD_CHOICES)
def any_request(picker: Picker, choice: Choice) -> str | None:
    """Every valid request is given a place: without a prompt, without a session, of any type of prompt."""
    if _malformed(_pick(picker, attrs.evolve(choice, fields=ORDINARY[0]), random.Random(0)), choice):
        return None
    return _malformed(_pick(picker, choice, random.Random(0)), choice)


add_value_clauses(PICKER)


def check_picker(picker: Picker, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a picker promises; see `check_filter` for arguments and errors.

    >>> from inferencesched.builtin.pickers import MaxScorePicker
    >>> all(result.ok for result in check_picker(MaxScorePicker()))
    True
    """
    __tracebackhide__ = True
    return PICKER.check(picker, expected)


class _Frozen:
    """Holds the dice of `random` and numpy still: they are the same at each entry, and put back at the end."""

    def __enter__(self) -> Self:
        self._before = random.getstate(), np.random.get_state()  # noqa: NPY002 — the one that plugins may share
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        self._start = self._states()
        return self

    def __exit__(self, *_: object) -> None:
        random.setstate(self._before[0])
        np.random.set_state(self._before[1])  # noqa: NPY002

    def thrown(self) -> str | None:
        """Say whose dice were thrown, if any were."""
        changed = [name for name, state in self._states().items() if state != self._start[name]]
        return f"it threw the dice of the module {changed[0]}" if changed else None

    def _states(self) -> dict[str, object]:
        return {"random": random.getstate(), "numpy.random": repr(np.random.get_state(legacy=False))}  # noqa: NPY002


def _malformed(picked: Sequence[int], choice: Choice) -> str | None:
    rows = [int(row) for row in picked]
    valid = range(len(choice.totals))
    if rows and len(set(rows)) == len(rows) and all(row in valid for row in rows):
        return None
    return f"expected distinct positions in 0…{len(choice.totals) - 1}, at least one, got {rows}"
