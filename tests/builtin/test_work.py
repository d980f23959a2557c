"""What a request in flight counts for follows how long answers are, and a session stays where waiting costs nothing."""

import math
import random

import pytest
from hypothesis import given, strategies as st

from inferencesched import Decision, Dispatcher, Request, Scheduler, load_config
from inferencesched.builtin.work import ExpectedWorkScorer
from inferencesched.config import DEFAULT
from inferencesched.testing import make_batch

known_or_not = st.one_of(st.just(math.nan), st.floats(0, 1e6))
CONVERSATION = "You are a helpful assistant for travellers. " * 200  # 2,200 tokens, by four bytes each


@given(
    st.lists(st.tuples(known_or_not, known_or_not, known_or_not, known_or_not), min_size=1, max_size=6),
    st.sampled_from([1024.0, 0.0, 77.7]),
    st.sampled_from([16_384.0, 3.0, 1e5]),
)
def test_expected_work_is_the_formula_whatever_is_unknown(
    rows: list[tuple[float, float, float, float]], request_tokens: float, scale: float
) -> None:
    """1 / (1 + w / scale); unknown load is neutral, unknown work of one's own and an unknown queue are none."""
    tokens, requests, own, waiting = (list(each) for each in zip(*rows, strict=True))
    batch = make_batch(
        in_flight_tokens=tokens,
        in_flight_requests=requests,
        uncached_request_tokens=own,
        waiting_requests=waiting,
    )

    scores = ExpectedWorkScorer(request_tokens=request_tokens, scale_tokens=scale).score(Request("r"), batch)

    for got, (t, r, o, q) in zip(scores.tolist(), rows, strict=True):
        counted = r + (0.0 if math.isnan(q) else q)
        added = (0.0 if math.isnan(o) else o) * (1.0 + min(1.0, r / 8.0))
        work = t + counted * request_tokens + added
        assert got == pytest.approx(0.5 if math.isnan(work) else 1 / (1 + work / scale), rel=1e-12)


def test_without_usage_a_request_counts_for_what_is_configured() -> None:
    assert ExpectedWorkScorer().request_work == 1024.0
    assert ExpectedWorkScorer(request_tokens=16.0).request_work == 16.0


def test_short_answers_count_for_little_and_long_ones_for_no_more_than_the_maximum() -> None:
    """Three tokens of prefill for each of the answer's; 350 tokens make the maximum."""
    scorer = ExpectedWorkScorer()

    answered(scorer, 4.0)
    assert scorer.request_work == 12.0

    for _ in range(100):
        answered(scorer, 100.0)
    assert 200.0 < scorer.request_work < 300.0

    for _ in range(1000):
        answered(scorer, 5000.0)
    assert scorer.request_work == 1024.0


def test_an_answer_of_no_tokens_teaches_nothing() -> None:
    """A host that knows only the prompt's length reports none."""
    scorer = ExpectedWorkScorer()

    answered(scorer, 0.0)

    assert scorer.request_work == 1024.0


def test_a_request_counts_for_no_more_than_its_client_lets_it_become() -> None:
    """Before the first answer, and where no answer says its length."""
    scheduler = fleet()
    scorer = scorer_of(scheduler)

    scheduler.schedule(Request("r-1", prompt="Yes or no?", max_output_tokens=4), now=1.0)
    assert scorer.request_work == 12.0

    scheduler.schedule(Request("r-2", prompt="Tell me everything."), now=1.0)
    assert scorer.request_work == (12.0 + 1024.0) / 2


def test_a_dispatcher_passes_on_what_answers_took() -> None:
    dispatcher = Dispatcher.from_config(load_config(), rng=random.Random(1))
    dispatcher.add_endpoint("a", now=0.0)
    ticket = dispatcher.submit(Request("r-1", prompt="Hello"), now=0.0)
    dispatcher.next_event()

    dispatcher.report_usage(ticket, prompt_tokens=2, output_tokens=10, now=1.0)

    assert scorer_of(dispatcher.scheduler).request_work == 30.0


def test_what_was_learned_outlives_a_restart_and_a_reload() -> None:
    scheduler = fleet()
    answered(scorer_of(scheduler), 10.0)

    restarted = fleet()
    restarted.restore(scheduler.snapshot(), now=5.0)
    config = load_config()
    scheduler.reconfigure(config.profiles, plugins=config.plugins, now=5.0)

    assert scorer_of(restarted).request_work == 30.0
    assert scorer_of(scheduler).request_work == 30.0


def test_a_busy_session_stays_where_it_is_when_answers_are_short() -> None:
    """Three requests in flight that decode four tokens each are no reason to compute a prompt anew; long ones are."""
    short, long = fleet(), fleet()
    for scheduler, tokens in ((short, 4.0), (long, 1000.0)):
        answered(scorer_of(scheduler), tokens)
        home = begun(scheduler, "r-0", CONVERSATION, now=1.0)
        scheduler.finish(home, now=2.0)
        for number in range(3):
            begun(scheduler, f"busy-{number}", CONVERSATION, now=3.0, subset=[home.endpoint.name])
        again = scheduler.schedule(Request("r-1", prompt=CONVERSATION + "And then?"), now=4.0)

        assert isinstance(again, Decision)
        assert (again.endpoint == home.endpoint) == (scheduler is short)


def test_a_cache_that_is_not_full_moves_nobody() -> None:
    scheduler = fleet()
    home = begun(scheduler, "r-0", CONVERSATION, now=1.0)
    scheduler.finish(home, now=2.0)
    for endpoint in scheduler.table.endpoints:
        is_home = endpoint == home.endpoint
        scheduler.update(endpoint.name, {"kv_cache_utilization": 0.8 if is_home else 0.0}, now=3.0)

    again = scheduler.schedule(Request("r-1", prompt=CONVERSATION + "And then?"), now=4.0)

    assert isinstance(again, Decision)
    assert again.endpoint == home.endpoint


def test_a_queue_that_others_made_moves_a_session() -> None:
    """What another gateway has placed is in no ledger of this one; three requests of 1,024 tokens outweigh 2,200."""
    scheduler = fleet()
    home = begun(scheduler, "r-0", CONVERSATION, now=1.0)
    scheduler.finish(home, now=2.0)
    for endpoint in scheduler.table.endpoints:
        scheduler.update(endpoint.name, {"waiting_requests": 3 if endpoint == home.endpoint else 0}, now=3.0)

    again = scheduler.schedule(Request("r-1", prompt=CONVERSATION + "And then?"), now=4.0)

    assert isinstance(again, Decision)
    assert again.endpoint != home.endpoint


def test_a_burst_that_begins_alike_spreads_over_idle_endpoints() -> None:
    """What has to be computed on an idle endpoint holds up nobody, so that it counts once there."""
    scheduler = fleet("a", "b", "c", "d")
    answered(scorer_of(scheduler), 4.0)

    placed = [scheduler.schedule(Request(f"r-{n}", prompt=CONVERSATION + str(n)), now=1.0) for n in range(40)]

    names = [each.endpoint.name for each in placed if isinstance(each, Decision)]
    assert {name: names.count(name) for name in sorted(set(names))} == dict.fromkeys("abcd", 10)


def test_the_default_reads_no_more_than_it_needs() -> None:
    """One scorer: what an engine's queue says is the only fact from outside, besides its cache's size."""
    assert [each["type"] for each in DEFAULT["plugins"]] == ["expected-work-scorer"]


def fleet(*names: str) -> Scheduler:
    scheduler = load_config().scheduler(rng=random.Random(1))
    for name in names or ("a", "b"):
        scheduler.add_endpoint(name, now=0.0)
    return scheduler


def scorer_of(scheduler: Scheduler) -> ExpectedWorkScorer:
    return next(named.plugin for named in scheduler.plugins if isinstance(named.plugin, ExpectedWorkScorer))


def answered(scorer: ExpectedWorkScorer, tokens: float) -> None:
    scorer.usage_reported("r", "flow", 100.0, tokens, now=1.0)


def begun(scheduler: Scheduler, id: str, prompt: str, *, now: float, subset: list[str] | None = None) -> Decision:
    """Place a request and let its prefill end."""
    decision = scheduler.schedule(Request(id, prompt=prompt), now=now, subset=subset)
    assert isinstance(decision, Decision)
    scheduler.first_token(decision, now=now)
    return decision
