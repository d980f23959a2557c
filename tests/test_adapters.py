"""A small function becomes a full plugin."""

import random

import pytest

from inferencesched import EndpointBatch, Profile, Registry, Request, per_endpoint
from inferencesched.adapters import PerEndpointFilter, PerEndpointScorer
from inferencesched.endpoints import EndpointView
from inferencesched.interfaces import roles_of


@per_endpoint(consumes=("waiting_requests",))
def short_queue(request: Request, endpoint: EndpointView) -> float:
    """Score one for an empty queue."""
    return 1.0 / (1.0 + endpoint["waiting_requests"])


@per_endpoint
def in_zone(request: Request, endpoint: EndpointView) -> bool:
    """Same zone as the request."""
    return endpoint.labels.get("zone") == request.attributes.get("zone")


def test_a_function_that_returns_a_number_is_a_scorer() -> None:
    """It runs in a profile, under its own name, and can still be called."""
    batch = EndpointBatch.build(["a", "b"], {"waiting_requests": [3, 0]})
    profile = Profile(scorers=[(short_queue, 1.0)], picker=Registry().create("max-score-picker"))

    result = profile.run(Request("r"), batch, random.Random(1))

    assert isinstance(short_queue, PerEndpointScorer)
    assert result.scores.tolist() == [[0.25, 1.0]]
    assert result.scorers == (("short_queue", 1.0),)
    assert result.consumed == ("waiting_requests",)
    assert short_queue(Request("r"), batch[0]) == 0.25


def test_a_function_that_returns_a_truth_is_a_filter() -> None:
    """The return annotation decides; the docstring is the reason in receipts."""
    batch = EndpointBatch.build(["a"])
    profile = Profile(filters=[in_zone], picker=Registry().create("max-score-picker"))

    result = profile.run(Request("r", attributes={"zone": "x"}), batch, random.Random(1))

    assert isinstance(in_zone, PerEndpointFilter)
    assert [(drop.filter, drop.why, drop.transient) for drop in result.drops] == [
        ("in_zone", "Same zone as the request.", False)
    ]
    assert roles_of(in_zone) == ("filter",)
    assert in_zone(Request("r"), batch[0]) is True


def test_a_filter_by_load_says_that_waiting_helps() -> None:
    """`transient` makes a filter, whatever the annotation is, and decides between 429 and 503."""

    @per_endpoint(transient=True)
    def not_full(request, endpoint):  # type: ignore[no-untyped-def]
        return endpoint["waiting_requests"] < 5

    assert isinstance(not_full, PerEndpointFilter)
    assert not_full.transient


@pytest.mark.parametrize("n", [0, 1, 5])
def test_an_adapter_returns_one_number_per_endpoint(n: int) -> None:
    """Shape (n,), also for none."""
    batch = EndpointBatch.build([f"e{i}" for i in range(n)])

    assert in_zone.keep(Request("r"), batch).shape == (n,)
