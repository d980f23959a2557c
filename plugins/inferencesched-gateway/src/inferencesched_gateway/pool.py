"""Pool: one Dispatcher for those who are called back: whoever waits for a place is told when it has one.

A clock and one timer of the event loop around a `Dispatcher`; no sockets, no tasks, no futures. What wakes whom is
decided inside; here is only who waits. A pool is also the `Fleet` that sources bring their facts to.

It belongs to one event loop and its thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from inferencesched import Assigned, Config, Decision, Dispatcher, Endpoint, Rejected, Rejection, Request
from inferencesched.apis import Usage
from inferencesched.events import Evicted, Ticket
from inferencesched.signals import MODEL_COLUMNS, wanted_columns

__all__ = ["Guest", "Pool"]

_log = logging.getLogger(__name__)


class Guest(Protocol):
    """Who waits for a place. Exactly one of `assigned` and `rejected` is called, perhaps before `submit` returns."""

    def assigned(self, ticket: Ticket, decision: Decision) -> None:
        """There is a place; it is held until `Pool.finish` or `Pool.cancel`."""
        ...

    def rejected(self, rejection: Rejection) -> None:
        """There is none; nothing is held."""
        ...

    def evicted(self, rejection: Rejection) -> None:
        """Make room: end the answer, tell the client `rejection`, and give the place back."""
        ...


class Pool:
    """Places requests for guests.

    Args:
        name: ``namespace/name`` of the InferencePool it stands for.
        dispatcher: decides. Given to nobody else.
        clock: monotonic seconds; the `now` of every call.

    Attributes:
        placed: how many requests have got a place.
    """

    def __init__(self, name: str, dispatcher: Dispatcher, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.dispatcher = dispatcher
        self.placed = 0
        self._clock = clock
        self._guests: dict[Ticket, Guest] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._models: dict[str, tuple[frozenset[str], ...]] = {}
        self._is_reading = False
        self._is_planned = False

    # --- requests ----------------------------------------------------------------------------------------------------

    def submit(self, request: Request, guest: Guest, *, subset: Collection[str] | None = None, n: int = 1) -> Ticket:
        """Ask for a place for `guest`, with up to `n - 1` ranked fallbacks."""
        ticket = self.dispatcher.submit(request, now=self._clock(), subset=subset, n=n)
        self._guests[ticket] = guest
        self._read_news()
        return ticket

    def first_token(self, ticket: Ticket) -> None:
        """The first output has come: it can no longer move."""
        self.dispatcher.first_token(ticket, now=self._clock())
        self._look_around()

    def touch(self, ticket: Ticket) -> None:
        """The answer is alive."""
        self.dispatcher.touch(ticket, now=self._clock())

    def retry(self, ticket: Ticket) -> Decision | None:
        """Move to the next fallback; None: there is none, and the place is gone."""
        decision = self.dispatcher.retry(ticket, now=self._clock())
        if decision is None:
            self._guests.pop(ticket, None)
        self._look_around()
        return decision

    def report_cached_tokens(self, decision: Decision, tokens: float) -> None:
        """Say how many prompt tokens the engine had in cache."""
        self.dispatcher.scheduler.report_cached_tokens(decision, tokens, now=self._clock())

    def report_usage(self, ticket: Ticket, usage: Usage) -> None:
        """Say what the answer took, before it has ended."""
        self.dispatcher.report_usage(
            ticket, prompt_tokens=usage.prompt_tokens or 0, output_tokens=usage.output_tokens or 0, now=self._clock()
        )

    def finish(self, ticket: Ticket, outcome: str) -> None:
        """Give the place back: ``success``, ``error`` or ``cancelled``."""
        self._guests.pop(ticket, None)
        self.dispatcher.finish(ticket, now=self._clock(), outcome=outcome)
        self._look_around()

    def cancel(self, ticket: Ticket) -> None:
        """The client has gone, wherever its request stands."""
        self._guests.pop(ticket, None)
        self.dispatcher.cancel(ticket, now=self._clock())
        self._look_around()

    # --- the fleet -----------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those that are present."""
        return self.dispatcher.scheduler.table.endpoints

    @property
    def columns(self) -> frozenset[str]:
        """The columns that somebody reads, the gateway itself included: nothing else has to be brought."""
        plugins = [named.plugin for named in self.dispatcher.scheduler.plugins]
        return wanted_columns([*plugins, self.dispatcher.flow.detector]) | {*MODEL_COLUMNS}

    @property
    def models(self) -> dict[str, bool]:
        """Every model that an endpoint says it serves → whether it is an adapter."""
        found: dict[str, bool] = {}
        for models, adapters in self._models.values():
            found |= {model: model in adapters for model in models}
        return dict(sorted(found.items()))

    def add_endpoint(self, name: str, address: str, *, labels: Mapping[str, str], rank: int = 0) -> Endpoint:
        """Add an endpoint, or announce it again; requests that wait for one are placed."""
        endpoint = self.dispatcher.add_endpoint(name, address, labels=labels, rank=rank, now=self._clock())
        self._look_around()
        return endpoint

    def remove_endpoint(self, name: str) -> None:
        """Remove an endpoint; nothing new goes there."""
        self.dispatcher.remove_endpoint(name, now=self._clock())
        self._models.pop(name, None)
        self._look_around()

    def update(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record facts about an endpoint; requests that waited for these are placed."""
        if MODEL_COLUMNS[0] in facts:
            self._models[name] = tuple(facts.get(column) or frozenset() for column in MODEL_COLUMNS)
        self.dispatcher.update(name, facts, now=self._clock())
        self._look_around()

    # --- configuration and the end ---------------------------------------------------------------------------------

    def reload(self, config: Config) -> int:
        """Put another configuration in force, whole or not at all; return its generation."""
        generation = self.dispatcher.reload(config, now=self._clock())
        self._read_news()
        return generation

    def drain(self, *, grace: float) -> None:
        """Accept nothing new; hand back after `grace` seconds what still waits then."""
        self.dispatcher.drain(now=self._clock(), grace=grace)
        self._read_news()

    def close(self) -> None:
        """End everything now: whoever still waits or has a place is told to stop; nothing is said here any more."""
        now = self._clock()
        self.dispatcher.drain(now=now)
        self._read_news()
        why = Rejection(
            "",
            "",
            "rejected-shutting-down",
            503,
            transient=True,
            message="the gateway was stopped",
            retry_after=1.0,
            generation=self.dispatcher.scheduler.generation,
            now=now,
        )
        for guest in tuple(self._guests.values()):
            guest.evicted(why)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- inside ----------------------------------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Something may have made room, or said something to somebody who has a place."""
        if self.dispatcher.queued:
            self._read_news()

    def _read_news(self) -> None:
        """Tell every guest that there is news for. A guest may call back: it is told in the same loop, not within."""
        if self._is_reading:
            return
        self._is_reading = True
        try:
            while (event := self.dispatcher.next_event()) is not None:
                if isinstance(event, Rejected):
                    guest = self._guests.pop(event.ticket, None)
                else:
                    guest = self._guests.get(event.ticket)
                if guest is not None:
                    self._tell(guest, event)
        finally:
            self._is_reading = False
        self._plan()

    def _tell(self, guest: Guest, event: Assigned | Rejected | Evicted) -> None:
        try:
            match event:
                case Assigned(decision=decision):
                    self.placed += 1
                    guest.assigned(event.ticket, decision)
                case Rejected(rejection=rejection):
                    guest.rejected(rejection)
                case Evicted(rejection=rejection):
                    guest.evicted(rejection)
        except Exception:  # noqa: BLE001 — one guest's trouble is not the next one's; what it holds is given back
            _log.exception("request %s: failed on being told of its place", event.request_id)
            self.finish(event.ticket, "error")

    def _plan(self) -> None:
        """See that the timer is armed, once for everything that happens in this turn of the loop.

        Without a queue there is only the reaper, and whenever that was due before is early enough.
        """
        if self._is_planned or (self._timer is not None and not self.dispatcher.queued):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # an endpoint that was announced before the loop runs: nobody waits yet
        self._is_planned = True
        loop.call_soon(self._arm, loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_planned = False
        due = self.dispatcher.next_timer()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = loop.call_later(max(due - self._clock(), 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        # The loop may fire a moment early by our clock: what is due then is due now.
        self.dispatcher.handle_timer(now=max(self._clock(), self._timer_due))
        self._read_news()
