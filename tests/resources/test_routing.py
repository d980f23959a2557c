"""Where a request goes: the Gateway API's precedence, the model in the body, shares, mirrors and rewrites."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, strategies as st

from inferencesched.resources import (
    AdapterBase,
    Backend,
    HeaderChanges,
    HTTPRoute,
    InferenceModelRewrite,
    InferencePool,
    Manifests,
    Mirror,
    NoRoute,
    PathRewrite,
    RewriteRule,
    RewriteTarget,
    Routed,
    RouteMatch,
    RouteRule,
    RoutingTable,
    ValueMatch,
)

MODEL = "X-Gateway-Model-Name"
BASE = "X-Gateway-Base-Model-Name"


def rule(pool: str, *matches: RouteMatch, **options: Any) -> RouteRule:
    return RouteRule(matches or (RouteMatch(),), (Backend(pool),), name=pool, **options)


def model(name: str, **options: Any) -> RouteMatch:
    return RouteMatch(headers=(ValueMatch(MODEL, name),), **options)


def table(
    *routes: HTTPRoute | RouteRule, rewrites: tuple[InferenceModelRewrite, ...] = (), **more: Any
) -> RoutingTable:
    """A table over routes, or over the rules of one; every pool that they name exists."""
    rules = tuple(route for route in routes if isinstance(route, RouteRule))
    given = (*(route for route in routes if isinstance(route, HTTPRoute)), *([HTTPRoute("r", rules)] if rules else []))
    names = {backend.pool for route in given for each in route.rules for backend in each.backends}
    names |= {rewrite.pool for rewrite in rewrites}
    pools = tuple(map(InferencePool, sorted(names)))
    return RoutingTable(Manifests(pools=pools, routes=given, rewrites=rewrites, **more))


def ask(table: RoutingTable, path: str = "/v1/chat/completions", model: str | None = "m", **more: Any) -> Any:
    return table.route(path=path, model=model, **{"rng": random.Random(1), **more})


def pool_of(routed: Any) -> str:
    return routed.pool[1] if isinstance(routed, Routed) else f"{routed.status} {routed.code}"


# Matching


@pytest.mark.parametrize(
    ("path", "pool"),
    [
        ("/v1/models", "exact"),
        ("/v1/models/", "prefix"),
        ("/v1/models/x", "deep"),
        ("/v1", "prefix"),
        ("/v1x", "root"),
        ("/v9/anything", "regex"),
        ("/", "root"),
    ],
)
def test_an_exact_path_beats_a_regular_expression_beats_the_longest_prefix_in_whole_segments(
    path: str, pool: str
) -> None:
    routes = table(
        rule("root", RouteMatch("/")),
        rule("prefix", RouteMatch("/v1")),
        rule("deep", RouteMatch("/v1/models/x/")),
        rule("regex", RouteMatch("/v[0-9]/any.*", "RegularExpression")),
        rule("exact", RouteMatch("/v1/models", "Exact")),
    )

    assert pool_of(ask(routes, path)) == pool


def test_a_regular_expression_must_fit_the_whole_path() -> None:
    routes = table(rule("regex", RouteMatch("/v1/c[a-z]+", "RegularExpression")))

    assert pool_of(ask(routes, "/v1/chat")) == "regex"
    assert pool_of(ask(routes, "/v1/chat/completions")) == "404 route_not_found"


@pytest.mark.parametrize(
    ("host", "pool"),
    [
        ("api.example.com", "exact"),
        ("API.Example.com:8443", "exact"),
        ("other.example.com", "wild"),
        ("a.b.example.com", "wild"),
        ("x.deep.example.com", "deep"),
        ("example.com", "any"),
        ("", "any"),
        ("[::1]:80", "any"),
    ],
)
def test_an_exact_host_beats_the_longest_wildcard_beats_none(host: str, pool: str) -> None:
    routes = table(
        HTTPRoute("any", (rule("any"),)),
        HTTPRoute("wild", (rule("wild"),), ("*.example.com",)),
        HTTPRoute("deep", (rule("deep"),), ("*.deep.example.com",)),
        HTTPRoute("exact", (rule("exact"),), ("api.example.com", "api.example.org")),
    )

    assert pool_of(ask(routes, host=host)) == pool


def test_a_host_without_a_match_for_the_path_falls_back_on_less_specific_hosts() -> None:
    routes = table(
        HTTPRoute("any", (rule("any"),)),
        HTTPRoute("exact", (rule("exact", RouteMatch("/v2")),), ("api.example.com",)),
    )

    assert pool_of(ask(routes, host="api.example.com")) == "any"


def test_then_a_method_then_more_headers_then_more_query_parameters_decide() -> None:
    one, two = ValueMatch("a", "1"), ValueMatch("b", "2|3", "RegularExpression")
    routes = table(
        rule("plain"),
        rule("query", RouteMatch(query=(one, two))),
        rule("query-1", RouteMatch(query=(one,))),
        rule("header", RouteMatch(headers=(one,))),
        rule("headers", RouteMatch(headers=(one, two))),
        rule("method", RouteMatch(method="GET")),
    )

    assert pool_of(ask(routes)) == "plain"
    assert pool_of(ask(routes, query="a=1&x=y")) == "query-1"
    assert pool_of(ask(routes, query="b=3&a=1&a=2")) == "query"
    assert pool_of(ask(routes, query="b=3&a=1", headers={"a": "1"})) == "header"
    assert pool_of(ask(routes, headers={"a": "1", "b": "2"})) == "headers"
    assert pool_of(ask(routes, headers={"a": "1", "b": "22"})) == "header"
    assert pool_of(ask(routes, headers={"a": "1"}, method="GET")) == "method"


def test_of_equal_matches_the_older_route_wins_then_the_earlier_one_then_the_earlier_rule() -> None:
    late = HTTPRoute("late", (rule("late"),), created="2026-05-02T00:00:00Z")
    old = HTTPRoute("old", (rule("old"), rule("second")), created="2026-05-01T00:00:00Z")
    ageless, other = HTTPRoute("z", (rule("ageless"),)), HTTPRoute("a", (rule("other"),))
    twin = HTTPRoute("earlier", (rule("twin"),), created=old.created)

    assert pool_of(ask(table(ageless, late, old))) == "old"
    assert pool_of(ask(table(old, twin))) == "twin"
    assert pool_of(ask(table(ageless, other))) == "ageless"


def test_of_two_conditions_on_one_header_only_the_first_counts() -> None:
    routes = table(rule("a", RouteMatch(headers=(ValueMatch("x-a", "1"), ValueMatch("X-A", "2")))))

    assert pool_of(ask(routes, headers={"x-a": "1"})) == "a"


# The model in the body


def test_the_model_of_the_body_is_matched_as_a_header_and_a_clients_own_header_is_not() -> None:
    routes = table(rule("chat", model("chat")), rule("coder", model("coder")))
    forged = {"x-gateway-model-name": "coder", "x-gateway-base-model-name": "coder"}

    assert pool_of(ask(routes, model="chat", headers=forged)) == "chat"
    assert pool_of(ask(routes, model="coder")) == "coder"
    assert pool_of(ask(routes, model=None, headers=forged)) == "404 model_not_found"


def test_a_model_can_be_matched_by_regular_expression() -> None:
    routes = table(rule("llama", RouteMatch(headers=(ValueMatch(MODEL, "llama-.*", "RegularExpression"),))))

    assert pool_of(ask(routes, model="llama-3-8b")) == "llama"
    assert pool_of(ask(routes, model="my-llama-3")) == "404 model_not_found"


def test_two_adapters_on_one_base_share_its_pool_by_the_base_models_header() -> None:
    bases = AdapterBase("adapters", "llm-base", ("english-bot", "spanish-bot"))
    routes = table(
        rule("base", RouteMatch(headers=(ValueMatch(BASE, "llm-base"),))),
        rule("other", RouteMatch(headers=(ValueMatch(BASE, "other-base"),))),
        adapters=(bases,),
    )

    for name in ("english-bot", "spanish-bot", "llm-base"):
        routed = ask(routes, model=name)
        assert (pool_of(routed), routed.model) == ("base", None)
    assert pool_of(ask(routes, model="french-bot")) == "404 model_not_found"


def test_what_engines_say_of_their_adapters_counts_as_well_but_manifests_come_first() -> None:
    routes = Manifests(
        pools=(InferencePool("base"),),
        routes=(HTTPRoute("r", (rule("base", RouteMatch(headers=(ValueMatch(BASE, "llm-base"),))),)),),
        adapters=(AdapterBase("adapters", "llm-base", ("english-bot",)),),
    )

    learned = RoutingTable(routes, bases={"spanish-bot": "llm-base", "english-bot": "elsewhere"})

    assert {pool_of(ask(learned, model=name)) for name in ("english-bot", "spanish-bot")} == {"base"}


@given(st.data())
def test_the_index_by_model_finds_what_a_look_at_every_rule_finds(data: st.DataObject) -> None:
    """Matches that name a model are skipped for others; the first of all that hold is the same."""
    matches = st.builds(
        RouteMatch,
        st.sampled_from(["/", "/v1", "/v1/chat"]),
        headers=st.lists(
            st.builds(
                ValueMatch,
                st.sampled_from([MODEL, "x-tier"]),
                st.sampled_from(["a", "b", "gold"]),
                st.sampled_from(["Exact", "RegularExpression"]),
            ),
            max_size=2,
        ).map(tuple),
    )
    rules = [
        rule(f"p{i}", *each) for i, each in enumerate(data.draw(st.lists(st.lists(matches, min_size=1), max_size=5)))
    ]
    asked: dict[str, Any] = {
        "path": data.draw(st.sampled_from(["/v1/chat/completions", "/v2"])),
        "model": data.draw(st.sampled_from(["a", "b", "c", None])),
        "headers": data.draw(st.sampled_from([{}, {"x-tier": "gold"}, {"x-tier": "a"}])),
    }

    alone = [each for each in rules if isinstance(ask(table(each), **asked), Routed)]

    if rules:
        found = ask(table(*rules), **asked)
        assert isinstance(found, Routed) == bool(alone)
        assert not alone or found.rule in alone


def test_a_table_of_many_models_looks_at_those_that_are_asked_for() -> None:
    looks: list[str] = []

    class Noted(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            looks.append(name)
            return super().get(name, default)

    tier = ValueMatch("x-tier", "gold")
    rules = [rule(f"p{i}", RouteMatch(headers=(ValueMatch(MODEL, f"m{i}"), tier))) for i in range(500)]

    assert pool_of(ask(table(*rules), model="m499", headers=Noted({"x-tier": "gold"}))) == "p499"
    assert looks == ["x-tier"]


# Where to


def test_with_one_pool_and_no_route_everything_goes_there() -> None:
    routes = RoutingTable(Manifests(pools=(InferencePool("only", "ns"),)))

    assert ask(routes, "/anything", None) == Routed(("ns", "only"))


def test_with_several_pools_or_none_a_route_is_needed() -> None:
    for pools in ((), (InferencePool("a"), InferencePool("b"))):
        nowhere = ask(RoutingTable(Manifests(pools=pools)))
        assert (nowhere.status, nowhere.code) == (404, "route_not_found")
        assert f"there are {len(pools)} pools and no HTTPRoute" in nowhere.hint


def test_a_chatbot_split_90_to_10_over_current_and_canary() -> None:
    split = RouteRule((model("chatbot"),), (Backend("current", 90), Backend("canary", 10), Backend("off", 0)))
    routes, rng = table(split), random.Random(3)

    drawn = Counter(pool_of(ask(routes, model="chatbot", rng=rng)) for _ in range(20_000))
    kept = Counter(pool_of(ask(routes, model="chatbot", key=f"tenant-{i}")) for i in range(20_000))

    for counted in (drawn, kept):
        assert set(counted) == {"current", "canary"}
        assert abs(counted["canary"] - 2_000) < 4.5 * (20_000 * 0.1 * 0.9) ** 0.5


def test_l1_one_key_gets_one_variant_on_every_path_and_at_every_time() -> None:
    backends = (Backend("current", 50), Backend("canary", 50))
    routes = table(
        RouteRule((RouteMatch("/v1/chat"),), backends, name="chat"),
        RouteRule((RouteMatch("/v1/completions"),), backends, name="rest"),
    )

    for key in map(str, range(100)):
        paths = ("/v1/chat/completions", "/v1/completions")
        assert len({pool_of(ask(routes, path, key=key, rng=random.Random(n))) for path in paths for n in range(3)}) == 1


@pytest.mark.parametrize("backends", [(), (Backend("a", 0), Backend("b", 0))])
def test_a_rule_without_weight_is_500(backends: tuple[Backend, ...]) -> None:
    nowhere = ask(table(HTTPRoute("r", (RouteRule((RouteMatch(),), backends),))))

    assert (nowhere.status, nowhere.code, nowhere.hint) == (
        500,
        "no_backend",
        "route 'default/r': no backend has weight",
    )


def test_f3_an_unknown_model_is_404_with_a_near_miss_for_operators() -> None:
    routes = table(rule("chat", model("chatbot")), rule("coder", model("coder")))

    assert ask(routes, model="chatbt") == NoRoute(
        404,
        "model_not_found",
        "The model 'chatbt' does not exist.",
        "routed models: chatbot, coder — did you mean 'chatbot'?",
    )
    assert ask(routes, model=None).message == "The request names no model."
    assert len(ask(routes, model="x" * 10_000).message) < 200


def test_f3_an_unknown_path_is_404_with_those_that_are_routed() -> None:
    nowhere = ask(table(rule("a", RouteMatch("/v1/chat"))), "/v1/chta")

    assert (nowhere.status, nowhere.code, nowhere.message) == (
        404,
        "route_not_found",
        "There is no route for '/v1/chta'.",
    )
    assert nowhere.hint == "routed paths: /v1/chat — did you mean '/v1/chat'?"


# What happens on the way


def test_headers_are_changed_by_the_rule_first_and_by_the_backend_then() -> None:
    by_rule = HeaderChanges(set={"x-a": "rule"}, add={"x-b": "2"}, remove=("x-c",))
    by_backend = HeaderChanges(set={"X-A": "backend"})
    back = HeaderChanges(add={"x-served-by": "us"})
    backend = Backend("a", request_headers=by_backend)
    routed = ask(table(RouteRule((RouteMatch(),), (backend,), by_rule, back)))

    headers = [(b"X-A", b"client"), (b"x-b", b"1"), (b"x-c", b"3"), (b"x-d", b"4")]
    for changes in routed.request_headers:
        headers = changes.applied(headers)

    assert sorted(headers) == [(b"x-a", b"backend"), (b"x-b", b"1"), (b"x-b", b"2"), (b"x-d", b"4")]
    assert routed.response_headers == (back,)
    assert ask(table(rule("a"))).request_headers == ()


@pytest.mark.parametrize(
    ("match", "rewrite", "path", "expected"),
    [
        ("/foo", PathRewrite(prefix="/xyz"), "/foo/bar", "/xyz/bar"),
        ("/foo", PathRewrite(prefix="/xyz/"), "/foo/bar", "/xyz/bar"),
        ("/foo/", PathRewrite(prefix="/xyz"), "/foo/bar", "/xyz/bar"),
        ("/foo", PathRewrite(prefix="/xyz"), "/foo", "/xyz"),
        ("/foo", PathRewrite(prefix="/xyz"), "/foo/", "/xyz/"),
        ("/foo", PathRewrite(prefix="/"), "/foo/bar", "/bar"),
        ("/foo", PathRewrite(prefix=""), "/foo/bar", "/bar"),
        ("/foo", PathRewrite(prefix="/"), "/foo", "/"),
        ("/", PathRewrite(prefix="/v1"), "/models", "/v1/models"),
        ("/foo", PathRewrite(full_path="/new"), "/foo/bar", "/new"),
        ("/foo", PathRewrite("other.example.com"), "/foo/bar", None),
    ],
)
def test_a_path_is_rewritten_as_the_gateway_api_says(
    match: str, rewrite: PathRewrite, path: str, expected: str | None
) -> None:
    routed = ask(table(rule("a", RouteMatch(match), rewrite=rewrite)), path)

    assert (routed.path, routed.hostname) == (expected, rewrite.hostname)


def test_mirrors_are_drawn_for_each_request_by_their_fraction() -> None:
    mirrors = (Mirror("always"), Mirror("some", 0.1), Mirror("never", 0.0))
    routes, rng = table(rule("a", mirrors=mirrors)), random.Random(5)

    drawn = Counter(pool for _ in range(20_000) for _, pool in ask(routes, rng=rng).mirrors)

    assert drawn["always"] == 20_000
    assert abs(drawn["some"] - 2_000) < 4.5 * (20_000 * 0.1 * 0.9) ** 0.5
    assert "never" not in drawn


@pytest.mark.parametrize(("written", "meant"), [(300.0, 300.0), (0.0, None), (None, None)])
def test_a_timeout_of_zero_is_none(written: float | None, meant: float | None) -> None:
    assert ask(table(rule("a", timeout=written))).timeout == meant


# The model to ask for


def rewrite(*rules: RewriteRule, name: str = "w", pool: str = "a") -> InferenceModelRewrite:
    return InferenceModelRewrite(name, pool, rules)


def to(*targets: str | tuple[str, int], models: tuple[str, ...] | None = None) -> RewriteRule:
    made = [RewriteTarget(each) if isinstance(each, str) else RewriteTarget(*each) for each in targets]
    return RewriteRule(models, tuple(made))


def test_an_exact_rewrite_beats_a_general_one_and_the_first_of_each_counts() -> None:
    rewrites = (
        rewrite(to("general"), to("too-late")),
        rewrite(to("exact", models=("chat", "talk")), to("later", models=("chat",)), name="younger"),
    )
    routes = table(rule("a"), rewrites=rewrites)

    assert ask(routes, model="chat").model == "exact"
    assert ask(routes, model="talk").model == "exact"
    assert ask(routes, model="anything").model == "general"
    assert ask(routes, model="general").model is None
    assert routes.models == ("chat", "talk")


def test_l3_a_general_rule_fills_in_a_missing_model() -> None:
    routes = table(rule("a"), rewrites=(rewrite(to("default-model"), to("x", models=("chat",))),))

    assert ask(routes, model=None).model == "default-model"
    assert ask(table(rule("a"), rewrites=(rewrite(to("x", models=("chat",))),)), model=None).model is None


def test_a_rewrite_holds_for_its_pool_only() -> None:
    routes = table(rule("a", model("chat")), rule("b"), rewrites=(rewrite(to("x")),))

    assert ask(routes, model="chat").model == "x"
    assert ask(routes, model="other").model is None


def test_a_split_of_models_follows_weights_or_is_even_and_unweighted_targets_beside_weighted_get_nothing() -> None:
    rewrites = (
        rewrite(
            to(("v1", 90), ("v2", 10), models=("weighted",)),
            to("v1", "v2", models=("even",)),
            to(("v1", 5), "v2", models=("mixed",)),
        ),
    )
    routes, rng = table(rule("a"), rewrites=rewrites), random.Random(9)

    shares = {
        name: Counter(ask(routes, model=name, rng=rng).model for _ in range(10_000))["v2"] / 10_000
        for name in ("weighted", "even", "mixed")
    }

    assert shares["weighted"] == pytest.approx(0.1, abs=4.5 * 0.003)
    assert shares["even"] == pytest.approx(0.5, abs=4.5 * 0.005)
    assert shares["mixed"] == 0


def test_l1_pools_and_models_are_split_independently_and_each_by_key() -> None:
    """The shares multiply: half of the keys of either pool get either model."""
    backends = (Backend("a", 50), Backend("b", 50))
    rewrites = tuple(rewrite(to(("v1", 50), ("v2", 50)), name=pool, pool=pool) for pool in "ab")
    routes = table(RouteRule((RouteMatch(),), backends), rewrites=rewrites)

    routed = [ask(routes, key=f"tenant-{i}") for i in range(20_000)]
    counted = Counter((each.pool[1], each.model) for each in routed)

    assert len(counted) == 4
    assert all(abs(count - 5_000) < 4.5 * (20_000 * 0.25 * 0.75) ** 0.5 for count in counted.values())
    assert routed[:50] == [ask(routes, key=f"tenant-{i}", rng=random.Random(i)) for i in range(50)]


def test_the_same_table_seed_and_requests_give_the_same_routes() -> None:
    split = RouteRule((RouteMatch(),), (Backend("a", 3), Backend("b", 1)), mirrors=(Mirror("a", 0.5),))

    def run() -> list[Any]:
        routes, rng = table(split), random.Random(11)
        return [ask(routes, rng=rng) for _ in range(100)]

    assert run() == run()
