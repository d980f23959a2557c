"""A contract is a list of clauses; a clause is one promise, the cases it is tried on, and one short function.

The function gets a plugin and a case and returns a sentence if the promise is broken. What it need not do: find the
smallest case (this module removes endpoints, columns and request fields for as long as the clause stays broken), catch
what the plugin raises, or know which failures its author has declared.

Neither pytest nor hypothesis is imported: the checks are part of the library, and run wherever it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeVar

import attrs

from inferencesched.errors import near_miss
from inferencesched.interfaces import roles_of

__all__ = ["Clause", "Contract", "Result", "Shrinkable", "Violation"]


class Shrinkable(Protocol):
    """A case that knows the cases one step smaller than itself; its ``str`` is code that makes it again."""

    def smaller(self) -> Iterator[Any]:
        """Yield the cases that lack one thing of this one."""
        ...


C = TypeVar("C", bound=Shrinkable)


@attrs.frozen
class Result:
    """What became of one clause.

    Attributes:
        role: whose contract it is in.
        clause: the clause's name.
        promise: what it says, one sentence.
        status: ``held``; ``broken``; ``expected`` (broken, as declared); ``unexpected`` (declared as broken, but held).
        message: for people: what was found, and the smallest case that shows it; or the reason that was declared.
    """

    role: str
    clause: str
    promise: str
    status: Literal["held", "broken", "expected", "unexpected"]
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether this is as it should be."""
        return self.status in {"held", "expected"}


class Violation(AssertionError):
    """A plugin broke a clause, or holds one that it was declared to break. `results` has every clause's outcome."""

    def __init__(self, plugin: object, results: tuple[Result, ...]) -> None:
        self.results = results
        wrong = [result for result in results if not result.ok]
        lines = [f"{_brief(plugin)}: {len(wrong)} of {len(results)} clauses"] if len(wrong) > 1 else []
        super().__init__("\n".join(lines + [result.message for result in wrong]))


@attrs.frozen(eq=False)
class Clause:
    """One promise of a role.

    Attributes:
        role: the role.
        name: its name, for `expected` and in messages.
        promise: the promise in one sentence.
        cases: the cases to try, small ones first; or makes them for a plugin.
        broken_by: returns what is wrong with the plugin's answer to a case, or None.
        applies: whether a plugin has to keep it; without it, every plugin has to.
    """

    role: str
    name: str
    promise: str
    cases: Callable[[Any], Iterable[Shrinkable]] | Iterable[Shrinkable]
    broken_by: Callable[[Any, Any], str | None]
    applies: Callable[[Any], bool] | None = None

    def examine(self, plugin: object, *, expected: str | None = None) -> Result:
        """Return the outcome; `expected` is the reason why the plugin is known to break it, if it is."""
        cases = self.cases(plugin) if callable(self.cases) else self.cases
        found = next(filter(None, (self._found(plugin, case) for case in cases)), None)
        if found is None:
            if expected is None:
                return Result(self.role, self.name, self.promise, "held")
            message = f"{_brief(plugin)} holds the {self.role} clause '{self.name}', declared as broken: {expected}"
            return Result(self.role, self.name, self.promise, "unexpected", message)
        if expected is not None:
            return Result(self.role, self.name, self.promise, "expected", expected)
        case, sentence = self._shrunk(plugin, *found)
        message = f"{_brief(plugin)} breaks the {self.role} clause '{self.name}': {sentence}\n  {self.promise}\n{case}"
        return Result(self.role, self.name, self.promise, "broken", message.rstrip())

    def check(self, plugin: object, *, expected: str | None = None) -> None:
        """Examine the plugin and raise what is wrong with it.

        Raises:
            Violation: an AssertionError.
        """
        __tracebackhide__ = True
        result = self.examine(plugin, expected=expected)
        if not result.ok:
            raise Violation(plugin, (result,))

    def _found(self, plugin: object, case: Any) -> tuple[Any, str] | None:
        try:
            sentence = self.broken_by(plugin, case)
        except Exception as error:  # noqa: BLE001 — whatever it is, it is the plugin's, and is reported
            sentence = f"raised {_raised(error)}"
        return None if sentence is None else (case, sentence)

    def _shrunk(self, plugin: object, case: Any, sentence: str) -> tuple[Any, str]:
        """Return the case after taking away whatever the clause is broken without. O(size²) calls at worst."""
        while found := next(filter(None, (self._found(plugin, smaller) for smaller in case.smaller())), None):
            case, sentence = found
        return case, sentence


class Contract:
    """The clauses of one role, in the order in which they are written down."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.clauses: dict[str, Clause] = {}

    def clause(
        self, cases: Callable[[Any], Iterable[C]] | Iterable[C], *, applies: Callable[[Any], bool] | None = None
    ) -> Callable[[Callable[[Any, C], str | None]], Callable[[Any, C], str | None]]:
        """Make a function a clause of this contract: its name is the clause's, its docstring the promise."""

        def add(function: Callable[[Any, C], str | None]) -> Callable[[Any, C], str | None]:
            name = function.__name__.replace("_", "-")
            promise = " ".join((function.__doc__ or "").split())
            self.clauses[name] = Clause(self.role, name, promise, cases, function, applies)
            return function

        return add

    def of(self, plugin: object) -> tuple[Clause, ...]:
        """Return the clauses that this plugin has to keep.

        Raises:
            TypeError: it does not take the role, or is a class.
        """
        if isinstance(plugin, type):
            raise TypeError(f"expected a plugin, got the class {plugin.__name__}: call it")
        if self.role not in roles_of(plugin):
            roles = ", ".join(roles_of(plugin)) or "no role at all"
            raise TypeError(f"{_brief(plugin)} is no {self.role}; by the methods it has, it takes: {roles}")
        return tuple(clause for clause in self.clauses.values() if clause.applies is None or clause.applies(plugin))

    def examine(self, plugin: object, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
        """Return the outcome of every clause that applies.

        Args:
            expected: why it is known to break a clause, by the clause's name.

        Raises:
            ValueError: `expected` names a clause that does not exist or does not apply.
        """
        expected = expected or {}
        clauses = self.of(plugin)
        names = [clause.name for clause in clauses]
        for name in expected:
            if name not in names:
                offer = near_miss(name, names) or f"; there are {', '.join(names)}"
                raise ValueError(f"no clause '{name}' for this {self.role}{offer}")
        return tuple(clause.examine(plugin, expected=expected.get(clause.name)) for clause in clauses)

    def check(self, plugin: object, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
        """Return the outcomes if every clause is kept, but for those in `expected`, which must be broken.

        Raises:
            Violation: an AssertionError that names the clause, the smallest case, and what is wrong.
        """
        __tracebackhide__ = True
        results = self.examine(plugin, expected)
        if not all(result.ok for result in results):
            raise Violation(plugin, results)
        return results


def _brief(plugin: object, most: int = 80) -> str:
    text = repr(plugin)
    return text if len(text) <= most and " at 0x" not in text else type(plugin).__name__


def _raised(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{place}"
