"""Many at once, and nonsense: nothing leaks, nothing crashes, every answer has a type."""

import asyncio
import gc
import json
import random
import resource
import sys
from collections.abc import Callable
from typing import Any

import pytest
from inferencesched_gateway.wire import Exchange

MODEL = "llama-3.1-8b"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}

Start = Callable[..., Any]


def test_m10_a_thousand_streams_at_once(
    gateway: Start, hand_engine: Start, background: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """No error, and memory that does not grow with what has passed."""
    engine, streams, chunks = hand_engine(), 1000, 20
    running = gateway(urls=[engine])
    body = json.dumps({**CHAT, "stream": True}).encode()
    chunk = b"data: " + json.dumps({"model": MODEL, "choices": [{"delta": {"content": "x" * 200}}]}).encode() + b"\n\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        content = await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        return content

    async def pour() -> None:
        for _ in range(3000):
            if len(engine.waiting) == streams:
                break
            await asyncio.sleep(0.01)
        for exchange in engine.waiting:
            exchange.start(200, [(b"content-type", b"text/event-stream")])
        for _ in range(chunks):
            for exchange in engine.waiting:
                exchange.write(chunk)
            await asyncio.sleep(0)
        for exchange in engine.waiting:
            exchange.write(b"data: [DONE]\n\n")
            exchange.end()

    async def storm() -> list[bytes]:
        pouring = asyncio.ensure_future(pour())
        answers = await asyncio.gather(*(ask() for _ in range(streams)))
        await pouring
        return answers

    answers = background.run(storm())

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    told = f"{streams} streams: {grown:.0f} MiB more, for the gateway, the client and the engine together"
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert all(answer.startswith(b"HTTP/1.1 200") and answer.count(b"data: ") == chunks + 1 for answer in answers)
    assert grown < 400
    running.wait_for(lambda: running.service.server.exchanges == 0)
    running.audit()


NONSENSE: list[Any] = [
    None,
    True,
    0,
    -1,
    1e308,
    "",
    "x",
    [],
    {},
    [[]],
    {"a": None},
    "\ud800",
    ["user"],
    {"role": "user"},
    2**70,
]
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/embeddings", "/v1/responses", "/generate"]


def malformed(rng: random.Random) -> tuple[str, bytes]:
    """Return a request that is wrong in some way."""
    fields = ["model", "messages", "prompt", "input", "max_tokens", "stream", "system", "tools", "cache_salt", "text"]
    body: Any = {field: rng.choice(NONSENSE) for field in rng.sample(fields, rng.randrange(len(fields)))}
    if rng.random() < 0.3:
        body["messages"] = [{"role": rng.choice(NONSENSE), "content": rng.choice(NONSENSE)} for _ in range(3)]
    content = json.dumps(body if rng.random() < 0.9 else rng.choice(NONSENSE)).encode()
    cut = rng.random()
    if cut < 0.2:
        content = content[: rng.randrange(len(content) + 1)]
    elif cut < 0.4:
        at = rng.randrange(len(content))
        content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    return rng.choice(PATHS), content


def test_ten_thousand_malformed_requests(gateway: Start, hand_engine: Start, background: Any) -> None:
    """Every answer is typed, nothing crashes, and no lease is left."""
    engine, requests, lanes = hand_engine(), 10_000, 8
    engine.handler = lambda exchange: exchange.respond(200, [(b"content-type", b"application/json")], b"{}")
    running = gateway(urls=[engine])

    async def lane(seed: int) -> dict[int, int]:
        rng, seen = random.Random(seed), dict[int, int]()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port)
        for _ in range(requests // lanes):
            path, content = malformed(rng)
            writer.write(
                f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
            seen[status] = seen.get(status, 0) + 1
            assert status in {200, 400}, (path, content, answer)
            assert status == 200 or answer["error"]["type"] == "invalid_request_error", answer
        writer.close()
        await writer.wait_closed()
        return seen

    async def storm() -> list[dict[int, int]]:
        return await asyncio.gather(*(lane(seed) for seed in range(lanes)))

    seen = background.run(storm())

    assert sum(each.get(400, 0) for each in seen) > requests // 2
    running.wait_for(lambda: running.service.server.exchanges == 0)
    running.audit()


@pytest.mark.parametrize("end", [Exchange.abort, Exchange.end])
def test_m11_nothing_of_a_request_is_kept_when_it_has_ended(
    gateway: Start, hand_engine: Start, background: Any, end: Callable[[Exchange], None]
) -> None:
    engine = hand_engine()
    marker = "a prompt that nobody may keep " * 1000

    def answer_in_part(exchange: Exchange) -> None:
        exchange.start(200, [(b"content-length", b"5")])
        exchange.write(b"12")
        end(exchange)

    engine.handler = answer_in_part
    running = gateway(urls=[engine])
    body = {**CHAT, "messages": [{"role": "user", "content": marker}]}
    for _ in range(3):
        try:
            running.http.post("/v1/chat/completions", json=body)
        except Exception:  # noqa: BLE001, S112 — it is cut short on purpose
            continue

    async def look() -> int:
        gc.collect()
        return sum(isinstance(each, bytes | str) and len(each) >= len(marker) for each in _reachable(running.service))

    running.wait_for(lambda: running.service.server.exchanges == 0)
    assert background.run(look()) == 0


def _reachable(root: object) -> list[object]:
    """Return everything that can be reached from the service without going through modules and types."""
    seen: dict[int, object] = {}
    queue = [root]
    while queue:
        each = queue.pop()
        if id(each) in seen or isinstance(each, type) or type(each).__name__ in {"module", "function"}:
            continue
        seen[id(each)] = each
        queue.extend(gc.get_referents(each))
    return list(seen.values())
