"""The whole test of a plugin."""

from cheapest_scorer import Cheapest

from inferencesched.testing import check_scorer


def test_contract() -> None:
    """A scorer keeps what every scorer promises."""
    check_scorer(Cheapest())
