"""Same configuration, same seed, same calls: the same events, byte for byte, whatever the process or its hash seed."""

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from inferencesched.sim import (
    AGENTS,
    CHAT,
    COMPLETIONS,
    ENGINES,
    POLICIES,
    FleetSpec,
    Workload,
    build_scheduler,
    replay,
)

ROOT = Path(__file__).parent.parent
REAL_SLICE = ROOT.parent / "shared/data/mooncake-conversation-0-1500s.jsonl.gz"

WORKLOAD = Workload(((CHAT, 3.0), (AGENTS, 1.0), (COMPLETIONS, 3.0)), burstiness=2.0)

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from {module} import log_of
import hashlib
print(hashlib.sha256(log_of(sys.argv[1], seed=int(sys.argv[2]))).hexdigest())
"""


def log_of(policy: str, *, seed: int) -> bytes:
    """Return the event log of a minute of made-up traffic."""
    trace = WORKLOAD.generate(60.0, random.Random(7))
    lines: list[str] = []
    replay(
        trace,
        FleetSpec((ENGINES["a100"],) * 4),
        lambda rng: build_scheduler(POLICIES[policy], rng=rng),
        policy=policy,
        seed=seed,
        log=lines.append,
    )
    return "\n".join(lines).encode()


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_replay_twice_writes_the_same_bytes(policy: str) -> None:
    """In one process, under every policy."""
    assert log_of(policy, seed=1) == log_of(policy, seed=1)


@pytest.mark.parametrize("policy", ["random", "default"])
def test_another_seed_writes_other_bytes(policy: str) -> None:
    """There is chance in it, and it comes from the seed: from the second line on, which names no seed."""
    first, second = (log_of(policy, seed=seed).partition(b"\n")[2] for seed in (1, 2))

    assert first != second


@pytest.mark.parametrize("policy", ["default", "prefix-only"])
def test_another_process_with_another_hash_seed_writes_the_same_bytes(policy: str) -> None:
    """No order of a set, no address and no clock is in the log."""
    program = PROGRAM.format(folder=str(Path(__file__).parent), module=Path(__file__).stem)

    printed = {
        subprocess.run(
            [sys.executable, "-c", program, policy, "1"],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert printed == {hashlib.sha256(log_of(policy, seed=1)).hexdigest() + "\n"}


def test_the_command_line_replays_the_real_trace_to_the_same_bytes(tmp_path: Path) -> None:
    """Two policies, 1,000 requests of the real slice, twice."""
    if not REAL_SLICE.exists():
        pytest.skip(f"NOT SHOWN: the real trace is not beside the clone (../shared/data/{REAL_SLICE.name})")
    logs = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]

    for log in logs:
        command = [sys.executable, "-m", "inferencesched", "replay", str(REAL_SLICE), "--limit", "1000"]
        options = ["--policy", "round-robin", "--policy", "default", "--log", str(log)]
        subprocess.run([*command, *options], check=True, capture_output=True, cwd=ROOT)

    assert logs[0].read_bytes() == logs[1].read_bytes()
    assert logs[0].read_text().count("\n") == 2 * (1 + 3 * 1000)
