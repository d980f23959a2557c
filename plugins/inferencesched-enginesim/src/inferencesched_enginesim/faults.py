"""Faults on purpose: what can be made to go wrong, how often, and for how long. Drawn here, carried out elsewhere."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import attrs
from attrs.validators import and_, ge, gt, in_, instance_of, le, optional

from inferencesched_enginesim.problems import BadRequest

__all__ = ["Fault", "Faults", "Kind"]

Kind = Literal["slow", "error", "cut", "truncate", "hang", "stale-metrics", "no-metrics", "refuse"]
_ON_REQUESTS = ("error", "cut", "truncate", "hang")


@attrs.frozen
class Fault:
    """One thing that goes wrong.

    ================= ===============================================================================
    ``slow``          the engine takes `factor` times as long
    ``error``         the answer is `status`, with a body in the API's own shape
    ``cut``           the connection is reset after `chunks` events of a stream; a whole answer never comes
    ``truncate``      the connection ends after `chunks` events, or after half of a whole answer's body
    ``hang``          no answer, ever
    ``stale-metrics`` ``/metrics`` stays as it is now
    ``no-metrics``    ``/metrics`` is 404
    ``refuse``        open connections are reset, new ones refused
    ================= ===============================================================================

    Attributes:
        kind: one of these.
        rate: the share of requests that it hits (``error``, ``cut``, ``truncate`` and ``hang``).
        count: it is over after that many requests; None: it is not.
        seconds: it is over after that many real seconds; None: it is not.
        factor: of ``slow``.
        status: of ``error``.
        chunks: of ``cut`` and ``truncate``.
    """

    kind: Kind = attrs.field(validator=in_(get_args(Kind)))
    rate: float = attrs.field(default=1.0, validator=and_(instance_of((int, float)), ge(0.0), le(1.0)))
    count: int | None = attrs.field(default=None, validator=optional(and_(instance_of(int), ge(1))))
    seconds: float | None = attrs.field(default=None, validator=optional(and_(instance_of((int, float)), gt(0.0))))
    factor: float = attrs.field(default=10.0, validator=and_(instance_of((int, float)), gt(0.0)))
    status: int = attrs.field(default=500, validator=and_(instance_of(int), ge(400), le(599)))
    chunks: int = attrs.field(default=3, validator=and_(instance_of(int), ge(0)))

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Fault:
        """Return the fault that a JSON object tells of.

        Raises:
            BadRequest: it tells of none; the message says what is wrong.
        """
        known = {field.name for field in attrs.fields(cls)}
        if unknown := sorted(fields.keys() - known):
            raise BadRequest(f"a fault has no '{unknown[0]}'; it has {', '.join(sorted(known))}")
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise BadRequest(f"no fault: {error.args[0]}") from None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Return the fault that a flag tells of: ``KIND`` or ``KIND:key=value,key=value``.

        >>> Fault.parse("error:rate=0.1,status=503").status
        503

        Raises:
            BadRequest: it tells of none.
        """
        kind, _, rest = text.partition(":")
        fields: dict[str, Any] = {"kind": kind}
        for pair in filter(None, rest.split(",")):
            key, _, value = pair.partition("=")
            try:
                fields[key] = float(value) if key in {"rate", "seconds", "factor"} else int(value)
            except ValueError:
                raise BadRequest(f"'{value}' is no number, in '{text}'") from None
        return cls.from_json(fields)


@attrs.define
class _Active:
    fault: Fault
    until: float
    left: float


class Faults:
    """Those in force now.

    Args:
        clock: real seconds, monotonic.
        rng: decides which requests are hit.

    Attributes:
        changed: is called when faults were added or removed.

    >>> faults = Faults(lambda: 0.0, random.Random(1))
    >>> faults.add(Fault("error", count=1))
    >>> faults.draw().kind, faults.draw()
    ('error', None)
    """

    def __init__(self, clock: Callable[[], float], rng: random.Random) -> None:
        self.changed: Callable[[], object] = lambda: None
        self._clock = clock
        self._rng = rng
        self._active: list[_Active] = []
        self._was_reset = asyncio.Event()

    def add(self, fault: Fault) -> None:
        """Let it go wrong from now on."""
        until = math.inf if fault.seconds is None else self._clock() + fault.seconds
        left = math.inf if fault.count is None else fault.count
        self._active.append(_Active(fault, until, left))
        self.changed()

    def reset(self) -> None:
        """Let everything go well, and release who waits in vain."""
        self._active.clear()
        self._was_reset.set()
        self._was_reset = asyncio.Event()
        self.changed()

    async def wait_for_reset(self) -> None:
        """Return after the next reset."""
        await self._was_reset.wait()

    def active(self, kind: Kind | None = None) -> list[Fault]:
        """Return those in force, of one kind or of all, in the order in which they came."""
        now = self._clock()
        self._active = [one for one in self._active if one.until > now and one.left > 0]
        return [one.fault for one in self._active if kind is None or one.fault.kind == kind]

    def draw(self) -> Fault | None:
        """Return what goes wrong with one more request: the first fault that hits it."""
        if not self._active:
            return None
        self.active()
        for one in self._active:
            if one.fault.kind in _ON_REQUESTS and self._rng.random() < one.fault.rate:
                one.left -= 1
                return one.fault
        return None

    def next_end(self) -> float | None:
        """Return when the next of them is over by itself; None if none will be."""
        ends = [one.until for one in self._active if self._clock() < one.until < math.inf]
        return min(ends, default=None)

    def slowness(self) -> float:
        """Return by how much the engine is slower than it should be."""
        return math.prod(fault.factor for fault in self.active("slow"))
