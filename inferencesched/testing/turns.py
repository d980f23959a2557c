"""The contract of a FairnessPolicy and of the `Turns` that it makes.

A case is a script: requests are queued, served and withdrawn. `_play` does with it what a band does, and notes which
flow was next each time, and which were ready.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping

import attrs

from inferencesched.interfaces import FairnessPolicy, Turns
from inferencesched.testing.clauses import Contract, Result
from inferencesched.testing.reach import reach
from inferencesched.testing.values import add_value_clauses

__all__ = ["FAIRNESS", "check_fairness"]

FAIRNESS = Contract("fairness-policy")

_PATIENCE = 40
"""Requests of others that are served while a flow waits, at most: far beyond any turn among three flows."""

_CROWDS = (500, 2000, 8000)
"""Flows that come and go before memory is measured; what still grows in the last step is taken for boundless."""

_LEAK = 8
"""Bytes a flow: the least that remembering anything costs, a pointer."""


@attrs.frozen(eq=False)
class Script:
    """Steps: ``+flow`` queues a request, ``-flow`` withdraws the first of a flow, ``!`` serves the next."""

    steps: tuple[str, ...]

    def smaller(self) -> Iterator[Script]:
        """Yield the script without half of its steps, a quarter, and so on down to one."""
        size = len(self.steps) // 2
        while size:
            for start in range(0, len(self.steps), size):
                yield Script(self.steps[:start] + self.steps[start + size :])
            size //= 2

    def __str__(self) -> str:
        return f"  {' '.join(self.steps)}"


def _scripts() -> Iterator[Script]:
    dice = random.Random("scripts")
    for length in (2, 4, 8, 16, 32, 64):
        for _ in range(3):
            kinds = [dice.choice(("+", "+", "!", "-")) for _ in range(length)]
            yield Script(tuple(kind if kind == "!" else kind + dice.choice("abc") for kind in kinds))


_SCRIPTS = tuple(_scripts())
_BACKLOG = (Script(("+a", "+b", "+c") * 3 + ("+a", "+b", "+c", "!") * 100),)


@attrs.frozen
class _Turn:
    ready: frozenset[str]
    chosen: str
    again: str


def _play(policy: FairnessPolicy, script: Script) -> Iterator[_Turn | None]:
    """Yield, for each step, the turn that was taken in it; stop where the policy names a flow that is not ready."""
    turns, queues = policy.turns(), dict[str, list[int]]()
    for number, step in enumerate(script.steps):
        flow, turn = step[1:], None
        if step[0] == "+":
            queues.setdefault(flow, []).append(number)
            if len(queues[flow]) == 1:
                turns.ready(flow, (float(number), number))
        elif step[0] == "-" and flow in queues:
            turns = _leave(policy, turns, queues, flow)
        elif step[0] == "!" and queues:
            turn = _Turn(frozenset(queues), turns.next(), turns.next())
            if turn.chosen in queues:
                turns.served(turn.chosen, 100.0 + 50.0 * (number % 7))
                turns = _leave(policy, turns, queues, turn.chosen)
        yield turn
        if turn is not None and turn.chosen not in turn.ready:
            return


def _leave(policy: FairnessPolicy, turns: Turns, queues: dict[str, list[int]], flow: str) -> Turns:
    """Take the first request out of a flow, as a band does: one that runs empty starts anew."""
    queues[flow].pop(0)
    if queues[flow]:
        turns.ready(flow, (float(queues[flow][0]), queues[flow][0]))
        return turns
    del queues[flow]
    if not queues:
        return policy.turns()
    turns.idle(flow)
    return turns


@FAIRNESS.clause(_SCRIPTS)
def ready(plugin: FairnessPolicy, script: Script) -> str | None:
    """Whoever is next has something queued."""
    strange = next((turn for turn in _play(plugin, script) if turn is not None and turn.chosen not in turn.ready), None)
    return None if strange is None else f"next is {strange.chosen!r}, and ready are {sorted(strange.ready)}"


@FAIRNESS.clause(_SCRIPTS)
def asking(plugin: FairnessPolicy, script: Script) -> str | None:
    """Asking who is next changes nothing: asked twice, it is the same flow."""
    two = next((turn for turn in _play(plugin, script) if turn is not None and turn.chosen != turn.again), None)
    return None if two is None else f"next is {two.chosen!r}, and asked again {two.again!r}"


@FAIRNESS.clause(_SCRIPTS)
def apart(plugin: FairnessPolicy, script: Script) -> str | None:
    """Each band has turns of its own: the same happens in a band whatever happens in another."""
    alone = [turn.chosen for turn in _play(plugin, script) if turn is not None]
    together = []
    other = _play(plugin, Script(("+a", "+c") + ("+c", "!") * len(script.steps)))
    for turn in _play(plugin, script):
        next(other, None)
        if turn is not None:
            together.append(turn.chosen)
    return None if together == alone else f"alone it serves {alone}, beside another band {together}"


@FAIRNESS.clause(_BACKLOG)
def progress(plugin: FairnessPolicy, script: Script) -> str | None:
    """Who waits is served before long, though others keep coming."""
    passed_over: Counter[str] = Counter()
    for turn in filter(None, _play(plugin, script)):
        for flow in turn.ready:
            passed_over[flow] = 0 if flow == turn.chosen else passed_over[flow] + 1
            if passed_over[flow] > _PATIENCE:
                return f"'{flow}' waits while {_PATIENCE} requests of others are served"
    return None


@attrs.frozen(eq=False)
class Crowd:
    """Flows that come once, beside one that always waits."""

    def smaller(self) -> Iterator[Crowd]:
        """Yield nothing: it takes many to show it."""
        return iter(())

    def __str__(self) -> str:
        return "  thousands of flows, each of which has one request served or withdrawn"


@FAIRNESS.clause([Crowd()])
def forgets(plugin: FairnessPolicy, _: Crowd) -> str | None:
    """Flows that come and go leave no lasting trace."""
    turns, sizes, told = plugin.turns(), list[int](), 0
    turns.ready("always", (0.0, 0))
    for crowd in _CROWDS:
        for number in range(told + 1, crowd + 1):
            turns.ready(f"f{number}", (float(number), number))
            flow = turns.next()
            turns.served(flow, 10.0)
            turns.ready("always", (float(number), -number))
            turns.idle(f"f{number}")
        sizes.append(reach(turns))
        if len(sizes) > 1 and sizes[-1] - sizes[-2] < _LEAK * (crowd - told):
            return None
        told = crowd
    grown = ", ".join(f"{size} bytes after {crowd}" for size, crowd in zip(sizes, _CROWDS, strict=True))
    return f"its memory grows without end: {grown}"


add_value_clauses(FAIRNESS)


def check_fairness(plugin: FairnessPolicy, expected: Mapping[str, str] | None = None) -> tuple[Result, ...]:
    """Check everything that a fairness policy and its turns promise; see `check_filter` for arguments and errors."""
    __tracebackhide__ = True
    return FAIRNESS.check(plugin, expected)
