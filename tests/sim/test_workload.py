"""Facts about made-up traffic: it repeats, and it has the shape it was calibrated on."""

import itertools
import random
import statistics
from collections import defaultdict

import pytest

from inferencesched.sim.trace import Trace, TraceRequest
from inferencesched.sim.workload import AGENTS, CHAT, COMPLETIONS, LogNormal, Traffic, Workload


def generate(traffic: Traffic, *, rate: float = 1.0, duration: float = 2000.0, burstiness: float = 1.0) -> Trace:
    return Workload(((traffic, rate),), burstiness=burstiness).generate(duration, random.Random(7))


def sessions(trace: Trace) -> dict[str | None, list[TraceRequest]]:
    by_session = defaultdict(list)
    for request in trace.requests:
        by_session[request.session].append(request)
    return by_session


def shared_blocks(one: TraceRequest, other: TraceRequest) -> int:
    pairs = enumerate(zip(one.blocks, other.blocks, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one.blocks), len(other.blocks)))


def test_equal_seeds_give_equal_traces_and_others_do_not() -> None:
    """All chance comes from the dice that are handed in."""
    workload = Workload(((CHAT, 0.5), (AGENTS, 0.1)), burstiness=1.24)

    first, again, other = (workload.generate(60.0, random.Random(seed)) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_requests_come_in_order_within_the_time_and_with_whole_prompts() -> None:
    """A block for each 64 tokens, the last one short."""
    trace = generate(CHAT, duration=300.0)
    arrivals = [request.arrival for request in trace.requests]

    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < 300.0
    assert all(len(r.blocks) == -(-r.prompt_tokens // 64) for r in trace.requests)
    assert len({request.id for request in trace.requests}) == len(trace)


def test_each_turn_repeats_every_full_block_of_the_one_before() -> None:
    """And none of its short last block, which reads differently once it is full."""
    for turns in sessions(generate(AGENTS, rate=0.05)).values():
        for before, after in itertools.pairwise(turns):
            assert shared_blocks(before, after) == before.prompt_tokens // 64
            assert after.prompt_tokens > before.prompt_tokens + before.output_tokens


def test_sessions_of_one_application_share_its_system_prompt_and_nothing_else() -> None:
    """512 tokens are 8 blocks of 64."""
    first_turns = [turns[0] for turns in sessions(generate(CHAT, duration=200.0)).values()]

    assert {shared_blocks(first_turns[0], other) for other in first_turns[1:]} == {8}


def test_completions_share_nothing() -> None:
    """Every request is the only one of its session, with blocks of its own."""
    blocks = [block for request in generate(COMPLETIONS, duration=300.0).requests for block in request.blocks]

    assert len(blocks) == len(set(blocks))


def test_applications_are_asked_for_by_their_rank() -> None:
    """The first of two about twice as often as the second; each has an adapter."""
    traffic = Traffic(
        "t", LogNormal(9, 9), LogNormal(9, 9), LogNormal(9, 9), LogNormal(9, 9), applications=2, adapters=("x", "y")
    )

    adapters = [request.adapter for request in generate(traffic).requests]

    assert adapters.count("x") / adapters.count("y") == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(("burstiness", "expected"), [(1.0, 1.0), (1.24, 1.24), (3.3, 3.3)])
def test_gaps_have_the_rate_and_the_variation_asked_for(burstiness: float, expected: float) -> None:
    """Of the sessions; 10,000 of them."""
    trace = generate(COMPLETIONS, rate=5.0, burstiness=burstiness)
    arrivals = [request.arrival for request in trace.requests]
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]

    assert len(trace) == pytest.approx(10_000, rel=0.1)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(expected, rel=0.15)


def test_chat_looks_like_the_slice_it_was_calibrated_on(real_slice: Trace) -> None:
    """Medians of prompts and answers within a fifth; a third of the blocks seen before, as there."""
    made = generate(CHAT, rate=2.1, duration=1500.0)

    def seen_before(trace: Trace) -> float:
        seen: set[int] = set()
        known = total = 0
        for request in trace.requests:
            run = next((i for i, block in enumerate(request.blocks) if block not in seen), len(request.blocks))
            known, total = known + run, total + len(request.blocks)
            seen.update(request.blocks)
        return known / total

    for size in ("prompt_tokens", "output_tokens"):
        ours, theirs = ([getattr(r, size) for r in trace.requests] for trace in (made, real_slice))
        assert statistics.median(ours) == pytest.approx(statistics.median(theirs), rel=0.2)
    assert seen_before(made) == pytest.approx(seen_before(real_slice), abs=0.05)


def test_agents_call_thirteen_times_a_session() -> None:
    """In the mean, as in tau-bench's airline sessions."""
    turns = [len(each) for each in sessions(generate(AGENTS, rate=0.5, duration=3000.0)).values()]

    assert statistics.mean(turns) == pytest.approx(13.0, rel=0.1)


def test_a_percentile_below_the_median_is_refused() -> None:
    """It would be a typing error."""
    with pytest.raises(ValueError, match="90th percentile cannot be below the median"):
        LogNormal(10, 9)
