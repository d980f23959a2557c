"""Traces: what arrived when, how long it was, and which prompts begin alike. Reading one, and nothing about servers.

A prompt is known by its *blocks*: one number for each `block_tokens` tokens, where equal numbers stand for equal text
up to and including that block. That is all a prefix cache can see of a prompt, and all that providers publish of
theirs. Token ids for a scheduler are made from the numbers (`Trace.prompt`), so that two prompts have as many leading
tokens in common as their blocks say.

The format read here is Mooncake's (Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST '25; traces
at github.com/kvcache-ai/Mooncake, Apache-2.0): JSON lines with `timestamp` (milliseconds), `input_length`,
`output_length` (tokens) and `hash_ids` (one for each 512 tokens, the last one may be short).
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from inferencesched.errors import ConfigError, Problem

__all__ = ["MOONCAKE_BLOCK_TOKENS", "Trace", "TraceRequest", "read_mooncake"]

MOONCAKE_BLOCK_TOKENS = 512
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_PROBLEMS = 10  # a file of another format has one on every line; ten show the pattern


@attrs.frozen
class TraceRequest:
    """One request of a trace.

    Attributes:
        id: its name in logs and receipts.
        arrival: seconds since the trace began.
        prompt_tokens: length of the prompt.
        output_tokens: length of the answer, at least 1; the engine knows it, the scheduler does not.
        blocks: one number per block of the prompt, in order; equal numbers are equal prefixes.
        session: the conversation it belongs to, if the trace knows.
        adapter: the LoRA adapter it asks for, if any.
    """

    id: str
    arrival: float
    prompt_tokens: int = attrs.field(validator=attrs.validators.ge(1))
    output_tokens: int = attrs.field(validator=attrs.validators.ge(1))
    blocks: tuple[int, ...] = attrs.field(repr=False)
    session: str | None = None
    adapter: str | None = None


@attrs.frozen
class Trace:
    """Requests in the order of arrival, each with its own id, and the size of the blocks their prompts are told in."""

    name: str
    block_tokens: int = attrs.field(validator=attrs.validators.ge(1))
    requests: tuple[TraceRequest, ...] = attrs.field(repr=False)

    @requests.validator
    def _is_in_order(self, attribute: attrs.Attribute[Any], value: tuple[TraceRequest, ...]) -> None:
        if any(after.arrival < before.arrival for before, after in itertools.pairwise(value)):
            raise ValueError("requests must be in the order of their arrival")
        if len({request.id for request in value}) < len(value):
            raise ValueError("two requests have the same id")

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def duration(self) -> float:
        """Seconds from the first arrival to the last."""
        return self.requests[-1].arrival - self.requests[0].arrival if self.requests else 0.0

    def head(self, limit: int) -> Trace:
        """Return the trace of the first `limit` requests."""
        return attrs.evolve(self, requests=self.requests[:limit])

    def faster(self, factor: float) -> Trace:
        """Return the same requests arriving `factor` times as fast."""
        sped_up = (attrs.evolve(request, arrival=request.arrival / factor) for request in self.requests)
        return attrs.evolve(self, requests=tuple(sped_up))

    def spread(self) -> Trace:
        """Return the same requests, those of one instant spread evenly until the next one.

        A trace whose clock ticks every few seconds makes bursts of what was steady traffic.
        """
        groups = [tuple(group) for _, group in itertools.groupby(self.requests, lambda request: request.arrival)]
        spread: list[TraceRequest] = []
        for group, following in zip(groups, [*groups[1:], None], strict=True):
            start = group[0].arrival
            gap = following[0].arrival - start if following is not None else 0.0
            spread += (attrs.evolve(r, arrival=start + gap * place / len(group)) for place, r in enumerate(group))
        return attrs.evolve(self, requests=tuple(spread))

    def prompt(self, request: TraceRequest) -> NDArray[np.uint32]:
        """Return token ids for the prompt: equal leading blocks, and nothing else, become equal leading tokens.

        Token `k` of block `b` is ``b × block_tokens + k``, modulo 2³².
        """
        starts = np.asarray(request.blocks, dtype=np.uint64) * np.uint64(self.block_tokens)
        tokens = starts[:, None] + np.arange(self.block_tokens, dtype=np.uint64)
        return tokens.astype(np.uint32).reshape(-1)[: request.prompt_tokens]


def read_mooncake(path: Path, *, block_tokens: int = MOONCAKE_BLOCK_TOKENS) -> Trace:
    """Return the trace in a file of Mooncake's format, gzipped or not.

    Raises:
        ConfigError: the file cannot be read, or lines of it make no sense; each problem with its file and line.
    """
    requests: list[TraceRequest] = []
    problems: list[Problem] = []
    for number, line in _numbered_lines(path):
        try:
            requests.append(_mooncake_request(line, number, block_tokens, after=requests[-1] if requests else None))
        except ValueError as wrong:
            problems.append(Problem("", str(wrong), str(path), number))
            if len(problems) == _MOST_PROBLEMS:
                break
    if not requests and not problems:
        problems.append(Problem("", "holds no request", str(path)))
    if problems:
        raise ConfigError(problems)
    return Trace(path.name, block_tokens, tuple(requests))


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, counted from 1."""
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ConfigError(
            [Problem("", f"cannot be read: {error}", str(path), number + 1 if number else None)]
        ) from error


def _open(path: Path) -> IO[str]:
    with path.open("rb") as probe:
        zipped = probe.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rt", encoding="utf-8") if zipped else path.open(encoding="utf-8")


def _mooncake_request(line: str, number: int, block_tokens: int, *, after: TraceRequest | None) -> TraceRequest:
    """Return the request that one line tells of; ValueError says what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    arrival = _whole(row, "timestamp", 0) / 1000
    prompt_tokens, output_tokens = _whole(row, "input_length", 1), _whole(row, "output_length", 1)
    blocks = row.get("hash_ids")
    if not isinstance(blocks, list) or not _are_whole(blocks):
        raise ValueError(f"'hash_ids' must be a list of whole numbers ≥ 0, got {blocks!r:.60}")
    needed = -(-prompt_tokens // block_tokens)
    if len(blocks) != needed:
        raise ValueError(
            f"{prompt_tokens} tokens are {needed} blocks of {block_tokens}, but 'hash_ids' has {len(blocks)}"
            " (is the block size another one?)"
        )
    if after is not None and arrival < after.arrival:
        raise ValueError(f"'timestamp' goes back, from {after.arrival * 1000:g} to {arrival * 1000:g} ms")
    return TraceRequest(f"r{number}", arrival, prompt_tokens, output_tokens, tuple(blocks))


def _are_whole(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values)


def _whole(row: dict[str, Any], key: str, least: int) -> int:
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ValueError(f"'{key}' must be a whole number ≥ {least}, got {value!r:.60}")
