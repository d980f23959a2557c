"""Field bugs D1–D8: what other readers of KV events got wrong, each as a fact about the precise producer."""

from __future__ import annotations

import random
from typing import Any

import pytest

from inferencesched.builtin.pickers import MaxScorePicker
from inferencesched.builtin.scorers import PrefixCacheScorer
from inferencesched.decision import Decision
from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.prefix.precise import PrecisePrefixCacheProducer
from inferencesched.prefix.stream import Trust
from inferencesched.profile import Profile
from inferencesched.request import Request
from inferencesched.scheduler import Scheduler
from tests.prefix.engine import SpeakingEngine

PROMPT = list(range(40))  # ten blocks of four
OTHER = list(range(500, 540))


class Fleet:
    """A precise producer and its endpoints, without a guess to hide behind."""

    def __init__(self, *names: str, **parameters: Any) -> None:
        self.producer = PrecisePrefixCacheProducer(**{"approximate_fallback": False, **parameters})
        self.batch = EndpointBatch.build([Endpoint(name) for name in names])
        for endpoint in self.batch.endpoints:
            self.producer.endpoint_added(endpoint, now=0.0)

    def hear(self, name: str, message: tuple[int, Any], *, model: str = "m") -> Trust:
        return self.producer.receive(self[name], *message, model=model, now=0.0)

    def __getitem__(self, name: str) -> Endpoint:
        return next(endpoint for endpoint in self.batch.endpoints if endpoint.name == name)

    def matched(self, prompt: Any, **fields: Any) -> list[float]:
        columns = self.producer.produce(Request("r", "m", prompt, **fields), self.batch)
        self.producer.engines.check()
        return columns["prefix_matched_tokens"].tolist()  # type: ignore[no-any-return]

    def trust(self, prompt: Any = PROMPT) -> list[float]:
        columns = self.producer.produce(Request("r", "m", prompt), self.batch)
        return columns["prefix_events_trusted"].tolist()  # type: ignore[no-any-return]


def test_d1_a_child_without_its_parent_waits_and_is_joined_when_the_parent_comes() -> None:
    """Nothing is matched past a hole, and nothing is lost in it."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.hear("a", engine.message(engine.stored(PROMPT, skip=6)))
    fleet.hear("a", engine.message(engine.stored(PROMPT[:24], skip=3)))

    assert fleet.matched(PROMPT) == [0]

    fleet.hear("a", engine.message(engine.stored(PROMPT[:12])))

    assert fleet.matched(PROMPT) == [40]


def test_d1_children_of_a_removed_block_are_back_when_it_comes_back() -> None:
    """An engine may evict from the middle; what hangs below is still in its cache."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.hear("a", engine.message(engine.stored(PROMPT)))
    fleet.hear("a", engine.message(engine.removed(engine.hashes(PROMPT)[4:5])))

    assert fleet.matched(PROMPT) == [16]

    fleet.hear("a", engine.message(engine.stored(PROMPT[:20], skip=4)))

    assert fleet.matched(PROMPT) == [40]


def test_d2_a_gap_leaves_no_phantoms_and_lowers_trust() -> None:
    """A removal may have been in the batch that is missing: what was known is dropped, and it is said."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    assert fleet.hear("a", engine.message(engine.stored(PROMPT))) == Trust.FULL
    engine.message(engine.removed(engine.hashes(PROMPT)))  # never arrives

    assert fleet.hear("a", engine.message(engine.stored(OTHER))) == Trust.PARTIAL
    assert fleet.matched(PROMPT) == [0]
    assert fleet.matched(OTHER) == [40]
    assert fleet.producer.engines.stats()[fleet["a"]].gaps == 1


def test_d2_a_replay_fills_the_gap() -> None:
    """Batches behind the gap wait, nothing is trusted meanwhile, and all are applied in order."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.producer.replay_offered(fleet["a"])
    fleet.hear("a", engine.message(engine.stored(PROMPT)))
    lost = [
        engine.message(engine.removed(reversed(engine.hashes(PROMPT)[5:]))),
        engine.message(engine.stored(OTHER[:20])),
    ]

    assert fleet.hear("a", engine.message(engine.stored(OTHER, skip=5))) == Trust.NONE
    assert fleet.producer.missing(fleet["a"]) == (1, 2)

    for message in lost:
        fleet.producer.replayed(fleet["a"], *message, model="m", now=0.0)

    assert fleet.producer.missing(fleet["a"]) is None
    assert fleet.matched(PROMPT) == [20]
    assert fleet.matched(OTHER) == [40]
    assert fleet.trust() == [1.0]


def test_d2_a_failed_replay_is_not_applied_later() -> None:
    """Given up is given up: a replay that comes after all finds nobody waiting."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.producer.replay_offered(fleet["a"])
    fleet.hear("a", engine.message(engine.stored(PROMPT)))
    lost = engine.message(engine.stored(PROMPT, skip=2))
    fleet.hear("a", engine.message(engine.stored(OTHER)))
    fleet.producer.replay_failed(fleet["a"], now=1.0)

    assert fleet.matched(OTHER) == [40]
    assert fleet.matched(PROMPT) == [0]

    fleet.producer.replayed(fleet["a"], *lost, model="m", now=2.0)

    assert fleet.matched(PROMPT) == [0]
    assert fleet.producer.engines.stats()[fleet["a"]].duplicates == 1
    assert fleet.trust() == [0.5]


def test_d2_a_gap_that_is_never_filled_does_not_hold_memory_for_ever() -> None:
    """The batches that wait are bounded; beyond that the replay has failed."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.producer.replay_offered(fleet["a"])
    fleet.hear("a", engine.message())
    engine.message()
    for _ in range(1024):
        assert fleet.hear("a", engine.message()) == Trust.NONE
    assert fleet.hear("a", engine.message(engine.stored(PROMPT))) == Trust.PARTIAL
    assert fleet.matched(PROMPT) == [40]


def test_d3_a_sequence_that_goes_backwards_empties_the_endpoint() -> None:
    """A restarted engine holds nothing, replay or not."""
    for replay in (False, True):
        fleet, engine = Fleet("a", "b"), SpeakingEngine()
        if replay:
            fleet.producer.replay_offered(fleet["a"])
        fleet.hear("b", engine.message(engine.stored(PROMPT)))
        engine.restart()
        for _ in range(3):
            fleet.hear("a", engine.message(engine.stored(PROMPT)))
        engine.restart()

        assert fleet.hear("a", engine.message(engine.stored(OTHER))) == Trust.FULL
        assert fleet.matched(PROMPT) == [0, 40]
        assert fleet.matched(OTHER) == [40, 0]
        assert fleet.producer.engines.stats()[fleet["a"]].restarts == 1


def test_d3_the_same_batch_twice_is_no_restart() -> None:
    """A repetition carries the same time stamp."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    message = engine.message(engine.stored(PROMPT))
    fleet.hear("a", message)

    assert fleet.hear("a", message) == Trust.FULL
    assert fleet.matched(PROMPT) == [40]
    assert fleet.producer.engines.stats()[fleet["a"]].duplicates == 1


def test_d4_duplicate_stores_do_not_inflate_and_need_as_many_removals() -> None:
    """Two stores and one removal leave the block; sizes count it once."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    last = engine.hashes(PROMPT)[9:]
    for _ in range(2):
        fleet.hear("a", engine.message(engine.stored(PROMPT)))

    assert fleet.producer.engines.size(fleet["a"]) == 10

    fleet.hear("a", engine.message(engine.removed(last)))

    assert fleet.matched(PROMPT) == [40]

    fleet.hear("a", engine.message(engine.removed(last)))

    assert fleet.matched(PROMPT) == [36]


def test_d5_all_cleared_empties_exactly_that_endpoint() -> None:
    """Not its neighbour, and not its other ranks."""
    producer = PrecisePrefixCacheProducer(approximate_fallback=False)
    batch = EndpointBatch.build(
        [Endpoint("a-0", "host-a"), Endpoint("a-1", "host-a", rank=1), Endpoint("b-0", "host-b")]
    )
    engine = SpeakingEngine()
    for endpoint in batch.endpoints:
        producer.endpoint_added(endpoint, now=0.0)
    for endpoint in batch.endpoints:
        _, payload = engine.message(engine.stored(PROMPT), rank=endpoint.rank)
        producer.receive(endpoint, 0, payload, model="m", now=0.0)
    _, payload = engine.message(engine.cleared(), rank=1)
    producer.receive(batch.endpoints[1], 1, payload, model="m", now=0.0)

    matched = producer.produce(Request("r", "m", PROMPT), batch)["prefix_matched_tokens"]

    assert matched.tolist() == [40, 0, 40]


def test_d5_a_batch_tells_which_rank_it_is_about() -> None:
    """Ranks behind one address may speak through one socket."""
    producer = PrecisePrefixCacheProducer(approximate_fallback=False)
    batch = EndpointBatch.build([Endpoint("a-0", "host-a"), Endpoint("a-1", "host-a", rank=1)])
    for endpoint in batch.endpoints:
        producer.endpoint_added(endpoint, now=0.0)
    engine = SpeakingEngine()
    producer.receive(batch.endpoints[0], *engine.message(engine.stored(PROMPT), rank=1), model="m", now=0.0)

    matched = producer.produce(Request("r", "m", PROMPT), batch)["prefix_matched_tokens"]

    assert matched.tolist() == [0, 40]


@pytest.mark.parametrize("maps", [True, False])
def test_d6_arrays_and_maps_say_the_same(maps: bool) -> None:
    """Engines have sent both."""
    fleet, engine = Fleet("a"), SpeakingEngine(maps=maps)
    fleet.hear("a", engine.message(engine.stored(PROMPT)))
    fleet.hear("a", engine.message(engine.removed(engine.hashes(PROMPT)[7:])))

    assert fleet.matched(PROMPT) == [28]

    fleet.hear("a", engine.message(engine.cleared()))

    assert fleet.matched(PROMPT) == [0]


def test_d6_extra_fields_are_passed_over_and_missing_ones_have_their_meaning() -> None:
    """Fields were appended over the years, at the end of the array and as new names in the map."""
    fleet, engine = Fleet("a", "b"), SpeakingEngine(maps=False)
    short = engine.stored(PROMPT)[:5]
    long = [*engine.stored(PROMPT), None, 0, "full_attention", None, "a field of next year", {}]
    fleet.hear("a", (0, [1.0, [short]]))
    fleet.hear("b", (0, {"ts": 1.0, "events": [long, ["KindOfNextYear", 1, 2]], "data_parallel_rank": 0}))

    assert fleet.matched(PROMPT) == [40, 40]
    assert fleet.producer.engines.stats()[fleet["b"]].counters["unknown"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        [1.0],
        "kv",
        b"\x93",
        [1.0, "events", 0],
        ["now", []],
        [1.0, [["BlockStored"]], 0],
        [1.0, [["BlockStored", [1, 2], None, [1, 2, 3], 4]], 0],
        [1.0, [["BlockStored", [1], None, [-1], 1]], 0],
        [1.0, [["BlockStored", [1.5], None, [1], 1]], 0],
        [1.0, [["BlockStored", [1], None, [1], 0]], 0],
        [1.0, [["BlockStored", [1], None, [[1, 2]], 1]], 0],
        [1.0, [["BlockStored", [1], None, [1], 1, None, 7]], 0],
        [1.0, [["BlockStored", [1], None, [1], 1, None, None, None, [["x"], ["y"]]]], 0],
        [1.0, [{"type": "BlockRemoved"}, 5, [], {}], 0],
        [1.0, [["BlockRemoved", 5]], 0],
        [1.0, [["BlockRemoved", [True]]], 0],
    ],
)
def test_d6_what_cannot_be_read_is_counted_and_taken_for_lost(payload: Any) -> None:
    """No crash, no phantom: there may have been a removal in it."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.hear("a", engine.message(engine.stored(PROMPT)))

    assert fleet.hear("a", (1, payload)) == Trust.PARTIAL
    assert fleet.matched(PROMPT) == [0]
    assert fleet.producer.engines.stats()[fleet["a"]].counters["malformed"] >= 1


def test_d7_an_engine_without_events_is_reported_once() -> None:
    """Asking again is of no use; that is news the first time only."""
    fleet = Fleet("a")

    assert fleet.producer.events_not_offered(fleet["a"], "Unimplemented", now=0.0)
    assert not fleet.producer.events_not_offered(fleet["a"], "Unimplemented", now=1.0)
    assert fleet.producer.engines.stats()[fleet["a"]].unavailable == "Unimplemented"
    assert fleet.trust() == [0.0]


def test_d8_without_events_the_guess_stands_in_and_the_decision_says_so() -> None:
    """Each endpoint by itself: one that speaks is believed, one that does not is guessed about."""
    producer = PrecisePrefixCacheProducer()
    profile = Profile(producers=[producer], scorers=[(PrefixCacheScorer(), 1.0)], picker=MaxScorePicker())
    scheduler = Scheduler(profile, rng=random.Random(1))
    a, b = (scheduler.add_endpoint(name, name, now=0.0) for name in "ab")
    prompt = list(range(640))
    first = scheduler.schedule(Request("r-1", "m", prompt), now=0.0)
    assert isinstance(first, Decision)
    silent, speaking = (a, b) if first.endpoint == a else (b, a)
    engine = SpeakingEngine()
    producer.receive(speaking, *engine.message(engine.stored(prompt[:320])), model="m", now=1.0)

    second = scheduler.schedule(Request("r-2", "m", prompt), now=2.0)

    assert isinstance(second, Decision)
    assert second.endpoint == silent
    kept = second.passes[second.primary].kept
    by_name = dict(zip(kept.names, kept["prefix_events_trusted"].tolist(), strict=True))
    assert by_name == {silent.name: 0.0, speaking.name: 1.0}
    matched = dict(zip(kept.names, kept["prefix_matched_tokens"].tolist(), strict=True))
    assert matched == {silent.name: 640, speaking.name: 320}


def test_d8_a_lost_connection_falls_back_until_the_engine_speaks_again() -> None:
    """What was known may have gone meanwhile; the next number tells whether it has."""
    fleet, engine = Fleet("a"), SpeakingEngine()
    fleet.hear("a", engine.message(engine.stored(PROMPT)))
    fleet.producer.disconnected(fleet["a"], now=1.0)

    assert (fleet.trust(), fleet.matched(PROMPT)) == ([0.0], [0])

    fleet.hear("a", engine.message())

    assert (fleet.trust(), fleet.matched(PROMPT)) == ([1.0], [40])


def test_d8_text_is_matched_by_the_guess_alone() -> None:
    """Engines name blocks by token ids; a prompt without them cannot be looked up, and the columns say so."""
    fleet = Fleet("a", approximate_fallback=True)
    text = "x" * 1024
    columns = fleet.producer.produce(Request("r", "m", text), fleet.batch)

    assert columns["prefix_total_tokens"].tolist() == [256]
    assert columns["prefix_events_trusted"].tolist() == [0]
