"""What happens to one request on its way: fallbacks, streams, broken answers, headers. The engine answers by hand."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from inferencesched_gateway import GatewaySettings
from inferencesched_gateway.wire import ClientTimeouts, Exchange, Limits

from inferencesched.resources import HeaderChanges, Routed

MODEL = "llama-3.1-8b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
SSE = [(b"content-type", b"text/event-stream")]

Start = Callable[..., Any]


def event(text: str = "word", **more: Any) -> bytes:
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": MODEL, "choices": [], **more}
    chunk["choices"] = more.get("choices", [{"index": 0, "delta": {"content": text}, "finish_reason": None}])
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


USAGE = {"prompt_tokens": 30, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}}
END = event(choices=[], usage=USAGE) + b"data: [DONE]\n\n"


@pytest.fixture
def threads() -> Any:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def engine(hand_engine: Start) -> Any:
    return hand_engine()


@pytest.fixture
def running(engine: Any, gateway: Start) -> Any:
    return gateway(urls=[engine])


def receipt(running: Any, answer: httpx.Response) -> dict[str, Any]:
    kept = running.http.get(f"/-/receipts/{answer.headers['x-request-id']}").raise_for_status()
    found: dict[str, Any] = kept.json()
    return found


# --- fallbacks -------------------------------------------------------------------------------------------------------


def test_f10_the_next_endpoint_is_tried_and_the_lease_moves_along(
    hand_engine: Start, gateway: Start, threads: Any
) -> None:
    fleet = [hand_engine(), hand_engine()]
    running = gateway(urls=fleet)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: fleet[0].waiting or fleet[1].waiting)
    first, second = fleet if fleet[0].waiting else reversed(fleet)

    first.tell(Exchange.abort)
    running.wait_for(lambda: second.waiting)
    leases = running.in_flight()
    second.answer()

    assert asked.result().status_code == 200
    assert leases == {f"127.0.0.1:{second.port}": 1.0, f"127.0.0.1:{first.port}": 0.0}
    assert receipt(running, asked.result())["outcome"]["attempts"] == 2
    running.audit()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_engine_that_cannot_serve_now_is_passed_over(
    hand_engine: Start, gateway: Start, threads: Any, status: int
) -> None:
    fleet = [hand_engine(), hand_engine()]
    running = gateway(urls=fleet)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: fleet[0].waiting or fleet[1].waiting)
    first, second = fleet if fleet[0].waiting else reversed(fleet)

    first.answer({"error": {"message": "loading"}}, status)
    running.wait_for(lambda: second.waiting)
    second.answer()

    assert asked.result().status_code == 200


def test_nobody_can_be_reached(gateway: Start) -> None:
    running = gateway(urls=["http://127.0.0.1:9", "http://127.0.0.1:10"])

    answer = running.http.post("/v1/chat/completions", json=CHAT)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "engine-unreachable"
    assert receipt(running, answer)["outcome"]["attempts"] == 2
    running.audit()


def test_a_name_that_does_not_resolve(gateway: Start) -> None:
    running = gateway(urls=["http://no-such-host.invalid:8000"])

    answer = running.http.post("/v1/chat/completions", json=CHAT)

    assert answer.status_code == 502
    running.audit()


def test_an_engine_that_never_answers(engine: Any, gateway: Start) -> None:
    running = gateway(urls=[engine], client_timeouts=ClientTimeouts(head=0.2))

    answer = running.http.post("/v1/chat/completions", json=CHAT)

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "engine-timeout"
    running.audit()


# --- streams ---------------------------------------------------------------------------------------------------------


def stream(running: Any, body: dict[str, Any] = CHAT, path: str = "/v1/chat/completions") -> Any:
    return running.http.stream("POST", path, json={**body, "stream": True})


def test_chunks_pass_at_once(running: Any, engine: Any, threads: Any) -> None:
    """G5: in order, and none waits for the next."""
    seen: list[bytes] = []

    def read() -> Any:
        with stream(running) as answer:
            seen.extend(answer.iter_raw())
            return answer

    asked = threads.submit(read)
    running.wait_for(lambda: engine.waiting)
    exchange = engine.waiting[0]
    for i in range(5):
        engine.do(lambda i=i: exchange.start(200, SSE) if i == 0 else None)
        engine.do(lambda i=i: exchange.write(event(f"word {i}")))
        running.wait_for(lambda i=i: len(b"".join(seen).split(b"\n\n")) == i + 2)
    engine.do(lambda: (exchange.write(END), exchange.end()))

    assert asked.result().status_code == 200
    assert b"".join(seen) == b"".join(event(f"word {i}") for i in range(5)) + END


def test_g1_usage_and_times_are_read_from_a_stream_that_comes_in_any_pieces(
    running: Any, engine: Any, threads: Any
) -> None:
    """G1, G4: usage over several chunks is summed once; TTFT is that of the first chunk."""
    asked = threads.submit(lambda: _read(running))
    running.wait_for(lambda: engine.waiting)
    whole = event("a") + event("b") + END
    pieces = [whole[i : i + 50] for i in range(0, len(whole), 50)]
    engine.tell(lambda exchange: _pour(exchange, pieces))

    answer, content = asked.result()
    outcome = receipt(running, answer)["outcome"]
    assert content == whole
    assert outcome["usage"] == {"prompt_tokens": 30, "output_tokens": 2, "cached_tokens": 16}
    assert 0 < outcome["ttft"] <= outcome["duration"]
    assert outcome["tpot"] >= 0


def _read(running: Any, **more: Any) -> tuple[httpx.Response, bytes]:
    with stream(running, {**CHAT, **more}) as answer:
        return answer, b"".join(answer.iter_raw())


def _pour(exchange: Exchange, pieces: list[bytes]) -> None:
    exchange.start(200, SSE)
    for piece in pieces:
        exchange.write(piece)
    exchange.end()


def test_g10_an_answer_in_one_piece_has_no_latency_per_token(running: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)
    engine.answer({"model": MODEL, "choices": [], "usage": USAGE})

    outcome = receipt(running, asked.result())["outcome"]
    assert outcome["usage"]["output_tokens"] == 2
    assert outcome["ttft"] is None
    assert outcome["tpot"] is None


def test_g7_a_stream_that_breaks_off_ends_with_an_error_that_openai_raises(
    running: Any, engine: Any, threads: Any
) -> None:
    """G7, G8: a valid error event, the lease is given back, and no other endpoint is asked."""

    def read() -> list[Any]:
        with openai.OpenAI(base_url=f"{running.url}/v1", api_key="k", max_retries=0) as client:
            seen = []
            with pytest.raises(openai.APIError, match="broke off"):
                seen.extend(client.chat.completions.create(stream=True, **CHAT))
            return seen

    asked = threads.submit(read)
    running.wait_for(lambda: engine.waiting)
    engine.tell(lambda exchange: (exchange.start(200, SSE), exchange.write(event("one")), exchange.abort()))

    asked.result()
    assert len(engine.seen) == 1
    running.audit()


def test_g7_a_stream_that_breaks_off_ends_with_an_error_that_anthropic_raises(
    running: Any, engine: Any, threads: Any
) -> None:
    def read() -> None:
        with anthropic.Anthropic(base_url=running.url, api_key="k", max_retries=0) as client:
            told = pytest.raises(anthropic.APIStatusError, match="broke off")
            with told:
                list(client.messages.create(max_tokens=5, stream=True, **CHAT))

    asked = threads.submit(read)
    running.wait_for(lambda: engine.waiting)
    start = b'event: ping\ndata: {"type":"ping"}\n\n'
    engine.tell(lambda exchange: (exchange.start(200, SSE), exchange.write(start), exchange.abort()))

    asked.result()
    running.audit()


def test_g8_before_the_first_byte_another_endpoint_may_serve_a_stream(
    hand_engine: Start, gateway: Start, threads: Any
) -> None:
    """Even after a head: nothing of the answer has reached the client."""
    fleet = [hand_engine(), hand_engine()]
    running = gateway(urls=fleet)
    asked = threads.submit(lambda: _read(running))
    running.wait_for(lambda: fleet[0].waiting or fleet[1].waiting)
    first, second = fleet if fleet[0].waiting else reversed(fleet)

    first.tell(lambda exchange: (exchange.start(200, SSE), exchange.abort()))
    running.wait_for(lambda: second.waiting)
    second.tell(lambda exchange: _pour(exchange, [event("served"), END]))

    assert asked.result()[1] == event("served") + END


def test_g6_a_client_that_leaves_frees_everything(running: Any, engine: Any) -> None:
    left: list[bool] = []
    with Streaming(running, engine) as (answer, exchange):
        engine.do(lambda: setattr(exchange, "on_disconnect", lambda: left.append(True)))
        answer.close()

    running.wait_for(lambda: left)  # the engine has been told to stop
    running.wait_for(lambda: running.status()["results"])
    assert running.status()["results"] == [{"status": 200, "result": "cancelled", "requests": 1}]
    running.audit()


class Streaming:
    """A stream of which the first event has been read."""

    def __init__(self, running: Any, engine: Any) -> None:
        self._running, self._engine = running, engine

    def __enter__(self) -> tuple[httpx.Response, Exchange]:
        engine = self._engine

        def begin() -> None:
            self._running.wait_for(lambda: engine.waiting)
            self.exchange = engine.waiting.pop(0)
            engine.do(lambda: (self.exchange.start(200, SSE), self.exchange.write(event("one"))))

        with ThreadPoolExecutor(1) as threads:
            beginning = threads.submit(begin)
            self._context = stream(self._running)
            answer = self._context.__enter__()
            self._pieces = answer.iter_raw()
            next(self._pieces)
            beginning.result()
        return answer, self.exchange

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)


def test_a_slow_reader_holds_the_engine_back(running: Any, engine: Any) -> None:
    """Back-pressure: what a client does not take is not read from the engine either."""
    block = event("x" * 60_000)
    with Streaming(running, engine) as (_, exchange):
        stopped: list[bool] = []
        engine.do(lambda: setattr(exchange, "on_writable", lambda yes: stopped.append(not yes)))
        for _ in range(600):  # 36 MB; what fits into the buffers of four sockets is a few
            if stopped:
                break
            engine.do(lambda: exchange.write(block))
        assert stopped
    running.wait_for(lambda: running.status()["results"])
    running.audit()


# --- answers ---------------------------------------------------------------------------------------------------------


def test_f7_an_error_of_the_engine_is_not_wrapped_twice(running: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)
    told = {"error": {"message": "max_tokens is too large", "type": "BadRequestError", "param": None, "code": 400}}
    engine.answer(told, 400)

    assert asked.result().status_code == 400
    assert asked.result().json() == told


def test_f7_an_error_that_no_client_understands_is_put_into_the_shape_of_its_api(
    running: Any, engine: Any, threads: Any
) -> None:
    asked = threads.submit(running.http.post, "/v1/messages", json={**CHAT, "max_tokens": 5})
    running.wait_for(lambda: engine.waiting)
    engine.answer({"detail": "Not authenticated"}, 401)

    assert asked.result().json() == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "Not authenticated"},
    }


def test_f8_headers_of_a_connection_are_not_passed_on(running: Any, engine: Any, threads: Any) -> None:
    sent = {"te": "trailers", "x-forwarded-for": "192.0.2.7", "connection": "keep-alive, x-hop", "x-hop": "1"}
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT, headers=sent)
    running.wait_for(lambda: engine.waiting)
    answered = [(b"content-type", b"application/json"), (b"server", b"uvicorn"), (b"keep-alive", b"timeout=5")]
    engine.tell(lambda exchange: exchange.respond(200, [*answered, (b"x-model-version", b"7")], b"{}"))

    back, there = asked.result().headers, engine.seen[0]["headers"]
    assert back["x-model-version"] == "7"
    assert not {"server", "keep-alive"} & back.keys()
    assert back.get_list("content-length") == ["2"]
    assert there["x-forwarded-for"] == "192.0.2.7"
    assert not {"te", "x-hop"} & there.keys()
    assert there["host"] == f"127.0.0.1:{engine.port}"


def test_f9_the_type_of_a_body_is_kept(running: Any, engine: Any, threads: Any) -> None:
    body = {"model": MODEL, "input": "hello", "voice": "v"}
    asked = threads.submit(running.http.post, "/v1/audio/speech", json=body)
    running.wait_for(lambda: engine.waiting)
    engine.answer(b"\x00\x01RIFF", 200, "audio/wav")

    assert asked.result().headers["content-type"] == "audio/wav"
    assert asked.result().content == b"\x00\x01RIFF"


def test_what_the_client_sent_is_forwarded_byte_for_byte(running: Any, engine: Any, threads: Any) -> None:
    """G9: a body is read once and never written anew without need."""
    odd = b'{ "messages" : [{"role":"user","content":"\\u00e9"}],\n "model":"m" , "n":1.0 }'
    asked = threads.submit(running.http.post, "/v1/chat/completions?beta=1", content=odd)
    running.wait_for(lambda: engine.waiting)
    engine.answer()

    asked.result()
    assert engine.seen[0]["body"] == odd


REWRITTEN = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: main}
spec: {selector: {matchLabels: {app: main}}, targetPorts: [{number: 8000}]}
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: chat}
spec:
  poolRef: {name: main}
  rules:
  - matches: [{model: {type: Exact, value: chat}}]
    targets: [{modelRewrite: llama-3.1-8b}]
  - targets: [{modelRewrite: fallback-model}]
---
endpoints:
- {name: main, address: 127.0.0.1, port: "PORT", labels: {app: main}}
"""


@pytest.fixture
def rewriting(engine: Any, gateway: Start, tmp_path: Path) -> Any:
    file = tmp_path / "rewrite.yaml"
    file.write_text(REWRITTEN.replace("PORT", str(engine.port)))
    return gateway(file)


def test_l2_the_clients_name_of_the_model_is_in_the_answer(rewriting: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(rewriting.http.post, "/v1/chat/completions", json={**CHAT, "model": "chat"})
    rewriting.wait_for(lambda: engine.waiting)
    said = f'the string "model":"{MODEL}" in a text'
    engine.answer({"model": MODEL, "choices": [{"message": {"content": said}}]})

    assert json.loads(engine.seen[0]["body"])["model"] == MODEL
    assert asked.result().json()["model"] == "chat"
    assert asked.result().json()["choices"][0]["message"]["content"] == said
    assert int(asked.result().headers["content-length"]) == len(asked.result().content)


def test_l2_the_clients_name_of_the_model_is_in_every_chunk(rewriting: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(lambda: _read(rewriting, model="chat"))
    rewriting.wait_for(lambda: engine.waiting)
    whole = event("a") + event("b") + END
    engine.tell(lambda exchange: _pour(exchange, [whole[:70], whole[70:200], whole[200:]]))

    events = [line for line in asked.result()[1].split(b"\n\n") if line.startswith(b"data: {")]
    assert [json.loads(line[6:])["model"] for line in events] == ["chat"] * 3


def test_l3_a_rewrite_fills_in_a_model_that_is_missing(rewriting: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(rewriting.http.post, "/v1/chat/completions", json={"messages": CHAT["messages"]})
    rewriting.wait_for(lambda: engine.waiting)
    engine.answer()

    assert asked.result().status_code == 200
    assert json.loads(engine.seen[0]["body"])["model"] == "fallback-model"


# --- trust -----------------------------------------------------------------------------------------------------------

CONTROL = {
    "x-gateway-destination-endpoint": "10.9.9.9:1",
    "X-Gateway-Destination-Endpoint-Subset": "nowhere",
    "x-llm-d-inference-objective": "urgent",
    "x-llm-d-inference-fairness-id": "somebody-else",
    "x-prefiller-host-port": "10.9.9.9:2",
}


def test_k1_control_headers_of_strangers_are_ignored(engine: Any, gateway: Start, threads: Any) -> None:
    running = gateway(urls=[engine], gateway=GatewaySettings())
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT, headers=CONTROL)
    running.wait_for(lambda: engine.waiting)
    engine.answer()

    assert asked.result().status_code == 200
    there = engine.seen[0]["headers"]
    assert there["x-gateway-destination-endpoint"] == f"127.0.0.1:{engine.port}"
    assert not {name.lower() for name in CONTROL} & there.keys() - {"x-gateway-destination-endpoint"}


def test_k1_receipts_and_numbers_are_for_those_who_run_it(engine: Any, gateway: Start, threads: Any) -> None:
    running = gateway(urls=[engine], gateway=GatewaySettings())
    asked = threads.submit(running.http.get, "/-/status")
    running.wait_for(lambda: running.service.server.exchanges == 1 or asked.done())

    assert asked.result().status_code in {404, 502}


def test_k7_headers_of_the_system_replace_those_of_the_client(running: Any, engine: Any, threads: Any) -> None:
    """K7: and from a trusted network the subset counts."""
    headers = [("x-gateway-destination-endpoint", "10.9.9.9:1"), ("x-gateway-destination-endpoint", "10.9.9.9:2")]
    subset = ("x-gateway-destination-endpoint-subset", f"127.0.0.1:{engine.port}")
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT, headers=[*headers, subset])
    running.wait_for(lambda: engine.waiting)
    engine.answer()
    nobody = running.http.post(
        "/v1/chat/completions", json=CHAT, headers={"x-gateway-destination-endpoint-subset": "10.9.9.9:1"}
    )

    assert asked.result().status_code == 200
    assert engine.seen[0]["headers"]["x-gateway-destination-endpoint"] == f"127.0.0.1:{engine.port}"
    assert nobody.status_code == 503


def test_k4_a_body_that_is_too_large_is_refused_before_it_is_read(engine: Any, gateway: Start) -> None:
    running = gateway(urls=[engine], limits=Limits(body_bytes=1000))

    answer = running.http.post("/v1/chat/completions", json={**CHAT, "user": "x" * 1000})

    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert not engine.seen


def test_f3_a_body_that_is_no_json_is_malformed(running: Any) -> None:
    answer = running.http.post(
        "/v1/chat/completions", content=b'{"model": "secret prompt', headers={"x-request-id": "r"}
    )

    assert answer.status_code == 400
    assert answer.headers["x-request-id"] == "r"
    assert "secret" not in answer.text


TIMED = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  rules:
  - timeouts: {request: 300ms}
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: main}]
---
"""


def test_the_time_that_a_route_allows_is_for_the_whole_answer(engine: Any, gateway: Start, tmp_path: Path) -> None:
    file = tmp_path / "timed.yaml"
    file.write_text(TIMED + REWRITTEN.replace("PORT", str(engine.port)))
    running = gateway(file)

    answer = running.http.post("/v1/chat/completions", json={**CHAT, "model": "chat"})

    assert answer.status_code == 504
    running.audit()


def test_the_model_may_be_forced_by_those_who_are_trusted(running: Any, engine: Any, threads: Any) -> None:
    headers = {"x-llm-d-model-name-rewrite": "other"}
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT, headers=headers)
    running.wait_for(lambda: engine.waiting)
    engine.answer({"model": "other", "choices": []})

    assert json.loads(engine.seen[0]["body"])["model"] == "other"
    assert asked.result().json()["model"] == MODEL


def test_a_long_stream_keeps_its_lease(
    running: Any, engine: Any, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is alive while chunks come; otherwise its lease would be taken for lost after ten minutes."""
    asked = threads.submit(lambda: _read(running))
    running.wait_for(lambda: engine.waiting)
    exchange = engine.waiting[0]
    start = running.service.gateway.clock()
    (pool,) = running.service.pools
    engine.do(lambda: (exchange.start(200, SSE), exchange.write(event("one"))))
    running.wait_for(lambda: sum(running.in_flight().values()) == 1.0)
    for minute in range(1, 16):
        monkeypatch.setattr(pool, "_clock", lambda minute=minute: start + 60.5 * minute)
        monkeypatch.setattr(running.service.gateway, "clock", lambda minute=minute: start + 60.5 * minute)
        engine.do(lambda minute=minute: exchange.write(event(f"minute {minute}")))
        running.wait_for(lambda minute=minute: running.touched() >= start + 60.5 * minute)
        engine.do(pool._ring)
    assert sum(running.in_flight().values()) == 1.0
    engine.do(lambda: (exchange.write(END), exchange.end()))

    assert asked.result()[1].count(b"minute") == 15
    running.audit()


def test_a_body_that_is_cut_short_is_not_taken_for_whole(running: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    running.wait_for(lambda: engine.waiting)
    head = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    engine.tell(lambda exchange: (exchange.start(200, head), exchange.write(b'{"choices"'), exchange.abort()))

    with pytest.raises(httpx.RemoteProtocolError):
        asked.result()
    running.wait_for(lambda: running.status()["results"])
    assert running.status()["results"] == [{"status": 200, "result": "error", "requests": 1}]
    running.audit()


def test_a_body_that_is_cut_short_before_any_of_it_was_passed_on_comes_from_elsewhere(
    hand_engine: Start, gateway: Start, threads: Any, tmp_path: Path
) -> None:
    """A body in which the model's name is to be restored is held until it is whole."""
    fleet = [hand_engine(), hand_engine()]
    file = tmp_path / "rewrite.yaml"
    second_entry = f'- {{name: more, address: 127.0.0.1, port: "{fleet[1].port}", labels: {{app: main}}}}\n'
    file.write_text(REWRITTEN.replace("PORT", str(fleet[0].port)) + second_entry)
    running = gateway(file)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json={**CHAT, "model": "chat"})
    running.wait_for(lambda: fleet[0].waiting or fleet[1].waiting)
    first, second = fleet if fleet[0].waiting else reversed(fleet)

    head = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    first.tell(lambda exchange: (exchange.start(200, head), exchange.write(b'{"model"'), exchange.abort()))
    running.wait_for(lambda: second.waiting)
    second.answer({"model": MODEL, "choices": []})

    assert asked.result().json() == {"model": "chat", "choices": []}


def test_a_receipt_is_found_by_any_id_that_was_accepted(running: Any, engine: Any, threads: Any) -> None:
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT, headers={"x-request-id": "one two/3"})
    running.wait_for(lambda: engine.waiting)
    engine.answer()

    asked.result()
    assert running.http.get("/-/receipts/one%20two%2F3").json()["outcome"]["request_id"] == "one two/3"


UNWRITABLE = HeaderChanges(set={"x-drink": "\N{HOT BEVERAGE}"})


@pytest.mark.parametrize("side", ["request_headers", "response_headers"])
def test_what_no_header_can_carry_is_our_fault_and_still_an_answer(
    running: Any, engine: Any, threads: Any, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """A file that says so is refused at the start; a plugin may say so at any time."""
    change: Any = {side: (UNWRITABLE,)}
    routed = Routed(("default", "default"), **change)
    monkeypatch.setattr(running.service.setup.table, "route", lambda **_: routed)
    asked = threads.submit(running.http.post, "/v1/chat/completions", json=CHAT)
    if side == "response_headers":
        running.wait_for(lambda: engine.waiting)
        engine.answer()

    assert asked.result().status_code == 500
    assert asked.result().json()["error"]["code"] == "internal"
    running.audit()
