"""What the tests of the dispatcher have in common: small fleets whose load is known at once, and events by name."""

import random
from typing import Any

from inferencesched import Profile, Registry, Request, Scheduler
from inferencesched.dispatcher import Dispatcher
from inferencesched.events import Assigned, Event, Rejected, Ticket
from inferencesched.flow.detectors import ConcurrencyDetector
from inferencesched.flow.settings import LegacyAdmission, Settings, Tuning

create = Registry().create


def flow(limit: int = 1, **options: Any) -> Settings:
    """Settings under which each endpoint takes `limit` requests, known at once and exactly."""
    tuning = Tuning(**{"slow_start_seconds": 0.0, **options.pop("tuning", {})})
    return Settings(detector=ConcurrencyDetector(max_concurrency=limit), tuning=tuning, **options)


def dispatcher_of(
    settings: Settings | LegacyAdmission | None = None,
    endpoints: int = 1,
    *,
    profile: Profile | None = None,
    **options: Any,
) -> Dispatcher:
    profile = profile or Profile(scorers=[(create("active-request-scorer"), 1.0)], picker=create("max-score-picker"))
    scheduler = Scheduler(profile, rng=random.Random(1), **options)
    dispatcher = Dispatcher(scheduler, flow=settings or flow())
    for i in range(endpoints):
        dispatcher.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
    return dispatcher


def events(dispatcher: Dispatcher) -> list[Event]:
    found = []
    while (event := dispatcher.next_event()) is not None:
        found.append(event)
    return found


def ids(dispatcher: Dispatcher) -> list[str]:
    """The ids of the requests that are placed now; anything else is an error."""
    found = events(dispatcher)
    assert all(isinstance(event, Assigned) for event in found), found
    return [event.request_id for event in found]


def rejection(dispatcher: Dispatcher) -> Rejected:
    (event,) = events(dispatcher)
    assert isinstance(event, Rejected)
    return event


def submit(dispatcher: Dispatcher, *names: str, now: float = 0.0, **about: Any) -> list[Ticket]:
    return [dispatcher.submit(Request(name, **about), now=now) for name in names]
