"""The contract of a ProfileHandler."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from inferencesched.decision import Pass
from inferencesched.interfaces import Conclusion, ProfileHandler
from inferencesched.parameters import to_mapping
from inferencesched.request import Request
from inferencesched.testing.builders import make_request
from inferencesched.testing.cases import ODD_REQUESTS, ORDINARY
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.passes import receipt
from inferencesched.testing.values import add_value_clauses

__all__ = ["HANDLER", "check_handler"]

HANDLER = Contract("profile-handler")


@attrs.frozen(eq=False)
class Consultation:
    """A request, the profiles there are, and those of them that will find no endpoint."""

    fields: Mapping[str, Any]
    profiles: tuple[str, ...]
    failing: frozenset[str] = frozenset()

    def request(self) -> Request:
        """Return the request."""
        return make_request(**self.fields)

    def run(self, profile: str) -> Pass:
        """Return the receipt of a profile, as the scheduler would get it."""
        return receipt(profile, self.request(), failed=profile in self.failing)

    def rounds(self, handler: ProfileHandler) -> Iterator[tuple[dict[str, Pass], list[str]]]:
        """Consult the handler as a scheduler does: yield the passes so far and what it chose, until it is done."""
        passes: dict[str, Pass] = {}
        while True:
            chosen = list(handler.choose(self.request(), self.profiles, dict(passes)))
            yield dict(passes), chosen
            fresh = [name for name in chosen if name in self.profiles and name not in passes]
            if not fresh:
                return
            passes.update((name, self.run(name)) for name in fresh)

    def smaller(self) -> Iterator[Consultation]:
        """Yield it with one failure less, and with a plainer request."""
        for spared in sorted(self.failing):
            yield attrs.evolve(self, failing=self.failing - {spared})
        for gone in self.fields:
            yield attrs.evolve(self, fields={name: value for name, value in self.fields.items() if name != gone})

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}"[:120] for name, value in self.fields.items())
        failing = f"; without an endpoint: {', '.join(sorted(self.failing))}" if self.failing else ""
        return f"  request = make_request({fields})\n  profiles: {', '.join(self.profiles)}{failing}"


def consultations(plugin: object) -> Iterable[Consultation]:
    """Return every combination of profiles that find an endpoint and that do not."""
    for number, profiles in enumerate(_line_ups(plugin)):
        for size in range(len(profiles) + 1):
            for failing in itertools.combinations(profiles, size):
                yield Consultation(ORDINARY[number % len(ORDINARY)], profiles, frozenset(failing))


def odd_consultations(plugin: object) -> Iterable[Consultation]:
    """Return consultations about requests that few authors think of."""
    *_, profiles = _line_ups(plugin)
    return [Consultation(fields, profiles) for fields in ODD_REQUESTS]


def _line_ups(plugin: object) -> list[tuple[str, ...]]:
    """Return sets of profiles: those that the handler's parameters name, each alone and together, or any."""
    parameters = to_mapping(plugin) if attrs.has(type(plugin)) else {}
    named = [v for name, v in parameters.items() if "profile" in name.lower() and isinstance(v, str) and v]
    named = list(dict.fromkeys(named)) or ["default", "second"]
    return [(name,) for name in named] + ([tuple(named)] if len(named) > 1 else [])


@HANDLER.clause(consultations)
def ends(handler: ProfileHandler, case: Consultation) -> str | None:
    """It chooses each profile once at most, so that the consultation ends."""
    for passes, chosen in case.rounds(handler):
        again = [name for name in chosen if name in passes]
        if again:
            return f"after {', '.join(passes)} it chose '{again[0]}' again"
    return None


@HANDLER.clause(consultations)
def known(handler: ProfileHandler, case: Consultation) -> str | None:
    """It chooses only profiles that there are."""
    for _, chosen in case.rounds(handler):
        strange = [name for name in chosen if name not in case.profiles]
        if strange:
            return f"it chose '{strange[0]}'; there are {', '.join(case.profiles)}"
    return None


@HANDLER.clause(consultations)
def concludes(handler: ProfileHandler, case: Consultation) -> str | None:
    """Its conclusion names profiles that have run, or none, with the reason."""
    *_, (passes, _) = case.rounds(handler)
    conclusion: object = handler.conclude(case.request(), passes)
    if not isinstance(conclusion, Conclusion):
        return f"expected a Conclusion, got {type(conclusion).__name__}"
    if conclusion.primary is None and not conclusion.message:
        return "it concluded that there is no answer, without a message that says why"
    named = [name for name in (conclusion.primary, *conclusion.stages) if name is not None]
    strange = [name for name in named if name not in passes]
    return f"its conclusion names '{strange[0]}', but {', '.join(passes) or 'nothing'} ran" if strange else None


@HANDLER.clause(consultations)
def pure(handler: ProfileHandler, case: Consultation) -> str | None:
    """The same question has the same answer."""
    first = [chosen for _, chosen in case.rounds(handler)]
    again = [chosen for _, chosen in case.rounds(handler)]
    return None if first == again else f"asked twice, it chose {first} and then {again}"


@HANDLER.clause(odd_consultations)
def any_request(handler: ProfileHandler, case: Consultation) -> str | None:
    """Every valid request gets a conclusion: without a prompt, without a session, of any type of prompt."""
    *_, (passes, _) = case.rounds(handler)
    handler.conclude(case.request(), passes)
    return None


add_value_clauses(HANDLER)


def check_handler(handler: ProfileHandler, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a profile handler promises; see `check_filter` for arguments and errors.

    The profiles it is consulted about are those that its parameters name, in every combination of failures.

    >>> from inferencesched.builtin.handlers import SingleProfileHandler
    >>> all(result.ok for result in check_handler(SingleProfileHandler()))
    True
    """
    __tracebackhide__ = True
    return HANDLER.check(handler, expected)
