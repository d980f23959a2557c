"""The index against a model of names: endpoints come, go and come back, and memory is bounded all the while."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferencesched.endpoints import Endpoint, EndpointBatch, EndpointTable
from inferencesched.prefix.index import PrefixIndex
from inferencesched.prefix.radix import UNLIMITED
from tests.prefix.naive import NaiveIndex
from tests.prefix.test_radix_model import STEPS, contents, keys_of

names = st.sampled_from("abcd")


class IndexMachine(RuleBasedStateMachine):
    """A table of endpoints tells the index who is there, as a scheduler does."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(max_memory_mb=2, capacity=15)
        self.table = EndpointTable()
        self.model = NaiveIndex()
        self.seen: set[bytes] = set()

    @rule(name=names, capacity=st.sampled_from([None, 3, 40, UNLIMITED]))
    def add(self, name: str, capacity: int | None) -> None:
        known = name in self.table
        endpoint = self.table.add(name, now=0.0)
        self.index.add(endpoint, capacity)
        if not known:
            self.model.open(endpoint.instance, 15 if capacity is None else capacity)
        elif capacity is not None:
            self.model.capacities[endpoint.instance] = capacity
            self.model.shrink(endpoint.instance, capacity)

    @precondition(lambda self: len(self.table) > 0)
    @rule(name=names)
    def remove(self, name: str) -> None:
        if name in self.table:
            endpoint = self.table.remove(name)
            assert self.index.remove(endpoint) == len(self.model.held[endpoint.instance])
            self.model.close(endpoint.instance)

    @rule(name=names, content=contents)
    def insert(self, name: str, content: bytes) -> None:
        if name in self.table:
            endpoint = self.table[name]
            self.index.insert(keys_of(content), endpoint)
            self.model.insert(content, endpoint.instance)
            self.seen.add(content)

    @rule(name=names, content=contents)
    def touch(self, name: str, content: bytes) -> None:
        if name in self.table:
            endpoint = self.table[name]
            held = self.model.depth(content, endpoint.instance)
            assert self.index.touch(keys_of(content), endpoint) == held
            self.model.touch(content, endpoint.instance)

    @rule(name=names)
    def clear(self, name: str) -> None:
        if name in self.table:
            endpoint = self.table[name]
            self.index.clear(endpoint)
            self.model.shrink(endpoint.instance, 0)

    @rule()
    def restart(self) -> None:
        """The state of one index, taken over by another: the same answers, and the same things go first."""
        successor = PrefixIndex(max_memory_mb=2, capacity=15)
        for endpoint in self.table.endpoints:
            successor.add(endpoint, self.model.capacities[endpoint.instance])
        successor.restore(self.index.snapshot(), self.table.endpoints)
        self.index = successor

    @invariant()
    def sound(self) -> None:
        self.index.check()
        batch = self.table.snapshot(now=0.0)
        strangers = EndpointBatch.build([Endpoint("a"), Endpoint("z")])
        assert len(self.index) == len(self.model.prefixes())
        for content in self.seen:
            expected = [self.model.depth(content, e.instance) for e in batch.endpoints]
            assert self.index.column(keys_of(content), batch, unit=4).tolist() == [4 * depth for depth in expected]
        assert self.index.column(keys_of(b"\0\0"), strangers).shape == (2,)


IndexMachine.TestCase.settings = STEPS
TestIndex = IndexMachine.TestCase
