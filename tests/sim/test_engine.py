"""Facts about the simulated engine: its clock by hand, its batch, its cache, its adapters, its metrics."""

import math

import attrs
import pytest
from hypothesis import given, strategies as st

from inferencesched.sim.engine import CacheChange, Engine, EngineEvent, EngineSpec, Served
from inferencesched.sim.hardware import ENGINES
from inferencesched.sim.trace import Trace, TraceRequest
from inferencesched.vocabulary import COLUMNS, SET_COLUMNS

# 1 s a step, 10 ms a prompt token: times can be added up by hand.
PLAIN = EngineSpec("plain", step_seconds=1.0, prefill_token_seconds=0.01, max_running=8, step_tokens=100)


def ask(name: str, prompt_tokens: int, output_tokens: int, *, arrival: float = 0.0, adapter: str = "") -> TraceRequest:
    """A request whose prompt has blocks of 10 tokens that nobody shares."""
    blocks = tuple(int.from_bytes(name.encode()) * 1000 + i for i in range(-(-prompt_tokens // 10)))
    return TraceRequest(name, arrival, prompt_tokens, output_tokens, blocks, adapter=adapter or None)


def play(engine: Engine, *requests: TraceRequest) -> list[EngineEvent]:
    """Submit each at its arrival, then let the engine finish."""
    events = []
    for request in requests:
        events += engine.advance(request.arrival)
        engine.submit(request, now=request.arrival)
    while (time := engine.next_time()) is not None:
        events += engine.advance(time)
    return events


def told(events: list[EngineEvent]) -> list[tuple[str, str, float]]:
    return [(event.served.request.id, event.kind, round(event.time, 9)) for event in events]


def test_one_request_takes_its_prefill_and_one_step_per_further_token() -> None:
    """50 tokens are 1 + 0.5 s, each of the two further tokens 1 s."""
    events = play(Engine(PLAIN, block_tokens=10), ask("a", 50, 3))

    assert told(events) == [("a", "first_token", 1.5), ("a", "finished", 3.5)]


def test_a_long_prompt_is_computed_in_pieces_of_the_budget() -> None:
    """250 tokens are steps of 100, 100 and 50."""
    events = play(Engine(PLAIN, block_tokens=10), ask("a", 250, 1))

    assert told(events) == [("a", "first_token", 5.5), ("a", "finished", 5.5)]


def test_attention_makes_later_tokens_dearer() -> None:
    """With doubling at 100, the tokens from 100 to 200 cost 2.5 times those without attention."""
    spec = attrs.evolve(PLAIN, attention_doubling_tokens=100.0)

    assert spec.prefill_seconds(0, 100) == pytest.approx(1.5)
    assert spec.prefill_seconds(100, 200) == pytest.approx(2.5)
    assert spec.prefill_seconds(0, 200) == pytest.approx(4.0)


def test_decoding_steps_grow_with_batch_and_context() -> None:
    """One sequence of context c decodes in 1 + 0.1 + c/100 s."""
    spec = attrs.evolve(PLAIN, decode_sequence_seconds=0.1, context_token_seconds=0.01)

    events = play(Engine(spec, block_tokens=10), ask("a", 50, 3))

    assert told(events) == [("a", "first_token", 1.5), ("a", "finished", round(1.5 + 1.1 + 0.51 + 1.1 + 0.52, 9))]


def test_a_newcomer_joins_after_the_step_in_progress() -> None:
    """It arrives in the middle of a run of decoding steps and shares the next one."""
    events = play(Engine(PLAIN, block_tokens=10), ask("a", 50, 10), ask("b", 50, 1, arrival=3.0))

    # a: first token at 1.5, then steps that end at 2.5, 3.5; b's step ends at 3.5 + 1 + 0.5, and gives both a token
    assert told(events) == [
        ("a", "first_token", 1.5),
        ("b", "first_token", 5.0),
        ("b", "finished", 5.0),
        ("a", "finished", 11.0),
    ]


def test_a_prompt_in_the_cache_costs_one_token() -> None:
    """The last token is computed again, because the next one comes out of it."""
    engine = Engine(PLAIN, block_tokens=10)
    first, again = ask("a", 50, 1), attrs.evolve(ask("a", 50, 1, arrival=10.0), id="again")

    events = play(engine, first, again)

    assert told(events)[-1] == ("again", "finished", 11.01)
    assert (events[-1].served.matched_blocks, events[-1].served.matched_tokens) == (5, 50)
    assert engine.computed_tokens == 51


def test_a_common_beginning_is_shared_by_requests_of_the_same_step() -> None:
    """Blocks are known to others as soon as the step that computes them begins."""
    a = TraceRequest("a", 0.0, 40, 1, (1, 2, 3, 4))
    b = TraceRequest("b", 0.0, 40, 1, (1, 2, 5, 6))

    engine = Engine(PLAIN, block_tokens=10)
    events = [*play(engine, attrs.evolve(a, id="warm", blocks=(9, 9, 9, 9))), *play(engine, a, b)]

    assert [event.served.matched_blocks for event in events if event.served.request.id == "b"] == [2, 2]


def test_no_more_sequences_run_than_the_batch_has_places() -> None:
    """The rest waits, in order of arrival."""
    engine = Engine(attrs.evolve(PLAIN, max_running=2), block_tokens=10)
    for name in "abcd":
        engine.submit(ask(name, 10, 5), now=0.0)

    engine.advance(1.5)

    assert [served.request.id for served in engine.running] == ["a", "b"]
    assert [served.request.id for served in engine.waiting] == ["c", "d"]


def test_the_youngest_is_preempted_when_answers_fill_the_cache_and_all_finish() -> None:
    """Two sequences of 30 tokens in a cache of 4 blocks: one has to wait for the other."""
    engine = Engine(attrs.evolve(PLAIN, cache_tokens=40), block_tokens=10)

    events = play(engine, ask("a", 15, 15), ask("b", 15, 15))

    finished = [event.served for event in events if event.kind == "finished"]
    assert [served.request.id for served in finished] == ["a", "b"]
    assert [served.preemptions for served in finished] == [0, 1]
    assert [event.kind for event in events].count("first_token") == 2
    assert engine.cache.held == 0


def test_a_request_longer_than_the_cache_is_refused() -> None:
    """It would wait for ever."""
    engine = Engine(attrs.evolve(PLAIN, cache_tokens=100), block_tokens=10)

    with pytest.raises(ValueError, match="request a is longer than the cache of plain"):
        engine.submit(ask("a", 95, 10), now=0.0)


def test_loading_an_adapter_makes_its_step_longer_once() -> None:
    """It stays in its slot for the next request."""
    engine = Engine(attrs.evolve(PLAIN, max_adapters=1, adapter_load_seconds=5.0), block_tokens=10)

    events = play(engine, ask("a", 10, 1, adapter="x"), ask("b", 10, 1, arrival=10.0, adapter="x"))

    assert told(events) == [
        ("a", "first_token", 6.1),
        ("a", "finished", 6.1),
        ("b", "first_token", 11.1),
        ("b", "finished", 11.1),
    ]


def test_a_request_that_waits_for_a_slot_is_passed_by_those_behind_it() -> None:
    """The slot's adapter is in use until its sequence ends."""
    engine = Engine(attrs.evolve(PLAIN, max_adapters=1), block_tokens=10)

    events = play(
        engine,
        ask("a", 10, 9, adapter="x"),
        ask("b", 10, 1, adapter="y"),
        ask("c", 10, 1, adapter="x"),
        ask("d", 10, 1),
    )

    assert [name for name, kind, _ in told(events) if kind == "finished"] == ["c", "d", "a", "b"]


def test_adapters_do_not_share_prefixes() -> None:
    """The same tokens under another adapter are other keys and values."""
    engine = Engine(attrs.evolve(PLAIN, max_adapters=2), block_tokens=10)
    base = ask("a", 30, 1)

    events = play(engine, base, attrs.evolve(base, id="b", arrival=9.0, adapter="x"))

    assert events[-1].served.matched_blocks == 0


def test_an_adapter_without_slots_is_refused() -> None:
    """LoRA is switched off there."""
    with pytest.raises(ValueError, match="wants adapter 'x'"):
        Engine(PLAIN, block_tokens=10).submit(ask("a", 10, 1, adapter="x"), now=0.0)


def test_facts_have_the_vocabularys_names_and_count_what_is_there() -> None:
    """Nine requests, eight places; the first had a step to itself, the others' prompts shared the second."""
    engine = Engine(attrs.evolve(PLAIN, cache_tokens=200, max_adapters=2), block_tokens=10)
    for number in range(9):
        engine.submit(ask(f"r{number}", 10, 5, adapter="x" if number % 2 else ""), now=0.0)
    engine.advance(3.0)

    facts = engine.scrape(3.0)

    assert set(facts) <= set(COLUMNS) | set(SET_COLUMNS)
    assert facts["running_requests"] == 8.0
    assert facts["waiting_requests"] == 1.0
    assert facts["kv_cache_utilization"] == 0.8  # 8 prompts and the beginnings of 8 answers: 16 of 20 blocks
    assert facts["cache_num_blocks"] == 20.0
    assert facts["active_adapters"] == {"x"}
    assert facts["accelerator_utilization"] == 1.0


def test_accelerator_utilization_is_the_busy_share_since_the_last_look() -> None:
    """Busy from 10 to 11.1, looked at at 0, 10, 12 and 14."""
    engine = Engine(PLAIN, block_tokens=10)
    seen = [engine.scrape(0.0), engine.scrape(10.0)]
    engine.submit(ask("a", 10, 1), now=10.0)
    engine.advance(12.0)
    seen += [engine.scrape(12.0), engine.scrape(14.0)]

    assert [facts["accelerator_utilization"] for facts in seen] == [0.0, 0.0, pytest.approx(0.55), 0.0]
    assert engine.busy_seconds(14.0) == pytest.approx(1.1)


def test_a_batch_larger_than_the_budget_is_refused() -> None:
    """Some sequence of it could never decode."""
    with pytest.raises(ValueError, match="step_tokens must be at least max_running"):
        attrs.evolve(PLAIN, step_tokens=7)


class StepByStep(Engine):
    """The plain way: no run is longer than one step."""

    def _longest_run(self) -> int:
        return 1


requests = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.integers(1, 80),
        st.integers(1, 30),
        st.integers(0, 3),
        st.sampled_from([None, None, "x", "y"]),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        TraceRequest(
            f"r{n}", at, prompt, out, tuple(range(1000 * topic, 1000 * topic - (-prompt // 10))), adapter=adapter
        )
        for n, (at, prompt, out, topic, adapter) in enumerate(sorted(rows, key=lambda row: row[0]))
    ]
)
specs = st.builds(
    EngineSpec,
    st.just("drawn"),
    step_seconds=st.floats(0.01, 1),
    prefill_token_seconds=st.floats(0, 0.1),
    attention_doubling_tokens=st.sampled_from([50.0, math.inf]),
    decode_sequence_seconds=st.floats(0, 0.1),
    context_token_seconds=st.sampled_from([0.0, 1e-4, 1e-2]),
    max_running=st.integers(1, 8),
    step_tokens=st.integers(8, 100),
    cache_tokens=st.sampled_from([120, 200, math.inf]),
    max_adapters=st.integers(1, 2),
    adapter_load_seconds=st.floats(0, 1),
)


@given(specs, requests)
def test_a_run_computed_at_once_equals_one_step_at_a_time(spec: EngineSpec, requests: list[TraceRequest]) -> None:
    """Same events in the same order at the same times."""
    fast = play(Engine(spec, block_tokens=10), *requests)
    plain = play(StepByStep(spec, block_tokens=10), *requests)

    assert [(e.served.request.id, e.kind) for e in fast] == [(e.served.request.id, e.kind) for e in plain]
    assert [e.time for e in fast] == pytest.approx([e.time for e in plain])


@given(specs, requests, st.lists(st.floats(0, 40), max_size=20))
def test_looking_at_an_engine_does_not_change_what_it_does(
    spec: EngineSpec, requests: list[TraceRequest], looks: list[float]
) -> None:
    """Advancing in between, at any times, gives the same events at the very same times."""
    undisturbed = play(Engine(spec, block_tokens=10), *requests)
    engine, events = Engine(spec, block_tokens=10), []
    for time, request in sorted(
        [(look, None) for look in looks] + [(r.arrival, r) for r in requests], key=lambda pair: pair[0]
    ):
        events += engine.advance(time)
        engine.scrape(time)
        if request is not None:
            engine.submit(request, now=time)
    while (next_time := engine.next_time()) is not None:
        events += engine.advance(next_time)

    assert told(events) == told(undisturbed)


@given(specs, requests)
def test_every_request_begins_and_ends_once_and_the_cache_is_given_back(
    spec: EngineSpec, requests: list[TraceRequest]
) -> None:
    """Whatever is preempted, refused room or waits for a slot on the way."""
    engine = Engine(spec, block_tokens=10)

    events = play(engine, *requests)

    names = sorted(request.id for request in requests)
    for kind in ("first_token", "finished"):
        assert sorted(event.served.request.id for event in events if event.kind == kind) == names
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert engine.cache.held == 0
    assert engine.cache.idle <= engine.cache.capacity


def hit_ratio(served: list[Served]) -> float:
    return sum(each.matched_blocks for each in served) / sum(len(each.keys) for each in served)


def test_one_engine_without_limit_hits_what_arithmetic_says(real_slice: Trace) -> None:
    """0.334 of the real slice's blocks have been seen before in their place."""
    unlimited = attrs.evolve(ENGINES["a100"], cache_tokens=math.inf)

    events = play(Engine(unlimited, block_tokens=real_slice.block_tokens), *real_slice.requests)

    assert hit_ratio([event.served for event in events if event.kind == "finished"]) == pytest.approx(0.334, abs=0.001)


def test_one_engine_of_a_thousand_blocks_hits_little(real_slice: Trace) -> None:
    """0.045 by arithmetic, for a cache of which nothing is held while others wait; waiting costs some of it."""
    spec = attrs.evolve(ENGINES["a100"], cache_tokens=1000 * real_slice.block_tokens)

    events = play(Engine(spec, block_tokens=real_slice.block_tokens), *real_slice.requests)

    assert hit_ratio([event.served for event in events if event.kind == "finished"]) == pytest.approx(0.045, abs=0.005)


def test_who_passes_tokens_on_is_told_when_the_next_one_comes() -> None:
    """A run of decoding steps ends at 4.5; the first token of it is there at 2.5, cut or not."""
    engine = Engine(PLAIN, block_tokens=10)
    served = engine.submit(ask("a", 50, 4), now=0.0)
    engine.advance(1.5)

    assert (engine.next_time(), engine.next_step_time()) == (4.5, 2.5)

    engine.advance(2.5)
    assert served.generated == 2
    assert (engine.next_time(), engine.next_step_time()) == (4.5, 3.5)
    engine.advance(4.5)
    assert engine.next_step_time() is None


def test_an_aborted_sequence_gives_its_place_and_blocks_to_the_next() -> None:
    """The step under way lasts as long as it would have; then the one that waited is admitted."""
    engine = Engine(attrs.evolve(PLAIN, max_running=1), block_tokens=10)
    first = engine.submit(ask("a", 50, 100), now=0.0)
    second = engine.submit(ask("b", 50, 1), now=0.0)
    engine.advance(2.0)

    engine.abort(first)

    assert (engine.cache.held, engine.running) == (0, [])
    assert told(engine.advance(10.0)) == [("b", "first_token", 4.0), ("b", "finished", 4.0)]
    assert second.admitted == 2.5
    assert engine.next_time() is None


def test_an_abort_in_mid_prompt_leaves_the_others_alone() -> None:
    """Two prompts share a step; the one that goes produces nothing, the other what it would have."""
    engine = Engine(PLAIN, block_tokens=10)
    engine.submit(ask("warm", 10, 1), now=0.0)
    first, _ = engine.submit(ask("a", 30, 2), now=0.5), engine.submit(ask("b", 30, 2), now=0.5)
    engine.advance(1.2)  # in the step that computes both

    engine.abort(first)

    assert told(engine.advance(10.0)) == [("b", "first_token", 2.7), ("b", "finished", 3.7)]


def test_a_request_that_waits_can_be_aborted_and_one_that_has_gone_cannot() -> None:
    engine = Engine(attrs.evolve(PLAIN, max_running=1), block_tokens=10)
    first, second = (engine.submit(ask(name, 50, 2), now=0.0) for name in "ab")

    engine.abort(second)

    assert told(engine.advance(10.0)) == [("a", "first_token", 1.5), ("a", "finished", 2.5)]
    for gone in (first, second):
        with pytest.raises(ValueError, match="not in"):
            engine.abort(gone)


def test_aborting_the_head_that_found_no_room_lets_the_next_one_in() -> None:
    """Ten blocks: a takes six, b wants six and is stuck, c wants two."""
    engine = Engine(attrs.evolve(PLAIN, cache_tokens=100, step_tokens=1000), block_tokens=10)
    engine.submit(ask("a", 55, 5), now=0.0)
    stuck, third = engine.submit(ask("b", 55, 1), now=0.1), engine.submit(ask("c", 15, 1), now=0.2)
    engine.advance(2.0)
    assert third.matched_blocks == -1

    engine.abort(stuck)
    engine.advance(2.6)

    assert third.matched_blocks == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60), st.integers(1, 30)), max_size=30), st.data())
def test_whoever_aborts_whatever_nothing_stays_held(asked: list[tuple[int, int, int]], data: st.DataObject) -> None:
    """And what the engine says of its cache is what is in it."""
    known: set[object] = set()

    def watch(change: CacheChange) -> None:
        if change.served is None:
            known.remove(change.key)
        else:
            assert change.key not in known
            assert change.served.keys[change.place] == change.key
            known.add(change.key)

    engine = Engine(attrs.evolve(PLAIN, max_running=8, cache_tokens=120), block_tokens=10, watch=watch)
    live: list[Served] = []
    now = 0.0
    for number, (group, prompt_tokens, output_tokens) in enumerate(asked):
        blocks = tuple(group * 100 + place for place in range(prompt_tokens // 10))
        now += data.draw(st.floats(0.0, 3.0))
        done = {event.served for event in engine.advance(now) if event.kind == "finished"}
        live = [served for served in live if served not in done]
        live.append(engine.submit(TraceRequest(f"r{number}", 0.0, prompt_tokens, output_tokens, blocks), now=now))
        if data.draw(st.booleans()):
            engine.abort(live.pop(data.draw(st.integers(0, len(live) - 1))))
    while (time := engine.next_time()) is not None:
        engine.advance(time)

    assert engine.cache.held == 0
    assert engine.running == []
    assert not engine.waiting
    assert len(known) == engine.cache.idle
    assert all(engine.cache.match([key]) for key in known)
