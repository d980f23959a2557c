"""The two scenarios of the examples, run from their manifests over HTTP; and copies, and what is shed first."""

import collections
import contextlib
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL = "llama-3.1-8b"

Start = Callable[..., Any]


def manifests(example: str, folder: Path, endpoints: list[tuple[str, str, dict[str, str]]]) -> Path:
    """Copy an example, with other endpoints."""
    shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True)
    lines = ["endpoints:"]
    for name, url, labels in endpoints:
        host, _, port = url.removeprefix("http://").partition(":")
        lines.append(f"- {{name: {name}, address: {host}, port: '{port}', labels: {{{_yaml(labels)}}}}}")
    whole = folder / "gateway.yaml"
    if whole.exists():  # the endpoints stand in the same file as all the rest
        whole.write_text(whole.read_text().partition("---\nendpoints:")[0] + "---\n" + "\n".join(lines) + "\n")
    else:
        (folder / "endpoints.yaml").write_text("\n".join(lines) + "\n")
    return folder


def _yaml(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in labels.items())


def chat(model: str, text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 2, **more}


@pytest.fixture
def canary(background: Any, engines: Start, gateway: Start, tmp_path: Path) -> Any:
    """Return the gateway of the canary example in front of engines that serve `chatbot`, and these by name."""
    current, next_one = engines(2, "--model", "chatbot"), engines(1, "--model", "chatbot")
    listed = [(f"current-{i}", each.url, {"app": "chatbot", "version": "current"}) for i, each in enumerate(current)]
    listed += [("canary-0", next_one[0].url, {"app": "chatbot", "version": "canary"})]
    running = gateway(manifests("canary", tmp_path, listed))
    running.wait_until_ready()
    return running, current, next_one[0]


def test_a_chatbot_is_split_ninety_to_ten(canary: Any) -> None:
    running, current, next_one = canary
    requests = 900

    def ask(i: int) -> Any:
        return running.http.post("/v1/chat/completions", json=chat("chatbot", f"question {i}")).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = collections.Counter(threads.map(ask, range(requests)))

    assert statuses == {200: requests}
    to_canary = running.status()["pools"]["default/chatbot-canary"]["placed"]
    expected, sigma = requests * 0.1, (requests * 0.1 * 0.9) ** 0.5
    assert abs(to_canary - expected) < 4.5 * sigma
    assert next_one.requests()
    assert all(engine.requests() for engine in current)
    running.audit()


def test_a_session_stays_with_its_version(canary: Any) -> None:
    """L1, L9: the same key gets the same variant."""
    running, _, next_one = canary
    for session in range(30):
        for _ in range(3):
            headers = {"x-session-id": f"s-{session}"}
            running.http.post("/v1/chat/completions", json=chat("chatbot"), headers=headers).raise_for_status()

    sessions = collections.Counter(request["headers"]["x-session-id"] for request in next_one.requests())
    assert set(sessions.values()) <= {3}
    assert 0 < len(sessions) < 15


def test_both_versions_are_bound_to_an_objective_of_priority_ten(canary: Any) -> None:
    running, _, _ = canary
    priorities = set()
    for i in range(40):
        answer = running.http.post("/v1/chat/completions", json=chat("chatbot", f"number {i}"))
        record = running.http.get(f"/-/receipts/{answer.headers['x-request-id']}").json()
        priorities.add((record["outcome"]["pool"], record["outcome"]["priority"]))

    assert priorities == {("default/chatbot-current", 10), ("default/chatbot-canary", 10)}


def test_a_model_without_a_route_is_not_found(canary: Any) -> None:
    """F3: 404 for a model that nobody serves, and a sentence that says which."""
    running, _, _ = canary

    answer = running.http.post("/v1/chat/completions", json=chat("chatbott"))

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "chatbott" in answer.json()["error"]["message"]


def test_requests_concentrate_where_their_adapter_is(engines: Start, gateway: Start, tmp_path: Path) -> None:
    """L4: with what vLLM's own labels say, which name an adapter while some request needs it."""
    adapters = ("--lora", "english-bot", "--lora", "spanish-bot", "--max-loras", "2", "--speed", "1")
    endless = ("--answer-tokens", "100000")
    fleet = engines(4, "--model", "llm-base", *adapters, *endless)
    listed = [(f"gpu-{i}", engine.url, {"app": "llm-base"}) for i, engine in enumerate(fleet)]
    busy = ["english-bot", "english-bot", "spanish-bot", "spanish-bot"]

    pieces = []  # a response ends with the iterator over it
    with contextlib.ExitStack() as streams:
        for engine, adapter in zip(fleet, busy, strict=True):
            body = {**chat(adapter, stream=True), "max_tokens": 100_000}
            answer = streams.enter_context(httpx.stream("POST", f"{engine.url}/v1/chat/completions", json=body))
            pieces.append(answer.iter_raw())
            next(pieces[-1])
            engine.forget()
        running = gateway(manifests("adapters", tmp_path, listed))
        running.wait_until_ready()
        for i in range(60):
            adapter = ("english-bot", "spanish-bot")[i % 2]
            running.http.post("/v1/chat/completions", json=chat(adapter, f"text {i}")).raise_for_status()

    seen = [collections.Counter(request["model"] for request in engine.requests()) for engine in fleet]
    assert (seen[0] + seen[1])["english-bot"] >= 27
    assert (seen[2] + seen[3])["spanish-bot"] >= 27
    running.audit()


MIRRORED = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: main}
spec: {selector: {matchLabels: {app: main}}, targetPorts: [{number: 8000}]}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: shadow}
spec: {selector: {matchLabels: {app: shadow}}, targetPorts: [{number: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  rules:
    - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: main}]
      filters:
        - type: RequestMirror
          requestMirror:
            backendRef: {group: inference.networking.k8s.io, kind: InferencePool, name: shadow}
---
endpoints:
- {name: main, address: HOST0, port: "PORT0", labels: {app: main}}
- {name: shadow, address: HOST1, port: "PORT1", labels: {app: shadow}}
"""


def _filled(text: str, fleet: list[Any]) -> str:
    for i, engine in enumerate(fleet):
        host, _, port = engine.url.removeprefix("http://").partition(":")
        text = text.replace(f"HOST{i}", host).replace(f"PORT{i}", port)
    return text


def test_a_mirror_receives_copies_and_its_failure_is_invisible(
    fleet: list[Any], gateway: Start, tmp_path: Path
) -> None:
    main, shadow = fleet
    file = tmp_path / "mirrored.yaml"
    file.write_text(_filled(MIRRORED, fleet))
    running = gateway(file)

    for i in range(10):
        running.http.post("/v1/chat/completions", json=chat(MODEL, f"copied {i}")).raise_for_status()
    running.wait_for(lambda: running.status()["mirrors"]["sent"] == 10)
    shadow.fail("hang")
    for i in range(5):
        running.http.post("/v1/chat/completions", json=chat(MODEL, f"alone {i}"), timeout=10.0).raise_for_status()
    shadow.mend()

    assert len(main.requests()) == 15
    assert len(shadow.requests()) >= 10
    assert running.status()["pools"]["default/main"]["placed"] == 15


TIGHT = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
featureGates: [flowControl]
plugins:
  - {type: expected-work-scorer}
  - {type: max-score-picker}
  - {type: concurrency-detector, parameters: {maxConcurrency: 2}}
schedulingProfiles:
  - {name: default, plugins: [{pluginRef: expected-work-scorer}, {pluginRef: max-score-picker}]}
flowControl:
  saturationDetector: {pluginRef: concurrency-detector}
  defaultNegativePriorityBand: {maxRequests: 1}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: main}
spec: {selector: {matchLabels: {app: main}}, targetPorts: [{number: 8000}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {name: batch}
spec: {priority: -1, poolRef: {name: main}}
---
endpoints:
- {name: main, address: HOST0, port: "PORT0", labels: {app: main}}
"""


def test_what_is_below_zero_is_shed_first_while_the_rest_waits(
    hand_engine: Start, gateway: Start, tmp_path: Path
) -> None:
    engine = hand_engine()
    file = tmp_path / "tight.yaml"
    file.write_text(_filled(TIGHT, [engine]))
    running = gateway(file)

    def ask(objective: str) -> httpx.Response:
        headers = {"x-llm-d-inference-objective": objective}
        return httpx.post(f"{running.url}/v1/chat/completions", json=chat(MODEL), headers=headers, timeout=60.0)

    def pool() -> Any:
        return running.status()["pools"]["default/main"]

    with ThreadPoolExecutor(12) as threads:
        first = [threads.submit(ask, "chat") for _ in range(2)]
        running.wait_for(lambda: len(engine) == 2)
        chats = [threads.submit(ask, "chat") for _ in range(3)]
        running.wait_for(lambda: pool()["queued"] == 3)
        batch = [threads.submit(ask, "batch") for _ in range(4)]
        running.wait_for(lambda: pool()["queued"] == 4 and running.status()["results"])
        running.wait_for(lambda: running.status()["results"][0]["requests"] == 3)
        for _ in range(6):
            running.wait_for(lambda: len(engine))
            engine.answer()

    shed = [each.result() for each in batch if each.result().status_code != 200]
    assert {each.result().status_code for each in first + chats} == {200}
    assert [answer.status_code for answer in shed] == [429] * 3
    assert shed[0].json()["error"]["type"] == "rate_limit_error"
    assert shed[0].headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
    assert 1 <= int(shed[0].headers["retry-after"]) <= 120
    running.audit()
