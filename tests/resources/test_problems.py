"""What is wrong with resources: each by itself, and one with another."""

import copy
from typing import Any

import pytest

from inferencesched import ConfigError
from inferencesched.documents import Document
from inferencesched.resources import resolve

POOL: dict[str, Any] = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "llama"},
    "spec": {
        "selector": {"matchLabels": {"app": "vllm"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    },
}
OBJECTIVE: dict[str, Any] = {
    "apiVersion": "llm-d.ai/v1alpha2",
    "kind": "InferenceObjective",
    "metadata": {"name": "critical"},
    "spec": {"priority": 1, "poolRef": {"name": "llama"}},
}
REWRITE: dict[str, Any] = {
    "apiVersion": "llm-d.ai/v1alpha2",
    "kind": "InferenceModelRewrite",
    "metadata": {"name": "canary"},
    "spec": {
        "poolRef": {"name": "llama"},
        "rules": [{"matches": [{"model": {"value": "chat"}}], "targets": [{"modelRewrite": "a", "weight": 1}]}],
    },
}
BACKEND = {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llama"}
MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": BACKEND}}
ROUTE: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "route"},
    "spec": {"rules": [{"matches": [{}], "filters": [MIRROR], "backendRefs": [{**BACKEND}]}]},
}
FLEET = {"endpoints": [{"name": "a", "address": "10.0.0.1", "port": "80"}]}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the document with one value replaced; a path such as ``spec.rules.0.targets``."""
    other = copy.deepcopy(document)
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    holder: Any = other
    for key in way:
        holder = holder[key]
    holder[last] = value
    return other


def problems(*documents: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(*documents)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("document", "path", "value", "problem"),
    [
        (POOL, "metadata", {}, "metadata.name: required, expected a string"),
        (POOL, "metadata.name", "Llama", "metadata.name: expected a name of lower-case letters, digits, '-' and '.'"),
        (POOL, "metadata.nmespace", "x", "metadata.nmespace: unknown key 'nmespace' — did you mean 'namespace'?"),
        (POOL, "spec.selector.matchLabels", {}, "spec.selector.matchLabels: expected 1 to 64 labels, got 0"),
        (POOL, "spec.selector.matchLabels", {"a b": "c"}, "'a b' cannot be the key of a label"),
        (POOL, "spec.selector.matchLabels", {"a": "b c"}, "'b c' cannot be the value of a label (of 'a')"),
        (POOL, "spec.selector.matchExpressions", [], "unknown key 'matchExpressions'; known are matchLabels"),
        (POOL, "spec.targetPorts", [], "spec.targetPorts: expected 1 to 8 ports, got 0"),
        (POOL, "spec.targetPorts", [{"number": n} for n in range(1, 10)], "expected 1 to 8 ports, got 9"),
        (POOL, "spec.targetPorts", [{"number": 0}], "spec.targetPorts[0].number: expected a number ≥ 1, got 0"),
        (POOL, "spec.targetPorts", [{"number": 70000}], "expected a number ≤ 65535, got 70000"),
        (
            POOL,
            "spec.targetPorts",
            [{"number": 1}, {"number": 1}],
            "targetPorts[1].number: port 1 stands above already",
        ),
        (POOL, "spec.appProtocol", "https", "spec.appProtocol: expected one of http, kubernetes.io/h2c, got 'https'"),
        (POOL, "spec.endpointPickerRef.port", None, "spec.endpointPickerRef.port: required for a Service"),
        (POOL, "spec.endpointPickerRef.failureMode", "FailClosed", "— did you mean 'FailClose'?"),
        (OBJECTIVE, "spec.priority", 2**31, "spec.priority: expected a number ≤ 2147483647"),
        (OBJECTIVE, "spec.priority", "high", "spec.priority: expected an integer, got 'high'"),
        (OBJECTIVE, "spec.poolRef", None, "spec.poolRef: required, expected a mapping"),
        (OBJECTIVE, "spec.poolRef.kind", "Pool", "spec.poolRef.kind: expected one of InferencePool, got 'Pool'"),
        (REWRITE, "spec.rules.0.targets", [], "spec.rules[0].targets: expected at least 1 entry"),
        (REWRITE, "spec.rules.0.targets.0.weight", 0, "spec.rules[0].targets[0].weight: expected a number ≥ 1, got 0"),
        (REWRITE, "spec.rules.0.targets.0.weight", 10**7, "expected a number ≤ 1000000"),
        (REWRITE, "spec.rules.0.matches.0.model.value", "", "model.value: required, got an empty string"),
        (REWRITE, "spec.rules.0.matches.0.model.type", "Prefix", "expected one of Exact, got 'Prefix'"),
        (REWRITE, "spec.rules.0.split", [], "spec.rules[0].split: unknown key 'split'; known are targets, matches"),
        (ROUTE, "spec.rules.0.backendRefs.0.weight", -1, "backendRefs[0].weight: expected a number ≥ 0, got -1"),
        (ROUTE, "spec.rules.0.backendRefs.0.group", "", "expected 'inference.networking.k8s.io' for an InferencePool"),
        (ROUTE, "spec.rules.0.filters.0", {"type": "RequestMirror"}, "requestMirror: required for a filter of type"),
        (ROUTE, "spec.rules.0.filters.0.type", "Mirror", "— did you mean 'RequestMirror'?"),
        (ROUTE, "spec.rules.0.filters.0.requestMirror.percent", 101, "expected a number ≤ 100, got 101"),
        (ROUTE, "spec.rules.0.filters.0.requestMirror.fraction", {"numerator": 3, "denominator": 2}, "at most 1"),
        (ROUTE, "spec.rules.0.matches.0", {"path": {"type": "RegularExpression", "value": "("}}, "no regular expr"),
        (ROUTE, "spec.rules.0.timeouts", {"request": "soon"}, "timeouts.request: expected a duration such as 500ms"),
        (FLEET, "endpoints.0.address", "10.0.0.256", "endpoints[0].address: expected an IP address or a host name"),
        (FLEET, "endpoints.0.port", "0", "endpoints[0].port: expected a port from 1 to 65535, got '0'"),
        (FLEET, "endpoints.0.name", None, "endpoints[0].name: required, expected a string"),
        (FLEET, "endpoints", FLEET["endpoints"] * 2, "endpoints[1].name: 'default/a' stands above already"),
    ],
)
def test_a_value_out_of_order_is_named_with_its_path(
    document: dict[str, Any], path: str, value: Any, problem: str
) -> None:
    around = [POOL] if document not in (POOL, FLEET) else []

    (found,) = problems(changed(document, path, value), *around)

    assert problem in found


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (
            changed(OBJECTIVE, "spec.poolRef.name", "lama"),
            "spec.poolRef.name: no InferencePool 'lama' in namespace 'default' — did you mean 'llama'?",
        ),
        (
            changed(REWRITE, "spec.poolRef.name", "x"),
            "spec.poolRef.name: no InferencePool 'x' in namespace 'default'",
        ),
        (
            changed(ROUTE, "spec.rules.0.backendRefs.0.name", "x"),
            "spec.rules[0].backendRefs: no InferencePool 'x' in namespace 'default'",
        ),
        (
            changed(ROUTE, "spec.rules.0.filters.0.requestMirror.backendRef.name", "x"),
            "spec.rules[0].filters: no InferencePool 'x' in namespace 'default'",
        ),
        (
            changed(OBJECTIVE, "metadata.namespace", "other"),
            "spec.poolRef.name: no InferencePool 'llama' in namespace 'other'; there is one in 'default'",
        ),
    ],
)
def test_a_reference_to_a_pool_that_is_not_there_is_reported(document: dict[str, Any], problem: str) -> None:
    assert problem in problems(POOL, document)


def test_a_pool_that_is_wrong_is_not_reported_as_missing_too() -> None:
    assert problems(changed(POOL, "spec.targetPorts", []), OBJECTIVE) == [
        "spec.targetPorts: expected 1 to 8 ports, got 0"
    ]


def test_two_of_a_kind_and_name_are_reported_with_the_place_of_the_first() -> None:
    first = Document(POOL, "a.yaml", {"metadata.name": 4})
    second = Document(POOL, "b.yaml", {"metadata.name": 7})

    assert problems(first, second) == [
        "b.yaml:7: metadata.name: the InferencePool 'default/llama' stands at a.yaml:4 already"
    ]


def test_an_endpoint_in_two_files_is_reported() -> None:
    (found,) = problems(Document(FLEET, "a.yaml", {"": 1}), Document(FLEET, "b.yaml", {"": 1}))

    assert found == "b.yaml:1: endpoints: the endpoint 'default/a' stands at a.yaml:1 already"


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (
            ("inference.networking.k8s.io/v1", "InferencePol"),
            "kind 'InferencePol' — did you mean 'InferencePool'?",
        ),
        (
            ("inference.networking.k8s.io/v2", "InferencePool"),
            "expected 'inference.networking.k8s.io/v1' or",
        ),
        (("inference.networking.x-k8s.io/v1alpha2", "InferenceModel"), "it was replaced by InferenceObjective and"),
        (
            ("inference.networking.x-k8s.io/v1alpha1", "InferencePoolImport"),
            "pools of other clusters are not",
        ),
        (("v1", ""), "kind: required; known are EndpointPickerConfig, InferencePool"),
    ],
)
def test_a_kind_that_looks_like_one_of_ours_and_is_not_is_a_problem(head: tuple[str, str], problem: str) -> None:
    (found,) = problems({"apiVersion": head[0], "kind": head[1]})

    assert problem in found


def test_a_kind_of_somebody_else_is_named_by_the_way() -> None:
    manifests = resolve({"apiVersion": "apps/v1", "kind": "Deployment"}, {"apiVersion": "v1", "kind": "Service"})

    assert [warning.message for warning in manifests.warnings] == [
        "'Deployment' (apps/v1) is not read here",
        "'Service' (v1) is not read here",
    ]


@pytest.mark.parametrize(
    ("path", "value", "warning"),
    [
        ("spec.rules.0.retry", {"attempts": 2}, "'retry' has no effect here"),
        ("spec.rules.0.sessionPersistence", {"type": "Cookie"}, "'sessionPersistence' has no effect here"),
        ("spec.rules.0.filters", [{"type": "RequestRedirect", "requestRedirect": {}}], "the filter 'RequestRedirect'"),
        ("spec.rules.0.backendRefs", [{"name": "svc", "port": 80}], "a backend of kind 'Service' has no effect here"),
        ("spec.rules.0.backendRefs.0.filters", [{"type": "URLRewrite", "urlRewrite": {}}], "on a single backend"),
    ],
)
def test_what_a_route_says_in_vain_is_named(path: str, value: Any, warning: str) -> None:
    (found,) = resolve(POOL, changed(ROUTE, path, value)).warnings

    assert warning in found.message


def test_targets_of_which_some_have_no_weight_are_told() -> None:
    targets = [{"modelRewrite": "a", "weight": 1}, {"modelRewrite": "b"}]

    (found,) = resolve(POOL, changed(REWRITE, "spec.rules.0.targets", targets)).warnings

    assert found.message == "some targets have a weight and some have none; those without are never chosen"


def test_the_older_rewrite_comes_first() -> None:
    young = changed(changed(REWRITE, "metadata.name", "young"), "metadata.creationTimestamp", "2026-02-01T00:00:00Z")
    old = changed(changed(REWRITE, "metadata.name", "old"), "metadata.creationTimestamp", "2026-01-01T00:00:00Z")
    unborn = changed(REWRITE, "metadata.name", "unborn")

    assert [each.name for each in resolve(POOL, unborn, young, old).rewrites] == ["old", "young", "unborn"]


@pytest.mark.parametrize(
    ("filter_", "place"),
    [
        (
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-drink", "value": "☕"}]}},
            "requestHeaderModifier.set[0].value",
        ),
        (
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x a", "value": "1"}]}},
            "responseHeaderModifier.add[0].name",
        ),
        (
            {
                "type": "RequestHeaderModifier",
                "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1\r\nx: 2"}]},
            },
            "requestHeaderModifier.set[0].value",
        ),
        (
            {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/a b"}}},
            "urlRewrite.path.replaceFullPath",
        ),
        ({"type": "URLRewrite", "urlRewrite": {"hostname": "a\r\nb"}}, "urlRewrite.hostname"),
    ],
)
def test_what_could_not_be_written_into_a_request_is_refused_at_the_start(filter_: dict[str, Any], place: str) -> None:
    route = changed(ROUTE, "spec.rules.0.filters", [filter_])

    assert any(f"filters[0].{place}" in problem for problem in problems(POOL, route))
