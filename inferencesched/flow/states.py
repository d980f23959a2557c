"""The life of a request: which states there are, and what may lead from one to another.

Every rule about when a request may change state is in this table; nothing here knows what a queue or an endpoint is.
The machines look a step up before they take it, so a step that is not here cannot happen; the diagram in the
documentation is drawn from it (`diagram`), so it cannot drift either.

A request ends when it reaches a state that has no way out. Since no table row leads out of those, it ends once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from inferencesched.errors import LifecycleError

__all__ = ["TERMINAL", "TRANSITIONS", "State", "Step", "after", "diagram"]


class State(Enum):
    """Where a request stands."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    PLACED = "placed"
    STREAMING = "streaming"
    EVICTING = "evicting"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FINISHED = "finished"
    LOST = "lost"

    __hash__ = object.__hash__  # that of Enum is Python, and every step looks up two


class Step(Enum):
    """What happens to a request."""

    ENQUEUE = "enqueue"
    """It found others waiting, or no room in the pool, and there is room in the queue."""
    PLACE = "place"
    """An endpoint was picked and reserved."""
    REFUSE = "refuse"
    """Queue full, no endpoint fits, or the dispatcher is draining: answered at once."""
    EXPIRE = "expire"
    """Its time to live, or its client's deadline, is over."""
    DISPLACE = "displace"
    """More urgent work needed its room in the queue."""
    HAND_BACK = "hand back"
    """The dispatcher shuts down."""
    CANCEL = "cancel"
    """Its client is gone."""
    MOVE = "move"
    """Before the first byte its endpoint failed; it goes to the next fallback."""
    FIRST_TOKEN = "first token"  # noqa: S105 — a token of text
    """The first output arrived: it can no longer move."""
    EVICT = "evict"
    """It is asked to make room for more urgent work."""
    FINISH = "finish"
    """The host says that it ended."""
    LOSE = "lose"
    """Nobody mentioned it for so long that its host is taken to have lost track."""

    __hash__ = object.__hash__  # see `State`


_PLACED = {
    Step.EVICT: State.EVICTING,
    Step.FINISH: State.FINISHED,
    Step.CANCEL: State.CANCELLED,
    Step.LOSE: State.LOST,
}

TRANSITIONS: Mapping[State, Mapping[Step, State]] = MappingProxyType(
    {
        State.SUBMITTED: {
            Step.ENQUEUE: State.QUEUED,
            Step.PLACE: State.PLACED,
            Step.REFUSE: State.REJECTED,
        },
        State.QUEUED: {
            Step.PLACE: State.PLACED,
            Step.REFUSE: State.REJECTED,
            Step.EXPIRE: State.REJECTED,
            Step.DISPLACE: State.REJECTED,
            Step.HAND_BACK: State.REJECTED,
            Step.CANCEL: State.CANCELLED,
        },
        State.PLACED: {Step.MOVE: State.PLACED, Step.FIRST_TOKEN: State.STREAMING, **_PLACED},
        State.STREAMING: {Step.FIRST_TOKEN: State.STREAMING, **_PLACED},
        State.EVICTING: {
            Step.FIRST_TOKEN: State.EVICTING,
            Step.FINISH: State.FINISHED,
            Step.CANCEL: State.CANCELLED,
            Step.LOSE: State.LOST,
        },
        State.REJECTED: {},
        State.CANCELLED: {},
        State.FINISHED: {},
        State.LOST: {},
    }
)
"""State → what may happen in it → the state it leads to."""

TERMINAL = frozenset(state for state, steps in TRANSITIONS.items() if not steps)
"""The states that a request ends in."""


def after(state: State, step: Step) -> State:
    """Return the state that `step` leads to from `state`.

    >>> after(State.QUEUED, Step.PLACE)
    <State.PLACED: 'placed'>

    Raises:
        LifecycleError: the table has no such step.
    """
    try:
        return TRANSITIONS[state][step]
    except KeyError:
        raise LifecycleError(f"a request that is {state.value} cannot {step.value}") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram; the documentation shows it.

    >>> print(diagram().splitlines()[1])
        [*] --> submitted
    """
    lines = ["stateDiagram-v2", f"    [*] --> {State.SUBMITTED.value}"]
    for state, steps in TRANSITIONS.items():
        lines += [f"    {state.value} --> {to.value}: {step.value}" for step, to in steps.items()]
    lines += [f"    {state.value} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
