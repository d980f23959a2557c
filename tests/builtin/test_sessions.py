"""Sessions: where the id comes from, whom it binds to, and when the binding ends."""

import base64
import random
from typing import Any

import pytest

from inferencesched import ConfigError, Decision, Profile, Registry, Request, Scheduler

create = Registry().create

BY_ID = {"strategy": "session_id"}


def scheduler_of(affinity: Any, endpoints: int = 4, *, plugins: tuple[Any, ...] = (), ttl: float = 600.0) -> Scheduler:
    """Return a scheduler in which load, and only load, speaks against the session's endpoint."""
    is_filter = hasattr(affinity, "keep")
    profile = Profile(
        filters=[affinity] if is_filter else [],
        scorers=[(create("active-request-scorer"), 1.0), *([] if is_filter else [(affinity, 5.0)])],
        picker=create("max-score-picker"),
    )
    scheduler = Scheduler(profile, rng=random.Random(1), plugins=plugins, lease_ttl=ttl)
    for i in range(endpoints):
        scheduler.add_endpoint(f"e{i}", f"10.0.0.{i}:8000", now=0.0)
    return scheduler


def place(scheduler: Scheduler, session: str = "", now: float = 0.0, **how: Any) -> Decision:
    headers = {"x-session-id": session} if session else {}
    decision = scheduler.schedule(Request("r", headers=headers), now=now, **how)
    assert isinstance(decision, Decision)
    return decision


@pytest.fixture(params=["session-affinity-filter", "session-affinity-scorer"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both plugins keep sessions by the same rules."""
    return str(request.param)


# --- which session ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "headers", "session"),
    [
        ({"headerName": "X-Session"}, {"x-session": " s-1 "}, "s-1"),
        ({"headerName": " X-Session "}, {"X-SESSION": "s-1"}, "s-1"),
        ({"headerName": "x-session"}, {"x-session": "  "}, None),
        ({"headerName": "x-session"}, {}, None),
        ({"cookieName": "sid"}, {"cookie": "a=1; sid=s-1; b=2"}, "s-1"),
        ({"cookieName": "sid"}, {"cookie": "sid=a=b"}, "a=b"),
        ({"cookieName": "sid"}, {"cookie": "SID=s-1; sid"}, None),
        ({"cookieName": "sid"}, {}, None),
    ],
)
def test_a_session_is_read_from_a_header_or_a_cookie(
    parameters: dict[str, Any], headers: dict[str, str], session: str | None
) -> None:
    found = create("session-id-producer", parameters).annotate(Request("r", headers=headers))

    assert found == ({} if session is None else {"SessionIDDataKey": session})


@pytest.mark.parametrize("parameters", [{}, {"headerName": "a", "cookieName": "b"}, {"headerName": " "}])
def test_a_session_has_exactly_one_source(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="exactly one of headerName and cookieName"):
        create("session-id-producer", parameters)


@pytest.mark.parametrize(
    ("headers", "identity"),
    [
        ({"x-claude-code-session-id": "a", "session-id": "b"}, "a"),
        ({"x-session-affinity": "a", "session_id": "b"}, "a"),
        ({"session-id": "a", "session_id": "b"}, "a"),
        ({"session_id": "a"}, "a"),
        ({"x-mine": "m", "x-claude-code-session-id": "a"}, "m"),
        ({"x-mine": "", "session-id": "a"}, "a"),
        ({}, None),
    ],
)
def test_an_agent_is_told_by_the_first_header_that_says_something(
    headers: dict[str, str], identity: str | None
) -> None:
    agent = create("agent-identity", {"additionalSessionHeaders": ["X-Mine"]})

    assert agent.annotate(Request("r", headers=headers)) == ({} if identity is None else {"agent-identity": identity})


def test_attributes_reach_the_plugins_under_their_name_and_their_producers() -> None:
    seen: dict[str, Any] = {}

    class Reader:
        def score(self, request: Request, endpoints: Any, /) -> Any:
            seen.update(request.attributes)
            return endpoints["waiting_requests"] * 0 + 1

    annotators = (create("session-id-producer", {"headerName": "s"}), create("agent-identity"))
    scheduler = Scheduler(
        Profile(scorers=[(Reader(), 1.0)], picker=create("max-score-picker")), rng=random.Random(1), plugins=annotators
    )
    scheduler.add_endpoint("e", now=0.0)
    scheduler.update("e", {"waiting_requests": 0.0}, now=0.0)
    request = Request("r", headers={"s": "s-1", "session-id": "agent"}, attributes={"tenant": "t"})

    scheduler.schedule(request, now=0.0)

    assert seen == {
        "tenant": "t",
        "SessionIDDataKey": "s-1",
        "SessionIDDataKey/session-id-producer": "s-1",
        "agent-identity": "agent",
        "agent-identity/agent-identity": "agent",
    }
    assert scheduler.annotate(request, now=0.0).attributes == seen


def test_an_annotator_that_fails_is_named_in_the_receipt_and_fails_nothing() -> None:
    class Broken:
        type = "broken-annotator"

        def annotate(self, request: Request, /) -> Any:
            return None

    scheduler = Scheduler(Profile(picker=create("max-score-picker")), rng=random.Random(1), plugins=[Broken()])
    scheduler.add_endpoint("e", now=0.0)

    decision = place(scheduler)

    assert [(skip.plugin, skip.role) for skip in decision.skipped] == [("broken-annotator", "annotator")]


@pytest.mark.parametrize(
    ("sources", "request_", "session"),
    [
        ([], Request("r", headers={"x-session-id": "s"}), "s"),
        ([{"header": "A"}, {"header": "b"}], Request("r", headers={"a": " ", "b": "s"}), "s"),
        ([{"attribute": "agent-identity"}], Request("r", attributes={"agent-identity": "s"}), "s"),
        (
            [{"attribute": "SessionIDDataKey", "producer": "mine"}],
            Request("r", attributes={"SessionIDDataKey": "other", "SessionIDDataKey/mine": "s"}),
            "s",
        ),
        ([{"attribute": "n"}], Request("r", attributes={"n": 7}), ""),
        ([], Request("r", session="known to the host"), "known to the host"),
        ([], Request("r"), ""),
    ],
)
def test_the_first_source_that_knows_a_session_is_believed(
    sources: list[dict[str, str]], request_: Request, session: str
) -> None:
    affinity = create("session-affinity-filter", BY_ID | {"sessionIdConfig": {"sources": sources}})

    assert affinity._session(request_) == session


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"strategy": "sticky"}, "one of encoded_endpoint_header, session_id"),
        ({"sessionIdConfig": {"sources": [{}]}}, "exactly one of header and attribute"),
        ({"sessionIdConfig": {"sources": [{"header": "a", "attribute": "b"}]}}, "exactly one of header and attribute"),
        ({"sessionIdConfig": {"evictionTtlSeconds": -1.0}}, "> 0"),
    ],
)
def test_wrong_parameters_of_an_affinity_are_refused(kind: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        create(kind, parameters)


# --- bound by id -----------------------------------------------------------------------------------------------------


def test_a_session_stays_where_it_began_however_busy_that_is(kind: str) -> None:
    scheduler = scheduler_of(create(kind, BY_ID))

    names = {place(scheduler, "s-1").endpoint.name for _ in range(20)}

    assert len(names) == 1


def test_b12_requests_without_a_session_are_balanced(kind: str) -> None:
    scheduler = scheduler_of(create(kind, BY_ID))

    names = [place(scheduler).endpoint.name for _ in range(8)]

    assert sorted(names) == ["e0", "e0", "e1", "e1", "e2", "e2", "e3", "e3"]


def test_nothing_is_remembered_of_requests_without_a_session(kind: str) -> None:
    affinity = create(kind, BY_ID)
    scheduler = scheduler_of(affinity)
    decision = place(scheduler, n=2)

    assert scheduler.fallback(Request("r"), decision, now=0.0) is not None
    assert len(affinity._bound) == 0


def test_l9_different_sessions_do_not_mix(kind: str) -> None:
    scheduler = scheduler_of(create(kind, BY_ID))
    homes = {f"s-{i}": place(scheduler, f"s-{i}").endpoint for i in range(4)}

    assert len(set(homes.values())) == 4
    assert all(place(scheduler, session).endpoint == home for session, home in reversed(homes.items()))


def test_l10_a_session_whose_endpoint_restarted_is_bound_anew(kind: str) -> None:
    affinity = create(kind, BY_ID)
    scheduler = scheduler_of(affinity)
    before = place(scheduler, "s-1").endpoint
    restarted = scheduler.add_endpoint(before.name, "10.9.9.9:8000", now=1.0)

    after = place(scheduler, "s-1", now=1.0).endpoint

    assert restarted != before
    assert after == place(scheduler, "s-1", now=2.0).endpoint
    assert affinity._bound.get("s-1", now=2.0) == after


def test_l10_an_idle_session_expires_on_time_and_one_in_use_does_not(kind: str) -> None:
    affinity = create(kind, BY_ID | {"sessionIdConfig": {"evictionTtlSeconds": 60.0}})
    scheduler = scheduler_of(affinity)
    home = place(scheduler, "s-1", now=0.0).endpoint

    assert place(scheduler, "s-1", now=50.0).endpoint == home
    assert affinity._bound.get("s-1", now=110.0) == home
    assert affinity._bound.get("s-1", now=110.1) is None


def test_l10_ending_a_request_twice_ends_no_session(kind: str) -> None:
    affinity = create(kind, BY_ID)
    scheduler = scheduler_of(affinity)
    decision = place(scheduler, "s-1")

    assert [scheduler.finish(decision, now=1.0) for _ in range(2)] == [True, False]
    assert affinity._bound.get("s-1", now=1.0) == decision.endpoint


def test_an_absent_endpoint_moves_the_session_for_good(kind: str) -> None:
    scheduler = scheduler_of(create(kind, BY_ID))
    home = place(scheduler, "s-1").endpoint
    others = [f"e{i}" for i in range(4) if f"e{i}" != home.name]

    away = place(scheduler, "s-1", subset=others).endpoint

    assert away != home
    assert place(scheduler, "s-1").endpoint == away


def test_a_session_that_was_only_outweighed_stays_bound() -> None:
    affinity = create("session-affinity-scorer", BY_ID)
    profile = Profile(
        scorers=[(affinity, 1.0), (create("active-request-scorer"), 2.0)], picker=create("max-score-picker")
    )
    scheduler = Scheduler(profile, rng=random.Random(1))
    for i in range(2):
        scheduler.add_endpoint(f"e{i}", now=0.0)
    home = place(scheduler, "s-1").endpoint

    elsewhere = place(scheduler, "s-1").endpoint

    assert elsewhere != home
    assert affinity._bound.get("s-1", now=0.0) == home


def test_a_session_goes_along_when_its_request_leaves_a_failing_endpoint(kind: str) -> None:
    affinity = create(kind, BY_ID)
    scheduler = scheduler_of(affinity)
    profile = scheduler.profiles["default"]
    request = Request("r", headers={"x-session-id": "s-1"})
    decision = scheduler.schedule(request, now=0.0, n=3)
    assert isinstance(decision, Decision), profile

    moved = scheduler.fallback(request, decision, now=1.0)

    assert moved is not None
    assert affinity._bound.get("s-1", now=1.0) == moved.endpoint != decision.endpoint


def test_sessions_are_bounded_and_the_one_idle_longest_is_forgotten(kind: str) -> None:
    affinity = create(kind, BY_ID)
    scheduler = scheduler_of(affinity, endpoints=1)
    endpoint = scheduler.table["e0"]
    for i in range(70_000):
        affinity._bound.bind(f"s-{i}", endpoint, now=0.0)

    assert len(affinity._bound) == 65_536
    assert affinity._bound.get("s-0", now=0.0) is None
    assert affinity._bound.get("s-69999", now=0.0) == endpoint


def test_sessions_survive_a_restart_as_far_as_their_endpoints_do(kind: str) -> None:
    before = scheduler_of(create(kind, BY_ID))
    homes = {f"s-{i}": place(before, f"s-{i}").endpoint.name for i in range(4)}
    after = scheduler_of(create(kind, BY_ID), endpoints=3)

    after.restore(before.snapshot(), now=5.0)

    kept = {session: name for session, name in homes.items() if name != "e3"}
    assert {session: place(after, session, now=5.0).endpoint.name for session in kept} == kept


# --- carried by the client -------------------------------------------------------------------------------------------


def token(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def test_the_client_is_given_a_token_and_comes_back_with_it(kind: str) -> None:
    scheduler = scheduler_of(create(kind))
    first = place(scheduler)
    given = first.response_headers

    again = [scheduler.schedule(Request("r", headers=given), now=0.0) for _ in range(5)]

    assert given == {"x-session-token": token(first.endpoint.name)}
    assert {decision.endpoint for decision in again if isinstance(decision, Decision)} == {first.endpoint}


@pytest.mark.parametrize("sent", ["", "%%%", token("nobody"), "/w==", token("e1")[:-1]])
def test_a_token_that_names_nobody_restricts_nothing(kind: str, sent: str) -> None:
    scheduler = scheduler_of(create(kind))

    names = {
        scheduler.schedule(Request("r", headers={"x-session-token": sent}), now=0.0).endpoint.name  # type: ignore[union-attr]
        for _ in range(4)
    }

    assert len(names) == 4


def test_the_token_goes_by_a_header_of_ones_own_and_only_where_it_is_wanted(kind: str) -> None:
    renamed = create(kind, {"encodedEndpointHeaderConfig": {"header": " X-Stick "}})

    assert list(place(scheduler_of(renamed)).response_headers) == ["x-stick"]
    assert place(scheduler_of(create(kind, BY_ID)), "s-1").response_headers == {}


def test_the_token_of_a_profile_that_did_not_run_is_not_given(kind: str) -> None:
    assert place(scheduler_of(create(kind, {"profileName": "prefill"}))).response_headers == {}


def test_the_token_follows_a_request_to_its_fallback(kind: str) -> None:
    scheduler = scheduler_of(create(kind))
    request = Request("r")
    decision = scheduler.schedule(request, now=0.0, n=2)
    assert isinstance(decision, Decision)

    moved = scheduler.fallback(request, decision, now=1.0)

    assert moved is not None
    assert moved.response_headers == {"x-session-token": token(moved.endpoint.name)}
