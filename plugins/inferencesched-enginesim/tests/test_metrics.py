"""The metric page, read by prometheus_client's own parser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import attrs
import pytest
from inferencesched_enginesim import INSTANT, EngineServer, ServerSpec
from prometheus_client.parser import text_string_to_metric_families

SPEC = ServerSpec(model="base", loras=("english", "spanish"), engine=attrs.evolve(INSTANT, max_adapters=1))
SLOW = attrs.evolve(INSTANT, max_running=2, step_seconds=0.25, max_adapters=1)
STANDSTILL = 1e-9  # the engine's rate while somebody looks

# What a page of vLLM 0.32 under load has, and a scraper may want; captured from a real server.
OF_TODAY = {
    "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "vllm:prefix_cache_queries",
    "vllm:prefix_cache_hits", "vllm:num_preemptions", "vllm:prompt_tokens", "vllm:prompt_tokens_cached",
    "vllm:generation_tokens", "vllm:request_success", "vllm:admission_rejections", "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens", "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
    "vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds", "vllm:request_inference_time_seconds", "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds", "vllm:lora_requests_info", "vllm:cache_config_info",
}  # fmt: skip


class Page:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples = [sample for family in self.families.values() for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        (found,) = (s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())
        return float(found)

    def labels(self, name: str) -> list[Mapping[str, str]]:
        return [sample.labels for sample in self.samples if sample.name == name]


async def scrape(server: EngineServer, session: aiohttp.ClientSession) -> Page:
    async with session.get(f"{server.url}/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        return Page(await answer.text())


async def complete(server: EngineServer, session: aiohttp.ClientSession, **fields: Any) -> None:
    body = {"model": "base", "prompt": list(range(40)), "max_tokens": 3, **fields}
    async with session.post(f"{server.url}/v1/completions", json=body) as answer:
        assert answer.status == 200
        await answer.read()


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what the sockets bring; fail after five seconds."""
    for _ in range(500):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to that")


def test_the_page_has_the_families_of_todays_vllm_and_its_labels() -> None:
    async def run() -> None:
        async with EngineServer(SPEC) as server, aiohttp.ClientSession() as session:
            page = await scrape(server, session)
            assert page.families.keys() == OF_TODAY
            assert page.labels("vllm:num_requests_running") == [{"engine": "0", "model_name": "base"}]
            (config,) = page.labels("vllm:cache_config_info")
            assert (config["block_size"], config["num_gpu_blocks"]) == ("16", str((1 << 22) // 16))

    asyncio.run(run())


def test_the_old_dialect_has_the_old_names() -> None:
    async def run() -> None:
        spec = attrs.evolve(SPEC, metrics_dialect="old")
        async with EngineServer(spec) as server, aiohttp.ClientSession() as session:
            page = await scrape(server, session)
            renamed = {
                "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
                "vllm:prefix_cache_queries": "vllm:gpu_prefix_cache_queries",
                "vllm:prefix_cache_hits": "vllm:gpu_prefix_cache_hits",
                "vllm:inter_token_latency_seconds": "vllm:time_per_output_token_seconds",
            }
            assert page.families.keys() == {renamed.get(name, name) for name in OF_TODAY}
            assert page.labels("vllm:num_requests_running") == [{"model_name": "base"}]

    asyncio.run(run())


def test_counters_count_tokens_hits_and_endings() -> None:
    """40 tokens, of which two blocks of 16 are found the second time."""

    async def run() -> None:
        async with EngineServer(SPEC) as server, aiohttp.ClientSession() as session:
            await complete(server, session)
            await complete(server, session, max_tokens=100)  # its natural 64
            page = await scrape(server, session)
            assert page.value("vllm:prefix_cache_queries_total") == page.value("vllm:prompt_tokens_total") == 80
            assert page.value("vllm:prefix_cache_hits_total") == page.value("vllm:prompt_tokens_cached_total") == 32
            assert page.value("vllm:generation_tokens_total") == 67
            assert page.value("vllm:request_success_total", finished_reason="length") == 1
            assert page.value("vllm:request_success_total", finished_reason="stop") == 1
            assert page.value("vllm:time_to_first_token_seconds_count") == 2
            assert page.value("vllm:inter_token_latency_seconds_count") == 2 + 63
            assert page.value("vllm:request_time_per_output_token_seconds_count") == 2
            assert page.value("vllm:request_prompt_tokens_bucket", le="50.0") == 2
            assert page.value("vllm:request_prompt_tokens_bucket", le="20.0") == 0
            assert page.value("vllm:request_generation_tokens_sum") == 67

    asyncio.run(run())


@pytest.mark.parametrize("speed", [1.0, 5.0])
def test_times_are_those_that_a_client_measures(speed: float) -> None:
    """A step lasts 0.25 simulated seconds: one to the first token, two more to the end."""

    async def run() -> None:
        spec = attrs.evolve(SPEC, engine=SLOW, speed=speed)
        async with EngineServer(spec) as server, aiohttp.ClientSession() as session:
            await complete(server, session)
            page = await scrape(server, session)
            assert page.value("vllm:time_to_first_token_seconds_sum") == pytest.approx(0.25 / speed)
            assert page.value("vllm:e2e_request_latency_seconds_sum") == pytest.approx(0.75 / speed)
            assert page.value("vllm:request_decode_time_seconds_sum") == pytest.approx(0.5 / speed)
            assert page.value("vllm:request_queue_time_seconds_sum") == 0

    asyncio.run(run())


def test_load_is_seen_while_it_lasts() -> None:
    """Two places: two run and hold blocks, three wait; afterwards nothing does."""

    async def run() -> None:
        async with EngineServer(attrs.evolve(SPEC, engine=SLOW)) as server, aiohttp.ClientSession() as session:
            driver = server.service.driver
            work = [asyncio.create_task(complete(server, session, prompt=[n] * 40, max_tokens=30)) for n in range(5)]
            await until(lambda: (len(driver.engine.running), driver.live) == (2, 5))
            driver.set_rate(STANDSTILL)
            page = await scrape(server, session)
            assert page.value("vllm:num_requests_running") == 2
            assert page.value("vllm:num_requests_waiting") == 3
            assert page.value("vllm:kv_cache_usage_perc") == pytest.approx(2 * 3 / ((1 << 22) // 16))
            driver.set_rate(1000.0)
            await asyncio.gather(*work)
            page = await scrape(server, session)
            assert page.value("vllm:num_requests_running") == page.value("vllm:kv_cache_usage_perc") == 0

    asyncio.run(run())


def test_adapters_run_wait_and_leave_older_series_behind() -> None:
    """One slot: English runs, Spanish waits for it; the newest series is the present one."""

    async def run() -> None:
        async with EngineServer(attrs.evolve(SPEC, engine=SLOW)) as server, aiohttp.ClientSession() as session:
            await scrape(server, session)
            driver = server.service.driver
            driver.set_rate(STANDSTILL)
            english = asyncio.create_task(complete(server, session, model="english"))
            await until(lambda: driver.live == 1)
            spanish = asyncio.create_task(complete(server, session, model="spanish"))
            await until(lambda: driver.live == 2)
            page = await scrape(server, session)
            driver.set_rate(1000.0)
            await asyncio.gather(english, spanish)
            after = await scrape(server, session)

            series = page.labels("vllm:lora_requests_info")
            busy = {"max_lora": "1", "running_lora_adapters": "english", "waiting_lora_adapters": "spanish"}
            idle = {"max_lora": "1", "running_lora_adapters": "", "waiting_lora_adapters": ""}
            assert series == [idle, busy]
            values = [after.value("vllm:lora_requests_info", **labels) for labels in (idle, busy)]
            assert values[0] > values[1] > 1.7e9, "unix times, and idle is the newest again"

    asyncio.run(run())


def test_an_engine_without_adapters_does_not_speak_of_them() -> None:
    async def run() -> None:
        spec = ServerSpec(engine=attrs.evolve(INSTANT, max_adapters=0))
        async with EngineServer(spec) as server, aiohttp.ClientSession() as session:
            assert "vllm:lora_requests_info" not in (await scrape(server, session)).families

    asyncio.run(run())
