"""A gateway as a process and over time: the command, readiness, reload, and the end."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

MODEL = "llama-3.1-8b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
SSE = [(b"content-type", b"text/event-stream")]

Start = Callable[..., Any]


class Command:
    """``inferencesched serve`` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "inferencesched", "serve", "--port", "0", "--json", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.said = json.loads(self.process.stdout.readline() or "{}")
        self.url = self.said.get("url", "")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def serve() -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(*arguments))
        return started[-1]

    yield start
    for command in started:
        if command.process.poll() is None:
            command.process.kill()
            command.process.communicate()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


# --- the command -----------------------------------------------------------------------------------------------------


def test_one_command_serves_simulated_engines(serve: Start) -> None:
    command = serve("--demo")

    answer = httpx.post(f"{command.url}/v1/chat/completions", json={**CHAT, "max_tokens": 3}, timeout=30.0)
    code, _ = command.end()

    assert len(command.said["pools"]["default/default"]) == 4
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert code == 0


def test_one_command_serves_endpoints_and_says_who_is_blind(serve: Start, hand_engine: Start) -> None:
    """J4: an engine without a metric page is named, and so is what decides without it."""
    engine = hand_engine()
    command = serve("--endpoint", engine.url)
    for _ in range(200):
        if httpx.get(f"{command.url}/readyz").status_code == 200:
            break
        time.sleep(0.05)
    code, errors = command.end(signal.SIGINT)

    assert code == 0
    assert "expected-work-scorer" in errors
    assert f"{engine.url}/metrics" in errors
    assert "404" in errors


def test_manifests_that_are_wrong_are_told_of_all_at_once(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("kind: InferencePool\napiVersion: inference.networking.k8s.io/v1\nmetadata: {name: a}\nspec: {}\n")

    command = [sys.executable, "-m", "inferencesched", "serve", "-f", str(file)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert "selector" in ended.stderr
    assert "targetPorts" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("--endpoint", "http://a:8000", "--trust", "everybody"), ("--tls-cert", __file__)]
)
def test_a_command_that_makes_no_sense(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "inferencesched", "serve", *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 2


def test_i6_an_endpoint_that_is_no_address(serve: Start) -> None:
    command = [sys.executable, "-m", "inferencesched", "serve", "--endpoint", "http://u:secret@host:1/v1"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 1
    assert "secret" not in ended.stderr


def test_an_access_log_has_a_line_for_each_request(serve: Start, fleet: list[Any]) -> None:
    """K3: and neither prompt nor credentials are in it."""
    command = serve("--endpoint", fleet[0].url, "--access-log")
    secret = {**CHAT, "messages": [{"role": "user", "content": "my secret prompt"}]}
    headers = {"authorization": "Bearer sk-secret"}
    httpx.post(f"{command.url}/v1/chat/completions", json=secret, headers=headers).raise_for_status()
    httpx.post(f"{command.url}/v1/chat/completions", content=b"{my secret", headers=headers)
    command.process.send_signal(signal.SIGTERM)
    said, errors = command.process.communicate(timeout=30)

    first, second = map(json.loads, said.splitlines()[-2:])
    assert (first["status"], first["result"], first["pool"]) == (200, "success", "default/default")
    assert (second["status"], second["result"], second["pool"]) == (400, "refused", "")
    assert "secret" not in said + errors


def test_engines_behind_tls_are_asked_over_tls_for_everything(
    gateway: Start, hand_engine: Start, threads: Any, tmp_path: Path
) -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    engine = hand_engine(serving)
    running = gateway(urls=[engine.url], engine_tls=trusting)

    running.wait_for(lambda: engine.looked_at == {"/metrics", "/v1/models"})
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)
    engine.answer()

    assert asked.result().status_code == 200
    assert engine.seen[0]["headers"]["host"] == f"127.0.0.1:{engine.port}"


# --- readiness and the end -------------------------------------------------------------------------------------------


def test_m9_ready_when_endpoints_have_been_heard_of(gateway: Start, fleet: list[Any]) -> None:
    fleet[1].fail("hang")
    running = gateway(urls=fleet)

    running.wait_until_ready()

    assert running.http.get("/healthz").status_code == 200


def test_a_drain_says_so_first_and_waits_for_answers(gateway: Start, hand_engine: Start, threads: Any) -> None:
    engine = hand_engine()
    running = gateway(urls=[engine], drain_delay=1.5, drain_seconds=20.0)
    running.wait_until_ready()
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)

    drained = asyncio.run_coroutine_threadsafe(running.service.drain(), running.background.loop)
    running.wait_for(lambda: running.service.is_draining)
    ready = httpx.get(f"{running.url}/readyz")
    running.wait_for(lambda: running.service.server.draining)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{running.url}/healthz")
    engine.answer()

    assert (ready.status_code, ready.text) == (503, "draining\n")
    assert asked.result().status_code == 200
    drained.result(10)
    assert running.service.stopped.is_set()


def test_m8_streams_that_do_not_end_do_not_hold_up_the_end(serve: Start, hand_engine: Start) -> None:
    engine = hand_engine()
    command = serve("--endpoint", engine.url, "--drain-timeout", "0.3")
    with httpx.Client(base_url=command.url) as client:
        answers: list[Any] = []

        def read() -> None:
            with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                answers.extend(answer.iter_raw())

        reading = threading.Thread(target=read)
        reading.start()
        while not engine.waiting:
            time.sleep(0.01)
        engine.tell(lambda exchange: (exchange.start(200, SSE), exchange.write(b"data: {}\n\n")))
        while not answers:
            time.sleep(0.01)
        code, errors = command.end()
        reading.join(10)

    assert code == 0
    assert "1 answers take longer than 0.3 s" in errors
    assert b"rejected-shutting-down" in b"".join(answers)  # an error event, so that nobody takes it for complete


# --- reload ----------------------------------------------------------------------------------------------------------


def write_endpoints(file: Path, *urls: str) -> None:
    lines = ["endpoints:"]
    for i, url in enumerate(urls):
        host, _, port = url.removeprefix("http://").partition(":")
        lines.append(f"- {{name: gpu-{i}, address: {host}, port: '{port}'}}")
    replacement = file.with_suffix(".new")
    replacement.write_text("\n".join(lines) + "\n")
    replacement.replace(file)


def endpoints(running: Any) -> set[str]:
    return set(running.status()["pools"]["default/default"]["endpoints"].values())


def test_files_that_change_are_read_again_and_nothing_in_flight_is_lost(
    gateway: Start, hand_engine: Start, threads: Any, tmp_path: Path
) -> None:
    first, second = hand_engine(), hand_engine()
    file = tmp_path / "endpoints.yaml"
    write_endpoints(file, first.url)
    running = gateway(file)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: first.waiting)

    write_endpoints(file, second.url)
    running.wait_for(lambda: endpoints(running) == {f"127.0.0.1:{second.port}"})
    again = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: second.waiting)
    first.answer()
    second.answer()

    assert asked.result().status_code == again.result().status_code == 200
    running.audit()


def test_files_that_are_wrong_change_nothing(
    gateway: Start, hand_engine: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = hand_engine()
    file = tmp_path / "endpoints.yaml"
    write_endpoints(file, engine.url)
    running = gateway(file)

    file.write_text("endpoints: [{name: a, address: 999.1.1.1, port: '1'}]")
    running.wait_for(lambda: "not reloaded" in caplog.text)

    assert "999.1.1.1" in caplog.text
    assert endpoints(running) == {f"127.0.0.1:{engine.port}"}
    write_endpoints(file, engine.url, "http://127.0.0.1:9")
    running.wait_for(lambda: len(endpoints(running)) == 2)


CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: SCORER}, {type: max-score-picker}]
schedulingProfiles:
- {name: default, plugins: [{pluginRef: SCORER}, {pluginRef: max-score-picker}]}
"""


def test_another_policy_is_another_generation(gateway: Start, hand_engine: Start, threads: Any, tmp_path: Path) -> None:
    engine = hand_engine()
    write_endpoints(tmp_path / "endpoints.yaml", engine.url)
    picker = tmp_path / "picker.yaml"
    picker.write_text(CONFIG.replace("SCORER", "queue-scorer"))
    running = gateway(tmp_path)

    picker.write_text(CONFIG.replace("SCORER", "running-requests-size-scorer"))
    running.wait_for(lambda: running.status()["pools"]["default/default"]["generation"] == 2)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)
    engine.answer()

    kept = running.http.get(f"/-/receipts/{asked.result().headers['x-request-id']}").json()
    assert kept["receipt"]["generation"] == 2
    assert "running-requests-size-scorer" in kept["receipt"]["passes"][0]["weights"]


def test_reloads_at_once_come_one_after_another(gateway: Start, hand_engine: Start, tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    write_endpoints(file, hand_engine().url)
    running = gateway(file)

    async def reload() -> Any:
        return await asyncio.gather(*(running.service.reload() for _ in range(3)))

    assert running.background.run(reload()) == [True, True, True]
    assert len(running.service._feeds) == 1


DISCOVERED = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: file-discovery, parameters: {path: PATH, watchFile: true}}
- {type: max-score-picker}
schedulingProfiles: [{name: default, plugins: [{pluginRef: max-score-picker}]}]
dataLayer:
  discovery: {pluginRef: file-discovery}
"""


def test_endpoints_may_come_from_a_source(gateway: Start, hand_engine: Start, threads: Any, tmp_path: Path) -> None:
    engine = hand_engine()
    listed, config = tmp_path / "fleet" / "endpoints.yaml", tmp_path / "picker.yaml"
    listed.parent.mkdir()
    write_endpoints(listed, engine.url)
    config.write_text(DISCOVERED.replace("PATH", str(listed)))
    running = gateway(config)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)
    engine.answer()

    assert asked.result().status_code == 200
    config.write_text(config.read_text() + "# touched\n")  # what a source has found outlives a reload
    time.sleep(0.3)
    assert endpoints(running) == {f"127.0.0.1:{engine.port}"}
