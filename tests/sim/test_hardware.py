"""The engines' numbers against what others measured."""

import pytest

from inferencesched.sim.hardware import ENGINES


@pytest.mark.parametrize(("name", "milliseconds"), [("a100", 10.2), ("h100", 6.5)])
def test_a_lone_sequence_decodes_as_fast_as_measured(name: str, milliseconds: float) -> None:
    """An H100's 6.48 ms is a measurement; the A100's 13.3 ms is one of the 40 GB card, scaled by bandwidth."""
    spec = ENGINES[name]

    step = spec.step_seconds + spec.decode_sequence_seconds + 1000 * spec.context_token_seconds

    assert step * 1000 == pytest.approx(milliseconds, rel=0.1)


def test_an_h100_is_about_three_times_an_a100_in_prefill_and_less_than_twice_in_decoding() -> None:
    """Compute grew more than bandwidth."""
    a100, h100 = ENGINES["a100"], ENGINES["h100"]

    assert a100.prefill_token_seconds / h100.prefill_token_seconds == pytest.approx(3.17, abs=0.01)
    assert a100.step_seconds / h100.step_seconds == pytest.approx(1.64, abs=0.01)
