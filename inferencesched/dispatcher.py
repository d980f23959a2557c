"""Dispatcher: flow control, scheduler and ledger as one state machine without I/O: *here*, *wait*, or *no*.

The host pushes facts in and pulls events out; after every call it drains `next_event` and arms one timer::

    class Dispatcher:
        def __init__(self, scheduler: Scheduler, *, flow: Settings | LegacyAdmission | None = None) -> None
        @classmethod
        def from_config(cls, config: Config, *, rng: random.Random, **options: Any) -> Self

        # requests
        def submit(self, request: Request, *, now: float, subset: Collection[str] | None = None, n: int = 1) -> Ticket
        def first_token(self, which: Ticket | str, *, now: float) -> bool
        def touch(self, which: Ticket | str, *, now: float) -> bool
        def finish(self, which: Ticket | str, *, now: float, outcome: str = "success") -> bool
        def cancel(self, which: Ticket | str, *, now: float) -> bool
        def retry(self, which: Ticket | str, *, now: float) -> Decision | None

        # what to do next
        def next_event(self) -> Assigned | Rejected | Evicted | None
        def next_timer(self) -> float | None
        def handle_timer(self, *, now: float) -> None

        # the fleet
        def add_endpoint(self, name: str, address: str = "", *, labels=None, rank: int = 0, now: float) -> Endpoint
        def remove_endpoint(self, name: str, *, now: float) -> Endpoint
        def update(self, name: str, facts: Mapping[str, Any], *, now: float) -> None

        # configuration and the end
        def reload(self, config: Config, *, now: float) -> int
        def drain(self, *, now: float, grace: float = 0.0) -> None

        scheduler: Scheduler
        saturation: Saturation | None   # None: no endpoints, so none that could be full
        queued: int                     # requests waiting
        in_flight: int                  # requests placed and not yet ended
        drained: bool                   # draining, and nothing is queued or in flight any more

Which submission is meant is said by the `Ticket` that `submit` returned and that every event carries. A request id does
instead while one live submission carries it; with two, a call by id raises `LifecycleError`, because ending one of
them at random would be a wrong count. A call about a submission that has ended, or that never was, changes nothing
and returns False (`retry`: None), so every path that may end a request may say so.
"""
