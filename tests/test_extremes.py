"""The largest, and what counts as equal to it."""

import random

import numpy as np
from hypothesis import given, strategies as st

from inferencesched.extremes import among_the_best, best_first


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.25 + 1e-12, 0.5, 1.0]), min_size=1, max_size=120),
    st.integers(1, 10),
    st.integers(0, 2**32),
)
def test_the_best_one_after_another_are_those_that_would_be_drawn_one_by_one(
    values: list[float], n: int, seed: int
) -> None:
    """Few as a list or many as an array: the same positions, and the same dice."""
    left, one_by_one, rng = np.array(values), [], random.Random(seed)
    for _ in range(min(n, len(values))):
        one_by_one.append(among_the_best(left, rng))
        left[one_by_one[-1]] = -np.inf

    assert best_first(np.array(values), n, random.Random(seed)) == one_by_one
