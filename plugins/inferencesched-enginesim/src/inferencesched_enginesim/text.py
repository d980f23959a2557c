"""The text of an answer: words drawn from a seed, or an echo. Token by token, and the same every time."""

from __future__ import annotations

from typing import Protocol

import attrs

__all__ = ["Answer", "Echo", "Words"]

_VOCABULARY = (
    "a able about after again all an and answer any are as ask at be begin block by cache can cold come do each end "
    "every few find first for from give good has here hold in into is it keep last line long make many more new next "
    "not now of on one or out part place queue read same"
)
# As many as a prime, so that every stride below visits all of them. Nothing that JSON would have to escape.
_WORDS = tuple(f" {word}" for word in _VOCABULARY.split())
assert len(_WORDS) == 61


class Answer(Protocol):
    """An answer that is there as a whole, however much of it will be generated."""

    @property
    def length(self) -> int:
        """Tokens of the answer where nothing cuts it short."""
        ...

    def piece(self, place: int) -> str:
        """Return the text of the token at `place`, from 0. Past the end it goes on somehow."""
        ...


@attrs.frozen
class Words:
    """`length` words that `seed` decides; any number more when more are asked for."""

    seed: int
    length: int

    def piece(self, place: int) -> str:
        """Return one word with a space before it."""
        count = len(_WORDS)
        stride = 1 + self.seed // count % (count - 1)
        return _WORDS[(self.seed + place * stride) % count]


class Echo:
    """What was said, four characters a token."""

    def __init__(self, text: str) -> None:
        self._text = text or " "
        self.length = -(-len(self._text) // 4)

    def piece(self, place: int) -> str:
        """Return four characters, or fewer at the end; after it, the text begins again."""
        start = place % self.length * 4
        return self._text[start : start + 4]
