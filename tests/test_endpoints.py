"""The table and its batches: identity, unknowns, ages, and what is shared and what is copied."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched import Endpoint, EndpointBatch, EndpointTable, LifecycleError

NAN = float("nan")


def table_of(*names: str) -> EndpointTable:
    table = EndpointTable()
    for name in names:
        table.add(name, f"{name}:8000", now=0.0)
    return table


def test_an_endpoint_that_was_never_measured_is_unknown_not_idle() -> None:
    """B6: every column of a new endpoint is NaN, also one that others have values in."""
    table = table_of("a")
    table.update("a", {"waiting_requests": 3}, now=1.0)
    table.add("b", now=2.0)

    batch = table.snapshot(now=2.0)

    np.testing.assert_array_equal(batch["waiting_requests"], [3.0, NAN])
    np.testing.assert_array_equal(batch["nobody_supplies_this"], [NAN, NAN])


def test_columns_are_read_only() -> None:
    """A plugin cannot change what the next one sees."""
    batch = table_of("a", "b").snapshot(now=0.0).with_columns({"x": np.ones(2)})

    for column in ("x", "waiting_requests"):
        with pytest.raises(ValueError, match="read-only"):
            batch[column][0] = 7.0
    with pytest.raises(ValueError, match="read-only"):
        batch.select(np.array([True, False]))["x"][0] = 7.0


def test_with_columns_leaves_the_given_array_writable() -> None:
    """Handing a column over freezes the batch's view of it, not the producer's array."""
    mine = np.ones(1)
    table_of("a").snapshot(now=0.0).with_columns({"x": mine})

    mine[0] = 2.0

    assert mine[0] == 2.0


def test_a_snapshot_does_not_change_when_the_table_does() -> None:
    """A batch is the fleet as of one instant."""
    table = table_of("a")
    table.update("a", {"waiting_requests": 3, "active_adapters": {"x"}}, now=1.0)
    before = table.snapshot(now=1.0)

    table.update("a", {"waiting_requests": 9, "active_adapters": {"y"}}, now=2.0)
    table.add("b", now=2.0)

    assert before["waiting_requests"].tolist() == [3.0]
    assert before.contains("active_adapters", "x").tolist() == [True]
    assert before.names == ("a",)


def test_snapshots_share_the_arrays_of_columns_that_nobody_wrote() -> None:
    """A snapshot copies nothing; a write copies the one column it writes, and only once per snapshot."""
    table = table_of("a", "b")
    table.update("a", {"waiting_requests": 1, "running_requests": 1}, now=1.0)
    first = table.snapshot(now=1.0)
    table.update("a", {"waiting_requests": 2}, now=2.0)
    second = table.snapshot(now=2.0)

    assert first["running_requests"] is second["running_requests"]
    assert first["waiting_requests"] is not second["waiting_requests"]


def test_ages_are_per_column_and_per_endpoint() -> None:
    """Each value carries the time it was observed."""
    table = table_of("a", "b")
    table.update("a", {"waiting_requests": 1}, now=1.0)
    table.update("b", {"waiting_requests": 1}, now=4.0)
    table.update("a", {"running_requests": 1}, now=5.0)

    batch = table.snapshot(now=6.0)

    assert batch.age("waiting_requests").tolist() == [5.0, 2.0]
    np.testing.assert_array_equal(batch.age("running_requests"), [1.0, NAN])


def test_facts_older_than_max_age_become_unknown() -> None:
    """With a max_age a stale value is NaN, a fresh one stays."""
    table = EndpointTable(max_age=2.0)
    for name, when in (("a", 1.0), ("b", 4.0)):
        table.add(name, now=0.0)
        table.update(name, {"waiting_requests": 1}, now=when)

    np.testing.assert_array_equal(table.snapshot(now=3.0)["waiting_requests"], [1.0, 1.0])
    np.testing.assert_array_equal(table.snapshot(now=5.0)["waiting_requests"], [NAN, 1.0])


def test_a_set_column_reads_as_its_size_and_answers_membership() -> None:
    """Sets are asked with contains; as a column they are their size, NaN where unknown."""
    table = table_of("a", "b", "c")
    table.update("a", {"active_adapters": {"x", "y"}}, now=1.0)
    table.update("b", {"active_adapters": frozenset()}, now=1.0)

    batch = table.snapshot(now=1.0)

    np.testing.assert_array_equal(batch["active_adapters"], [2.0, 0.0, NAN])
    assert batch.contains("active_adapters", "y").tolist() == [True, False, False]
    assert batch.contains("never_heard_of", "y").tolist() == [False, False, False]
    assert batch[0].has("active_adapters", "x")


def test_none_makes_a_fact_unknown_again() -> None:
    """A source that lost a signal says so."""
    table = table_of("a")
    table.update("a", {"waiting_requests": 3, "active_adapters": {"x"}}, now=1.0)
    table.update("a", {"waiting_requests": None, "active_adapters": None}, now=2.0)

    batch = table.snapshot(now=2.0)

    assert math.isnan(batch["waiting_requests"][0])
    assert math.isnan(batch["active_adapters"][0])
    assert not batch.contains("active_adapters", "x")[0]


def test_i3_same_name_under_another_address_is_a_new_instance() -> None:
    """A restart under a new address inherits nothing; announcing the same again changes nothing."""
    table = EndpointTable()
    first = table.add("a", "10.0.0.1:80", now=0.0)
    table.update("a", {"waiting_requests": 3}, now=0.0)
    assert table.add("a", "10.0.0.1:80", labels={"zone": "x"}, now=1.0) == first
    assert table["a"].labels == {"zone": "x"}

    second = table.add("a", "10.0.0.2:80", now=2.0)

    assert second != first
    assert second.instance > first.instance
    assert math.isnan(table.snapshot(now=2.0)["waiting_requests"][0])


def test_instance_numbers_are_never_used_again() -> None:
    """Removing and adding gives a new number each time."""
    table = EndpointTable()
    seen = []
    for _ in range(5):
        seen.append(table.add("a", now=0.0).instance)
        table.remove("a")

    assert len(set(seen)) == 5


def test_labels_come_as_a_column_and_change_with_the_membership() -> None:
    """What depends on labels alone is remembered until the membership or a label changes."""
    table = EndpointTable()
    table.add("a", labels={"zone": "x"}, now=0.0)
    table.add("b", now=0.0)
    assert table.snapshot(now=0.0).labels("zone").tolist() == ["x", None]

    table.add("b", labels={"zone": "y"}, now=1.0)

    assert table.snapshot(now=1.0).labels("zone").tolist() == ["x", "y"]


def test_static_computes_once_per_membership_and_follows_selections() -> None:
    """The builder runs once; a selection gets the rows that are its own."""
    table = table_of("a", "b", "c")
    calls = []

    def build(endpoints: tuple[Endpoint, ...]) -> np.ndarray:
        calls.append(len(endpoints))
        return np.arange(len(endpoints))

    table.snapshot(now=0.0).static("key", build)
    some = table.snapshot(now=1.0).select(np.array([True, False, True]))

    assert some.static("key", build).tolist() == [0, 2]
    assert calls == [3]


def test_selecting_everything_is_the_batch_itself() -> None:
    """Skipping work whose result is known."""
    batch = table_of("a", "b").snapshot(now=0.0)

    assert batch.select(np.array([True, True])) is batch
    assert batch.with_columns({"x": np.zeros(2)}).select(np.array([True, False])).select(np.array([True]))[
        "x"
    ].shape == (1,)


def test_an_endpoint_that_is_not_there_is_a_lifecycle_error_with_a_near_miss() -> None:
    """Wrong names are told from missing ones."""
    table = table_of("pod-1")

    with pytest.raises(LifecycleError, match="no endpoint 'pod-11' in the table — did you mean 'pod-1'"):
        table.update("pod-11", {}, now=0.0)
    with pytest.raises(LifecycleError, match="pod-2"):
        table.remove("pod-2")


def test_reading_an_unknown_column_does_not_make_it_known() -> None:
    """Membership says whether anybody supplies a column, whoever looked before."""
    batch = EndpointBatch.build(["a", "b"], {"known": [1, 2]}).with_columns({"made": np.ones(2)})
    some = batch.select(np.array([True, False]))

    for each in (batch, some):
        assert np.isnan(each["nobody"]).all()
        assert ("known" in each, "made" in each, "nobody" in each) == (True, True, False)


def test_build_says_which_column_does_not_fit() -> None:
    """A column of the wrong length names itself."""
    with pytest.raises(ValueError, match="'waiting_requests' has 1 values for 2 endpoints"):
        EndpointBatch.build(["a", "b"], {"waiting_requests": [1.0]})
    with pytest.raises(ValueError, match="'a' is given twice"):
        EndpointBatch.build(["a", "a"])
    with pytest.raises(ValueError, match=r"'x' is float64 of shape \(1,\)"):
        EndpointBatch.build(["a", "b"]).with_columns({"x": np.ones(1)})


@given(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=4))
def test_a_selection_of_selections_reads_what_indexing_reads(masks: list[list[bool]]) -> None:
    """Lazy, flattened selection equals numpy indexing, per-request columns included."""
    plain = np.arange(8.0)
    batch = EndpointBatch.build([f"e{i}" for i in range(8)], {"x": plain}).with_columns({"y": plain * 2})
    names = np.array(batch.names)
    for mask in masks:
        keep = np.array(mask[: len(batch)], np.bool_)
        batch, plain, names = batch.select(keep), plain[keep], names[keep]

        assert batch["x"].tolist() == plain.tolist()
        assert batch["y"].tolist() == (plain * 2).tolist()
        assert batch.names == tuple(names)
        assert [batch.endpoint(i).name for i in range(len(batch))] == list(names)
        assert batch.rows.tolist() == plain.tolist()


class TableMachine(RuleBasedStateMachine):
    """The table against plain dictionaries, under adds, removals, updates and snapshots kept for later."""

    def __init__(self) -> None:
        super().__init__()
        self.table = EndpointTable()
        self.facts: dict[str, dict[str, float]] = {}
        self.kept: list[tuple[EndpointBatch, dict[str, dict[str, float]]]] = []
        self.now = 0.0

    @rule(name=st.sampled_from("abcd"), address=st.sampled_from(["1", "2"]))
    def add(self, name: str, address: str) -> None:
        before = self.table.get(name)
        after = self.table.add(name, address, now=self.now)
        if before != after:
            self.facts.pop(name, None)
            self.facts[name] = {}

    @precondition(lambda self: self.facts)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.facts)))
        self.table.remove(name)
        del self.facts[name]

    @precondition(lambda self: self.facts)
    @rule(data=st.data(), column=st.sampled_from(["x", "y"]), value=st.floats(allow_nan=False))
    def update(self, data: st.DataObject, column: str, value: float) -> None:
        name = data.draw(st.sampled_from(sorted(self.facts)))
        self.table.update(name, {column: value}, now=self.now)
        self.facts[name][column] = value

    @rule()
    def keep_a_snapshot(self) -> None:
        self.now += 1
        self.kept.append((self.table.snapshot(now=self.now), {k: dict(v) for k, v in self.facts.items()}))

    @invariant()
    def every_snapshot_still_says_what_it_said(self) -> None:
        for batch, facts in [*self.kept, (self.table.snapshot(now=self.now), self.facts)]:
            assert batch.names == tuple(facts)
            for column in ("x", "y"):
                expected = [row.get(column, NAN) for row in facts.values()]
                np.testing.assert_array_equal(batch[column], expected)


TestTableMachine = TableMachine.TestCase


def test_a_batch_that_grows_has_what_one_with_more_columns_would_have() -> None:
    """Columns are read-only, belong to that batch alone, and must fit."""
    table = table_of("a", "b")
    own = np.array([1.0, 2.0])

    batch = table.snapshot(now=0.0)
    batch.grow({"mine": own})

    assert batch["mine"].tolist() == table.snapshot(now=0.0).with_columns({"mine": own})["mine"].tolist() == [1.0, 2.0]
    assert "mine" in batch
    assert "mine" not in table.snapshot(now=0.0)
    assert (batch["mine"].flags.writeable, own.flags.writeable) == (False, True)
    with pytest.raises(ValueError, match=r"column 'mine' is float64 of shape \(1,\), not float64 \(2,\)"):
        batch.check_columns({"mine": own[:1]})


def test_a_batch_knows_nothing_of_columns_added_to_another() -> None:
    """Each producer gets what was there before it, also when it looks later."""
    before = table_of("a").snapshot(now=0.0)
    after = before.with_columns({"later": np.array([1.0])})

    assert math.isnan(before["later"][0])
    assert ("later" in before, "later" in after) == (False, True)


def test_the_endpoints_of_a_table_are_one_object_until_somebody_comes_or_goes() -> None:
    """Whoever keeps rows for them can tell by identity that they still hold."""
    table = table_of("a", "b")
    before = table.endpoints

    assert table.endpoints is before is table.snapshot(now=0.0).endpoints
    table.remove("a")
    assert [endpoint.name for endpoint in table.endpoints] == ["b"]
