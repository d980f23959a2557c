"""The memory of the latest requests: bounded, and a repeated id is as new as its last use."""

from inferencesched_gateway import Outcome
from inferencesched_gateway.records import Records


def test_the_oldest_goes_first() -> None:
    told: list[str] = []
    records = Records(most=2, listener=lambda outcome: told.append(outcome.request_id))
    for request_id in "abac":
        records.ended(Outcome(request_id, status=200, result="success"), None)

    assert [record.outcome.request_id for record in records.latest()] == ["c", "a"]
    assert records.find("b") is None
    assert told == ["a", "b", "a", "c"]
    assert records.results == {(200, "success"): 4}


def test_nothing_need_be_kept() -> None:
    records = Records(most=0)
    records.ended(Outcome("a"), None)

    assert records.latest() == []
