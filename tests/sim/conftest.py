"""The real trace that some of these tests replay. It is not in the repository; without it they skip, and say so."""

from pathlib import Path

import pytest

from inferencesched.sim.trace import Trace, read_mooncake

REAL_SLICE = Path(__file__).parents[2].parent / "shared/data/mooncake-conversation-0-1500s.jsonl.gz"


@pytest.fixture(scope="session")
def real_slice() -> Trace:
    """The first 1,500 s of Mooncake's conversation trace: 4,665 requests."""
    if not REAL_SLICE.exists():
        pytest.skip(f"NOT SHOWN: the real trace is not beside the clone (../shared/data/{REAL_SLICE.name})")
    return read_mooncake(REAL_SLICE)
