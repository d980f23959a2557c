"""The contracts of those who are asked about a request and not about endpoints: Annotator, Decider, Responder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from inferencesched.endpoints import Endpoint
from inferencesched.interfaces import Annotator, Decider, Responder
from inferencesched.request import Request
from inferencesched.testing.builders import make_request
from inferencesched.testing.cases import ODD_REQUESTS, ORDINARY
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.passes import receipt
from inferencesched.testing.stories import decision_for
from inferencesched.testing.values import add_value_clauses

__all__ = ["ANNOTATOR", "DECIDER", "RESPONDER", "check_annotator", "check_decider", "check_responder"]

ANNOTATOR = Contract("annotator")
DECIDER = Contract("decider")
RESPONDER = Contract("responder")


@attrs.frozen(eq=False)
class Question:
    """A request, and what the decode stage has come to, as data."""

    fields: Mapping[str, Any]
    decode: str = "found"
    usual: Question | None = None

    def request(self) -> Request:
        """Return the request, made anew."""
        return make_request(**{**self.fields, "attributes": dict(self.fields.get("attributes", {}))})

    def smaller(self) -> Iterator[Question]:
        """Yield the question without a field of the request."""
        for gone in self.fields:
            yield attrs.evolve(self, fields={name: value for name, value in self.fields.items() if name != gone})

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}"[:120] for name, value in self.fields.items())
        return f"  request = make_request({fields})"


_STAGES = ("found", "failed", "not run")
_USUAL = tuple(Question(fields, decode) for fields in ORDINARY for decode in _STAGES)
_ODD = tuple(Question(fields, decode, usual=_USUAL[0]) for fields in ODD_REQUESTS for decode in _STAGES)


def _ask(plugin: Any, question: Question, request: Request | None = None) -> Any:
    """Put the question to a plugin in the way of its role."""
    request = question.request() if request is None else request
    if isinstance(plugin, Annotator):
        return plugin.annotate(request)
    if isinstance(plugin, Decider):
        chosen = receipt("decode", request, failed=question.decode == "failed")
        return plugin.disaggregate(request, None if question.decode == "not run" else chosen)
    return plugin.response_headers(request, decision_for(request, Endpoint("e0", "10.0.0.1:8000")))


def _impurity(plugin: Any, question: Question) -> str | None:
    request = question.request()
    attributes = dict(request.attributes)
    first = _plain(_ask(plugin, question, request))
    if dict(request.attributes) != attributes:
        return "it changed the attributes of the request it was given"
    _ask(plugin, Question({"model": "another", "session": "s-2", "prompt": "Something else"}))
    again = _plain(_ask(plugin, question))
    return None if again == first else f"the same question had two answers: {first!r}, then {again!r}"


def _plain(answer: Any) -> Any:
    return dict(answer) if isinstance(answer, Mapping) else answer


def _no_mapping(answer: Any) -> str | None:
    if not isinstance(answer, Mapping):
        return f"expected a mapping, got {type(answer).__name__}"
    strange = next((name for name in answer if not isinstance(name, str)), None)
    return None if strange is None else f"expected names that are strings, got {strange!r}"


@ANNOTATOR.clause(_USUAL)
def attributes(plugin: Annotator, question: Question) -> str | None:
    """The answer is a mapping of attributes by name."""
    return _no_mapping(_ask(plugin, question))


@DECIDER.clause(_USUAL)
def answers(plugin: Decider, question: Question) -> str | None:
    """The answer is True or False, whether decode found an endpoint, found none, or has not run."""
    answer = _ask(plugin, question)
    return None if isinstance(answer, bool) else f"expected a bool, got {answer!r} when decode was {question.decode}"


@RESPONDER.clause(_USUAL)
def headers(plugin: Responder, question: Question) -> str | None:
    """The answer is a mapping of headers by name, all of them strings."""
    answer = _ask(plugin, question)
    wrong = _no_mapping(answer)
    if wrong:
        return wrong
    strange = next((value for value in answer.values() if not isinstance(value, str)), None)
    return None if strange is None else f"expected values that are strings, got {strange!r}"


def pure(plugin: object, question: Question) -> str | None:
    """The same question has the same answer, and what is given is left as it was."""
    return _impurity(plugin, question)


for _contract in (ANNOTATOR, DECIDER, RESPONDER):
    _contract.clause(_USUAL)(pure)


def _odd(contract: Contract) -> None:
    """Add the clause that repeats the contract's first one on odd requests."""
    first = next(iter(contract.clauses.values()))

    def any_request(plugin: object, question: Question) -> str | None:
        """Every valid request is answered: without a prompt, without a session, of any type of prompt."""
        if question.usual is not None and first.broken_by(plugin, question.usual):
            return None
        return first.broken_by(plugin, question)

    contract.clause(_ODD)(any_request)


for _contract in (ANNOTATOR, DECIDER, RESPONDER):
    _odd(_contract)
    add_value_clauses(_contract)


def check_annotator(plugin: Annotator, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that an annotator promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return ANNOTATOR.check(plugin, expected)


def check_decider(plugin: Decider, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a decider promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return DECIDER.check(plugin, expected)


def check_responder(plugin: Responder, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a responder promises; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return RESPONDER.check(plugin, expected)
