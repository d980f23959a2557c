"""Who reads in vain, where, and why."""

import math

from inferencesched import EndpointBatch, Registry
from inferencesched.signals import BlindSpot, blind_spots, wanted_columns

create = Registry().create
NAN = math.nan


class Explains:
    """A source that knows why."""

    def explain(self, endpoint: str, column: str) -> str | None:
        return f"http://{endpoint}/metrics: answered 404" if endpoint == "gpu-3" else None


def test_j4_a_scorer_without_its_fact_is_named_with_the_reason() -> None:
    batch = EndpointBatch.build(["gpu-0", "gpu-3"], {"waiting_requests": [0.0, NAN]})

    (spot,) = blind_spots({"queue-scorer": create("queue-scorer")}, batch, [Explains()])

    assert str(spot) == ("queue-scorer at gpu-3: column waiting_requests unknown: http://gpu-3/metrics: answered 404")
    assert not spot.everywhere


def test_who_is_blind_everywhere_comes_first() -> None:
    batch = EndpointBatch.build(["a", "b"], {"waiting_requests": [1.0, NAN]})
    plugins = {"queue": create("queue-scorer"), "kv": create("kv-cache-utilization-scorer")}

    assert blind_spots(plugins, batch) == [
        BlindSpot("kv", "kv_cache_utilization", ("a", "b"), everywhere=True),
        BlindSpot("queue", "waiting_requests", ("b",), everywhere=False),
    ]
    assert str(blind_spots(plugins, batch)[0]) == (
        "kv at every endpoint: column kv_cache_utilization unknown: nobody has reported it"
    )


def test_different_reasons_are_told_apart() -> None:
    batch = EndpointBatch.build(["gpu-2", "gpu-3"])

    spots = blind_spots({"queue-scorer": create("queue-scorer")}, batch, [Explains()])

    assert [(spot.endpoints, spot.reason) for spot in spots] == [
        (("gpu-2",), ""),
        (("gpu-3",), "http://gpu-3/metrics: answered 404"),
    ]


def test_what_a_producer_or_the_ledger_makes_is_not_looked_for() -> None:
    batch = EndpointBatch.build(["a"])
    plugins = {
        "prefix-cache-scorer": create("prefix-cache-scorer"),
        "producer": create("approx-prefix-cache-producer"),
        "active-request-scorer": create("active-request-scorer"),
    }

    assert {spot.plugin for spot in blind_spots(plugins, batch)} == {"producer"}


def test_j9_without_endpoints_nobody_is_blind() -> None:
    assert blind_spots({"queue-scorer": create("queue-scorer")}, EndpointBatch.build([])) == []


def test_what_is_wanted_is_what_somebody_reads() -> None:
    plugins = [create("queue-scorer"), create("kv-cache-utilization-scorer"), object()]

    assert wanted_columns(plugins) == {"waiting_requests", "kv_cache_utilization"}
