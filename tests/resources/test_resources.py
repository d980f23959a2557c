"""Each kind of resource becomes a value, with the defaults that the field documents."""

from pathlib import Path

import pytest

from inferencesched.cli.files import read
from inferencesched.resources import (
    Backend,
    EndpointPickerRef,
    HeaderChanges,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    Manifests,
    Mirror,
    PathRewrite,
    RewriteRule,
    RewriteTarget,
    RouteMatch,
    ValueMatch,
    resolve,
)


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return resolve(*read(Path(__file__).parent / "manifests"))


def test_a_pool_as_a_cluster_gives_it_back_is_read(manifests: Manifests) -> None:
    assert manifests.pool("llama", "serving") == InferencePool(
        "llama",
        "serving",
        match_labels={"app": "vllm-llama", "llm-d.ai/inference-serving": "true"},
        ports=(8000, 8001),
        app_protocol="kubernetes.io/h2c",
        picker=EndpointPickerRef("epp", 9002, "FailOpen"),
    )


def test_a_pool_of_the_old_version_has_one_port_and_the_picker_its_default_port(manifests: Manifests) -> None:
    assert manifests.pool("old", "serving") == InferencePool(
        "old",
        "serving",
        match_labels={"app": "vllm-old"},
        ports=(8080,),
        picker=EndpointPickerRef("epp-old", 9002, "FailClose"),
    )


def test_an_objective_is_a_priority_under_a_name_in_both_groups(manifests: Manifests) -> None:
    assert manifests.objectives == (
        InferenceObjective("critical", "llama", 100, "serving"),
        InferenceObjective("batch", "llama", -10, "serving"),
    )
    assert manifests.priority("critical", "llama", "serving") == 100
    assert manifests.priority("nobody-knows", "llama", "serving") == 0


def test_an_objective_without_a_priority_has_zero() -> None:
    pool = {
        "metadata": {"name": "p"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 1}]},
    }
    objective = {"metadata": {"name": "o"}, "spec": {"poolRef": {"name": "p"}}}

    found = resolve(
        {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", **pool},
        {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective", **objective},
    )

    assert found.objectives == (InferenceObjective("o", "p", 0, "default"),)


def test_a_rewrite_has_rules_for_models_and_a_rule_for_all_of_them(manifests: Manifests) -> None:
    assert manifests.rewrites == (
        InferenceModelRewrite(
            "canary",
            "llama",
            (
                RewriteRule(("chat",), (RewriteTarget("llama-3-8b", 90), RewriteTarget("llama-3-8b-next", 10))),
                RewriteRule(None, (RewriteTarget("llama-3-8b", None),)),
            ),
            created="2026-05-01T00:00:00Z",
            namespace="serving",
        ),
    )


def test_a_route_has_all_that_the_standard_gives_it(manifests: Manifests) -> None:
    (route,) = manifests.routes
    rule, rest = route.rules

    assert (route.name, route.namespace, route.hostnames) == ("models", "serving", ("api.example.com",))
    assert rule.name == "chat"
    assert rule.matches == (
        RouteMatch(
            "/v1",
            "PathPrefix",
            (ValueMatch("x-gateway-model-name", "chat"), ValueMatch("x-tier", "gold|silver", "RegularExpression")),
            (ValueMatch("debug", "1"),),
            "POST",
        ),
        RouteMatch("/health", "Exact"),
    )
    assert rule.backends == (Backend("llama", 90, "serving"), Backend("old", 10, "serving"))
    assert rule.request_headers == HeaderChanges({"x-route": "chat"}, {"x-via": "gateway"}, ("x-internal",))
    assert rule.rewrite == PathRewrite("models.internal", prefix="/openai")
    assert rule.mirrors == (Mirror("old", 0.05, "serving"),)
    assert rule.timeout == 300.0
    assert rest.matches == (RouteMatch("/", "PathPrefix"),)
    assert rest.backends == (Backend("llama", 1, "serving"),)


def test_an_endpoints_file_lists_a_fleet(manifests: Manifests) -> None:
    assert [(each.id, each.address) for each in manifests.endpoints] == [
        ("default/gpu-0", "10.0.0.1:8000"),
        ("lab/gpu-1", "gpu-1.lab.example.com:8000"),
        ("default/gpu-2", "[fd00::2]:8000"),
    ]
    assert manifests.endpoints[0].labels == {"llm-d.ai/role": "decode"}


def test_what_is_deprecated_is_told_with_its_replacement(manifests: Manifests) -> None:
    deprecated = [each for each in manifests.warnings if each.path == "apiVersion"]
    assert [(Path(each.file or "").name, each.line, each.message) for each in deprecated] == [
        (
            "pools.yaml",
            36,
            "'inference.networking.x-k8s.io/v1alpha2' is deprecated; write 'inference.networking.k8s.io/v1'",
        ),
        ("requests.yaml", 8, "'inference.networking.x-k8s.io/v1alpha2' is deprecated; write 'llm-d.ai/v1alpha2'"),
    ]
