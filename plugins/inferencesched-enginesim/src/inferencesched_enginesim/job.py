"""One request inside the server: its sequences, from submission until all have ended or the client has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import attrs

from inferencesched_enginesim.driver import Driver, Sequence
from inferencesched_enginesim.log import Received

__all__ = ["Job", "Piece", "Usage"]


@attrs.frozen
class Usage:
    """Tokens of a request."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int

    @property
    def total_tokens(self) -> int:
        """Prompt and answer."""
        return self.prompt_tokens + self.output_tokens


@attrs.frozen
class Piece:
    """New tokens of one sequence; how the answer ended, once it has."""

    index: int
    tokens: tuple[str, ...]
    finish_reason: str | None

    @property
    def text(self) -> str:
        """What they say."""
        return "".join(self.tokens)


class Job:
    """Sequences that are answered together. As a context it queues them, and drops in the end what has not finished.

    Args:
        driver: of the engine.
        sequences: not submitted yet.
        received: the request in the log, where usage and times are noted in the end.
    """

    def __init__(self, driver: Driver, sequences: list[Sequence], received: Received) -> None:
        self.sequences = sequences
        self._driver = driver
        self._received = received
        self._bell = asyncio.Event()

    def __enter__(self) -> Self:
        for sequence in self.sequences:
            sequence.wake = self._bell.set
            self._driver.submit(sequence)
        self._received.prompt_tokens = self.usage.prompt_tokens
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sequence in self.sequences:
            self._driver.abort(sequence)
        usage, first = self.usage, self.sequences[0]
        self._received.cached_tokens = usage.cached_tokens
        self._received.output_tokens = usage.output_tokens
        if first.first_token is not None:
            self._received.ttft = first.first_token - first.arrived
        if first.finished is not None:
            self._received.duration = first.finished - first.arrived

    @property
    def usage(self) -> Usage:
        """Tokens so far; those of an answer as far as they were passed on."""
        return Usage(
            sum(sequence.request.prompt_tokens for sequence in self.sequences),
            sum(sequence.told for sequence in self.sequences),
            sum(sequence.cached_tokens for sequence in self.sequences),
        )

    async def complete(self) -> list[Piece]:
        """Return the whole answers, when all of them are there."""
        while any(sequence.finished is None for sequence in self.sequences):
            self._bell.clear()
            await self._bell.wait()
        return list(self._news())

    async def pieces(self) -> list[Piece]:
        """Return what is new; wait until there is something. An empty list is the end."""
        while any(sequence.told < sequence.request.output_tokens for sequence in self.sequences):
            if news := list(self._news()):
                return news
            self._bell.clear()
            await self._bell.wait()
        return []

    def _news(self) -> Iterator[Piece]:
        for index, sequence in enumerate(self.sequences):
            first, last = sequence.told, sequence.generated
            if last > first:
                sequence.told = last
                is_over = last == sequence.request.output_tokens
                tokens = tuple(map(sequence.answer.piece, range(first, last)))
                yield Piece(index, tokens, sequence.finish_reason if is_over else None)
