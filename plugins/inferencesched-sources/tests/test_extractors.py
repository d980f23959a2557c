"""Which engine's words a page is read in, and what the smaller extractors find."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from inferencesched_sources import (
    DcgmDataSource,
    DcgmExtractor,
    ModelsDataExtractor,
    ModelsDataSource,
)

from inferencesched import Endpoint, Registry

create = Registry().create

VLLM = b"vllm:num_requests_waiting 1\n"
SGLANG = b"sglang:num_queue_reqs 2\n"
WAITING = frozenset({"waiting_requests"})


def extractor(**parameters: Any) -> Any:
    return create("core-metrics-extractor", parameters)


def waiting(reader: Any, page: bytes, **labels: str) -> float | None:
    found: float | None = reader.extract(Endpoint("gpu-0", labels=labels), page, WAITING).facts.get("waiting_requests")
    return found


def test_without_a_label_the_page_says_whose_it_is() -> None:
    assert waiting(extractor(), VLLM) == 1.0
    assert waiting(extractor(), SGLANG) == 2.0


@pytest.mark.parametrize("label", ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"])
def test_a_label_decides(label: str) -> None:
    assert waiting(extractor(), VLLM + SGLANG, **{label: "sglang"}) == 2.0


def test_the_key_of_the_label_can_be_another() -> None:
    reader = extractor(engineLabelKey="engine")

    assert waiting(reader, VLLM + SGLANG, engine="sglang") == 2.0


def test_an_unknown_engine_is_taken_for_the_default_one() -> None:
    assert waiting(extractor(), VLLM, **{"llm-d.ai/engine-type": "mine"}) == 1.0
    assert waiting(extractor(defaultEngine="sglang"), SGLANG, **{"llm-d.ai/engine-type": "mine"}) == 2.0


def test_a_page_of_nobody_known_lacks_what_the_default_engine_would_say() -> None:
    reading = extractor().extract(Endpoint("gpu-0"), b"process_cpu_seconds_total 1\n", WAITING)

    assert reading.absent == {"waiting_requests": "the page has no 'vllm:num_requests_waiting'"}


def test_an_endpoint_that_was_recognised_may_become_another_engine() -> None:
    reader, endpoint = extractor(), Endpoint("gpu-0")

    pages = (VLLM, b"starting 1\n", SGLANG, SGLANG)
    found = [reader.extract(endpoint, page, WAITING).facts.get("waiting_requests") for page in pages]

    assert found == [1.0, None, 2.0, 2.0]


def test_an_engine_of_ones_own_and_numbers_of_ones_own() -> None:
    reader = extractor(
        defaultEngine="mine",
        engineConfigs=[
            {
                "name": "mine",
                "queuedRequestsSpec": "my_requests{state=queued}",
                "runningRequestsSpec": 'my_requests{state="running"}',
                "loraSpec": "my_adapters",
                "cacheInfoSpec": "my_cache",
                "cacheBlockSizeLabelName": "block",
                "cacheNumBlocksLabelName": "blocks",
                "customMetrics": [
                    {"attributeKey": "GPUUtilization", "metricSpec": "my_busy"},
                    {"attributeKey": "grid_intensity", "metricSpec": "my_grid{region=north}"},
                ],
            }
        ],
    )
    page = b"""\
my_requests{state="queued"} 3
my_requests{state="running"} 4
my_adapters{running_lora_adapters="sql",waiting_lora_adapters="",max_lora="2"} 17
my_cache{block="16",blocks="100"} 1
my_busy 0.5
my_grid{region="south"} 900
my_grid{region="north"} 80
"""

    reading = reader.extract(Endpoint("gpu-0"), page, reader.brings)

    assert reading.facts == {
        "waiting_requests": 3.0,
        "running_requests": 4.0,
        "active_adapters": {"sql"},
        "waiting_adapters": frozenset(),
        "max_active_adapters": 2.0,
        "cache_block_size_tokens": 16.0,
        "cache_num_blocks": 100.0,
        "accelerator_utilization": 0.5,
        "grid_intensity": 80.0,
    }
    assert not reading.absent  # a fact that the engine does not tell is not amiss


def test_an_engine_configured_under_a_built_in_name_replaces_it() -> None:
    reader = extractor(engineConfigs=[{"name": "vllm", "runningRequestsSpec": "running"}])

    reading = reader.extract(
        Endpoint("a", labels={"llm-d.ai/engine-type": "vllm"}), VLLM + b"running 5\n", reader.brings
    )

    assert reading.facts == {"running_requests": 5.0}


@pytest.mark.parametrize(
    ("page", "busy"),
    [
        (b'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 40\nDCGM_FI_DEV_GPU_UTIL{gpu="1"} 90\n', 0.9),
        (b'DCGM_FI_DEV_GPU_UTIL{pod="other"} 99\nDCGM_FI_DEV_GPU_UTIL{pod="gpu-0"} 25\n', 0.25),
        (b'DCGM_FI_DEV_GPU_UTIL{pod="other"} 99\nDCGM_FI_DEV_GPU_UTIL{gpu="1"} 10\n', 0.1),
        (b'DCGM_FI_DEV_GPU_UTIL{pod="other"} 99\n', None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("name", ["gpu-0", "default/gpu-0", "default/gpu-0-rank-0"])
def test_the_busiest_accelerator_of_the_endpoint_counts(page: bytes, busy: float | None, name: str) -> None:
    reading = DcgmExtractor().extract(Endpoint(name), page, frozenset())

    assert reading.facts.get("accelerator_utilization") == (None if busy is None else pytest.approx(busy))
    assert bool(reading.absent) == (busy is None)


def test_the_exporter_is_at_a_port_of_its_own_and_may_be_on_the_node() -> None:
    endpoint = Endpoint("a", "10.0.0.7:8000", labels={"nodeAddress": "192.168.0.3", "metricsPort": "1"})

    assert DcgmDataSource().url(endpoint) == "http://10.0.0.7:9400/metrics"
    assert DcgmDataSource(use_node_address=True).url(endpoint) == "http://192.168.0.3:9400/metrics"


def test_models_and_adapters_are_brought_from_their_list(lab: Any) -> None:
    listed = {"object": "list", "data": [{"id": "llm-base"}, {"id": "english-bot", "parent": "llm-base"}]}

    async def scenario() -> None:
        fleet = lab.fleet("served_models", "served_adapters")
        async with lab.engines(1, page=json.dumps(listed)) as [engine]:
            fleet.add("gpu-0", engine.address, metricsPort="1")
            source = ModelsDataSource(interval=0.05).read_by([ModelsDataExtractor()])
            async with source.open(fleet):
                await lab.until(lambda: fleet.updates > 0)
                assert set(engine.paths) == {"/v1/models"}
                batch = fleet.batch()
                assert batch.contains("served_models", "llm-base").tolist() == [True]
                assert batch.contains("served_adapters", "llm-base").tolist() == [False]
                assert batch.contains("served_adapters", "english-bot").tolist() == [True]

                engine.page = "<html>"
                await lab.until(lambda: not fleet.batch().contains("served_models", "llm-base").any())
                assert "no list of models" in str(source.explain("gpu-0", "served_models"))

    asyncio.run(scenario())
