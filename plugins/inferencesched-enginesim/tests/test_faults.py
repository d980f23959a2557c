"""Everything that can be made to go wrong, seen from a client; and mended again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import aiohttp
import pytest
import uvloop
from inferencesched_enginesim import INSTANT, EngineFleet, EngineServer, Fault, Faults, ServerSpec
from inferencesched_enginesim.problems import BadRequest

SPEC = ServerSpec(model="base", engine=INSTANT, answer_tokens=10)
CHAT = {"model": "base", "messages": [{"role": "user", "content": "Hello"}]}
MESSAGE = {"model": "base", "max_tokens": 5, "messages": CHAT["messages"]}


class Client:
    """A server in trouble and its client."""

    def __init__(self, server: EngineServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def break_it(self, *faults: dict[str, Any], status: int = 200) -> Any:
        async with self.session.post(f"{self.server.url}/sim/faults", json=list(faults)) as answer:
            assert answer.status == status
            return await answer.json()

    async def mend(self) -> None:
        async with self.session.delete(f"{self.server.url}/sim/faults") as answer:
            assert await answer.json() == {"faults": []}

    async def ask(self, body: dict[str, Any] | None = None, path: str = "/v1/chat/completions") -> tuple[int, bytes]:
        async with self.session.post(self.server.url + path, json=body or CHAT) as answer:
            return answer.status, await answer.read()

    async def read_stream(self) -> tuple[int, bool]:
        """How many events of a stream came, and whether it ended as it should."""
        events = b""
        async with self.session.post(f"{self.server.url}/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
            assert answer.status == 200
            try:
                async for chunk in answer.content.iter_any():
                    events += chunk
            except aiohttp.ClientError:
                return events.count(b"data: "), False
        return events.count(b"data: "), True

    async def metrics(self) -> tuple[int, str]:
        async with self.session.get(f"{self.server.url}/metrics") as answer:
            return answer.status, await answer.text()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Client]:
    async with EngineServer(SPEC) as server, aiohttp.ClientSession() as session:
        yield Client(server, session)


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what the sockets bring; fail after five seconds."""
    for _ in range(500):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def served(scenario: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with serving() as client:
            await scenario(client)
            await client.mend()
            assert (await client.ask())[0] == 200, "mended is mended"
            assert client.server.service.driver.live == 0

    asyncio.run(run())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_error_has_its_status_and_a_body_in_the_apis_own_shape(status: int) -> None:
    async def scenario(client: Client) -> None:
        await client.break_it({"kind": "error", "status": status})
        async with client.session.post(f"{client.server.url}/v1/chat/completions", json=CHAT) as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["code"] == status
            assert ("retry-after" in answer.headers) == (status != 500)
        async with client.session.post(f"{client.server.url}/v1/messages", json=MESSAGE) as answer:
            assert answer.status == status
            assert (await answer.json())["type"] == "error"
        assert [one.outcome for one in client.server.log] == ["error", "error"]

    served(scenario)


def test_a_fault_hits_its_share_of_requests_and_as_many_as_it_counts() -> None:
    async def scenario(client: Client) -> None:
        await client.break_it({"kind": "error", "rate": 0.3})
        statuses = [(await client.ask())[0] for _ in range(200)]
        assert 30 < statuses.count(500) < 90  # 60 ± 4.6 σ
        await client.mend()

        await client.break_it({"kind": "error", "count": 2})
        assert [(await client.ask())[0] for _ in range(4)] == [500, 500, 200, 200]

    served(scenario)


def test_a_stream_dies_after_its_chunks() -> None:
    async def scenario(client: Client) -> None:
        assert await client.read_stream() == (13, True)  # role, ten tokens, finish reason, [DONE]
        for kind in ("truncate", "cut"):
            await client.break_it({"kind": kind, "chunks": 4})
            events, is_whole = await client.read_stream()
            assert not is_whole, kind
            assert events == 4 if kind == "truncate" else events <= 4, kind  # a reset may overtake what was sent
            await client.mend()

    served(scenario)


def test_a_whole_answer_is_cut_off_or_cut_short() -> None:
    async def scenario(client: Client) -> None:
        await client.break_it({"kind": "cut"})
        with pytest.raises(aiohttp.ClientError):
            await client.ask()
        await client.mend()

        await client.break_it({"kind": "truncate"})
        async with client.session.post(f"{client.server.url}/v1/chat/completions", json=CHAT) as answer:
            assert answer.status == 200
            assert answer.content_length is not None
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()

    served(scenario)


def test_a_hanging_request_is_released_by_a_reset() -> None:
    async def run() -> None:
        async with serving() as client:
            await client.break_it({"kind": "hang", "count": 1})
            hanging = asyncio.create_task(client.ask())
            await until(lambda: not client.server.faults.active())
            assert (await client.ask())[0] == 200
            assert not hanging.done()
            await client.mend()
            with pytest.raises(aiohttp.ClientError):
                await hanging
            assert [one.outcome for one in client.server.log] == ["hang", "done"]

    asyncio.run(run())


def test_a_page_that_freezes_shows_what_was() -> None:
    async def scenario(client: Client) -> None:
        await client.break_it({"kind": "stale-metrics"})
        _, before = await client.metrics()
        await client.ask()
        assert (await client.metrics())[1] == before
        await client.mend()
        assert (await client.metrics())[1] != before

    served(scenario)


def test_a_page_that_is_not_there_is_404() -> None:
    async def scenario(client: Client) -> None:
        await client.break_it({"kind": "no-metrics"})
        assert (await client.metrics())[0] == 404
        assert (await client.ask())[0] == 200

    served(scenario)


def test_a_slow_engine_takes_as_many_times_as_long() -> None:
    """In its own clock's rate; what is simulated stays the same."""

    async def scenario(client: Client) -> None:
        clock = client.server.service.driver.clock
        before = clock.rate
        await client.break_it({"kind": "slow", "factor": 4.0})
        await client.break_it({"kind": "slow", "factor": 2.0})
        assert clock.rate == before / 8
        await client.mend()
        assert clock.rate == before

    served(scenario)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_engine_that_refuses_is_mended_through_its_neighbour(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Open connections are reset, new ones refused; the port comes back."""

    async def run() -> None:
        specs = [ServerSpec(name=name, model="base", engine=INSTANT) for name in ("e0", "e1")]
        async with EngineFleet(specs) as fleet, aiohttp.ClientSession() as session:
            broken, neighbour = (Client(server, session) for server in fleet)
            assert (await broken.ask())[0] == 200  # an open connection
            await broken.break_it({"kind": "refuse"})
            for _ in range(3):
                with pytest.raises(aiohttp.ClientConnectionError):
                    await broken.ask()
            assert (await neighbour.ask())[0] == 200

            async with session.delete(f"{neighbour.server.url}/sim/faults", params={"engine": "e0"}) as answer:
                assert answer.status == 200
            assert (await broken.ask())[0] == 200
            async with session.get(f"{neighbour.server.url}/sim/faults", params={"engine": "e7"}) as answer:
                assert answer.status == 400

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def test_a_fault_of_some_seconds_is_over_by_itself() -> None:
    async def run() -> None:
        async with serving() as client:
            await client.break_it({"kind": "refuse", "seconds": 1.0}, {"kind": "slow", "seconds": 0.5})
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.ask()
            await until(lambda: not client.server.faults.active())
            await asyncio.sleep(0.05)  # what is due at that time is called then
            assert (await client.ask())[0] == 200
            assert client.server.service.driver.clock.rate == 1.0
            assert client.server.faults.active() == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "about"),
    [
        ({"kind": "explode"}, "kind"),
        ({"kind": "error", "rate": 2}, "rate"),
        ({"kind": "error", "rate": "all"}, "rate"),
        ({"kind": "error", "status": 200}, "status"),
        ({"kind": "cut", "chunk": 3}, "'chunk'"),
        ({"kind": "slow", "factor": 0}, "factor"),
        ({}, "kind"),
    ],
    ids=str,
)
def test_a_fault_that_makes_no_sense_is_refused(fault: dict[str, Any], about: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.break_it(fault, status=400)
        assert about in answer["error"]["message"]
        assert client.server.faults.active() == []

    served(scenario)


def test_a_fault_can_be_a_flag() -> None:
    assert Fault.parse("hang") == Fault("hang")
    assert Fault.parse("cut:chunks=2,rate=0.5") == Fault("cut", chunks=2, rate=0.5)
    for wrong in ("explode", "error:status=x", "error:rate"):
        with pytest.raises(BadRequest):
            Fault.parse(wrong)


def test_equal_seeds_draw_equal_faults() -> None:
    def draws(seed: int) -> list[bool]:
        faults = Faults(lambda: 0.0, random.Random(seed))
        faults.add(Fault("error", rate=0.5))
        return [faults.draw() is not None for _ in range(50)]

    assert draws(1) == draws(1) != draws(2)
