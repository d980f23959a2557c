"""AsyncDispatcher: a Dispatcher for those who await. A clock, futures and one timer around it; no sockets.

    router = AsyncDispatcher(dispatcher)

    async with router.place(request, n=3) as placement:     # waits its turn; RequestRejected if there is none
        async for chunk in forward(placement.endpoint.address):
            placement.first_token()
            …                                               # leaving, in whatever way, gives the place back

Everything is decided by the dispatcher inside; here is only who waits for what. Once in each turn of the loop in which
something was said to it, its events are drained, whoever they are about is woken, and one timer of the loop stands for
`Dispatcher.next_timer`. Nobody polls: a waiting request is one future, and costs nothing until something happens to it.

It belongs to one event loop and its thread; from another thread, go through ``loop.call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Self

from inferencesched.config import Config
from inferencesched.decision import Decision, Rejection
from inferencesched.dispatcher import Dispatcher
from inferencesched.endpoints import Endpoint
from inferencesched.errors import LifecycleError, RequestRejected
from inferencesched.events import Assigned, Evicted, Rejected, Ticket
from inferencesched.request import Request

__all__ = ["AsyncDispatcher", "Placement"]


class AsyncDispatcher:
    """Places requests for tasks that wait.

    Args:
        dispatcher: decides. Give it to nobody else: who is to be woken is found out here.
        clock: monotonic seconds; the `now` of every call.

    Attributes:
        dispatcher: the one inside, to look at.
    """

    def __init__(self, dispatcher: Dispatcher, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.dispatcher = dispatcher
        self._clock = clock
        self._placements: dict[Ticket, Placement] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0  # on our clock, not on the loop's
        self._drained: asyncio.Event | None = None
        self._is_planned = False  # that the news are read before this turn of the loop is over
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # --- requests ------------------------------------------------------------------------------------------------

    def place(self, request: Request, *, subset: Collection[str] | None = None, n: int = 1) -> Placement:
        """Return a place for `request`, to be entered with ``async with`` and once only; nothing happens before that.

        Args:
            subset: names or addresses that may be used (see `Scheduler.candidates`).
            n: how many ranked endpoints are wanted: the place, and `n - 1` to `Placement.retry` on.
        """
        return Placement(self, request, subset, n)

    # --- the fleet -----------------------------------------------------------------------------------------------

    def add_endpoint(
        self, name: str, address: str = "", *, labels: Mapping[str, str] | None = None, rank: int = 0
    ) -> Endpoint:
        """Add an endpoint, or announce it again; requests that wait for one are placed."""
        endpoint = self.dispatcher.add_endpoint(name, address, labels=labels, rank=rank, now=self._clock())
        self._plan()
        return endpoint

    def remove_endpoint(self, name: str) -> Endpoint:
        """Remove an endpoint; what is in flight there has ended in error."""
        endpoint = self.dispatcher.remove_endpoint(name, now=self._clock())
        self._plan()
        return endpoint

    def update(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record facts about an endpoint; requests that waited for these are placed."""
        self.dispatcher.update(name, facts, now=self._clock())
        self._plan()

    # --- configuration and the end ---------------------------------------------------------------------------------

    def reload(self, config: Config) -> int:
        """Put another configuration in force, whole or not at all; return its generation."""
        generation = self.dispatcher.reload(config, now=self._clock())
        self._plan()
        return generation

    async def drain(self, *, grace: float = 0.0) -> None:
        """Take no more requests; return when the last one in flight has ended.

        To wait no longer than so many seconds, put it into ``asyncio.timeout(…)`` and call `close` afterwards: an
        answer that never ends cannot hold up a shutdown.

        Args:
            grace: seconds in which those that wait already may still get a place; then they are refused with 503.
        """
        self._drained = self._drained or asyncio.Event()
        self.dispatcher.drain(now=self._clock(), grace=grace)
        self._follow_up()
        await self._drained.wait()

    def close(self) -> None:
        """End everything now: who waits is refused with 503, and the tasks that hold a place are cancelled.

        Those see `RequestRejected` leave their ``async with``. Does not wait for them.
        """
        now = self._clock()
        self._is_closed = True
        self.dispatcher.drain(now=now)
        self._follow_up()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for placement in tuple(self._placements.values()):
            placement._evict(_shutting_down(placement.request, self.dispatcher.scheduler.generation, now))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Follow up on everything that happens in this turn of the loop, at once and together."""
        if self._is_planned:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # facts that come in before the loop runs: nobody waits yet, and the first who does will see to it
        self._is_planned = True
        loop.call_soon(self._follow_up)

    def _follow_up(self) -> None:
        """Wake whom the dispatcher has news for, and see that it is called again when it wants to be."""
        self._is_planned = False
        self._read_news()
        if self._drained is not None and self.dispatcher.drained:
            self._drained.set()
        self._arm()

    def _read_news(self) -> None:
        while (event := self.dispatcher.next_event()) is not None:
            placement = self._placements.get(event.ticket)
            if placement is None:
                continue  # its task has left in the same breath
            match event:
                case Assigned(decision=decision):
                    placement._assign(decision)
                case Rejected(rejection=rejection):
                    del self._placements[event.ticket]
                    placement._refuse(rejection)
                case Evicted(rejection=rejection):
                    placement._evict(rejection)

    def _arm(self) -> None:
        """Arm the loop's timer, unless it fires early enough as it is: firing early costs less than arming anew."""
        due = self.dispatcher.next_timer()
        if due is None or self._is_closed or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(due - self._clock(), 0.0), self._ring)

    def _ring(self) -> None:
        self._timer = None
        # The loop may fire a moment early by our clock: what is due then is due now.
        self.dispatcher.handle_timer(now=max(self._clock(), self._timer_due))
        self._follow_up()


class Placement:
    """A request's place on an endpoint, for as long as the ``async with`` block lasts.

    Entering waits for the place, and raises `RequestRejected` if there is none. Leaving gives it back: by the end of
    the block as a success, by an exception as an error, by cancellation as cancelled. A task that is cancelled while it
    waits leaves nothing behind. If the place is taken away (more urgent work, shutdown), the block is cancelled, and
    `RequestRejected` leaves it.

    Attributes:
        request: what is to be placed.
    """

    __slots__ = (
        "_cancelling",
        "_decision",
        "_has_begun",
        "_n",
        "_rejection",
        "_router",
        "_subset",
        "_task",
        "_ticket",
        "_waiter",
        "request",
    )

    def __init__(self, router: AsyncDispatcher, request: Request, subset: Collection[str] | None, n: int) -> None:
        self.request = request
        self._router = router
        self._subset = subset
        self._n = n
        self._ticket: Ticket | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._decision: Decision | None = None
        self._rejection: Rejection | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._has_begun = False

    @property
    def decision(self) -> Decision:
        """Where the request is, and the receipt.

        Raises:
            LifecycleError: it was not placed yet.
        """
        if self._decision is None:
            raise LifecycleError(f"request '{self.request.id}' has no place yet: enter it with 'async with' first")
        return self._decision

    @property
    def endpoint(self) -> Endpoint:
        """Where the request is to be sent; `retry` changes it."""
        return self.decision.endpoint

    async def __aenter__(self) -> Self:
        router = self._router
        if self._ticket is not None:
            raise LifecycleError(f"request '{self.request.id}' was entered before; 'place' it again")
        self._ticket = router.dispatcher.submit(self.request, now=router._clock(), subset=self._subset, n=self._n)
        router._placements[self._ticket] = self
        if not router.dispatcher.queued:
            router._read_news()  # nobody waits, so it has its answer; otherwise all news are read together, in a moment
        router._plan()
        if self._decision is None and self._rejection is None:
            await self._wait()
        if self._rejection is not None:
            if self._decision is not None:
                self._leave("cancelled")  # placed and evicted before its task had a turn
            raise RequestRejected(self._rejection)
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What is no Exception: cancellation, and a generator that is closed because its reader has gone.
        self._leave("success" if exc is None else "error" if isinstance(exc, Exception) else "cancelled")
        if self._rejection is None or self._task is None:
            return
        # The cancellation was ours, as with asyncio.timeout: take it back, unless somebody else asked for one too.
        is_ours = self._task.uncancel() <= self._cancelling
        if is_ours and isinstance(exc, asyncio.CancelledError):
            raise RequestRejected(self._rejection) from exc

    def first_token(self) -> bool:
        """Say that the first output has come, before it is passed on; from then on there is no other endpoint.

        Returns:
            Whether this was the first time; it may be said with every chunk.
        """
        if self._has_begun:
            return False
        router = self._router
        self._has_begun = True
        router.dispatcher.first_token(self._entered, now=router._clock())
        router._plan()
        return True

    def touch(self) -> bool:
        """Say that the answer is alive though nothing is seen of it; returns whether it still has its place."""
        return self._router.dispatcher.touch(self._entered, now=self._router._clock())

    def report_usage(self, *, prompt_tokens: float, output_tokens: float = 0.0) -> bool:
        """Say what the answer's usage says it took; returns whether the request still has its place."""
        router = self._router
        return router.dispatcher.report_usage(
            self._entered, prompt_tokens=prompt_tokens, output_tokens=output_tokens, now=router._clock()
        )

    def retry(self) -> bool:
        """Move to the next endpoint, because this one failed before the first byte.

        Returns:
            Whether there was one; `endpoint` and `decision` are then the new ones. After the first token there is none;
            otherwise, where there is none, the place is gone.
        """
        if self._has_begun:
            return False
        router = self._router
        moved = router.dispatcher.retry(self._entered, now=router._clock())
        router._plan()
        if moved is None:
            return False
        self._decision = moved
        return True

    @property
    def _entered(self) -> Ticket:
        if self._ticket is None:
            raise LifecycleError(f"request '{self.request.id}' has no place yet: enter it with 'async with' first")
        return self._ticket

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except BaseException:
            self._leave("cancelled")  # perhaps it was placed in the same turn of the loop: that place is freed too
            raise
        finally:
            self._waiter = None

    def _leave(self, outcome: str) -> None:
        router, ticket = self._router, self._entered
        router._placements.pop(ticket, None)
        if outcome == "cancelled":
            router.dispatcher.cancel(ticket, now=router._clock())
        else:
            router.dispatcher.finish(ticket, now=router._clock(), outcome=outcome)
        router._plan()

    def _assign(self, decision: Decision) -> None:
        self._decision = decision
        self._wake()

    def _refuse(self, rejection: Rejection) -> None:
        self._rejection = rejection
        self._wake()

    def _evict(self, rejection: Rejection) -> None:
        if self._rejection is not None:
            return
        self._rejection = rejection
        if self._task is not None:
            self._task.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _shutting_down(request: Request, generation: int, now: float) -> Rejection:
    return Rejection(
        request.id,
        request.model,
        "rejected-shutting-down",
        503,
        transient=True,
        message="the dispatcher was closed",
        retry_after=1.0,
        generation=generation,
        now=now,
    )
