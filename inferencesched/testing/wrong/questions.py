"""Wrong annotators, deciders and responders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from inferencesched.decision import Decision, Pass
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, half, other_name


@breaks("annotator", "attributes")
@attrs.frozen
class AnnotatesWithPairs:
    """Returns pairs instead of a mapping."""

    def annotate(self, request: Request, /) -> Any:
        return [("tenant", request.flow)]


@breaks("annotator", "pure")
@attrs.frozen
class AnnotatesInPlace:
    """Writes into the request instead of returning what it found."""

    def annotate(self, request: Request, /) -> Mapping[str, object]:
        request.attributes["tenant"] = request.flow  # type: ignore[index]
        return {}


@breaks("annotator", "any-request")
@attrs.frozen
class NeedsASession:
    """Takes for granted that a request without prompt tokens or an adapter has a session."""

    def annotate(self, request: Request, /) -> Mapping[str, object]:
        return {"shard": ord((request.session or request.adapter or str(request.attributes["zone"]))[0]) % 8}


class _FindsNothing:
    def annotate(self, request: Request, /) -> Mapping[str, object]:
        return {}


@breaks("annotator", "printable")
@attrs.frozen(repr=False)
class AnonymousAnnotator(_FindsNothing):
    """Has the default `repr`."""


@breaks("annotator", "comparable")
@attrs.frozen(eq=False)
class IncomparableAnnotator(_FindsNothing):
    """Is equal to itself alone."""


@breaks("annotator", "travels")
@attrs.frozen
class AnnotatorAtHome(_FindsNothing):
    """Holds a lambda, which no other process can have."""

    read: Callable[[str], str] = attrs.field(default=lambda name: name.lower(), repr=False)


@breaks("annotator", "rebuilt")
@attrs.frozen
class RenamesItsHeader(_FindsNothing):
    """Keeps another name than the one it is given."""

    header: str = attrs.field(default="x", converter=other_name)


@breaks("decider", "answers")
@attrs.frozen
class HowMuch:
    """Returns how much there is to prefill, which is true enough."""

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> Any:
        return 0 if chosen is None else len(chosen.picked)


@breaks("decider", "pure")
@attrs.frozen
class EverySecond:
    """Disaggregates every second request, by a counter of its own; asked again, it says something else."""

    _asked: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        self._asked.append(1)
        return len(self._asked) % 3 == 0


@breaks("decider", "any-request")
@attrs.frozen
class DecidesByPrompt:
    """Takes for granted that there is a prompt."""

    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        prompt: Any = request.prompt
        return len(prompt) > 2048


class _Never:
    def disaggregate(self, request: Request, chosen: Pass | None, /) -> bool:
        return False


@breaks("decider", "printable")
@attrs.frozen(repr=False)
class AnonymousDecider(_Never):
    """Has the default `repr`."""


@breaks("decider", "comparable")
@attrs.frozen(eq=False)
class IncomparableDecider(_Never):
    """Is equal to itself alone."""


@breaks("decider", "travels")
@attrs.frozen
class DeciderAtHome(_Never):
    """Holds a lambda, which no other process can have."""

    worthwhile: Callable[[int], bool] = attrs.field(default=lambda tokens: tokens > 512, repr=False)


@breaks("decider", "rebuilt")
@attrs.frozen
class HalvesItsThreshold(_Never):
    """Keeps half of what it is given."""

    tokens: int = attrs.field(default=512, converter=half)


@breaks("responder", "headers")
@attrs.frozen
class RespondsWithANumber:
    """Gives a header a number for a value."""

    def response_headers(self, request: Request, decision: Decision, /) -> Any:
        return {"x-rank": decision.endpoint.rank}


@breaks("responder", "pure")
@attrs.frozen
class NumbersItsAnswers:
    """Numbers its answers; asked again about one placement, it tells the client something else."""

    _answers: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def response_headers(self, request: Request, decision: Decision, /) -> Mapping[str, str]:
        self._answers.append(1)
        return {"x-number": str(len(self._answers))}


@breaks("responder", "any-request")
@attrs.frozen
class ReturnsTheSession:
    """Takes for granted that there is a session, or another thing to tell conversations apart by."""

    def response_headers(self, request: Request, decision: Decision, /) -> Mapping[str, str]:
        return {"x-session": (request.session or request.adapter or request.attributes["zone"]).upper()}


class _SaysNothing:
    def response_headers(self, request: Request, decision: Decision, /) -> Mapping[str, str]:
        return {}


@breaks("responder", "printable")
@attrs.frozen(repr=False)
class AnonymousResponder(_SaysNothing):
    """Has the default `repr`."""


@breaks("responder", "comparable")
@attrs.frozen(eq=False)
class IncomparableResponder(_SaysNothing):
    """Is equal to itself alone."""


@breaks("responder", "travels")
@attrs.frozen
class ResponderAtHome(_SaysNothing):
    """Holds a lambda, which no other process can have."""

    encode: Callable[[str], str] = attrs.field(default=lambda text: text[::-1], repr=False)


@breaks("responder", "rebuilt")
@attrs.frozen
class RenamesItsOwnHeader(_SaysNothing):
    """Keeps another name than the one it is given."""

    header: str = attrs.field(default="x-session", converter=other_name)
