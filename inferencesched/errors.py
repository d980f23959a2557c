"""Every exception the library raises, as one small tree.

    InferenceschedError
    ├─ ConfigError (ValueError)          the operator's fault: at start, every problem at once, each with its place
    ├─ PluginError                       the plugin author's: names the plugin and the distribution it came from
    │  └─ ContractError                  an answer of the wrong shape, a NaN, a score outside [0, 1]
    ├─ LifecycleError (RuntimeError)     the host's: a call that the order of calls forbids
    ├─ apis.BadBody (ValueError)         the client's: names the field and what is expected, never what was found
    └─ RequestRejected                   nobody's: raised by shells only, carries the Rejection

The branch answers *whose fault it is*; the leaf carries data, and the sentence is made from it in one place.
An ordinary outcome (no endpoint for this request) is a value, `Rejection`, and never an exception below the shells.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from inferencesched.decision import Rejection

__all__ = [
    "ConfigError",
    "ContractError",
    "InferenceschedError",
    "LifecycleError",
    "PluginError",
    "Problem",
    "RequestRejected",
    "near_miss",
]


class InferenceschedError(Exception):
    """The root: `except InferenceschedError` catches everything this library raises on purpose."""


def near_miss(word: str, known: Iterable[str]) -> str:
    """Return ``" — did you mean 'x'?"`` for the closest known word, or an empty string.

    >>> near_miss("queue-scorrer", ["queue-scorer", "random-picker"])
    " — did you mean 'queue-scorer'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" — did you mean '{close[0]}'?" if close else ""


@attrs.frozen
class Problem:
    """One thing wrong in a configuration.

    Attributes:
        path: where, in the language of the configuration (``plugins[2].parameters.maxValue``).
        message: what was expected, what was found, and a near miss when there is one.
        file: the file it stands in, when it was read from one.
        line: the 1-based line in that file, when known.
    """

    path: str
    message: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:{self.line}: " if self.line else f"{self.file}: "
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class ConfigError(InferenceschedError, ValueError):
    """The configuration is wrong; `problems` lists everything found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return f"{len(self.problems)} problems\n" + "\n".join(f"  {problem}" for problem in self.problems)


class PluginError(InferenceschedError):
    """A plugin failed. The original exception, if any, is the ``__cause__``.

    Attributes:
        plugin: the plugin's name as its user knows it (the type, or the name given in the configuration).
        distribution: the installed distribution it came from, or None when it was passed as an object.
    """

    def __init__(self, plugin: str, message: str, *, distribution: str | None = None) -> None:
        self.plugin = plugin
        self.distribution = distribution
        self.message = message
        super().__init__(plugin, message)

    def __str__(self) -> str:
        origin = f" (from distribution '{self.distribution}')" if self.distribution else ""
        return f"plugin '{self.plugin}'{origin}: {self.message}"


class ContractError(PluginError):
    """A plugin's answer breaks the contract of its role (see `inferencesched.interfaces`)."""


class LifecycleError(InferenceschedError, RuntimeError):
    """The host called things in an order that cannot be: an unknown endpoint, a duplicate name."""


class RequestRejected(InferenceschedError):
    """Raised by shells, where a value cannot be returned; `rejection` says why and what to answer."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection
        super().__init__(str(rejection))
