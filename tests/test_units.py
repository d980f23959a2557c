"""Durations and quantities."""

import pytest
from hypothesis import given, strategies as st

from inferencesched.units import duration, format_duration, quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("200ms", 0.2), ("1m30s", 90), ("1.5h", 5400), ("+2s", 2), (".5s", 0.5), ("10us", 1e-5)],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "1 s", "s", "1d", "-1s", "1s2", "soon", "1e3s"])
def test_what_is_no_duration_or_a_negative_one_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        duration(text)


@given(st.integers(0, 10**9))
def test_a_duration_in_milliseconds_survives_being_written(milliseconds: int) -> None:
    assert duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("given", "number"),
    [
        ("0", 0),
        (500, 500),
        ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29),
        ("5k", 5000),
        ("1e9", 10**9),
        (1e9, 10**9),
        ("1500m", 2),
    ],
)
def test_a_quantity_is_read_as_kubernetes_reads_it(given: str | float, number: int) -> None:
    assert quantity(given) == number


@pytest.mark.parametrize("given", ["", "Gi", "1GB", "-1", "1 k", "ten", "1e999", "10Ei", -5])
def test_what_is_no_quantity_a_negative_or_an_enormous_one_is_refused(given: str | int) -> None:
    with pytest.raises(ValueError, match="expected a quantity"):
        quantity(given)
