"""Hypothesis strategies for the values of the library: `requests`, `endpoints`, `batches`, `facts`, `traces`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from inferencesched.endpoints import Endpoint, EndpointBatch
from inferencesched.request import Prompt, Request
from inferencesched.testing.builders import make_batch
from inferencesched.vocabulary import COLUMNS, PRODUCED, SET_COLUMNS

__all__ = ["batches", "endpoints", "facts", "prompts", "requests", "traces"]

_MODELS = ("llama", "qwen", "sql", "poet")
_LABELS = {"zone": ("a", "b", "c"), "llm-d.ai/role": ("prefill", "decode")}
_NAN = float("nan")


def prompts() -> st.SearchStrategy[Prompt | None]:
    """Return prompts of every type, many of which begin alike: that is what a prefix index is about."""
    preamble = "You are a helpful assistant. " * 20
    shared = st.integers(0, len(preamble)).map(lambda length: preamble[:length])
    text = st.builds(str.__add__, shared, st.text(max_size=40))
    tokens = st.lists(st.integers(0, 2**17), max_size=300)
    arrays = tokens.map(lambda ids: np.array(ids, np.int64))
    return st.one_of(st.none(), text, text.map(lambda t: t.encode("utf-8", "surrogatepass")), tokens, arrays)


def requests(*, ids: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[Request]:
    """Return requests, any that are valid.

    Args:
        ids: where their ids are from; any text by default.
    """
    seconds = st.none() | st.floats(0, 1e6)
    count = st.none() | st.integers(0, 2**20)
    return st.builds(
        Request,
        st.text(min_size=1, max_size=8) if ids is None else ids,
        model=st.sampled_from((*_MODELS, "")),
        prompt=prompts(),
        adapter=st.none() | st.sampled_from(_MODELS),
        priority=st.integers(-10, 10),
        flow=st.sampled_from(("tenant-a", "tenant-b", "default-flow")),
        session=st.none() | st.sampled_from(("s-1", "s-2", "s-3")),
        headers=st.dictionaries(st.sampled_from(("x-zone", "X-Session-Token")), st.text(max_size=8)),
        cache_salt=st.sampled_from(("", "salt")),
        media=st.lists(st.binary(max_size=4), max_size=2).map(tuple),
        prompt_tokens=count,
        max_output_tokens=count,
        size_bytes=count,
        deadline=seconds,
        ttft_slo=seconds,
        tpot_slo=seconds,
        attributes=st.dictionaries(st.sampled_from(("zone", "tier")), st.sampled_from(("a", "b"))),
    )


def endpoints(*, name: str | None = None) -> st.SearchStrategy[Endpoint]:
    """Return endpoints that are in no table, with and without labels."""
    names = st.sampled_from([f"e{number}" for number in range(16)]) if name is None else st.just(name)
    return st.builds(Endpoint, names, st.sampled_from(("", "10.0.0.1:8000")), labels=_labels(), rank=st.integers(0, 3))


def facts(column: str) -> st.SearchStrategy[Any]:
    """Return one endpoint's values of a column: what a source may say, and that it says nothing."""
    if column in SET_COLUMNS:
        return st.none() | st.frozensets(st.sampled_from(_MODELS))
    if column.endswith("utilization"):
        return st.just(_NAN) | st.floats(0, 1)
    if column in COLUMNS or column in PRODUCED:
        return st.just(_NAN) | st.integers(0, 5000).map(float)
    return st.just(_NAN) | st.floats(-1e6, 1e6)


@st.composite
def batches(
    draw: st.DrawFn,
    *,
    columns: Collection[str] = (*COLUMNS, *SET_COLUMNS),
    min_size: int = 1,
    max_size: int = 8,
) -> EndpointBatch:
    """Return batches of endpoints with any facts.

    Args:
        columns: the columns to fill (``CarbonAware.consumes``); a column that is not drawn for a batch is unknown.
        min_size: endpoints, at least.
        max_size: endpoints, at most.
    """
    size = draw(st.integers(min_size, max_size))
    filled: Mapping[str, list[Any]] = draw(
        st.fixed_dictionaries(
            {}, optional={name: st.lists(facts(name), min_size=size, max_size=size) for name in columns}
        )
    )
    labels = draw(st.lists(_labels(), min_size=size, max_size=size))
    return make_batch(n=size, labels=labels, **dict[str, Any](filled))


@st.composite
def traces(draw: st.DrawFn, *, max_size: int = 30) -> list[tuple[float, Request]]:
    """Return arrivals in order of time: seconds, and the request; ids tell them apart."""
    gaps = draw(st.lists(st.sampled_from((0.0, 0.001, 0.1, 2.0)), max_size=max_size))
    times = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    return [(time, draw(requests(ids=st.just(f"r-{number}")))) for number, time in enumerate(times)]


def _labels() -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries({}, optional={key: st.sampled_from(values) for key, values in _LABELS.items()})
