"""What plugins are asked in the checks: a request and a handful of endpoints, as plain data that can be made smaller.

Three families, so that a broken promise is seen by one clause and not by all: `known_facts` (every column has a number,
every request is ordinary), `unknown_facts` (numbers and labels are missing), `odd_requests`. They are the same on every
run; hypothesis searches wider with `inferencesched.testing.strategies`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from inferencesched.endpoints import BoolArray, EndpointBatch, FloatArray
from inferencesched.request import Request
from inferencesched.testing.builders import make_batch, make_request
from inferencesched.vocabulary import COLUMNS, PRODUCED, SET_COLUMNS

__all__ = ["ODD_REQUESTS", "Case", "ReadLog", "all_kinds", "known_facts", "odd_requests", "unknown_facts"]

NAN = float("nan")
_SIZES = (1, 1, 2, 2, 3, 3, 4, 5, 8)
_LABELS = ({"zone": "a", "llm-d.ai/role": "decode"}, {"zone": "b", "llm-d.ai/role": "prefill"}, {"zone": "a"})
_SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
_COUNTS = (0.0, 1.0, 2.0, 7.0, 40.0, 1000.0)
_ANY = (-3.0, 0.0, 0.3, 1.0, 12.0, 640.0, 5000.0)
"""Nothing is known about a column of somebody else's: not its unit, and not its sign."""

_ADAPTERS = (frozenset[str](), frozenset({"llama"}), frozenset({"llama", "sql"}), frozenset({"sql", "poet", "judge"}))

ORDINARY: tuple[Mapping[str, Any], ...] = (
    {"model": "llama", "prompt": "You are a helpful assistant. " * 40, "session": "s-1", "headers": {"x-zone": "a"}},
    {"model": "llama", "adapter": "sql", "prompt": list(range(512)), "max_output_tokens": 64},
    {"model": "llama", "prompt": "Hello", "prompt_tokens": 2, "attributes": {"zone": "b"}},
)
"""Requests as most are."""

ODD_REQUESTS: tuple[Mapping[str, Any], ...] = (
    {},
    {"model": "no-such-model", "adapter": ""},
    {"prompt": ""},
    {"prompt": b"\xff\xfe\x00 not UTF-8"},
    {"prompt": "\ud800 a lone surrogate"},
    {"prompt": ()},
    {"prompt": (7,)},
    {"prompt": np.arange(300)},
    {"prompt": np.arange(300, dtype=np.uint16)},
    {"prompt": "0123456789abcdef" * 4096},
    {"prompt": "Hi", "prompt_tokens": 0, "max_output_tokens": 0, "size_bytes": 0},
    {"prompt_tokens": 2_000_000, "max_output_tokens": 1_000_000},
    {"priority": -(10**9), "deadline": 0.0, "ttft_slo": 0.0, "tpot_slo": 0.0},
    {"session": "", "flow": "", "cache_salt": "salt"},
    {"session": "s" * 5000, "headers": {"X-Session-Token": "not base64!", "x-zone": ""}},
    {"prompt": "what is this?", "media": (b"", b"\x00" * 32)},
    {"attributes": {"zone": None, "picked": {}, "subset": ()}},
)
"""Requests as they also come: empty, huge, malformed, of every type that `Request` allows."""


@attrs.frozen(eq=False)
class Case:
    """A request and endpoints, as data. ``str`` is Python that makes them again.

    Attributes:
        fields: of the request.
        labels: of each endpoint; there are as many endpoints.
        columns: values by column.
        read: where all facts have to be known: what has been read so far, which no smaller case may lack.
        usual: the case that this is an unusual variation of. Who fails there fails another clause.
    """

    fields: Mapping[str, Any]
    labels: tuple[Mapping[str, str], ...]
    columns: Mapping[str, tuple[Any, ...]]
    read: set[str] | None = None
    usual: Case | None = None

    @property
    def size(self) -> int:
        """How many endpoints there are."""
        return len(self.labels)

    def request(self) -> Request:
        """Return the request, made anew: what a plugin did to an earlier one does not matter."""
        return make_request(**{**self.fields, "attributes": dict(self.fields.get("attributes", {}))})

    def batch(self) -> EndpointBatch:
        """Return the endpoints, made anew."""
        batch = make_batch(n=self.size, labels=self.labels, **dict[str, Any](self.columns))
        return batch if self.read is None else ReadLog(batch, self.read)

    def smaller(self) -> Iterator[Case]:
        """Yield the case without one endpoint, without a column, without a field of the request, without labels."""
        for row in range(self.size) if self.size > 1 else ():
            columns = {name: values[:row] + values[row + 1 :] for name, values in self.columns.items()}
            yield attrs.evolve(self, labels=self.labels[:row] + self.labels[row + 1 :], columns=columns)
        for gone in sorted(self.columns.keys() - (self.read or ())):
            yield attrs.evolve(self, columns={name: v for name, v in self.columns.items() if name != gone})
        for gone in self.fields:
            yield attrs.evolve(self, fields={name: v for name, v in self.fields.items() if name != gone})
        if any(self.labels):
            yield attrs.evolve(self, labels=tuple({} for _ in self.labels))

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={_short(value)}" for name, value in self.fields.items())
        endpoints = [f"n={self.size}"] if not self.columns else []
        endpoints += [f"labels={[dict(own) for own in self.labels]}"] if any(self.labels) else []
        endpoints += [f"{name}={_short(list(values))}" for name, values in self.columns.items()]
        return f"  request = make_request({fields})\n  endpoints = make_batch({', '.join(endpoints)})"


def known_facts(plugin: object) -> Iterable[Case]:
    """Return cases in which everything is known, few endpoints first, among them ties and extremes."""
    dice = random.Random("known")
    for number, size in enumerate(_SIZES):
        pools = {name: _pool(name) for name in _columns(plugin)}
        if number % 2:  # ties: every endpoint alike
            rows = [{name: dice.choice(pool) for name, pool in pools.items()}] * size
        else:
            rows = [{name: dice.choice(pool) for name, pool in pools.items()} for _ in range(size)]
        columns = _consistent({name: tuple(row[name] for row in rows) for name in pools})
        labels = tuple(_LABELS[row % len(_LABELS)] for row in range(size))
        yield Case(ORDINARY[number % len(ORDINARY)], labels, columns, set())


def unknown_facts(plugin: object) -> Iterable[Case]:
    """Return cases in which facts are missing: all of them, one column, one endpoint's."""
    cases = list(known_facts(plugin))
    for case in cases[1:3]:
        yield Case(case.fields, ({},) * case.size, {}, usual=case)
    for case in cases[2:6]:
        labels = ({}, *case.labels[1:])
        for unknown in case.columns:
            yield Case(case.fields, labels, {**case.columns, unknown: _nothing(unknown, case.size)}, usual=case)
        first = {name: (*_nothing(name, 1), *values[1:]) for name, values in case.columns.items()}
        yield Case(case.fields, labels, first, usual=case)
        last = {name: (*values[:-1], *_nothing(name, 1)) for name, values in case.columns.items()}
        yield Case(case.fields, labels, last, usual=case)


def all_kinds(plugin: object) -> Iterable[Case]:
    """Yield known facts, unknown ones, and odd requests."""
    yield from known_facts(plugin)
    yield from unknown_facts(plugin)
    yield from odd_requests(plugin)


def odd_requests(plugin: object) -> Iterable[Case]:
    """Return cases with requests that few authors think of, on three endpoints of which everything is known."""
    three = next(case for case in known_facts(plugin) if case.size == 3)
    return [attrs.evolve(three, fields=fields, usual=three) for fields in ODD_REQUESTS]


class ReadLog(EndpointBatch):
    """A batch that notes which columns are read, itself or through what is selected from it."""

    __slots__ = ("read",)

    def __init__(self, batch: EndpointBatch, read: set[str]) -> None:
        super().__init__(batch._membership, batch._columns, batch._sets, now=batch.now)
        self.read = read

    def __getitem__(self, key: Any) -> Any:
        """Return a column, or a row; note the column."""
        if isinstance(key, str):
            self.read.add(key)
        return super().__getitem__(key)

    def numbers(self, column: str) -> list[float]:
        """Return a column as a list; note the column."""
        self.read.add(column)
        return super().numbers(column)

    def contains(self, column: str, item: str) -> BoolArray:
        """Return whose set holds `item`; note the column."""
        self.read.add(column)
        return super().contains(column, item)

    def observed(self, column: str) -> FloatArray:
        """Return when the column was observed; note it."""
        self.read.add(column)
        return super().observed(column)


def _columns(plugin: object) -> list[str]:
    consumed = getattr(plugin, "consumes", ())
    return list(dict.fromkeys([*consumed, *COLUMNS, *PRODUCED, *SET_COLUMNS]))


def _pool(column: str) -> tuple[Any, ...]:
    if column in SET_COLUMNS:
        return _ADAPTERS
    if column.endswith("utilization"):
        return _SHARES
    return _COUNTS if column in COLUMNS or column in PRODUCED else _ANY


def _nothing(column: str, size: int) -> tuple[Any, ...]:
    return (None if column in SET_COLUMNS else NAN,) * size


def _consistent(columns: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Make the facts about the request agree: its length is one number, and no match is longer than what can match."""
    size = len(columns["prompt_tokens"])
    columns["prompt_tokens"] = (1040.0,) * size
    columns["prefix_total_tokens"] = (1024.0,) * size
    columns["prefix_matched_tokens"] = tuple(min(matched, 1024.0) for matched in columns["prefix_matched_tokens"])
    return columns


def _short(value: Any, most: int = 120) -> str:
    if isinstance(value, np.ndarray):
        return f"np.arange({len(value)}, dtype=np.{value.dtype})"
    if isinstance(value, list):
        inside = ", ".join(_short(item) for item in value)
        return f"[{inside}]"
    if isinstance(value, frozenset):
        return repr(set(value)) if value else "set()"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
