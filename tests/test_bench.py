"""The benchmarks compare what they say they compare."""

import subprocess
import sys
from pathlib import Path


def test_the_dictionary_implementation_agrees_with_the_pass() -> None:
    """bench/decision.py holds two implementations of one policy against each other: both find the same best total."""
    script = Path(__file__).parent.parent / "bench" / "decision.py"

    subprocess.run([sys.executable, script, "--check"], check=True)
    assert script.exists()
