"""Profile handlers: which profiles run, who answers, and what the servers are told about each other."""

import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched import ConfigError, Decision, Profile, Registry, Rejection, Request, Scheduler
from inferencesched.errors import Problem
from inferencesched.testing import make_batch

REGISTRY = Registry()
create = REGISTRY.create

ALWAYS = create("always-disagg-pd-decider")
MULTIMODAL = create("always-disagg-multimodal-decider")
DECIDERS = {
    "always": ALWAYS,
    "multimodal": MULTIMODAL,
    "prefix": create("prefix-based-pd-decider", {"nonCachedTokens": 64}),
}


def build(type: str, parameters: dict[str, Any] | None = None, **references: object) -> Any:
    problems: list[Problem] = []
    named = REGISTRY.build(type, parameters, path=type, problems=problems, references=references or DECIDERS)
    if named is None:
        raise ConfigError(problems)
    return named.plugin


def profile(name: str, **parts: Any) -> Profile:
    parts.setdefault("filters", [create(f"{name}-filter")] if name in {"decode", "prefill", "encode"} else [])
    return Profile(name, scorers=[(create("active-request-scorer"), 1.0)], picker=create("max-score-picker"), **parts)


def scheduler_of(handler: Any, *stages: str, fleet: tuple[str, ...] = ("decode", "prefill", "encode")) -> Scheduler:
    """Return a scheduler with a profile for each stage, and two endpoints for each role of the fleet."""
    profiles = {stage: profile(stage) for stage in stages or ("decode", "prefill", "encode")}
    scheduler = Scheduler(profiles, handler=handler, rng=random.Random(1))
    for role in fleet:
        for i in range(2):
            labels = {"llm-d.ai/role": role}
            scheduler.add_endpoint(f"{role}-{i}", f"{role}-{i}:8000", labels=labels, now=0.0)
    return scheduler


def place(scheduler: Scheduler, request: Request | None = None, **how: Any) -> Decision:
    decision = scheduler.schedule(request or Request("r"), now=0.0, **how)
    assert isinstance(decision, Decision), decision
    return decision


def roles_in(decision: Decision) -> list[str]:
    return [lease.endpoint.name.partition("-")[0] for lease in decision.leases]


PD = {"deciders": {"prefill": "always"}}
EPD = {"deciders": {"prefill": "always", "encode": "multimodal"}}
IMAGE = Request("r", media=(b"cat",))


# --- single, by header, data parallel --------------------------------------------------------------------------------


def test_a_single_profile_answers() -> None:
    assert place(scheduler_of(create("single-profile-handler"), "decode")).primary == "decode"


def test_the_single_profile_handler_does_not_choose_among_several() -> None:
    outcome = scheduler_of(create("single-profile-handler"), "decode", "prefill").schedule(Request("r"), now=0.0)

    assert isinstance(outcome, Rejection)
    assert outcome.message.startswith("single-profile-handler expects one profile, 2 ran")


@pytest.mark.parametrize(
    ("parameters", "headers", "ran"),
    [
        ({}, {"EPP-Profile": "prefill"}, "prefill"),
        ({}, {"epp-profile": "  prefill "}, "prefill"),
        ({}, {"epp-profile": " "}, "decode"),
        ({}, {}, "decode"),
        ({"defaultProfile": "prefill"}, {}, "prefill"),
        ({"headerName": "X-Stage"}, {"x-stage": "prefill"}, "prefill"),
        ({"headerName": ""}, {"epp-profile": "prefill"}, "prefill"),
        ({}, {"epp-profile": "Prefill"}, None),
        ({}, {"epp-profile": "train"}, None),
    ],
)
def test_a_header_names_the_profile(parameters: dict[str, Any], headers: dict[str, str], ran: str | None) -> None:
    scheduler = scheduler_of(create("header-profile-handler", parameters), "decode", "prefill")

    outcome = scheduler.schedule(Request("r", headers=headers), now=0.0)

    assert list(outcome.passes) == ([] if ran is None else [ran])
    assert isinstance(outcome, Rejection if ran is None else Decision)


def test_one_profile_runs_whatever_the_header_says() -> None:
    scheduler = scheduler_of(create("header-profile-handler"), "decode")

    assert place(scheduler, Request("r", headers={"epp-profile": "train"})).primary == "decode"


def ranks(**parameters: Any) -> Scheduler:
    handler = create("data-parallel-profile-handler", parameters)
    scheduler = Scheduler(profile("default"), handler=handler, rng=random.Random(1))
    for rank in range(2):
        scheduler.add_endpoint(f"server-rank-{rank}", f"10.0.0.1:{8000 + rank}", rank=rank, now=0.0)
    return scheduler


def test_data_parallel_ranks_share_a_port_and_are_named_by_a_header() -> None:
    scheduler = ranks()

    decisions = [place(scheduler, n=2) for _ in range(2)]

    assert [d.address for d in decisions] == ["10.0.0.1:8000"] * 2
    assert {d.headers["x-data-parallel-host-port"] for d in decisions} == {"10.0.0.1:8000", "10.0.0.1:8001"}
    assert {scheduler.ledger.requests(d.endpoint) for d in decisions} == {1}
    assert {d.to_dict()["address"] for d in decisions} == {"10.0.0.1:8000"}


def test_the_rank_is_named_anew_when_a_request_moves() -> None:
    scheduler = ranks(primaryPort=9000)
    decision = place(scheduler, n=2)

    moved = scheduler.fallback(Request("r"), decision, now=1.0)

    assert moved is not None
    assert moved.address == "10.0.0.1:9000"
    assert moved.headers == {"x-data-parallel-host-port": moved.endpoint.address}


def test_port_0_sends_to_the_rank_itself() -> None:
    decision = place(ranks(primaryPort=0))

    assert decision.address == decision.endpoint.address
    assert decision.headers == {}


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_is_a_port(port: int) -> None:
    with pytest.raises(ConfigError, match="primaryPort"):
        create("data-parallel-profile-handler", {"primaryPort": port})


@pytest.mark.parametrize(
    ("address", "sent_to"),
    [("10.0.0.1:8001", "10.0.0.1:8000"), ("[fd00::1]:8001", "[fd00::1]:8000"), ("server", "server:8000")],
)
def test_the_shared_port_replaces_the_ranks_own(address: str, sent_to: str) -> None:
    scheduler = Scheduler(profile("default"), handler=create("data-parallel-profile-handler"), rng=random.Random(1))
    scheduler.add_endpoint("e", address, now=0.0)

    assert place(scheduler).address == sent_to


# --- deciders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "facts", "splits"),
    [
        ({"nonCachedTokens": 512}, {"prompt_tokens": 1024, "prefix_matched_tokens": 512}, True),
        ({"nonCachedTokens": 512}, {"prompt_tokens": 1024, "prefix_matched_tokens": 513}, False),
        ({"nonCachedTokens": 512}, {"prompt_tokens": 511, "prefix_matched_tokens": 0}, False),
        ({"nonCachedTokens": 0}, {"prompt_tokens": 10_000, "prefix_matched_tokens": 0}, False),
        ({}, {"prompt_tokens": 10_000, "prefix_matched_tokens": 0}, False),
        ({"nonCachedTokens": 1, "promptTokens": 100}, {"prompt_tokens": 99, "prefix_matched_tokens": 0}, False),
        ({"nonCachedTokens": 1, "promptTokens": 100}, {"prompt_tokens": 100, "prefix_matched_tokens": 0}, True),
        (
            {"nonCachedTokens": 512},
            {"prompt_tokens": 1024, "prefix_matched_tokens": 500, "prefix_cached_tokens": 1000},
            False,
        ),
        ({"nonCachedTokens": 512}, {"prompt_tokens": 1024}, False),
        ({"nonCachedTokens": 512}, {"prefix_matched_tokens": 0}, False),
    ],
    ids=[
        "enough", "cached", "short", "off", "off by default", "below promptTokens", "at promptTokens",
        "cached in another tier", "match unknown", "length unknown",
    ],
)  # fmt: skip
def test_prefill_elsewhere_pays_by_what_is_not_cached(
    parameters: dict[str, Any], facts: dict[str, float], splits: bool
) -> None:
    columns: dict[str, Any] = {name: [value] for name, value in facts.items()}
    chosen = profile("default").run(Request("r"), make_batch(**columns), random.Random(1))

    assert create("prefix-based-pd-decider", parameters).disaggregate(Request("r"), chosen) is splits


def test_a_prefix_decider_without_a_decode_endpoint_says_no() -> None:
    decider = create("prefix-based-pd-decider", {"nonCachedTokens": 1})

    assert not decider.disaggregate(Request("r"), None)


def test_the_other_deciders() -> None:
    assert ALWAYS.disaggregate(Request("r"), None)
    assert MULTIMODAL.disaggregate(IMAGE, None)
    assert not MULTIMODAL.disaggregate(Request("r", prompt="text"), None)


@pytest.mark.parametrize("parameters", [{"nonCachedTokens": -1}, {"promptTokens": -1}])
def test_limits_of_a_decider_are_not_negative(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="≥ 0"):
        create("prefix-based-pd-decider", parameters)


# --- disaggregation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "request_", "ran"),
    [
        (None, Request("r"), ["decode"]),
        (None, IMAGE, ["decode"]),
        (PD, Request("r"), ["decode", "prefill"]),
        (EPD, Request("r"), ["decode", "prefill"]),
        (EPD, IMAGE, ["decode", "encode", "prefill"]),
        ({"deciders": {"encode": "multimodal"}}, IMAGE, ["decode", "encode"]),
        ({"deciders": {"prefill": "prefix"}}, Request("r"), ["decode"]),
        ({"stageOrder": "prefill-first"}, Request("r"), ["prefill", "decode"]),
        ({"stageOrder": "prefill-first", "deciders": {"encode": "multimodal"}}, IMAGE, ["prefill", "encode", "decode"]),
    ],
)
def test_stages_run_in_their_order_when_they_are_worth_it(
    parameters: dict[str, Any] | None, request_: Request, ran: list[str]
) -> None:
    decision = place(scheduler_of(build("disagg-profile-handler", parameters)), request_)

    assert list(decision.passes) == ran
    assert decision.primary == "decode"
    assert sorted(roles_in(decision)) == sorted(ran)
    assert decision.message == ""


@pytest.mark.parametrize("spelling", ["prefill-first", "prefillFirst", "prefill_first", "PREFILL", "prefill"])
def test_upstreams_spellings_of_the_stage_order(spelling: str) -> None:
    assert create("disagg-profile-handler", {"stageOrder": spelling}).stage_order == "prefill-first"
    assert create("disagg-profile-handler", {"stageOrder": ""}).stage_order == "decode-first"


def test_a_stage_without_a_profile_does_not_run() -> None:
    decision = place(scheduler_of(build("disagg-profile-handler", EPD), "decode"), IMAGE)

    assert list(decision.passes) == ["decode"]


def test_profiles_go_by_names_of_ones_own() -> None:
    handler = build("disagg-profile-handler", PD | {"profiles": {"decode": "d", "prefill": "p"}})
    profiles = {
        "d": profile("d", filters=[create("decode-filter")]),
        "p": profile("p", filters=[create("prefill-filter")]),
    }
    scheduler = Scheduler(profiles, handler=handler, rng=random.Random(1))
    for role in ("decode", "prefill"):
        scheduler.add_endpoint(role, f"{role}:1", labels={"llm-d.ai/role": role}, now=0.0)

    decision = place(scheduler)

    assert decision.endpoint.name == "decode"
    assert [lease.stage for lease in decision.others] == ["p"]


@pytest.mark.parametrize(
    ("flat", "nested"),
    [
        ({"prefillDeciderPluginName": "always"}, PD),
        ({"deciderPluginName": "always"}, PD),
        ({"deciderPluginName": "prefix", "prefillDeciderPluginName": "always"}, PD),
        ({"encodeDeciderPluginName": "multimodal"}, {"deciders": {"encode": "multimodal"}}),
        ({"decodeProfile": "decode", "prefillProfile": "prefill", "encodeProfile": "encode"}, {}),
    ],
)
def test_the_deprecated_flat_parameters_mean_the_same(flat: dict[str, Any], nested: dict[str, Any]) -> None:
    old, new = (scheduler_of(build("disagg-profile-handler", each)) for each in (flat, nested))

    assert list(place(old, IMAGE).passes) == list(place(new, IMAGE).passes)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"stageOrder": "encode-first"}, "decode-first or prefill-first"),
        ({"stageOrder": "prefill-first", "deciders": {"prefill": "always"}}, "takes no decider"),
        ({"stageOrder": "prefill-first", "deciderPluginName": "always"}, "takes no decider"),
        ({"deciders": {"prefill": "always"}, "decodeProfile": "d"}, "got both"),
        ({"deciders": {"prefill": "alway"}}, "no plugin 'alway' is declared — did you mean 'always'"),
        ({"deciders": {"prefill": 3}}, "expected the name of a plugin, got 3"),
        ({"deciders": {"decode": "always"}}, "unknown parameter 'decode'"),
        ({"stageUnavailable": "wait"}, "one of omit, reject"),
    ],
)
def test_wrong_parameters_of_a_handler_are_refused(parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build("disagg-profile-handler", parameters)


def test_a_decider_must_be_one() -> None:
    with pytest.raises(ConfigError, match="the name of a decider, got a queue-scorer"):
        build("disagg-profile-handler", PD, always=create("queue-scorer"))


def test_without_a_decode_endpoint_there_is_no_answer() -> None:
    scheduler = scheduler_of(build("disagg-profile-handler", PD), fleet=("prefill",))

    outcome = scheduler.schedule(Request("r"), now=0.0)

    assert isinstance(outcome, Rejection)
    assert (outcome.http_status, outcome.message.partition(";")[0]) == (503, "no decode endpoint")
    assert list(outcome.passes) == ["decode"]
    assert len(scheduler.ledger) == 0


# --- what the servers are told ---------------------------------------------------------------------------------------


def test_the_decode_server_is_told_where_prefill_and_encoding_are() -> None:
    decision = place(scheduler_of(build("disagg-profile-handler", EPD)), IMAGE)
    at = {lease.stage: lease.endpoint.address for lease in decision.others}

    assert decision.headers == {"x-prefiller-host-port": at["prefill"], "x-encoder-hosts-ports": at["encode"]}


def test_every_encode_endpoint_that_was_picked_is_named() -> None:
    several = create("max-score-picker", {"maxNumOfEndpoints": 2})
    profiles = {
        "decode": profile("decode"),
        "encode": Profile("encode", filters=[create("encode-filter")], picker=several),
    }
    handler = build("disagg-profile-handler", {"deciders": {"encode": "multimodal"}})
    scheduler = Scheduler(profiles, handler=handler, rng=random.Random(1))
    for name, role in (("d", "decode"), ("e0", "encode"), ("e1", "encode")):
        scheduler.add_endpoint(name, f"{name}:1", labels={"llm-d.ai/role": role}, now=0.0)

    assert sorted(place(scheduler, IMAGE).headers["x-encoder-hosts-ports"].split(",")) == ["e0:1", "e1:1"]


FORGED = {
    "X-Prefiller-Host-Port": "evil:1",
    "x-encoder-hosts-ports": "evil:2",
    "X-Data-Parallel-Host-Port": "evil:3",
    "Authorization": "Bearer x",
}


@pytest.mark.parametrize(
    ("handler", "left"),
    [
        (build("disagg-profile-handler"), {"x-data-parallel-host-port"}),
        (build("disagg-profile-handler", PD), {"x-data-parallel-host-port", "x-prefiller-host-port"}),
        (build("pd-profile-handler", {"deciderPluginName": "always", "primaryPort": 8000}), set()),
    ],
    ids=["decode only", "prefill and decode", "deprecated"],
)
def test_k7_headers_of_ours_are_overwritten_or_cleared_never_appended(handler: Any, left: set[str]) -> None:
    decision = place(scheduler_of(handler, "decode", "prefill"), Request("r", headers=FORGED))

    forwarded = decision.forward(FORGED)

    ours = {name: value for name, value in forwarded.items() if name.startswith("x-")}
    assert forwarded["authorization"] == "Bearer x"
    assert {name for name, value in ours.items() if value.startswith("evil")} == left - {"x-prefiller-host-port"}
    assert ("x-prefiller-host-port" in ours) == ("prefill" in decision.passes)


def test_k7_the_data_parallel_header_of_a_client_is_overwritten() -> None:
    forwarded = place(ranks()).forward(FORGED)

    assert forwarded["x-data-parallel-host-port"].startswith("10.0.0.1:")


# --- the pair --------------------------------------------------------------------------------------------------------


def test_a_pair_is_leased_in_one_moment_and_ends_as_one() -> None:
    scheduler = scheduler_of(build("disagg-profile-handler", PD))
    decision = place(scheduler)

    assert len(scheduler.ledger) == 2
    scheduler.first_token(decision, now=1.0)
    assert [lease in scheduler.ledger for lease in decision.leases] == [True, False]
    scheduler.finish(decision, now=2.0)
    assert len(scheduler.ledger) == 0
    assert scheduler.ledger.audit().balanced


def test_a_burst_spreads_over_prefill_and_decode_alike() -> None:
    scheduler = scheduler_of(build("disagg-profile-handler", PD))

    for i in range(10):
        place(scheduler, Request(f"r-{i}"))

    assert {e.name: scheduler.ledger.requests(e) for e in scheduler.table.endpoints if "encode" not in e.name} == {
        "decode-0": 5, "decode-1": 5, "prefill-0": 5, "prefill-1": 5,
    }  # fmt: skip


def test_l6_a_missing_prefill_endpoint_is_named_in_the_receipt() -> None:
    scheduler = scheduler_of(build("disagg-profile-handler", PD), fleet=("decode",))

    decision = place(scheduler)

    assert decision.message == f"no prefill endpoint: '{decision.endpoint.name}' does it instead"
    assert decision.message in decision.explain()
    assert decision.to_dict()["message"] == decision.message
    assert decision.headers == {}
    assert roles_in(decision) == ["decode"]


def test_l6_a_missing_prefill_endpoint_turns_a_request_away_where_that_is_wanted() -> None:
    for order in ({}, {"stageOrder": "prefill-first"}):
        handler = build("disagg-profile-handler", {**({} if order else PD), **order, "stageUnavailable": "reject"})
        scheduler = scheduler_of(handler, "decode", "prefill", fleet=("decode",))

        outcome = scheduler.schedule(Request("r"), now=0.0)

        assert isinstance(outcome, Rejection)
        assert outcome.message.startswith("no prefill endpoint")
        assert (outcome.http_status, outcome.reason) == (503, "rejected-no-endpoints")
        assert len(scheduler.ledger) == 0


def test_l6_a_prefill_fleet_that_is_only_full_is_worth_a_retry() -> None:
    handler = build("disagg-profile-handler", PD | {"stageUnavailable": "reject"})
    full = create("utilization-filter", {"conditions": [{"metric": "waiting-queue", "maxValue": 5}]})
    profiles = {"decode": profile("decode"), "prefill": profile("prefill", filters=[create("prefill-filter"), full])}
    scheduler = Scheduler(profiles, handler=handler, rng=random.Random(1))
    for role in ("decode", "prefill"):
        scheduler.add_endpoint(role, labels={"llm-d.ai/role": role}, now=0.0)
    scheduler.update("prefill", {"waiting_requests": 9.0}, now=0.0)

    outcome = scheduler.schedule(Request("r"), now=0.0)

    assert isinstance(outcome, Rejection)
    assert (outcome.http_status, outcome.reason) == (429, "rejected-saturated")


def test_l6_a_missing_encode_endpoint_is_named_too() -> None:
    decision = place(scheduler_of(build("disagg-profile-handler", EPD), fleet=("decode",)), IMAGE)

    assert decision.message.startswith("no prefill and no encode endpoint: ")


# --- in whatever order the questions come ----------------------------------------------------------------------------


@given(
    st.sampled_from(["decode-first", "prefill-first"]),
    st.sampled_from(["omit", "reject"]),
    st.sets(st.sampled_from(["decode", "prefill", "encode"])),
    st.sets(st.sampled_from(["decode", "prefill", "encode", "extra"]), min_size=1),
    st.booleans(),
)
def test_h12_every_request_ends_in_an_outcome(
    order: str, unavailable: str, fleet: set[str], stages: set[str], has_image: bool
) -> None:
    deciders = {"encode": "multimodal"} | ({"prefill": "always"} if order == "decode-first" else {})
    handler = build(
        "disagg-profile-handler", {"stageOrder": order, "stageUnavailable": unavailable, "deciders": deciders}
    )
    scheduler = scheduler_of(handler, *sorted(stages), fleet=tuple(sorted(fleet)))

    outcome = scheduler.schedule(IMAGE if has_image else Request("r"), now=0.0)

    if isinstance(outcome, Decision):
        assert outcome.endpoint.name.startswith("decode")
        assert {lease.stage for lease in outcome.leases} <= stages
        assert len(scheduler.ledger) == len(outcome.leases)
    else:
        assert len(scheduler.ledger) == 0
    assert scheduler.faults == {}


def test_the_deprecated_handler_finds_its_decider_by_its_usual_name() -> None:
    found = build("pd-profile-handler", None, **{"prefix-based-pd-decider": ALWAYS})

    assert list(place(scheduler_of(found)).passes) == ["decode", "prefill"]
    with pytest.raises(ConfigError, match="none is named"):
        create("pd-profile-handler")
