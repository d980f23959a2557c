"""AsyncDispatcher: who waits is woken, who leaves leaves nothing behind, and waiting costs nothing.

Tests run in asyncio's debug mode, in virtual time, with warnings as errors. The tests named after a letter and a
number are behaviours that other projects got wrong.
"""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import attrs
import pytest

from inferencesched import LifecycleError, Observer, Request, RequestRejected, load_config
from inferencesched.aio import AsyncDispatcher, Placement
from inferencesched.config import Config
from inferencesched.dispatcher import Dispatcher
from inferencesched.flow.detectors import ConcurrencyDetector
from inferencesched.flow.settings import Settings
from inferencesched.testing import VirtualLoop

T = TypeVar("T")


LEAST_IN_FLIGHT = [{"type": "active-request-scorer"}, {"type": "max-score-picker"}]


def config(*, at_once: int) -> Config:
    """Least in flight, so many requests on an endpoint at once, the rest queues."""
    return load_config(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "featureGates": ["flowControl"],
            "plugins": [*LEAST_IN_FLIGHT, {"type": "concurrency-detector", "parameters": {"maxConcurrency": at_once}}],
            "schedulingProfiles": [
                {"name": "default", "plugins": [{"pluginRef": plugin["type"]} for plugin in LEAST_IN_FLIGHT]}
            ],
            "flowControl": {"saturationDetector": {"pluginRef": "concurrency-detector"}},
        }
    )


def router_of(endpoints: int = 1, *, at_once: int = 1, ttl: float = 60.0, evict: bool = False) -> AsyncDispatcher:
    """A router in the running loop's time."""
    flow = Settings(detector=ConcurrencyDetector(max_concurrency=at_once), ttl=ttl, evict=evict)
    dispatcher = Dispatcher(config(at_once=at_once).scheduler(rng=random.Random(1)), flow=flow)
    router = AsyncDispatcher(dispatcher, clock=asyncio.get_running_loop().time)
    for i in range(endpoints):
        router.add_endpoint(f"e{i}", f"10.0.0.{i}:8000")
    return router


def run(main: Callable[[], Coroutine[Any, Any, T]], *, debug: bool = True) -> T:
    with asyncio.Runner(debug=debug, loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def loop() -> VirtualLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def is_clean(router: AsyncDispatcher) -> bool:
    """Whether nothing is queued, in flight, leased or remembered."""
    ledger = router.dispatcher.scheduler.ledger
    counts = (router.dispatcher.queued, router.dispatcher.in_flight, len(ledger), len(router._placements))
    return counts == (0, 0, 0, 0) and ledger.audit().balanced


async def turns(n: int = 3) -> None:
    """Let everybody who is ready run."""
    for _ in range(n):
        await asyncio.sleep(0)


async def hold(router: AsyncDispatcher, seconds: float, name: str = "r", **request: Any) -> float:
    """Take a place for some seconds; return when it was got."""
    async with router.place(Request(name, **request)):
        placed = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        return placed


# --- a place, and its end ---


def test_a_place_is_got_at_once_where_there_is_room_and_given_back_at_the_end() -> None:
    async def main() -> None:
        router = router_of()
        async with router.place(Request("r")) as placement:
            assert placement.endpoint.name == "e0"
            assert placement.decision.request_id == "r"
            assert placement.first_token()
            assert not placement.first_token()
            assert placement.touch()
            assert router.dispatcher.in_flight == 1
        assert is_clean(router)

    run(main)


def test_who_waits_is_woken_when_a_place_is_given_back_in_order() -> None:
    async def main() -> list[float]:
        router = router_of()
        times = await asyncio.gather(*(hold(router, 10.0, f"r{i}") for i in range(5)))
        assert is_clean(router)
        return list(times)

    assert run(main) == pytest.approx([0.0, 10.0, 20.0, 30.0, 40.0], abs=1e-6)


@pytest.mark.parametrize("end", ["success", "error", "cancelled", "generator closed"])
def test_a1_however_the_block_is_left_the_place_is_given_back(end: str) -> None:
    """And the ledger is told how it ended, once."""

    async def body(router: AsyncDispatcher) -> Any:
        async with router.place(Request("r")):
            if end == "error":
                raise ConnectionError
            await asyncio.sleep(0.0 if end == "success" else 100.0)
            yield

    async def consume(chunks: Any) -> None:
        async for _ in chunks:
            pass

    async def main() -> None:
        router = router_of()
        if end == "generator closed":
            chunks = body(router)
            starting = asyncio.ensure_future(anext(chunks))
            await turns()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await chunks.aclose()
        else:
            task = asyncio.create_task(consume(body(router)))
            await turns()
            if end == "cancelled":
                assert router.dispatcher.in_flight == 1
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert is_clean(router)

    run(main)


def test_a_refusal_is_raised_where_the_place_was_asked_for() -> None:
    async def main() -> None:
        router = router_of(ttl=5.0)
        holder = asyncio.create_task(hold(router, 60.0, "holder"))
        await turns()

        with pytest.raises(RequestRejected) as refused:
            async with router.place(Request("late")):
                raise AssertionError("no place")

        assert loop().time() == pytest.approx(5.0, abs=0.01)
        assert (refused.value.rejection.http_status, refused.value.rejection.reason) == (429, "rejected-ttl-expired")
        await holder
        assert is_clean(router)

    run(main)


def test_a_placement_serves_once_and_not_before_it_is_entered() -> None:
    async def main() -> None:
        router = router_of()
        placement = router.place(Request("r"))
        with pytest.raises(LifecycleError, match="no place yet"):
            _ = placement.endpoint
        with pytest.raises(LifecycleError, match="no place yet"):
            placement.first_token()
        async with placement:
            pass
        with pytest.raises(LifecycleError, match="entered before"):
            await placement.__aenter__()
        assert is_clean(router)

    run(main)


# --- cancellation ---


def test_e7_cancelled_while_waiting_leaves_nothing_and_the_next_in_line_moves_up() -> None:
    async def main() -> None:
        router = router_of()
        holder = asyncio.create_task(hold(router, 10.0, "holder"))
        await turns()
        waiters = [asyncio.create_task(hold(router, 1.0, f"r{i}")) for i in range(3)]
        await turns()
        assert router.dispatcher.queued == 3

        waiters[0].cancel()
        await turns()

        assert router.dispatcher.queued == 2
        await holder
        assert await waiters[1] == pytest.approx(10.0, abs=1e-6)
        await waiters[2]
        assert waiters[0].cancelled()
        assert is_clean(router)

    run(main)


def test_cancelled_in_the_same_turn_in_which_it_was_placed() -> None:
    """The future is resolved, its task has not run yet, and the client hangs up: the lease must not stay."""

    async def main() -> None:
        router = router_of()
        async with router.place(Request("holder")):
            waiter = asyncio.create_task(hold(router, 1.0, "waiter"))
            await turns()
        seen: list[int] = []
        loop().call_soon(lambda: seen.append(router.dispatcher.in_flight))  # after its place was found for the waiter,
        loop().call_soon(waiter.cancel)  # before the waiter has a turn
        await turns()

        assert seen == [1]
        assert waiter.cancelled()
        assert is_clean(router)

    run(main)


def test_cancelled_in_the_same_turn_in_which_it_was_refused() -> None:
    async def main() -> None:
        router = router_of(0, ttl=5.0)
        waiter = asyncio.create_task(hold(router, 1.0, "waiter"))
        await turns()
        router.close()
        waiter.cancel()
        await turns()

        assert waiter.cancelled()
        assert is_clean(router)

    run(main)


def test_a_timeout_around_the_wait_is_a_timeout() -> None:
    async def main() -> None:
        router = router_of()
        async with router.place(Request("holder")):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2.0), router.place(Request("r")):
                    raise AssertionError("no place")
            assert loop().time() == pytest.approx(2.0, abs=1e-6)
        assert is_clean(router)

    run(main)


@pytest.mark.parametrize("seed", range(5))
def test_any_storm_of_cancellations_leaves_nothing(seed: int) -> None:
    """300 tasks, each cancelled at a random moment or not at all: waiting, placed, at the very turn of either."""

    async def main() -> None:
        router, rng = router_of(3, at_once=2, ttl=3.0), random.Random(seed)
        tasks = []
        for i in range(300):
            tasks.append(asyncio.create_task(hold(router, rng.choice((0.0, 0.01, 0.5)), f"r{i}")))
            if rng.random() < 0.5:
                loop().call_later(rng.choice((0.0, 0.0, 0.01, 0.5)), tasks[-1].cancel)
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.05)))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert is_clean(router)

    run(main)


# --- retry ---


def test_f10_a_retry_moves_the_lease_to_the_next_endpoint() -> None:
    async def main() -> None:
        router = router_of(2)
        ledger = router.dispatcher.scheduler.ledger
        async with router.place(Request("r"), n=2) as placement:
            first = placement.endpoint
            assert placement.retry()
            second = placement.endpoint
            assert first != second
            assert (ledger.requests(first), ledger.requests(second)) == (0, 1)
            assert not placement.retry()
        assert is_clean(router)

    run(main)


def test_what_an_answer_took_reaches_whoever_listens() -> None:
    """Also after the first token, when the request itself is let go; not after the end."""
    told: list[tuple[Any, ...]] = []

    class Listener(Observer):
        def usage_reported(self, *what: Any, now: float) -> None:
            told.append(what)

    async def main() -> None:
        scheduler = config(at_once=1).scheduler(rng=random.Random(1), observers=[Listener()])
        router = AsyncDispatcher(Dispatcher(scheduler))
        router.add_endpoint("a")
        async with router.place(Request("r", flow="mine")) as placement:
            placement.first_token()
            assert placement.report_usage(prompt_tokens=7, output_tokens=3)
        assert not placement.report_usage(prompt_tokens=7, output_tokens=3)

    run(main)

    assert told == [("r", "mine", 7, 3)]


def test_after_the_first_token_there_is_no_retry() -> None:
    """An answer has begun; another server would begin another."""

    async def main() -> None:
        router = router_of(2)
        async with router.place(Request("r"), n=2) as placement:
            placement.first_token()
            first = placement.endpoint
            assert not placement.retry()
            assert placement.endpoint == first
        assert is_clean(router)

    run(main)


# --- hosts that push facts ---


def test_an_endpoint_that_joins_is_given_to_who_waits() -> None:
    async def main() -> None:
        router = router_of(0)
        waiter = asyncio.create_task(hold(router, 1.0))
        await asyncio.sleep(5.0)

        router.add_endpoint("new", "10.0.0.9:8000")

        assert await waiter == pytest.approx(5.0, abs=1e-6)
        assert is_clean(router)

    run(main)


def test_an_endpoint_that_leaves_frees_what_was_in_flight_there() -> None:
    """The task that talks to it finds out by itself; its end changes nothing any more."""

    async def main() -> None:
        router = router_of(1)
        holder = asyncio.create_task(hold(router, 10.0))
        await turns()

        router.remove_endpoint("e0")

        assert len(router.dispatcher.scheduler.ledger) == 0
        await holder
        assert is_clean(router)

    run(main)


def test_facts_and_reloads_wake_who_waits() -> None:
    async def main() -> None:
        router = router_of(1, at_once=1)
        holder = asyncio.create_task(hold(router, 100.0, "holder"))
        await turns()
        waiter = asyncio.create_task(hold(router, 1.0, "waiter"))
        await asyncio.sleep(5.0)
        router.update("e0", {"waiting_requests": 0})
        assert router.dispatcher.queued == 1

        generation = router.reload(config(at_once=2))

        assert generation == 2
        assert await waiter == pytest.approx(5.0, abs=1e-6)
        await holder
        assert is_clean(router)

    run(main)


def test_i7_facts_that_come_before_the_loop_runs_are_not_lost() -> None:
    """Discovery often starts first; no loop is needed for it, and nothing warns."""
    dispatcher = Dispatcher.from_config(config(at_once=1), rng=random.Random(1))
    router = AsyncDispatcher(dispatcher, clock=lambda: 0.0)
    router.add_endpoint("e0", "10.0.0.1:8000")
    router.update("e0", {"waiting_requests": 0})

    async def main() -> str:
        async with router.place(Request("r")) as placement:
            return placement.endpoint.name

    assert run(main) == "e0"


def test_events_about_requests_of_others_are_left_alone() -> None:
    """Somebody submitted to the dispatcher inside: no task waits for that, and none is disturbed by it."""

    async def main() -> None:
        router = router_of()
        ticket = router.dispatcher.submit(Request("foreign"), now=0.0)
        waiter = asyncio.create_task(hold(router, 1.0))
        await turns()
        router.dispatcher.finish(ticket, now=0.0)
        router.update("e0", {})
        await waiter
        assert is_clean(router)

    run(main)


# --- eviction and the end ---


def test_an_evicted_placement_is_cancelled_and_ends_as_a_refusal() -> None:
    """More urgent work needs the room: the task is stopped where it waits, and told why."""

    async def main() -> None:
        router = router_of(1, at_once=1, evict=True)
        victim = asyncio.create_task(hold(router, 1000.0, "sheddable", priority=-1))
        await asyncio.sleep(1.0)
        urgent = asyncio.create_task(hold(router, 1.0, "urgent", priority=10))
        with pytest.raises(RequestRejected, match="429 evicted"):
            await victim
        placed = await urgent

        assert placed < 30.0
        assert victim.cancelling() == 0
        assert is_clean(router)

    run(main)


def test_draining_lets_answers_end_and_takes_no_more() -> None:
    async def main() -> None:
        router = router_of()
        holder = asyncio.create_task(hold(router, 30.0, "holder"))
        await turns()
        waiter = asyncio.create_task(hold(router, 1.0, "waiter"))
        await turns()

        await router.drain()

        assert loop().time() == pytest.approx(30.0, abs=1e-6)
        with pytest.raises(RequestRejected, match="503 rejected-shutting-down"):
            await waiter
        with pytest.raises(RequestRejected, match="503 rejected-shutting-down"):
            await hold(router, 1.0, "late")
        await holder
        assert is_clean(router)

    run(main)


def test_draining_with_grace_places_who_waits_already() -> None:
    async def main() -> None:
        router = router_of()
        tasks = [asyncio.create_task(hold(router, 30.0, f"r{i}")) for i in range(3)]
        await turns()

        await router.drain(grace=40.0)

        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(outcome, RequestRejected) for outcome in outcomes] == [False, False, True]
        assert is_clean(router)

    run(main)


def test_an_idle_router_is_drained_at_once() -> None:
    async def main() -> None:
        router = router_of()
        await router.drain()
        await router.drain()
        assert loop().time() == 0.0

    run(main)


def test_m8_an_answer_that_never_ends_does_not_delay_the_shutdown() -> None:
    """Drain for a while, then close: the stream's task is cancelled, and sees a 503."""

    async def main() -> None:
        router = router_of(2)
        idle = asyncio.create_task(hold(router, 1e9, "idle"))
        await turns()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30.0):
                await router.drain()
        router.close()

        with pytest.raises(RequestRejected, match="503 rejected-shutting-down"):
            await idle
        assert loop().time() == pytest.approx(30.0, abs=1e-6)
        assert is_clean(router)

    run(main)


def test_e17_closing_ends_everybody_exactly_once() -> None:
    async def main() -> None:
        async with router_of(2, at_once=3) as router:
            tasks = [asyncio.create_task(hold(router, 100.0, f"r{i}")) for i in range(20)]
            await turns()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)

        reasons = [outcome.rejection.reason for outcome in outcomes if isinstance(outcome, RequestRejected)]
        assert reasons == ["rejected-shutting-down"] * 20
        assert is_clean(router)

    run(main)


def test_a_cancellation_of_somebody_else_is_not_mistaken_for_ours() -> None:
    """Closed and cancelled in one breath: the task ends as cancelled, as its owner asked."""

    async def main() -> None:
        router = router_of()
        task = asyncio.create_task(hold(router, 100.0))
        await turns()
        router.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert task.cancelled()
        assert is_clean(router)

    run(main)


# --- what it costs ---


def test_m13_five_thousand_who_wait_cost_no_callbacks() -> None:
    """Ten minutes with 5,000 queued requests: what the loop is handed does not depend on how many there are."""

    async def idle(waiting: int) -> int:
        router = router_of(1, ttl=0.0)
        async with router.place(Request("holder")):
            tasks = [asyncio.create_task(hold(router, 0.0, f"r{i}")) for i in range(waiting)]
            await turns()
            assert router.dispatcher.queued == waiting
            await asyncio.sleep(9.0)  # the endpoint's slow start is over, and saturation looked at for the last time
            before = loop().callbacks
            await asyncio.sleep(590.0)
            cost = loop().callbacks - before
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return cost

    few, many = run(lambda: idle(5), debug=False), run(lambda: idle(5000), debug=False)  # debug mode keeps stacks

    assert many == few
    assert many < 20


def test_one_timer_stands_for_all_deadlines() -> None:
    """A thousand deadlines at a thousand times: a timer is armed for the nearest one only."""

    async def main() -> None:
        router = router_of(1, ttl=50.0)
        async with router.place(Request("holder")):
            tasks = []
            for i in range(1000):
                tasks.append(asyncio.create_task(hold(router, 0.0, f"r{i}")))
                await asyncio.sleep(0.01)
            live = [h for h in loop()._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
            assert len(live) == 1
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, RequestRejected) for outcome in outcomes)
        assert is_clean(router)

    run(main)


def test_m11_nothing_of_a_request_is_kept_after_its_end() -> None:
    @attrs.define(eq=False)
    class Body:
        """Somebody's prompt."""

    async def main() -> None:
        router, kept = router_of(), []
        for i in range(10):
            body = Body()
            kept.append(weakref.ref(body))
            async with router.place(Request(f"r{i}", attributes={"body": body})):
                await turns()
            del body
        gc.collect()
        assert [reference() for reference in kept] == [None] * 10

    run(main)


def test_a_thousand_streams_at_once_keep_order_and_books() -> None:
    """M10 in small: every request is served, none twice, and the ledger agrees."""

    async def main() -> None:
        router = router_of(8, at_once=16, ttl=0.0)
        served: list[str] = []

        async def stream(name: str) -> None:
            async with router.place(Request(name)) as placement:
                await asyncio.sleep(0.1)
                placement.first_token()
                await asyncio.sleep(0.5)
                served.append(name)

        await asyncio.gather(*(stream(f"r{i}") for i in range(1000)))

        assert sorted(served) == sorted(f"r{i}" for i in range(1000))
        assert is_clean(router)

    run(main)


def test_a_placement_shows_what_it_is_for() -> None:
    async def main() -> None:
        placement = router_of().place(Request("r-7"))
        assert isinstance(placement, Placement)
        assert placement.request.id == "r-7"

    run(main)
