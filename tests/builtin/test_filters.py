"""Every filter's condition, as a table: what the facts are, who must be kept."""

import math
from typing import Any

import attrs
import numpy as np
import pytest

from inferencesched import ConfigError, Endpoint, EndpointBatch, Registry, Request
from inferencesched.testing import make_batch

create = Registry().create
PLAIN = Request("r", "m")
UNKNOWN = math.nan


@attrs.frozen
class Case:
    """One line of a table; `keeps` lists the rows."""

    name: str
    type: str
    facts: dict[str, Any]
    keeps: list[int]
    parameters: dict[str, Any] | None = None
    request: Request = PLAIN


def of(type: str, *cases: tuple[Any, ...]) -> list[Case]:
    return [Case(f"{type}: {name}", type, facts, keeps, *rest) for name, facts, keeps, *rest in cases]


def zones(*names: str | None) -> dict[str, Any]:
    return {"labels": [{} if name is None else {"zone": name} for name in names]}


def requirement(operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": "zone", "operator": operator, "values": list(values)}]}


def roles(*names: str | None) -> dict[str, Any]:
    return {"labels": [{} if name is None else {"llm-d.ai/role": name} for name in names]}


ROLES = roles(
    "decode", "prefill", "encode", "prefill-decode", "both", "encode-prefill", "encode-prefill-decode", None, "x"
)


def threshold(operator: str, value: float = 5.0, **others: Any) -> dict[str, Any]:
    algorithm = {"type": "threshold", "threshold": {"operator": operator, "value": value}}
    return {"attribute": "heat", "algorithm": algorithm, **others}


HEAT = {"heat": [4.0, 5.0, 6.0, UNKNOWN]}


def sticky(matched: list[float], load: list[float] | None = None) -> dict[str, Any]:
    facts = {"prefix_matched_tokens": matched, "prefix_total_tokens": [1000.0] * len(matched)}
    return facts if load is None else facts | {"in_flight_tokens": load}


SECOND = 15_928.0
"""Tokens that upstream's throughput prefills in a second."""


def lengths(tokens: float) -> dict[str, Any]:
    label = "llm-d.ai/context-length-range"
    ranges = ["0-2048", "2048-8192", "8193-100000", None, "a lot"]
    return {
        "prompt_tokens": [tokens] * len(ranges),
        "labels": [{} if each is None else {label: each} for each in ranges],
    }


TABLE = [
    *of(
        "label-selector-filter",
        ("empty keeps everything", zones("a", None), [0, 1]),
        ("equal", zones("a", "b", None), [0], {"matchLabels": {"zone": "a"}}),
        ("In", zones("a", "b", "c", None), [0, 1], requirement("In", "a", "b")),
        ("NotIn holds where absent", zones("a", "b", None), [1, 2], requirement("NotIn", "a")),
        ("Exists", zones("a", "", None), [0, 1], requirement("Exists")),
        ("DoesNotExist", zones("a", "", None), [2], requirement("DoesNotExist")),
        ("both kinds together", zones("a", "b"), [], {"matchLabels": {"zone": "a"}, **requirement("In", "b")}),
    ),
    *of(
        "by-label",
        ("one of", zones("a", "b", None), [0], {"label": "zone", "validValues": ["a"]}),
        ("or absent", zones("a", "b", None), [0, 2], {"label": "zone", "validValues": ["a"], "allowsNoLabel": True}),
        ("only absent", zones("a", None), [1], {"label": "zone", "allowsNoLabel": True}),
        ("empty stands for absent", zones("a", "", None), [1, 2], {"label": "zone", "validValues": [""]}),
    ),
    *of("decode-filter", ("roles", ROLES, [0, 3, 4, 6, 7])),
    *of("prefill-filter", ("roles", ROLES, [1, 3, 4, 5, 6])),
    *of("encode-filter", ("roles", ROLES, [2, 5, 6])),
    *of(
        "endpoint-attribute-filter",
        ("less", HEAT, [0, 3], threshold("LessThan")),
        ("less or equal", HEAT, [0, 1, 3], threshold("LessThanOrEqual")),
        ("greater", HEAT, [2, 3], threshold("GreaterThan")),
        ("greater or equal", HEAT, [1, 2, 3], threshold("GreaterThanOrEqual")),
        ("equal", HEAT, [1, 3], threshold("Equal")),
        ("not equal", HEAT, [0, 2, 3], threshold("NotEqual")),
        ("missing fails", HEAT, [0], threshold("LessThan", onMissing="Fail")),
        ("missing fails NotEqual too", HEAT, [0, 2], threshold("NotEqual", onMissing="Fail")),
        ("nothing is left", HEAT, [3], threshold("LessThan", 0.0)),
        ("nothing is left, fall back", {"heat": [4.0, 5.0]}, [0, 1], threshold("LessThan", 0.0, fallbackOnEmpty=True)),
        ("nobody has it", {"n": 2}, [0, 1], threshold("LessThan")),
        ("nobody has it and must", {"n": 2}, [], threshold("LessThan", onMissing="Fail")),
        (
            "upstream's name of a column",
            {"accelerator_utilization": [0.95, 0.5]},
            [1],
            threshold("LessThanOrEqual", 0.9, attribute="GPUUtilization", producer="dcgm-extractor"),
        ),
        ("a name with a slash", {"a/b": [1.0]}, [0], threshold("Equal", 1.0, attribute="a/b", producer="")),
    ),
    *of(
        "utilization-filter",
        (
            "inclusive",
            {"waiting_requests": [4, 5, 6]},
            [0, 1],
            {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
        ),
        (
            "all of several",
            {"running_requests": [1, 1, 9], "kv_cache_utilization": [0.5, 0.9, 0.5]},
            [0],
            {
                "conditions": [
                    {"metric": "running-requests", "maxValue": 8},
                    {"metric": "kv-cache-utilization", "maxValue": 0.8},
                ]
            },
        ),
        (
            "in flight, by the ledger",
            {"in_flight_requests": [0, 3]},
            [0],
            {"conditions": [{"metric": "active-requests", "maxValue": 2}]},
        ),
        (
            "unknown is kept",
            {"waiting_requests": [UNKNOWN, 6]},
            [0],
            {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
        ),
        (
            "nothing is left",
            {"waiting_requests": [6, 7]},
            [],
            {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]},
        ),
        (
            "nothing is left, fall back",
            {"waiting_requests": [6, 7]},
            [0, 1],
            {"conditions": [{"metric": "waiting-queue", "maxValue": 5}], "fallbackOnEmpty": True},
        ),
    ),
    *of(
        "prefix-cache-affinity-filter",
        ("holders", sticky([800, 799, 1000]), [0, 2]),
        ("nobody holds it", sticky([700, 0]), [0, 1]),
        ("one candidate", sticky([0]), [0]),
        ("off", sticky([1000, 0]), [0, 1], {"affinityThreshold": 0.0}),
        ("no producer", {"n": 2}, [0, 1]),
        ("a penalty that is reached", sticky([1000, 0], [18 * SECOND, 0.0]), [0]),
        ("a penalty that is passed", sticky([1000, 0], [18.01 * SECOND, 0.0]), [0, 1]),
        ("the best holder counts", sticky([1000, 1000, 0], [90 * SECOND, 1.0, 0.0]), [0, 1]),
        ("no penalty is too much", sticky([1000, 0], [900 * SECOND, 0.0]), [0], {"maxTTFTPenaltyMs": 0.0}),
        (
            "another throughput",
            sticky([1000, 0], [3000.0, 0.0]),
            [0, 1],
            {"maxTTFTPenaltyMs": 2000.0, "peakPrefillThroughput": 1000.0},
        ),
        ("a load that is not known is not small", sticky([1000, 0], [90 * SECOND, UNKNOWN]), [0]),
        (
            "by prediction",
            sticky([1000, 0]) | {"predicted_ttft": [21.0, 2.0]},
            [0, 1],
            {"ttftSource": "latencyPredictor"},
        ),
        (
            "by prediction, within the penalty",
            sticky([1000, 0]) | {"predicted_ttft": [20.0, 2.0]},
            [0],
            {"ttftSource": "latencyPredictor"},
        ),
        (
            "no prediction for a holder",
            sticky([1000, 0]) | {"predicted_ttft": [UNKNOWN, 2.0]},
            [0, 1],
            {"ttftSource": "latencyPredictor"},
        ),
        ("no prediction for anybody", sticky([1000, 0]), [0], {"ttftSource": "latencyPredictor"}),
        ("always exploring", sticky([1000, 0]), [0, 1], {"explorationProbability": 1.0}),
    ),
    *of(
        "context-length-aware",
        ("off", lengths(5000), [0, 1, 2, 3, 4]),
        ("within", lengths(5000), [1, 3], {"enableFiltering": True}),
        ("both ends belong", lengths(2048), [0, 1, 3], {"enableFiltering": True}),
        ("a length that is unknown", lengths(UNKNOWN), [0, 1, 2, 3], {"enableFiltering": True}),
    ),
]


@pytest.mark.parametrize("case", TABLE, ids=[case.name for case in TABLE])
def test_a_filter_keeps_whom_its_condition_names(case: Case) -> None:
    keep = create(case.type, case.parameters).keep(case.request, make_batch(**case.facts))

    assert np.flatnonzero(keep).tolist() == case.keeps


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("10.0.0.1", ["a"]),
        ("10.0.0.1:8000", ["a"]),
        ("10.0.0.1:9", []),
        (" 10.0.0.2 , 10.0.0.1:8000 ", ["a", "c"]),
        ("10.0.0.2:8000", ["b"]),
        ("10.0.0.2:8000,10.0.0.2:8001", ["b"]),
        ("[fd00::1]:8000", ["six"]),
        ("[fd00::1]", ["six"]),
        ("fd00::1", ["six"]),
        ("10.9.9.9", []),
        ("", []),
        (" , ", []),
        (None, []),
    ],
)
def test_the_testing_filter_keeps_one_endpoint_for_each_address_that_is_named(
    header: str | None, kept: list[str]
) -> None:
    addresses = {"a": "10.0.0.1:8000", "b": "10.0.0.2:8000", "c": "10.0.0.2:8001", "six": "[fd00::1]:8000"}
    batch = EndpointBatch.build([Endpoint(name, address) for name, address in addresses.items()])
    headers = {} if header is None else {"Test-EPP-Endpoint-Selection": header}

    keep = create("header-based-testing-filter").keep(Request("r", headers=headers), batch)

    assert [name for name, is_kept in zip(addresses, keep, strict=True) if is_kept] == kept


def test_exploration_is_a_share_of_the_requests_and_the_same_for_one_request_each_time() -> None:
    explorer = create("prefix-cache-affinity-filter", {"explorationProbability": 0.2})
    batch = make_batch(**sticky([1000, 0]))

    explored = [bool(explorer.keep(Request(f"r-{i}"), batch)[1]) for i in range(5000)]
    again = [bool(explorer.keep(Request(f"r-{i}"), batch)[1]) for i in range(5000)]

    assert explored == again
    assert sum(explored) == pytest.approx(1000, abs=4 * 28.3)  # four standard deviations


def test_two_thresholds_do_not_explore_together() -> None:
    strict, loose = (
        create("prefix-cache-affinity-filter", {"affinityThreshold": t, "explorationProbability": 0.5})
        for t in (0.99, 0.8)
    )
    batch = make_batch(**sticky([1000, 0]))

    same = [
        bool(strict.keep(r, batch)[1]) == bool(loose.keep(r, batch)[1]) for r in map(Request, map(str, range(2000)))
    ]

    assert sum(same) == pytest.approx(1000, abs=4 * 22.4)


def test_a_filter_reads_no_more_than_it_needs() -> None:
    assert "in_flight_tokens" not in create("prefix-cache-affinity-filter", {"maxTTFTPenaltyMs": 0.0}).consumes
    assert "predicted_ttft" in create("prefix-cache-affinity-filter", {"ttftSource": "latencyPredictor"}).consumes


@pytest.mark.parametrize(
    ("type", "parameters", "says"),
    [
        ("by-label", {"label": "zone"}, "this would keep nothing"),
        ("by-label", {"validValues": ["a"]}, "label: required"),
        ("label-selector-filter", requirement("In"), "at least one value"),
        ("label-selector-filter", requirement("Exists", "a"), "no values"),
        ("label-selector-filter", requirement("Like", "a"), "one of In, NotIn"),
        ("utilization-filter", {"conditions": []}, "at least 1"),
        ("utilization-filter", {"conditions": [{"metric": "kv-cache-utilization", "maxValue": 1.1}]}, "≤ 1"),
        ("utilization-filter", {"conditions": [{"metric": "waiting-queue", "maxValue": -1}]}, "≥ 0"),
        ("endpoint-attribute-filter", threshold("Near"), "one of LessThan"),
        ("endpoint-attribute-filter", threshold("Equal", attribute=""), "attribute"),
        ("endpoint-attribute-filter", threshold("Equal", attribute="GPU/dcgm"), "write 'GPU', with producer: 'dcgm'"),
        ("endpoint-attribute-filter", threshold("Equal", onMissing="Maybe"), "one of Pass, Fail"),
        ("endpoint-attribute-filter", {"attribute": "a", "algorithm": {"type": "topK"}}, "threshold"),
        ("prefix-cache-affinity-filter", {"affinityThreshold": 1.1}, "≤ 1"),
        ("prefix-cache-affinity-filter", {"explorationProbability": -0.1}, "≥ 0"),
        ("prefix-cache-affinity-filter", {"maxTTFTPenaltyMs": -1.0}, "≥ 0"),
        ("prefix-cache-affinity-filter", {"peakPrefillThroughput": 0.0}, "> 0"),
        ("prefix-cache-affinity-filter", {"ttftSource": "guess"}, "one of prefillThroughput"),
        ("topology-affinity-filter", {"minAffinity": "planet"}, "one of host"),
        ("decode-filter", {"role": "decode"}, "unknown parameter 'role'"),
    ],
)
def test_wrong_parameters_of_a_filter_are_refused(type: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create(type, parameters)


def test_a_throughput_is_not_asked_for_where_it_is_not_used() -> None:
    for unused in ({"maxTTFTPenaltyMs": 0.0}, {"ttftSource": "latencyPredictor"}):
        assert create("prefix-cache-affinity-filter", {"peakPrefillThroughput": 0.0, **unused})


@pytest.mark.parametrize(
    ("type", "parameters", "why"),
    [
        ("decode-filter", None, "llm-d.ai/role in (decode, prefill-decode, both, encode-prefill-decode) or absent"),
        ("by-label", {"label": "zone", "validValues": ["a"]}, "zone in (a)"),
        ("endpoint-attribute-filter", threshold("LessThanOrEqual", 0.9), "heat ≤ 0.9"),
        ("prefix-cache-affinity-filter", None, "prefix matched ≥ 0.8 within 18000 ms"),
        ("topology-affinity-filter", None, "same host as the endpoint of the earlier stage, or nearer"),
    ],
)
def test_a_filter_says_its_condition_in_words(type: str, parameters: dict[str, Any] | None, why: str) -> None:
    assert create(type, parameters).why == why
