"""Endpoint, EndpointBatch, EndpointTable: the servers a request can go to, and what is known of them.

Facts are kept by *column*, not by object: ``endpoints["waiting_requests"]`` is one read-only float64 array with a
number per endpoint, and NaN where the number is unknown. A batch is the fleet as of one instant; it never changes. The
table is what changes: sources push facts into it, and every `snapshot` shares the table's arrays instead of copying
them. A column is copied when it is first written after a snapshot, and only that column (copy on write), so that taking
a snapshot costs O(1), however many endpoints and columns there are.

Some facts are sets of strings (the LoRA adapters an endpoint runs). `contains` asks them; read as a column, a set is
its size.

An endpoint that was never measured is *unknown*, never idle: its columns are NaN until a source says otherwise, and a
plugin has to decide what unknown means to it.

Nothing here knows what a scheduler, a request or a metric page is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Set as AbstractSet
from types import MappingProxyType
from typing import Any, overload

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.errors import LifecycleError, near_miss

__all__ = ["FEW", "BoolArray", "Endpoint", "EndpointBatch", "EndpointTable", "EndpointView", "FloatArray", "Numbers"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Numbers = FloatArray | list[float]
"""One number per endpoint: an array, or a list where the endpoints are few."""

FEW = 16
"""Endpoints up to which numbers are handled as lists where a plugin can: the price of an array operation is that of a
dozen steps of a list, and in a busy process twice that."""

_FLOAT64 = np.dtype(np.float64)

_MEMO_LIMIT = 512
"""Entries that one membership remembers for its plugins; at the limit all are forgotten (they are cheap to rebuild)."""


def _frozen_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(labels))


def readonly(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` with writing switched off (the same memory, no copy)."""
    array.setflags(False)  # type: ignore[call-arg] # naming the flag would take three times as long
    return array


def constant(value: float, size: int) -> FloatArray:
    """Return a column that is the same everywhere: `np.full` at a third of its price for a few endpoints."""
    column: FloatArray = np.empty(size)
    column.fill(value)
    return column


@attrs.frozen(cache_hash=True)
class Endpoint:
    """One model server, or one data-parallel rank of it.

    Two endpoints are equal when they are the same *instance*: a server that was removed and added again, or that came
    back under another address, is a new instance and inherits no load, no cache and no history, whatever its name.

    Attributes:
        name: unique in a table while present (upstream: ``namespace/pod-rank-0``).
        address: where a host sends the request (``10.0.0.7:8000``); opaque to the library.
        labels: for filters and affinity; not part of the identity.
        rank: data-parallel rank behind this address.
        instance: given by the table, unique in it, never re-used; 0 for an endpoint that is in no table.
    """

    name: str
    address: str = ""
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen_labels, eq=False, kw_only=True)
    rank: int = attrs.field(default=0, kw_only=True)
    instance: int = attrs.field(default=0, kw_only=True)


class _Membership:
    """Who is in the fleet between two changes of membership, and what follows from that alone."""

    __slots__ = ("endpoints", "memo", "unknown", "unknown_numbers")

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.endpoints = endpoints
        self.memo: dict[Hashable, NDArray[Any]] = {}
        self.unknown: FloatArray = readonly(np.full(len(endpoints), np.nan))
        self.unknown_numbers: list[float] = self.unknown.tolist()

    def remember(self, key: Hashable, build: Callable[[tuple[Endpoint, ...]], NDArray[Any]]) -> NDArray[Any]:
        found = self.memo.get(key)
        if found is None:
            if len(self.memo) >= _MEMO_LIMIT:
                self.memo.clear()
            found = self.memo[key] = readonly(build(self.endpoints))
        return found


class _Column:
    """One number per endpoint and when it was observed; `values` is the read-only face of `_writable`."""

    __slots__ = ("_numbers", "_writable", "epoch", "observed", "oldest", "values")

    def __init__(self, values: FloatArray, observed: FloatArray, epoch: int) -> None:
        self._writable = values
        self.values: FloatArray = readonly(values.view())
        self.observed = observed
        self.oldest: float | None = None
        self.epoch = epoch
        self._numbers: list[float] | None = None

    def copy(self, epoch: int) -> _Column:
        return _Column(self._writable.copy(), self.observed.copy(), epoch)

    def write(self, row: int, value: float, now: float) -> None:
        self._writable[row] = value
        self.observed[row] = now
        self.oldest = self._numbers = None

    def as_of(self, now: float, max_age: float) -> FloatArray:
        """The values, those older than `max_age` made unknown. O(1) while nothing is that old."""
        if self.oldest is None:
            known = self.observed[~np.isnan(self.observed)]
            self.oldest = float(known.min()) if known.size else np.inf
        if now - self.oldest <= max_age:
            return self.values
        return readonly(np.where(now - self.observed > max_age, np.nan, self._writable))

    def numbers(self, now: float, max_age: float) -> list[float]:
        """The same as a list, kept until somebody writes."""
        values = self.as_of(now, max_age)
        numbers = self._numbers if values is self.values else None
        if numbers is None:
            numbers = values.tolist()
            self._numbers = numbers if values is self.values else None
        return numbers


class _SetColumn:
    """One set of strings per endpoint (None: unknown); membership tests are kept until some set changes."""

    __slots__ = ("found", "sets")

    def __init__(self, sets: list[frozenset[str] | None]) -> None:
        self.sets = sets
        self.found: dict[str, BoolArray] = {}

    def contains(self, item: str) -> BoolArray:
        found = self.found.get(item)
        if found is None:
            if len(self.found) >= _MEMO_LIMIT:
                self.found.clear()
            held = np.fromiter((s is not None and item in s for s in self.sets), np.bool_, len(self.sets))
            found = self.found[item] = readonly(held)
        return found


class EndpointView:
    """One row of a batch, for people and per-endpoint plugins: ``e.labels``, ``e["running_requests"]``."""

    __slots__ = ("_batch", "_row", "endpoint")

    def __init__(self, batch: EndpointBatch, row: int) -> None:
        self._batch = batch
        self._row = row
        self.endpoint = batch.endpoint(row)

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.endpoint.name

    @property
    def address(self) -> str:
        """Where a host sends the request."""
        return self.endpoint.address

    @property
    def labels(self) -> Mapping[str, str]:
        """The endpoint's labels."""
        return self.endpoint.labels

    def __getitem__(self, column: str) -> float:
        """Return this endpoint's number in `column`; NaN when unknown."""
        return self._batch.at(column, self._row)

    def has(self, column: str, item: str) -> bool:
        """Return whether the set column of this endpoint contains `item`."""
        return bool(self._batch.contains(column, item)[self._row])

    def __repr__(self) -> str:
        return f"EndpointView({self.endpoint.name!r})"


class EndpointBatch:
    """The candidates of one decision: endpoints and their facts as of the instant `now`. Immutable.

    A batch is made by `EndpointTable.snapshot`, or by `EndpointBatch.build` where there is no table.

    Attributes:
        now: the instant.
        are_few: whether the endpoints are so few that lists of numbers are quicker than arrays (see `numbers`).

    >>> batch = EndpointBatch.build(["a", "b"], {"waiting_requests": [3.0, float("nan")]})
    >>> batch["waiting_requests"]
    array([ 3., nan])
    >>> batch.select(np.array([True, False])).names
    ('a',)

    Complexity: creating one, `select` that removes nothing: O(1). A column of a selection is gathered on first use.
    """

    __slots__ = (
        *("_cache", "_columns", "_max_age", "_membership", "_numbers", "_origin", "_own", "_sets", "_size"),
        "are_few",
        "now",
    )

    def __init__(
        self,
        membership: _Membership,
        columns: Mapping[str, _Column],
        sets: Mapping[str, _SetColumn],
        *,
        now: float,
        max_age: float = np.inf,
    ) -> None:
        self._membership = membership
        self._columns = columns
        self._sets = sets
        self._max_age = max_age
        self._origin: tuple[EndpointBatch, NDArray[np.intp]] | None = None  # selected from this, these rows
        self._size = len(membership.endpoints)
        self._cache: dict[str, FloatArray] = {}
        self._numbers: dict[str, list[float]] = {}
        self._own: tuple[str, ...] = ()  # columns that only this batch and what is selected from it have
        self.are_few = self._size <= FEW
        self.now = now

    @classmethod
    def build(
        cls,
        endpoints: Iterable[Endpoint | str],
        columns: Mapping[str, Iterable[float]] | None = None,
        *,
        sets: Mapping[str, Iterable[AbstractSet[str] | None]] | None = None,
        now: float = 0.0,
    ) -> EndpointBatch:
        """Return a batch of values given directly, all observed at `now`.

        Args:
            endpoints: endpoints, or just names.
            columns: number per endpoint, in the order of `endpoints`.
            sets: set of strings per endpoint, or None for unknown.

        Raises:
            ValueError: a column's length differs from the number of endpoints, or a name comes twice.
        """
        table = EndpointTable()
        for given in endpoints:
            endpoint = Endpoint(given) if isinstance(given, str) else given
            if endpoint.name in table:
                raise ValueError(f"endpoint '{endpoint.name}' is given twice")
            table.add(endpoint.name, endpoint.address, labels=endpoint.labels, rank=endpoint.rank, now=now)
        names = tuple(table)
        every: dict[str, Iterable[Any]] = {**(columns or {}), **(sets or {})}
        for column, values in every.items():
            row_values = list(values)
            if len(row_values) != len(names):
                raise ValueError(f"column '{column}' has {len(row_values)} values for {len(names)} endpoints")
            for name, value in zip(names, row_values, strict=True):
                table.update(name, {column: value}, now=now)
        return table.snapshot(now=now)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: str) -> FloatArray: ...
    @overload
    def __getitem__(self, key: int) -> EndpointView: ...
    def __getitem__(self, key: str | int) -> FloatArray | EndpointView:
        """Return a column by name (float64, shape (n,), read-only; all NaN if nobody supplies it), or a row."""
        found = self._cache.get(key)  # type: ignore[arg-type] # a position is never among them
        if found is not None:
            return found
        if not isinstance(key, str):
            return EndpointView(self, range(self._size)[key])
        found = self._cache[key] = self._load(key)
        return found

    def _load(self, name: str) -> FloatArray:
        if name in self._own and name in self._numbers:
            return readonly(np.array(self._numbers[name], np.float64))
        if self._origin is not None:
            parent, rows = self._origin
            values, unknown = parent[name], self._membership.unknown
            return unknown[: self._size] if values is unknown else readonly(values[rows])
        column = self._columns.get(name)
        if column is None:
            return self._membership.unknown
        return column.values if self._max_age == np.inf else column.as_of(self.now, self._max_age)

    def numbers(self, column: str) -> list[float]:
        """Return a column as a list, ``endpoints[column].tolist()``; shared like the column, and not to be changed."""
        found = self._numbers.get(column)
        if found is None:
            found = self._numbers[column] = self._load_numbers(column)
        return found

    def _load_numbers(self, name: str) -> list[float]:
        if self._origin is not None or name in self._cache:
            numbers: list[float] = self[name].tolist()
            return numbers
        column = self._columns.get(name)
        return self._membership.unknown_numbers if column is None else column.numbers(self.now, self._max_age)

    def __iter__(self) -> Iterator[EndpointView]:
        return (EndpointView(self, row) for row in range(self._size))

    def __contains__(self, column: object) -> bool:
        """Return whether anybody supplies `column`."""
        if column in self._columns or column in self._own:
            return True
        return self._origin is not None and column in self._origin[0]

    def __repr__(self) -> str:
        return f"EndpointBatch({self._size} endpoints, now={self.now:g})"

    def at(self, column: str, row: int) -> float:
        """Return one number, without gathering the column for it. O(depth of selection)."""
        batch = self
        while batch._origin is not None and column not in batch._cache and column not in batch._numbers:
            batch, rows = batch._origin
            row = int(rows[row])
        return batch.numbers(column)[row] if batch.are_few else batch[column].item(row)

    @property
    def rows(self) -> NDArray[np.intp]:
        """Positions of these endpoints in the snapshot that the batch was selected from."""
        if self._origin is None:
            return np.arange(self._size)
        parent, rows = self._origin
        return parent.rows[rows]

    def endpoint(self, row: int) -> Endpoint:
        """Return the endpoint at position `row`. O(depth of selection), no names are gathered."""
        batch = self
        while batch._origin is not None:
            batch, rows = batch._origin
            row = int(rows[row])
        return batch._membership.endpoints[row]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints, in the order of every column."""
        everyone = self._membership.endpoints
        if self._origin is None:
            return everyone
        return tuple(everyone[row] for row in self.rows.tolist())

    @property
    def names(self) -> tuple[str, ...]:
        """The endpoints' names, in the order of every column."""
        return tuple(endpoint.name for endpoint in self.endpoints)

    def observed(self, column: str) -> FloatArray:
        """Return when each value of a table column was observed, on the clock of `now`; NaN if it never was."""
        found = self._columns.get(column)
        times = self._membership.unknown if found is None else found.observed
        return times if self._origin is None else times[self.rows]

    def age(self, column: str) -> FloatArray:
        """Return the age in seconds of each value of a table column; NaN if it was never observed."""
        return self.now - self.observed(column)

    def contains(self, column: str, item: str) -> BoolArray:
        """Return, per endpoint, whether its set in `column` holds `item`; unknown sets hold nothing."""
        if self._origin is not None:
            parent, rows = self._origin
            return parent.contains(column, item)[rows]
        found = self._sets.get(column)
        return found.contains(item) if found is not None else self.static(("nothing",), _nothing)

    def labels(self, key: str) -> NDArray[np.object_]:
        """Return each endpoint's value of the label `key` (None where it has no such label)."""

        def build(endpoints: tuple[Endpoint, ...]) -> NDArray[Any]:
            values = np.empty(len(endpoints), dtype=object)
            values[:] = [endpoint.labels.get(key) for endpoint in endpoints]
            return values

        return self.static(("label", key), build)

    def static(self, key: Hashable, build: Callable[[tuple[Endpoint, ...]], NDArray[Any]]) -> NDArray[Any]:
        """Return ``build(endpoints)`` for what depends on names and labels alone, computed once per membership.

        Args:
            key: names the computation, with everything it depends on (``("label-selector", self)``).
            build: takes all endpoints of the snapshot, returns an array of shape (n, …).
        """
        result = self._membership.remember(key, build)
        return result if self._origin is None else result[self.rows]

    def select(self, keep: BoolArray) -> EndpointBatch:
        """Return the batch of the endpoints where `keep` is true; itself when that is all of them."""
        rows = keep.nonzero()[0]
        if rows.size == self._size:
            return self
        if self._origin is not None and not self._own:  # a selection of a selection: gather once
            parent, chosen = self._origin
            return self._derive((parent, chosen[rows]), rows.size, {}, {})
        return self._derive((self, rows), rows.size, {}, {})

    def take(self, rows: Iterable[int]) -> EndpointBatch:
        """Return the batch of the endpoints at the positions `rows`, in that order.

        >>> EndpointBatch.build(["a", "b", "c"]).take([2, 0]).names
        ('c', 'a')
        """
        taken = np.fromiter(rows, np.intp)
        return self._derive((self, taken), taken.size, {}, {})

    def with_columns(self, columns: Mapping[str, Numbers]) -> EndpointBatch:
        """Return the same endpoints with per-request `columns` added (or shadowing those of the table).

        Raises:
            ValueError: a column is neither float64 of shape (n,) nor a list of n numbers.
        """
        self.check_columns(columns)
        return self._derive(self._origin, self._size, self._cache.copy(), self._numbers.copy(), self._own).grow(columns)

    def check_columns(self, columns: Mapping[str, Numbers]) -> None:
        """Raise ValueError if one of the columns is neither float64 of shape (n,) nor a list of n numbers."""
        shape = (self._size,)
        for name, values in columns.items():
            if isinstance(values, list):
                if len(values) != self._size:
                    raise ValueError(f"column '{name}' is a list of {len(values)}, not of {self._size}")
                try:
                    sum(values)
                except TypeError:
                    raise ValueError(f"column '{name}' is a list of something else than numbers") from None
            elif values.shape != shape or values.dtype != _FLOAT64:
                raise ValueError(f"column '{name}' is {values.dtype} of shape {values.shape}, not float64 {shape}")

    def grow(self, columns: Mapping[str, Numbers]) -> EndpointBatch:
        """Add checked columns to this very batch and return it: for who has made it, until it is handed out."""
        for name, values in columns.items():
            if isinstance(values, list):
                self._numbers[name] = values
                if name in self._cache:
                    del self._cache[name]
            else:
                self._cache[name] = readonly(values.view()) if values.flags.writeable else values
                self._numbers.pop(name, None)
        self._own += (*columns,)
        return self

    def _derive(
        self,
        origin: tuple[EndpointBatch, NDArray[np.intp]] | None,
        size: int,
        cache: dict[str, FloatArray],
        numbers: dict[str, list[float]],
        own: tuple[str, ...] = (),
    ) -> EndpointBatch:
        derived = EndpointBatch.__new__(EndpointBatch)
        derived._membership = self._membership
        derived._columns = self._columns
        derived._sets = self._sets
        derived._max_age = self._max_age
        derived._origin = origin
        derived._size = size
        derived._cache = cache
        derived._numbers = numbers
        derived._own = own
        derived.are_few = size <= FEW
        derived.now = self.now
        return derived


def _nothing(endpoints: tuple[Endpoint, ...]) -> BoolArray:
    return np.zeros(len(endpoints), np.bool_)


class EndpointTable:
    """The fleet as it is known now: who is in it, and every fact with the time it was observed.

    One thread owns a table; the batches it hands out may go anywhere.

    Args:
        max_age: seconds after which a fact counts as unknown; infinite by default (upstream's behaviour for scorers).

    Complexity: `snapshot` O(1); `update` O(columns given), plus a copy of each column written for the first time since
    the last snapshot; `add` and `remove` O(columns × endpoints).
    """

    def __init__(self, *, max_age: float = np.inf) -> None:
        if not max_age > 0:
            raise ValueError(f"max_age must be > 0 seconds, got {max_age!r}")
        self._max_age = max_age
        self._instances = itertools.count(1)
        self._rows: dict[str, int] = {}
        self._endpoints: list[Endpoint] = []
        self._membership: _Membership | None = None
        self._columns: dict[str, _Column] = {}
        self._sets: dict[str, _SetColumn] = {}
        self._epoch = 0  # snapshots handed out; whatever is older than the last one is shared
        self._dicts_epoch = 0

    def __len__(self) -> int:
        return len(self._endpoints)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order of the columns."""
        return iter(tuple(self._rows))

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> Endpoint:
        """Return the endpoint of that name.

        Raises:
            LifecycleError: there is none.
        """
        return self._endpoints[self._row(name)]

    def get(self, name: str) -> Endpoint | None:
        """Return the endpoint of that name, or None."""
        row = self._rows.get(name)
        return None if row is None else self._endpoints[row]

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order of the columns; the same object until the membership changes."""
        return self._present().endpoints

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns that anybody has supplied, set columns among them."""
        return tuple(self._columns)

    def add(
        self,
        name: str,
        address: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        rank: int = 0,
        now: float,
    ) -> Endpoint:
        """Add an endpoint, or say again that it is there. Every fact about a new one is unknown.

        Announcing an endpoint that is present with the same address and rank keeps the instance (its labels are
        brought up to date); with another address or rank it is a restart: the old instance goes, a new one comes.

        Returns:
            The endpoint, with its instance number.
        """
        labels = labels or {}
        row = self._rows.get(name)
        if row is not None:
            present = self._endpoints[row]
            if (present.address, present.rank) == (address, rank):
                if present.labels != labels:
                    self._endpoints[row] = attrs.evolve(present, labels=labels)
                    self._membership = None
                return self._endpoints[row]
            self.remove(name)
        endpoint = Endpoint(name, address, labels=labels, rank=rank, instance=next(self._instances))
        self._rows[name] = len(self._endpoints)
        self._endpoints.append(endpoint)
        self._membership = None
        unknown = np.array([np.nan])
        self._columns = {
            key: _Column(np.concatenate((c.values, unknown)), np.concatenate((c.observed, unknown)), self._epoch)
            for key, c in self._columns.items()
        }
        self._sets = {key: _SetColumn([*s.sets, None]) for key, s in self._sets.items()}
        return endpoint

    def remove(self, name: str) -> Endpoint:
        """Remove an endpoint and everything known of it; return it.

        Raises:
            LifecycleError: there is no endpoint of that name.
        """
        row = self._row(name)
        endpoint = self._endpoints.pop(row)
        self._rows = {e.name: i for i, e in enumerate(self._endpoints)}
        self._membership = None
        self._columns = {
            key: _Column(np.delete(c.values, row), np.delete(c.observed, row), self._epoch)
            for key, c in self._columns.items()
        }
        self._sets = {key: _SetColumn([*s.sets[:row], *s.sets[row + 1 :]]) for key, s in self._sets.items()}
        return endpoint

    def update(self, name: str, facts: Mapping[str, float | AbstractSet[str] | None], *, now: float) -> None:
        """Record facts about one endpoint, observed at `now`.

        Args:
            facts: number (NaN or None: now unknown) or set of strings per column. Columns not named keep their value
                and their age.

        Raises:
            LifecycleError: there is no endpoint of that name.
        """
        row = self._row(name)
        if self._dicts_epoch != self._epoch:
            self._columns, self._sets = dict(self._columns), dict(self._sets)
            self._dicts_epoch = self._epoch
        for column, value in facts.items():
            if isinstance(value, AbstractSet):
                self._write_set(column, row, frozenset(value), now)
            elif value is None and column in self._sets:
                self._write_set(column, row, None, now)
            else:
                self._write(column, row, np.nan if value is None else float(value), now)

    def _write(self, name: str, row: int, value: float, now: float) -> None:
        column = self._columns.get(name)
        if column is None:
            unknown = np.full((2, len(self._endpoints)), np.nan)
            column = self._columns[name] = _Column(unknown[0], unknown[1], self._epoch)
        elif column.epoch != self._epoch:
            column = self._columns[name] = column.copy(self._epoch)
        column.write(row, value, now)

    def _write_set(self, name: str, row: int, value: frozenset[str] | None, now: float) -> None:
        self._write(name, row, np.nan if value is None else float(len(value)), now)
        column = self._sets.get(name)
        sets = [None] * len(self._endpoints) if column is None else column.sets
        if column is None or sets[row] != value:
            sets = list(sets)
            sets[row] = value
            self._sets[name] = _SetColumn(sets)

    def snapshot(self, *, now: float) -> EndpointBatch:
        """Return the fleet as of `now`. O(1): arrays are shared until the table next writes to them."""
        self._epoch += 1
        return EndpointBatch(self._present(), self._columns, self._sets, now=now, max_age=self._max_age)

    def _present(self) -> _Membership:
        if self._membership is None:
            self._membership = _Membership(tuple(self._endpoints))
        return self._membership

    def _row(self, name: str) -> int:
        try:
            return self._rows[name]
        except KeyError:
            raise LifecycleError(f"no endpoint '{name}' in the table{near_miss(name, self._rows)}") from None
