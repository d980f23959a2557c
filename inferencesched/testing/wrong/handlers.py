"""Wrong profile handlers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from inferencesched.decision import Pass
from inferencesched.interfaces import Conclusion
from inferencesched.request import Request
from inferencesched.testing.wrong.enlisted import breaks, other_name


class _RunsAll:
    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        return () if passes else tuple(profiles)

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        return Conclusion(next(iter(passes)))


@breaks("profile-handler", "ends")
@attrs.frozen
class TriesAgain(_RunsAll):
    """Asks a profile again when it found no endpoint."""

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        return [name for name in profiles if name not in passes or not passes[name].picked]


@breaks("profile-handler", "known")
@attrs.frozen
class WantsMore(_RunsAll):
    """Takes for granted that there is a profile for prefill."""

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        return () if passes else (*profiles, "prefill")


@breaks("profile-handler", "concludes")
@attrs.frozen
class ConcludesFromNothing(_RunsAll):
    """Names a profile that did not run."""

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        return Conclusion("decode")


@breaks("profile-handler", "pure")
@attrs.frozen
class TakesTurns(_RunsAll):
    """Lets the profiles take turns by a counter of its own."""

    _turns: list[int] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def choose(self, request: Request, profiles: Collection[str], passes: Mapping[str, Pass], /) -> Sequence[str]:
        if passes:
            return ()
        self._turns.append(1)
        return tuple(profiles)[len(self._turns) % len(profiles) :]

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        return Conclusion(next(iter(passes), None), message="it is nobody's turn")


@breaks("profile-handler", "any-request")
@attrs.frozen
class SplitsByPrompt(_RunsAll):
    """Takes for granted that there is a prompt."""

    def conclude(self, request: Request, passes: Mapping[str, Pass], /) -> Conclusion:
        prompt: Any = request.prompt
        return Conclusion(next(iter(passes)), headers={"x-prompt-size": str(len(prompt))})


@breaks("profile-handler", "printable")
@attrs.frozen(repr=False)
class AnonymousHandler(_RunsAll):
    """Has the default `repr`."""


@breaks("profile-handler", "comparable")
@attrs.frozen(eq=False)
class IncomparableHandler(_RunsAll):
    """Is equal to itself alone."""


@breaks("profile-handler", "travels")
@attrs.frozen
class HandlerAtHome(_RunsAll):
    """Holds a lambda, which no other process can have."""

    decide: Callable[[float], bool] = attrs.field(default=lambda tokens: tokens > 512, repr=False)


@breaks("profile-handler", "rebuilt")
@attrs.frozen
class Renames(_RunsAll):
    """Keeps another name than the one it is given."""

    stage: str = attrs.field(default="decode", converter=other_name)
