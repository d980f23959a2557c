"""Topology: near is better, by the labels of two endpoints."""

from typing import Any

import numpy as np
import pytest

from inferencesched import ConfigError, Endpoint, Registry, Request
from inferencesched.errors import Problem
from inferencesched.testing import make_batch

create = Registry().create


def place(host: str = "", rack: str = "", zone: str = "", region: str = "") -> dict[str, str]:
    return {
        "kubernetes.io/hostname": host,
        "topology.kubernetes.io/rack": rack,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": region,
    }


PEER = Endpoint("peer", labels=place("h1", "r1", "z1", "g1"))
FLEET = make_batch(
    labels=[
        place("h1", "r1", "z1", "g1"),
        place("h2", "r1", "z1", "g1"),
        place("h3", "r2", "z1", "g1"),
        place("h4", "r3", "z2", "g1"),
        place("h5", "r4", "z3", "g2"),
        {},
    ]
)


def beside(peer: Endpoint | None) -> Request:
    return Request("r", attributes={} if peer is None else {"picked": {"decode": peer}})


@pytest.mark.parametrize(
    ("widest", "kept"), [("host", [0]), ("rack", [0, 1]), ("zone", [0, 1, 2]), ("region", [0, 1, 2, 3])]
)
def test_a_filter_keeps_what_is_near_enough(widest: str, kept: list[int]) -> None:
    keep = create("topology-affinity-filter", {"minAffinity": widest}).keep(beside(PEER), FLEET)

    assert np.flatnonzero(keep).tolist() == kept


def test_a_score_goes_by_the_tightest_common_level() -> None:
    scores = create("topology-affinity-scorer").score(beside(PEER), FLEET)

    assert scores.tolist() == [1.0, 0.20, 0.05, 0.02, 0.0, 0.0]


@pytest.mark.parametrize(
    "peer", [None, Endpoint("nowhere"), Endpoint("elsewhere", labels=place("h9", "r9", "z9", "g9"))]
)
def test_without_a_peer_or_anything_in_common_nobody_is_dropped(peer: Endpoint | None) -> None:
    assert create("topology-affinity-filter").keep(beside(peer), FLEET).all()
    assert not create("topology-affinity-scorer").score(beside(peer), FLEET).any()


def test_an_empty_label_matches_nothing_not_even_an_empty_label() -> None:
    nowhere = Endpoint("peer", labels=place())

    assert not create("topology-affinity-scorer").score(beside(nowhere), make_batch(labels=[place(), {}])).any()


def test_a_host_in_common_is_near_whatever_the_zone_labels_say() -> None:
    odd = make_batch(labels=[place("h1", "other", "other", "other")])

    assert create("topology-affinity-scorer").score(beside(PEER), odd).tolist() == [1.0]


def test_the_peer_is_the_pick_of_the_first_stage() -> None:
    far = Endpoint("far", labels=place("h5"))
    request = Request("r", attributes={"picked": {"decode": PEER, "encode": far}})

    assert create("topology-affinity-scorer").score(request, FLEET)[0] == 1.0


def build(parameters: dict[str, Any], references: dict[str, object]) -> tuple[Any, list[Problem]]:
    problems: list[Problem] = []
    named = Registry().build(
        "topology-affinity-scorer", parameters, path="plugins[0]", problems=problems, references=references
    )
    return (None if named is None else named.plugin), problems


def test_the_labels_are_those_of_the_extractor_that_is_declared() -> None:
    extractor = create("topology-extractor", {"hostname": "node", "zone": ""})
    peer = Endpoint("peer", labels={"node": "n1", "topology.kubernetes.io/zone": "z1"})
    fleet = make_batch(labels=[{"node": "n1"}, {"topology.kubernetes.io/zone": "z1"}])

    by_default, _ = build({}, {"topology-extractor": extractor})
    by_name, _ = build({"topologyProducerName": "mine"}, {"mine": extractor})

    assert by_default.score(beside(peer), fleet).tolist() == [1.0, 0.0]
    assert by_name.score(beside(peer), fleet).tolist() == [1.0, 0.0]


def test_an_extractor_that_is_none_is_refused() -> None:
    _, missing = build({"topologyProducerName": "mine"}, {})
    _, wrong = build({"topologyProducerName": "mine"}, {"mine": create("queue-scorer")})

    assert [p.message for p in missing] == ["no plugin 'mine' is declared"]
    assert [p.message for p in wrong] == ["expected the name of a topology-extractor, got a queue-scorer"]
    with pytest.raises(ConfigError, match="no plugin 'mine'"):
        create("topology-affinity-scorer", {"topologyProducerName": "mine"})
