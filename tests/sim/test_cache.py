"""Facts about the simulated KV cache: counts, eviction order, and what stays together."""

import pytest
from hypothesis import given, strategies as st

from inferencesched.sim.cache import BlockCache


def held(cache: BlockCache, *keys: int) -> None:
    matched = cache.match(keys)
    assert cache.take(keys, matched, fresh=len(keys) - matched)
    for key in keys[matched:]:
        cache.publish(key)


def test_the_deepest_block_of_the_longest_idle_prompt_goes_first() -> None:
    """Leaf first, least recently used first."""
    cache = BlockCache(4)
    held(cache, 1, 2)
    cache.release((1, 2))
    held(cache, 3, 4)
    cache.release((3, 4))

    assert cache.reserve(1)

    assert cache.match((1, 2)) == 1
    assert cache.match((3, 4)) == 2


def test_blocks_that_somebody_holds_are_never_evicted() -> None:
    """There is no room then, and nothing changes."""
    cache = BlockCache(2)
    held(cache, 1, 2)

    assert not cache.reserve(1)
    assert not cache.take((3,), 0, fresh=1)
    assert cache.match((1, 2)) == 2


def test_idle_blocks_that_a_prompt_will_use_are_not_counted_as_room_for_it() -> None:
    """Reviving two and adding one needs three, of two."""
    cache = BlockCache(2)
    held(cache, 1, 2)
    cache.release((1, 2))

    assert not cache.take((1, 2, 3), 2, fresh=1)
    assert (cache.held, cache.idle) == (0, 2)


def test_a_shared_block_is_counted_once_and_outlives_its_first_holder() -> None:
    """Two prompts with a common beginning."""
    cache = BlockCache(10)
    held(cache, 1, 2)
    held(cache, 1, 3)
    assert cache.held == 3

    cache.release((1, 2))

    assert (cache.held, cache.idle) == (2, 1)


def test_content_that_came_meanwhile_is_shared_not_stored_twice() -> None:
    """Two sequences computed the same block at the same time."""
    cache = BlockCache(10)
    assert cache.reserve(2)

    cache.publish(1)
    cache.publish(1)

    assert cache.held == 1


def test_utilization_counts_idle_blocks_as_free() -> None:
    """As the engines' own metric does."""
    cache = BlockCache(4)
    held(cache, 1, 2)
    assert cache.utilization == 0.5

    cache.release((1, 2))

    assert cache.utilization == 0.0
    assert BlockCache().utilization == 0.0


def test_a_cache_without_a_block_is_refused() -> None:
    """It could never hold anything."""
    with pytest.raises(ValueError, match="at least one block"):
        BlockCache(0)


# A prompt is a path in a small tree; its keys are the tree's nodes, so that equal keys are equal prefixes.
paths = st.lists(st.integers(0, 2), min_size=1, max_size=4).map(
    lambda steps: tuple(tuple(steps[: depth + 1]) for depth in range(len(steps)))
)


@given(st.integers(1, 8), st.lists(st.tuples(paths, st.booleans()), max_size=60))
def test_what_is_left_of_every_prompt_is_a_prefix(
    capacity: int, calls: list[tuple[tuple[tuple[int, ...], ...], bool]]
) -> None:
    """After any sequence of taking and giving back: within capacity, and no block without those in front of it."""
    cache, live, seen = BlockCache(capacity), [], set()
    for keys, give_back in calls:
        matched = cache.match(keys)
        if cache.take(keys, matched, fresh=len(keys) - matched):
            for key in keys[matched:]:
                cache.publish(key)
            live.append(keys)
            seen.add(keys)
        if give_back and live:
            cache.release(live.pop(0))

        assert cache.held + cache.idle <= capacity
        assert all(cache.match(keys) == len(keys) for keys in live)
        for prompt in seen:
            here = [cache.match((key,)) for key in prompt]
            assert here == sorted(here, reverse=True)

    for keys in live:
        cache.release(keys)
    assert cache.held == 0
