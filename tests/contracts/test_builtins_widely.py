"""The checks try the same few cases on every run; here hypothesis looks for others that a built-in does not survive."""

import random
from typing import Any

import numpy as np
from hypothesis import example, given, settings, strategies as st

from inferencesched import EndpointBatch, Filter, Picker, Producer, Request, Scorer
from inferencesched.testing import make_batch, make_request, strategies
from inferencesched.vocabulary import COLUMNS, PRODUCED, SET_COLUMNS
from tests.contracts.test_builtins import PLUGINS

WIDE = settings(max_examples=60)
MATCHES = {"prefix_matched_tokens", "prefix_total_tokens"}  # of which one bounds the other: a producer's promise
BATCHES = strategies.batches(columns=sorted({*COLUMNS, *PRODUCED, *SET_COLUMNS} - MATCHES))


@WIDE
@given(strategies.requests(), BATCHES)
def test_every_scorer_scores_everything_between_0_and_1(request: Request, endpoints: EndpointBatch) -> None:
    for scorer in (plugin for plugin in PLUGINS if isinstance(plugin, Scorer)):
        scores = scorer.score(request, endpoints)

        assert scores.dtype == np.float64, scorer
        assert scores.shape == (len(endpoints),), scorer
        assert ((scores >= 0) & (scores <= 1)).all(), (scorer, scores)


@WIDE
@given(strategies.requests(), BATCHES)
def test_every_filter_decides_about_everything(request: Request, endpoints: EndpointBatch) -> None:
    for keeper in (plugin for plugin in PLUGINS if isinstance(plugin, Filter)):
        mask = keeper.keep(request, endpoints)

        assert mask.dtype == np.bool_, keeper
        assert mask.shape == (len(endpoints),), keeper


@WIDE
@given(strategies.requests(), BATCHES)
def test_every_producer_makes_what_it_declares_of_everything(request: Request, endpoints: EndpointBatch) -> None:
    for producer in (plugin for plugin in PLUGINS if isinstance(plugin, Producer)):
        made: Any = producer.produce(request, endpoints)

        assert set(made) <= set(producer.produces), producer
        endpoints.with_columns(made)  # float64 of shape (n,), or a ValueError


@WIDE
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 9), st.randoms(use_true_random=False))
@example([5e-324, 0.0], 2, random.Random(0))  # draws of the smallest number there is are rounded
def test_every_picker_ranks_distinct_endpoints(totals: list[float], n: int, rng: random.Random) -> None:
    request, endpoints = make_request(model="llama"), make_batch(n=len(totals))
    for picker in (plugin for plugin in PLUGINS if isinstance(plugin, Picker)):
        picked = list(picker.pick(request, endpoints, np.array(totals), n, rng))

        assert len(set(picked)) == len(picked) >= min(n, len(totals)), picker
        assert set(picked) <= set(range(len(totals))), picker
