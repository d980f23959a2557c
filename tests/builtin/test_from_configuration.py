"""The field's own configurations, read and run: the plugins find each other by name and place requests together."""

import random
from typing import Any

import pytest

from inferencesched import Decision, Request, Scheduler, load_config
from inferencesched.registry import BUILT_IN, DEPRECATED, NOT_YET, REFUSED


def scheduler_from(plugins: list[dict[str, Any]], **profiles: list[str]) -> Scheduler:
    document = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": plugins,
        "schedulingProfiles": [
            {"name": name, "plugins": [{"pluginRef": ref} for ref in refs]} for name, refs in profiles.items()
        ],
    }
    config = load_config(document)
    assert load_config(config.to_mapping()).to_mapping() == config.to_mapping()
    return config.scheduler(rng=random.Random(1))


def place(scheduler: Scheduler, request: Request, now: float = 0.0) -> Decision:
    decision = scheduler.schedule(request, now=now)
    assert isinstance(decision, Decision), decision
    return decision


def test_prefill_and_decode_near_each_other() -> None:
    scheduler = scheduler_from(
        [
            {"type": "approx-prefix-cache-producer"},
            {"type": "prefill-filter"},
            {"type": "decode-filter"},
            {"type": "max-score-picker"},
            {"type": "topology-extractor", "parameters": {"rack": "rack"}},
            {"type": "topology-affinity-filter", "parameters": {"minAffinity": "rack"}},
            {"type": "topology-affinity-scorer"},
            {"type": "disagg-profile-handler", "parameters": {"deciders": {"prefill": "prefix-based-pd-decider"}}},
            {"type": "prefix-based-pd-decider", "parameters": {"nonCachedTokens": 100}},
        ],
        prefill=["prefill-filter", "topology-affinity-filter", "topology-affinity-scorer", "max-score-picker"],
        decode=["decode-filter", "max-score-picker"],
    )
    for role in ("prefill", "decode"):
        for rack in "ab":
            labels = {"llm-d.ai/role": role, "rack": rack}
            scheduler.add_endpoint(f"{role}-{rack}", f"{role}-{rack}:8000", labels=labels, now=0.0)

    prompt = "word " * 400
    cold = [place(scheduler, Request(f"r-{i}", "m", f"{i} {prompt}")) for i in range(8)]
    warm = place(scheduler, Request("again", "m", f"0 {prompt}"))

    assert {d.endpoint.labels["rack"] == d.others[0].endpoint.labels["rack"] for d in cold} == {True}
    assert {d.endpoint.name for d in cold} == {"decode-a", "decode-b"}
    assert all(d.headers["x-prefiller-host-port"] == d.others[0].endpoint.address for d in cold)
    assert list(place(scheduler, Request("short", "m", "hello")).passes) == ["decode"]
    assert warm.primary == "decode"


def test_sessions_by_an_annotator_that_stands_in_no_profile() -> None:
    scheduler = scheduler_from(
        [
            {"type": "session-id-producer", "name": "cookie", "parameters": {"cookieName": "sid"}},
            {
                "type": "session-affinity-scorer",
                "parameters": {
                    "strategy": "session_id",
                    "sessionIdConfig": {"sources": [{"attribute": "SessionIDDataKey", "producer": "cookie"}]},
                },
            },
            {"type": "max-score-picker"},
        ],
        default=["session-affinity-scorer", "max-score-picker"],
    )
    for i in range(8):
        scheduler.add_endpoint(f"e{i}", now=0.0)

    names = {place(scheduler, Request(f"r-{i}", headers={"Cookie": "sid=s-1"})).endpoint.name for i in range(10)}

    assert len(names) == 1


def test_a_burst_and_media_stay_together() -> None:
    scheduler = scheduler_from(
        [
            {"type": "burst-prefix-cache-producer"},
            {"type": "mm-embeddings-cache-producer", "parameters": {"cacheSizeInMB": 2048}},
            {"type": "mm-embeddings-cache-scorer"},
            {"type": "prefix-cache-scorer"},
            {"type": "random-picker", "name": "unused"},
            {"type": "max-score-picker"},
        ],
        default=["mm-embeddings-cache-scorer", "prefix-cache-scorer", "max-score-picker"],
    )
    for i in range(8):
        scheduler.add_endpoint(f"e{i}", now=0.0)

    burst = {place(scheduler, Request(f"r-{i}", "m", "x" * 1024)).endpoint.name for i in range(5)}
    album = {place(scheduler, Request(f"i-{i}", "m", media=(b"cat",)), now=9.0).endpoint.name for i in range(5)}

    assert len(burst) == len(album) == 1


def test_the_deprecated_shape_still_runs() -> None:
    scheduler = scheduler_from(
        [
            {"type": "prefill-header-handler"},
            {"type": "prefill-filter"},
            {"type": "decode-filter"},
            {"type": "by-label", "parameters": {"label": "zone", "validValues": ["a"], "allowsNoLabel": True}},
            {"type": "by-label-selector", "parameters": {"matchLabels": {"llm-d.ai/role": "prefill"}}},
            {"type": "max-score-picker"},
            {"type": "prefix-based-pd-decider", "parameters": {"nonCachedTokens": 1}},
            {"type": "pd-profile-handler", "parameters": {"primaryPort": 8000}},
        ],
        prefill=["by-label-selector", "by-label", "max-score-picker"],
        decode=["decode-filter", "max-score-picker"],
    )
    for role in ("prefill", "decode"):
        scheduler.add_endpoint(role, f"{role}:8001", labels={"llm-d.ai/role": role}, now=0.0)

    decision = place(scheduler, Request("r", "m", "word " * 400))

    assert decision.headers == {
        "x-prefiller-host-port": "prefill:8001",
        "x-data-parallel-host-port": "decode:8001",
    }
    assert decision.address == "decode:8000"


@pytest.mark.parametrize("name", sorted(DEPRECATED))
def test_a_deprecated_name_leads_somewhere(name: str) -> None:
    assert name in BUILT_IN or DEPRECATED[name] in BUILT_IN or DEPRECATED[name] in NOT_YET


def test_no_name_is_in_two_tables() -> None:
    assert not BUILT_IN.keys() & (REFUSED.keys() | NOT_YET.keys())
    assert not REFUSED.keys() & NOT_YET.keys()
