from carbon_aware import CarbonAware

from inferencesched.testing import check_scorer


def test_contract() -> None:
    check_scorer(CarbonAware())
