"""Endpoints set up for prompts of a certain length, told by a label such as ``2048-8192``."""

from __future__ import annotations

from typing import ClassVar

import attrs
import numpy as np

from inferencesched.builtin.scorers import NEUTRAL
from inferencesched.endpoints import BoolArray, Endpoint, EndpointBatch, FloatArray
from inferencesched.request import Request

__all__ = ["ContextLengthAware"]

_FITS = 0.3
"""What fits scores above this, what does not below it."""

_NO_LABEL = (np.nan, np.nan)
_NO_RANGE = (1.0, 0.0)
"""An empty range, for a label that is none."""


@attrs.frozen
class ContextLengthAware:
    """Send a prompt to endpoints that are set up for its length; as a filter, only to those.

    Args:
        label: holds a range of tokens, ``min-max``, both included.
        enable_filtering: drop the endpoints whose range does not hold the prompt; off, the filter keeps everything.

    Formula: filter: min ≤ tokens ≤ max. Scorer, in range: 0.3 + 0.7 · (0.7 / (1 + width / 10000) +
        0.3 · (max − tokens) / width), and 1 for a width of 0; out of range: 0.3 / (1 + distance / 1000).
    Unknown: an endpoint without the label takes any length: kept, 0.5. One whose label is no range takes none: dropped,
        0. A prompt of unknown length: everything that has a range or no label is kept, and scores 0.5.
    Source: Endpoint Picker ``context-length-aware`` (Affinity); upstream takes an unknown length for 0 tokens.
    """

    type: ClassVar[str] = "context-length-aware"
    consumes: ClassVar[tuple[str, ...]] = ("prompt_tokens",)

    label: str = "llm-d.ai/context-length-range"
    enable_filtering: bool = False

    @property
    def why(self) -> str:
        """The condition in words."""
        return f"prompt_tokens within {self.label}"

    def keep(self, request: Request, endpoints: EndpointBatch, /) -> BoolArray:
        """Return which endpoints take a prompt of that length."""
        if not self.enable_filtering:
            return np.ones(len(endpoints), np.bool_)
        low, high, tokens = self._ranges(endpoints)
        fits: BoolArray = ~((tokens < low) | (tokens > high) | (low > high))  # what is unknown compares false
        return fits

    def score(self, request: Request, endpoints: EndpointBatch, /) -> FloatArray:
        """Return how well each range suits the prompt."""
        low, high, tokens = self._ranges(endpoints)
        width = high - low
        position = np.divide(high - tokens, width, out=np.ones(len(endpoints)), where=width > 0)
        fit = _FITS + (1 - _FITS) * (0.7 / (1 + np.abs(width) / 10_000) + 0.3 * position)
        distance = np.maximum(low - tokens, tokens - high)
        scores = np.where(distance <= 0, np.where(width == 0, 1.0, fit), _FITS / (1 + np.maximum(distance, 0) / 1000))
        return np.where(low > high, 0.0, np.where(np.isnan(distance), NEUTRAL, scores))

    def _ranges(self, endpoints: EndpointBatch) -> tuple[FloatArray, FloatArray, FloatArray]:
        ranges = endpoints.static(("context-length-range", self.label), self._parse)
        return ranges[:, 0], ranges[:, 1], endpoints["prompt_tokens"]

    def _parse(self, endpoints: tuple[Endpoint, ...]) -> FloatArray:
        return np.array([_range(endpoint.labels.get(self.label)) for endpoint in endpoints], np.float64)


def _range(label: str | None) -> tuple[float, float]:
    if label is None:
        return _NO_LABEL
    low, _, high = (part.strip() for part in label.partition("-"))
    if not (low.isdecimal() and high.isdecimal()) or int(low) > int(high):
        return _NO_RANGE
    return float(low), float(high)
