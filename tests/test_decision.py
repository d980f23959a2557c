"""Receipts: what they say, and what they never contain."""

import json
import math
import random

import pytest

from inferencesched import Decision, Profile, Registry, Rejection, Request, Scheduler

create = Registry().create
WORDS = "the client's own words"


@pytest.fixture
def scheduler() -> Scheduler:
    profile = Profile(
        producers=[create("token-producer"), create("inflight-load-producer")],
        filters=[create("label-selector-filter", {"matchLabels": {"zone": "a"}})],
        scorers=[(create("queue-scorer"), 2.0), (create("kv-cache-utilization-scorer"), 1.0)],
        picker=create("max-score-picker"),
    )
    scheduler = Scheduler(profile, rng=random.Random(1))
    for i, zone in enumerate("aab"):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:80", labels={"zone": zone}, now=0.0)
        scheduler.update(f"e{i}", {"waiting_requests": i}, now=float(i))
    return scheduler


def decide(scheduler: Scheduler) -> Decision:
    decision = scheduler.schedule(Request("r-1", "llama", WORDS, headers={"authorization": WORDS}), now=5.0, n=2)
    assert isinstance(decision, Decision)
    return decision


def test_explain_shows_who_was_dropped_how_everyone_scored_and_what_was_known(scheduler: Scheduler) -> None:
    """The whole receipt as text."""
    assert decide(scheduler).explain() == (
        "r-1 → e0 (10.0.0.0:80)   model llama · generation 1 · now 5.000\n"
        "fallbacks, in order: e1\n"
        "profile default: 3 candidates, 2 kept\n"
        "  - 1 dropped by label-selector-filter (zone = a): e2\n"
        "     endpoint  queue-scorer ×2  kv-cache-utilization-scorer ×1  total\n"
        "  *  e0        1.000 → 0.667    0.500 → 0.167                   0.8333\n"
        "  2  e1        0.000 → 0.000    0.500 → 0.167                   0.1667\n"
        "  margin over the best other endpoint: +0.6667\n"
        "  fact waiting_requests: 0 there, 0 to 2 in all, at most 5.000 s old\n"
        "  fact kv_cache_utilization: unknown everywhere"
    )


def test_to_dict_is_json_and_says_the_same(scheduler: Scheduler) -> None:
    """Strict JSON: no NaN, plain types only."""
    receipt = json.loads(json.dumps(decide(scheduler).to_dict(), allow_nan=False))

    (only,) = receipt["passes"]
    assert (receipt["outcome"], receipt["endpoint"], receipt["fallbacks"]) == ("assigned", "e0", ["e1"])
    assert only["dropped"] == [
        {"filter": "label-selector-filter", "why": "zone = a", "transient": False, "endpoints": ["e2"]}
    ]
    assert only["endpoints"][0]["scores"]["queue-scorer"] == {"raw": 1.0, "weighted": 0.666666667}
    assert only["facts"]["waiting_requests"] == {"picked": 0, "least": 0, "most": 2, "unknown": 0, "oldest_s": 5.0}
    unknown = {"picked": None, "least": None, "most": None, "unknown": 3, "oldest_s": None}
    assert only["facts"]["kv_cache_utilization"] == unknown


def test_k3_no_receipt_contains_prompt_or_credentials(scheduler: Scheduler) -> None:
    """Neither of a decision nor of a rejection, in no form."""
    decision = decide(scheduler)
    scheduler.remove_endpoint("e0", now=6.0)
    scheduler.remove_endpoint("e1", now=6.0)
    rejection = scheduler.schedule(Request("r-2", "llama", WORDS, session=WORDS), now=7.0)
    assert isinstance(rejection, Rejection)

    for receipt in (decision, rejection):
        assert WORDS not in receipt.explain() + json.dumps(receipt.to_dict()) + repr(receipt)


def test_a_tie_is_said_and_so_is_a_lone_candidate(scheduler: Scheduler) -> None:
    """Equal totals: how many shared them. One candidate: no margin to speak of."""
    scheduler.update("e1", {"waiting_requests": 0}, now=5.0)
    decision = decide(scheduler)
    assert decision.passes["default"].tied == 2
    assert "tie: 2 endpoints share the best total" in decision.explain()

    scheduler.remove_endpoint("e1", now=6.0)
    alone = decide(scheduler).passes["default"]
    assert math.isnan(alone.margin)
    assert alone.to_dict()["margin"] is None


def test_long_tables_end_with_how_many_more(scheduler: Scheduler) -> None:
    """A thousand endpoints do not make a thousand lines."""
    for i in range(100):
        scheduler.add_endpoint(f"more-{i}", labels={"zone": "a"}, now=1.0)

    text = decide(scheduler).explain()

    assert "… and 86 more endpoints" in text
    assert text.count("more-") < 30


def test_a_rejection_reads_as_one_sentence_with_status_reason_and_hope(scheduler: Scheduler) -> None:
    """What a host logs."""
    scheduler.remove_endpoint("e0", now=6.0)
    scheduler.remove_endpoint("e1", now=6.0)
    rejection = scheduler.schedule(Request("r", "llama"), now=7.0)
    assert isinstance(rejection, Rejection)

    assert str(rejection) == (
        "no endpoint for 'r' (model llama): 1 candidates, 1 removed by label-selector-filter (zone = a) "
        "[503 rejected-no-endpoints] → retry in 1 s"
    )
    assert rejection.to_dict()["http_status"] == 503
