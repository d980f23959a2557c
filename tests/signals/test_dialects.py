"""Pages of every engine as facts by column."""

import gzip
import json
from pathlib import Path

import pytest

from inferencesched.interfaces import Reading
from inferencesched.signals import DIALECTS, Dialect, MetricSpec, Number, recognise

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

LOAD = ("waiting_requests", "running_requests", "kv_cache_utilization")
ADAPTERS = ("active_adapters", "waiting_adapters", "max_active_adapters")
CACHE = ("cache_block_size_tokens", "cache_num_blocks")
EVERYTHING = frozenset((*LOAD, *ADAPTERS, *CACHE))

PAGES = {
    "vllm": """\
vllm:num_requests_running{engine="0",model_name="m"} 8.0
vllm:num_requests_waiting{engine="0",model_name="m"} 16.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 16.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:cache_config_info{block_size="32",engine="0",num_gpu_blocks="1000"} 1.0
""",
    "sglang": """\
sglang:num_running_reqs{model_name="m",tp_rank="0"} 8
sglang:num_queue_reqs{model_name="m",tp_rank="0"} 16
sglang:token_usage{model_name="m",tp_rank="0"} 0.25
sglang:cache_config_info{num_pages="1000",page_size="32"} 1
""",
    "trtllm-serve": """\
trtllm_num_requests_running 8
trtllm_num_requests_waiting 16
trtllm_kv_cache_utilization 0.25
trtllm_kv_cache_tokens_per_block 32
trtllm_kv_cache_max_blocks 1000
""",
    "triton-tensorrt-llm": """\
nv_inference_pending_request_count{model="ensemble"} 99
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 16
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 8
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m"} 0.25
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m"} 32
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m"} 1000
""",
}


def read(page: str, *columns: str, engine: str = "vllm", rank: int = 0) -> Reading:
    return DIALECTS[engine].read(page.encode(), frozenset(columns) or EVERYTHING, rank=rank)


def captured(name: str) -> Path:
    """Return the captured file, or skip loudly."""
    if not (DATA / name).exists():
        pytest.skip(f"NOT SHOWN: the captured pages are not beside the clone (../shared/data/{name})")
    return DATA / name


@pytest.mark.parametrize("engine", PAGES)
def test_a_page_is_recognised_and_its_load_and_cache_are_read(engine: str) -> None:
    dialect = recognise(PAGES[engine].encode(), DIALECTS.values())

    assert dialect is DIALECTS[engine]
    assert read(PAGES[engine], *LOAD, *CACHE, engine=engine) == Reading(
        {
            "waiting_requests": 16.0,
            "running_requests": 8.0,
            "kv_cache_utilization": 0.25,
            "cache_block_size_tokens": 32.0,
            "cache_num_blocks": 1000.0,
        }
    )


def test_a_page_of_a_plain_triton_has_requests_and_no_cache() -> None:
    page = "nv_inference_pending_request_count 3\nnv_inference_exec_count 7\n"
    dialect = recognise(page.encode(), DIALECTS.values())

    assert dialect is DIALECTS["triton"]
    assert dialect.read(page.encode(), EVERYTHING) == Reading({"waiting_requests": 3.0, "running_requests": 7.0})


def test_a_page_of_nobody_known_is_not_recognised() -> None:
    assert recognise(b"process_cpu_seconds_total 10.5\n", DIALECTS.values()) is None


def test_j1_old_and_new_names_of_the_cache_are_read() -> None:
    new, old = "vllm:kv_cache_usage_perc 0.5\n", "vllm:gpu_cache_usage_perc 0.25\n"

    assert read(new, "kv_cache_utilization").facts == {"kv_cache_utilization": 0.5}
    assert read(old, "kv_cache_utilization").facts == {"kv_cache_utilization": 0.25}
    assert read(old + new, "kv_cache_utilization").facts == {"kv_cache_utilization": 0.5}


def test_j1_what_is_missing_is_absent_with_a_reason_and_not_a_number() -> None:
    reading = read("vllm:num_requests_waiting 1\n", *LOAD)

    assert reading.facts == {"waiting_requests": 1.0}
    assert reading.absent == {
        "running_requests": "the page has no 'vllm:num_requests_running'",
        "kv_cache_utilization": "the page has no 'vllm:kv_cache_usage_perc' nor 'vllm:gpu_cache_usage_perc'",
    }


def test_a_number_that_is_nan_is_absent() -> None:
    assert read("vllm:num_requests_waiting NaN\n", "waiting_requests") == Reading(
        absent={"waiting_requests": "'vllm:num_requests_waiting' is NaN"}
    )


def test_only_what_is_asked_for_is_read() -> None:
    assert read(PAGES["vllm"], "waiting_requests") == Reading({"waiting_requests": 16.0})
    assert read(PAGES["vllm"], "cache_num_blocks") == Reading({"cache_num_blocks": 1000.0})


def test_j2_without_the_metric_no_adapter_is_loaded_and_nothing_is_amiss() -> None:
    assert read(PAGES["vllm"], *ADAPTERS) == Reading({"active_adapters": frozenset(), "waiting_adapters": frozenset()})


def test_of_many_sets_of_adapters_the_newest_counts() -> None:
    page = """\
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1795330796.1
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql, poet,",waiting_lora_adapters="chat"} 1795330799.5
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1795330795.9
"""

    assert read(page, *ADAPTERS) == Reading(
        {
            "active_adapters": frozenset({"sql", "poet"}),
            "waiting_adapters": frozenset({"chat"}),
            "max_active_adapters": 4.0,
        }
    )


def test_j3_the_models_of_one_server_are_added_up_and_can_be_told_apart() -> None:
    page = """\
vllm:num_requests_waiting{model_name="a"} 3
vllm:num_requests_waiting{model_name="b"} 5
vllm:kv_cache_usage_perc{model_name="a"} 0.2
vllm:kv_cache_usage_perc{model_name="b"} 0.6
"""
    only_a = Dialect(
        "a", (Number("waiting_requests", (MetricSpec.parse('vllm:num_requests_waiting{model_name="a"}'),)),)
    )

    assert read(page, "waiting_requests", "kv_cache_utilization").facts == {
        "waiting_requests": 8.0,
        "kv_cache_utilization": 0.6,
    }
    assert only_a.read(page.encode(), EVERYTHING).facts == {"waiting_requests": 3.0}


def test_a_rank_reads_its_own_series_of_a_page_that_all_ranks_share() -> None:
    page = "".join(f'vllm:num_requests_waiting{{engine="{rank}"}} {rank + 1}\n' for rank in range(3))

    assert read(page, "waiting_requests", rank=2).facts == {"waiting_requests": 3.0}
    assert read(page, "waiting_requests", rank=0).facts == {"waiting_requests": 6.0}


def test_of_series_with_timestamps_the_newest_counts() -> None:
    page = 'vllm:num_requests_waiting{i="1"} 9 1700000000000\nvllm:num_requests_waiting{i="2"} 4 1700000000001\n'

    assert read(page, "waiting_requests").facts == {"waiting_requests": 4.0}


@pytest.mark.parametrize(
    ("labels", "facts", "absent"),
    [
        ('block_size="32",num_gpu_blocks="1000"', (32.0, 1000.0), ()),
        ('block_size="32",kv_cache_size_tokens="32000",num_gpu_blocks="None"', (32.0, 1000.0), ()),
        ('block_size="None",num_gpu_blocks="1000"', (None, 1000.0), ("cache_block_size_tokens",)),
        ('block_size="32",num_gpu_blocks="0"', (32.0, None), ("cache_num_blocks",)),
        ('engine="0"', (None, None), CACHE),
    ],
)
def test_the_size_of_the_cache_is_in_labels(labels: str, facts: tuple[float | None, ...], absent: tuple[str]) -> None:
    reading = read(f"vllm:cache_config_info{{{labels}}} 1.0\n", *CACHE)

    assert tuple(reading.facts.get(column) for column in CACHE) == facts
    assert tuple(reading.absent) == absent


def test_a_captured_page_under_load_has_every_fact() -> None:
    page = gzip.decompress(captured("vllm032-metrics-loaded-lora.txt.gz").read_bytes())

    assert recognise(page, DIALECTS.values()) is DIALECTS["vllm"]
    assert DIALECTS["vllm"].read(page, EVERYTHING) == Reading(
        {
            "waiting_requests": 16.0,
            "running_requests": 8.0,
            "kv_cache_utilization": 0.027027027027026973,
            "active_adapters": frozenset(),
            "waiting_adapters": frozenset(),
            "max_active_adapters": 2.0,
            "cache_block_size_tokens": 32.0,
            "cache_num_blocks": 1000.0,
        }
    )


def test_captured_pages_of_a_whole_run_have_their_load() -> None:
    with gzip.open(captured("vllm032-dev-metrics.jsonl.gz"), "rt") as lines:
        pages = [json.loads(line)["text"] for line in lines]

    readings = [read(page, *LOAD) for page in pages]

    assert len(readings) > 50
    assert not any(reading.absent for reading in readings)
    assert max(reading.facts["running_requests"] for reading in readings) > 0


@pytest.mark.parametrize(
    ("text", "name", "labels"),
    [
        ("a:b_c", "a:b_c", {}),
        (" a { } ", "a", {}),
        ("a{x=1}", "a", {"x": "1"}),
        ('a{ x = "1" , y="b,}c" }', "a", {"x": "1", "y": "b,}c"}),
    ],
)
def test_a_metric_is_named_as_upstream_writes_it(text: str, name: str, labels: dict[str, str]) -> None:
    spec = MetricSpec.parse(text)

    assert (spec.name, dict(spec.labels)) == (name, labels)
    assert MetricSpec.parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["", "1a", "a b", "a{", "a{x}", "a{x=}", 'a{x="1}', "a{x=1 y=2}", "a{=1}", "a-b"])
def test_what_names_no_metric_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        MetricSpec.parse(text)
