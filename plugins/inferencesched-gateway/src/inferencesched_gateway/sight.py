"""Sight: has every endpoint been heard of, and which plugins decide without knowing what they go by?"""

from __future__ import annotations

import numpy as np

from inferencesched.signals import BlindSpot, blind_spots
from inferencesched_gateway.feed import Feed

__all__ = ["has_facts", "spots"]

_OWN = frozenset({"in_flight_requests", "in_flight_tokens"})


def has_facts(feed: Feed, *, now: float) -> bool:
    """Return whether something is known of every endpoint of the pool; True where nobody wants to know anything."""
    scheduler = feed.pool.dispatcher.scheduler
    made = {column for named in scheduler.plugins for column in getattr(named.plugin, "produces", ())}
    measured = feed.pool.columns - made - _OWN
    if not measured or not feed.sources:
        return True
    batch = scheduler.candidates(now=now)
    known = np.zeros(len(batch), dtype=bool)
    for column in measured:
        known |= ~np.isnan(batch[column])
    return bool(known.all())


def spots(feed: Feed, *, now: float) -> list[BlindSpot]:
    """Return what the pool's plugins read in vain, and why."""
    scheduler = feed.pool.dispatcher.scheduler
    plugins = {named.name: named.plugin for named in scheduler.plugins}
    return blind_spots(plugins, scheduler.candidates(now=now), feed.sources)
