"""Every scorer's formula, as a table: what the facts are, what the scores must be."""

import math
from typing import Any

import attrs
import numpy as np
import pytest

from inferencesched import ConfigError, EndpointBatch, Registry, Request
from inferencesched.testing import make_batch

create = Registry().create
PLAIN = Request("r", "m")
UNKNOWN = math.nan

LOAD = {"algorithm": {"type": "linear_lower_is_better"}, "attributeKey": "gpu_temperature"}
RANGE = {"normalization": {"fixedRange": {"min": 20.0, "max": 80.0}}}


@attrs.frozen
class Case:
    """One line of a table."""

    name: str
    type: str
    facts: dict[str, Any]
    scores: list[float]
    parameters: dict[str, Any] | None = None
    request: Request = PLAIN


def prefix(matched: list[float], total: float | list[float] = 1024.0) -> dict[str, Any]:
    totals = total if isinstance(total, list) else [total] * len(matched)
    return {"prefix_matched_tokens": matched, "prefix_total_tokens": totals}


def adapters(active: list[Any], waiting: list[Any], room: list[float]) -> dict[str, Any]:
    return {"active_adapters": active, "waiting_adapters": waiting, "max_active_adapters": room}


def length(tokens: float, *ranges: str | None) -> dict[str, Any]:
    label = "llm-d.ai/context-length-range"
    return {
        "prompt_tokens": [tokens] * len(ranges),
        "labels": [{} if each is None else {label: each} for each in ranges],
    }


def of(type: str, *cases: tuple[Any, ...]) -> list[Case]:
    return [Case(f"{type}: {name}", type, facts, scores, *rest) for name, facts, scores, *rest in cases]


TABLE = [
    *of(
        "queue-scorer",
        ("min-max", {"waiting_requests": [0, 5, 10]}, [1.0, 0.5, 0.0]),
        ("all equal is best", {"waiting_requests": [7, 7]}, [1.0, 1.0]),
        ("all zero is best", {"waiting_requests": [0, 0]}, [1.0, 1.0]),
        ("alone is best", {"waiting_requests": [42]}, [1.0]),
        ("magnitude does not count", {"waiting_requests": [100, 101]}, [1.0, 0.0]),
        ("unknown is neutral", {"waiting_requests": [0, UNKNOWN, 10]}, [1.0, 0.5, 0.0]),
        ("unknown has no part in the range", {"waiting_requests": [UNKNOWN, 3, 3]}, [0.5, 1.0, 1.0]),
        ("all unknown", {"waiting_requests": [UNKNOWN, UNKNOWN]}, [0.5, 0.5]),
    ),
    *of(
        "running-requests-size-scorer",
        ("min-max", {"running_requests": [2, 4, 6]}, [1.0, 0.5, 0.0]),
        ("all equal is best", {"running_requests": [3, 3]}, [1.0, 1.0]),
        ("unknown is neutral", {"running_requests": [UNKNOWN, 0, 4]}, [0.5, 1.0, 0.0]),
    ),
    *of(
        "kv-cache-utilization-scorer",
        ("free share", {"kv_cache_utilization": [0.0, 0.25, 1.0]}, [1.0, 0.75, 0.0]),
        ("beyond the range is clipped", {"kv_cache_utilization": [1.2, -0.1]}, [0.0, 1.0]),
        ("unknown is neutral", {"kv_cache_utilization": [UNKNOWN, 0.9]}, [0.5, 0.1]),
    ),
    *of(
        "load-aware-scorer",
        ("an empty queue is at most half", {"waiting_requests": [0]}, [0.5]),
        ("linear up to the threshold", {"waiting_requests": [32, 64, 128]}, [0.375, 0.25, 0.0]),
        ("no worse beyond it", {"waiting_requests": [129, 10_000]}, [0.0, 0.0]),
        ("another threshold", {"waiting_requests": [5, 10]}, [0.25, 0.0], {"threshold": 10}),
        ("threshold 0 is the default", {"waiting_requests": [64]}, [0.25], {"threshold": 0}),
        ("threshold below 0 is the default", {"waiting_requests": [64]}, [0.25], {"threshold": -3}),
        ("magnitude counts", {"waiting_requests": [100, 101]}, [14 / 128, 27 / 256]),
        ("unknown is half of the best", {"waiting_requests": [UNKNOWN, 0]}, [0.25, 0.5]),
    ),
    *of(
        "lora-affinity-scorer",
        ("active", adapters([{"m"}], [set()], [1]), [1.0]),
        ("active although full", adapters([{"m", "x"}], [{"m", "y"}], [2]), [1.0]),
        ("room", adapters([{"x"}], [set()], [2]), [0.8]),
        ("room comes before waiting", adapters([{"x"}], [{"m"}], [3]), [0.8]),
        ("waiting on a full server", adapters([{"x"}], [{"m"}], [2]), [0.6]),
        ("full", adapters([{"x"}], [{"y"}], [2]), [0.0]),
        ("an adapter that is both counts twice", adapters([{"x"}], [{"x"}], [2]), [0.0]),
        ("nothing is reported", {"n": 2}, [0.0, 0.0]),
        ("no maximum is reported", adapters([{"x"}], [None], [UNKNOWN]), [0.0]),
        ("the adapter's own name", adapters([{"sql"}], [set()], [1]), [1.0], None, Request("r", "base", adapter="sql")),
    ),
    *of(
        "active-request-scorer",
        ("the busiest is 0", {"in_flight_requests": [0, 3, 4, 10]}, [1.0, 0.7, 0.6, 0.0]),
        ("all idle", {"in_flight_requests": [0, 0]}, [1.0, 1.0]),
        ("all equally busy", {"in_flight_requests": [4, 4]}, [0.0, 0.0]),
        ("up to the idle threshold", {"in_flight_requests": [2, 3, 6]}, [1.0, 0.5, 0.0], {"idleThreshold": 2}),
        ("all within it", {"in_flight_requests": [1, 2]}, [1.0, 1.0], {"idleThreshold": 2}),
        ("threshold below 0 is 0", {"in_flight_requests": [0, 4]}, [1.0, 0.0], {"idleThreshold": -1}),
        ("most a busy one can get", {"in_flight_requests": [0, 1, 4]}, [1.0, 0.375, 0.0], {"maxBusyScore": 0.5}),
        ("a maximum out of range is 1", {"in_flight_requests": [1, 4]}, [0.75, 0.0], {"maxBusyScore": 1.5}),
        ("a deprecated parameter is ignored", {"in_flight_requests": [0]}, [1.0], {"requestTimeout": "1m"}),
        ("unknown is neutral", {"in_flight_requests": [UNKNOWN, 0, 4]}, [0.5, 1.0, 0.0]),
    ),
    *of(
        "token-load-scorer",
        ("no work", {"in_flight_tokens": [0.0]}, [1.0]),
        ("by share", {"in_flight_tokens": [250.0, 1000.0]}, [0.75, 0.0], {"queueThresholdTokens": 1000}),
        ("no worse beyond it", {"in_flight_tokens": [5000.0]}, [0.0], {"queueThresholdTokens": 1000}),
        (
            "with the request's own work",
            {"in_flight_tokens": [250.0, 250.0], "uncached_request_tokens": [0.0, 250.0]},
            [0.75, 0.5],
            {"queueThresholdTokens": 1000},
        ),
        ("the default is 4 Mi", {"in_flight_tokens": [2_097_152.0]}, [0.5]),
        ("threshold 0 is the default", {"in_flight_tokens": [2_097_152.0]}, [0.5], {"queueThresholdTokens": 0}),
        (
            "own work unknown is none",
            {"in_flight_tokens": [500.0, 0.0], "uncached_request_tokens": [UNKNOWN, 0.0]},
            [0.5, 1.0],
            {"queueThresholdTokens": 1000},
        ),
        ("load unknown is neutral", {"in_flight_tokens": [UNKNOWN, 0.0]}, [0.5, 1.0]),
    ),
    *of(
        "prefix-cache-scorer",
        ("matched share", prefix([0.0, 512.0, 1024.0]), [0.0, 0.5, 1.0]),
        ("nothing to match", prefix([0.0], 0.0), [0.0]),
        ("unknown is no match", prefix([UNKNOWN, 512.0]), [0.0, 0.5]),
        ("no producer", {"n": 2}, [0.0, 0.0]),
        ("shares close to each other stay so", prefix([512.0, 522.24]), [0.5, 0.51]),
        (
            "length, squared",
            prefix([4096.0, 8192.0, 16_384.0], 16_384.0),
            [0.25, 1.0, 1.0],
            {"matchLengthWeight": 1.0},
        ),
        (
            "share and length, half and half",
            prefix([4096.0], 8192.0),
            [0.375],
            {"matchLengthWeight": 0.5},
        ),
        (
            "another scale",
            prefix([512.0]),
            [0.25 * 0.25 + 0.75 * 0.5],
            {"matchLengthWeight": 0.25, "matchLengthScaleTokens": 1024},
        ),
    ),
    *of(
        "no-hit-lru-scorer",
        ("somebody has a match", prefix([0.0, 64.0, 0.0]), [0.5, 0.5, 0.5]),
        ("cold and new, in order", prefix([0.0, 0.0, 0.0]), [1.0, 0.5, 0.0]),
        ("cold and alone", prefix([0.0]), [1.0]),
        ("unknown is cold", {"n": 2}, [1.0, 0.0]),
    ),
    *of(
        "mm-embeddings-cache-scorer",
        (
            "matched share",
            {"encoder_cache_matched_items": [0, 1, 2], "encoder_cache_request_items": [2, 2, 2]},
            [0.0, 0.5, 1.0],
        ),
        ("no media", {"encoder_cache_matched_items": [0], "encoder_cache_request_items": [0]}, [0.0]),
        ("no producer", {"n": 2}, [0.0, 0.0]),
    ),
    *of(
        "context-length-aware",
        ("no label is neutral", length(100, None), [0.5]),
        ("a label that is no range", length(100, "", "a-b", "5", "1-2-3", "-5-10", "200-100"), [0.0] * 6),
        ("in range", length(2500, "0-10000"), [0.3 + 0.7 * (0.7 / 2 + 0.3 * 0.75)]),
        ("a tighter range is better", length(1000, "0-20000"), [0.3 + 0.7 * (0.7 / 3 + 0.3 * 0.95)]),
        ("both ends are in range", length(10, "10-10", "0-10"), [1.0, 0.3 + 0.7 * 0.7 / 1.001]),
        ("spaces around the numbers", length(10, " 10 - 10 "), [1.0]),
        ("beyond it", length(3000, "0-2000"), [0.15]),
        ("below it", length(1000, "1500-2000"), [0.2]),
        ("just beyond it is worse than anything in range", length(2001, "0-2000"), [0.3 / 1.001]),
        ("a length that is unknown", length(UNKNOWN, "0-10", None, "x"), [0.5, 0.5, 0.0]),
    ),
    *of(
        "endpoint-attribute-scorer",
        ("lower is better", {"gpu_temperature": [20, 50, 80]}, [1.0, 0.5, 0.0], LOAD),
        (
            "higher is better",
            {"gpu_temperature": [20, 50, 80]},
            [0.0, 0.5, 1.0],
            LOAD | {"algorithm": {"type": "linear_higher_is_better"}},
        ),
        ("all equal is best", {"gpu_temperature": [50, 50]}, [1.0, 1.0], LOAD),
        ("missing is worst", {"gpu_temperature": [20, UNKNOWN, 80]}, [1.0, 0.0, 0.0], LOAD),
        ("missing has no part in the range", {"gpu_temperature": [UNKNOWN, 40]}, [0.0, 1.0], LOAD),
        ("all missing", {"n": 2}, [0.0, 0.0], LOAD),
        (
            "a fixed range, clipped",
            {"gpu_temperature": [10, 35, 90]},
            [1.0, 0.75, 0.0],
            LOAD | {"algorithm": {"type": "linear_lower_is_better", **RANGE}},
        ),
        (
            "a fixed range does not care who else is there",
            {"gpu_temperature": [50, 50]},
            [0.5, 0.5],
            LOAD | {"algorithm": {"type": "linear_higher_is_better", **RANGE}},
        ),
        (
            "upstream's name of a column",
            {"accelerator_utilization": [0.2, 0.8]},
            [1.0, 0.0],
            LOAD | {"attributeKey": "GPUUtilization", "producer": "dcgm-extractor"},
        ),
        (
            "an adaptive range, said",
            {"gpu_temperature": [20, 80]},
            [1.0, 0.0],
            LOAD | {"algorithm": {"type": "linear_lower_is_better", "normalization": {"adaptiveRange": {}}}},
        ),
    ),
    *of(
        "header-label-affinity-scorer",
        (
            "equal, different, absent",
            {"labels": [{"revision": "7"}, {"revision": "8"}, {}]},
            [1.0, 0.0, 0.0],
            {"headerName": "X-Revision", "labelKey": "revision"},
            Request("r", headers={"x-revision": "7"}),
        ),
        (
            "no header",
            {"labels": [{"revision": "7"}, {}]},
            [0.0, 0.0],
            {"headerName": "X-Revision", "labelKey": "revision"},
        ),
        (
            "an empty header is no header",
            {"labels": [{"revision": ""}]},
            [0.0],
            {"headerName": "X-Revision", "labelKey": "revision"},
            Request("r", headers={"X-Revision": ""}),
        ),
    ),
]


@pytest.mark.parametrize("case", TABLE, ids=[case.name for case in TABLE])
def test_a_scorer_follows_its_formula(case: Case) -> None:
    scorer = create(case.type, case.parameters)

    scores = scorer.score(case.request, make_batch(**case.facts))

    assert scores == pytest.approx(case.scores, abs=1e-12)


@pytest.mark.parametrize(
    ("type", "parameters", "says"),
    [
        ("prefix-cache-scorer", {"matchLengthWeight": 1.5}, "matchLengthWeight"),
        ("prefix-cache-scorer", {"matchLengthWeight": 0.5, "matchLengthScaleTokens": 0}, "> 0 when"),
        ("endpoint-attribute-scorer", {"algorithm": {"type": "linear_lower_is_better"}}, "attributeKey: required"),
        ("endpoint-attribute-scorer", LOAD | {"attributeKey": ""}, "attributeKey"),
        ("endpoint-attribute-scorer", LOAD | {"attributeKey": "a/b"}, "write 'a', with producer: 'b'"),
        ("endpoint-attribute-scorer", LOAD | {"algorithm": {"type": "log"}}, "one of linear_lower_is_better"),
        (
            "endpoint-attribute-scorer",
            LOAD
            | {
                "algorithm": {
                    "type": "linear_lower_is_better",
                    "normalization": {"fixedRange": {"min": 1.0, "max": 1.0}},
                }
            },
            "min < max",
        ),
        (
            "endpoint-attribute-scorer",
            LOAD
            | {
                "algorithm": {
                    "type": "linear_lower_is_better",
                    "normalization": {"fixedRange": {"min": 0.0, "max": 1.0}, "adaptiveRange": {}},
                }
            },
            "at most one of",
        ),
        ("header-label-affinity-scorer", {"headerName": "x"}, "labelKey: required"),
        ("queue-scorer", {"weight": 1}, "unknown parameter 'weight'"),
    ],
)
def test_wrong_parameters_of_a_scorer_are_refused(type: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create(type, parameters)


def test_a_fixed_range_makes_a_score_absolute_and_the_candidates_range_makes_it_relative() -> None:
    adaptive = create("endpoint-attribute-scorer", LOAD)
    fixed = create("endpoint-attribute-scorer", LOAD | {"algorithm": {"type": "linear_lower_is_better", **RANGE}})

    assert adaptive.relative
    assert not fixed.relative


def test_scores_are_fresh_arrays_that_nobody_else_holds() -> None:
    batch: EndpointBatch = make_batch(waiting_requests=[1.0, 2.0], kv_cache_utilization=[0.1, 0.2])

    for name in ("queue-scorer", "kv-cache-utilization-scorer", "load-aware-scorer"):
        scores = create(name).score(Request("r"), batch)
        scores *= 0.0  # raises if it is a column of the batch
    assert np.array_equal(batch["waiting_requests"], [1.0, 2.0])
