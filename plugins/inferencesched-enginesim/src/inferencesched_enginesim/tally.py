"""What one server counts: tokens, endings, and histograms of times. How that is shown is the metric page's business."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

from inferencesched_enginesim.driver import Sequence

__all__ = ["Histogram", "Tally"]

# Bounds as in vLLM 0.32.
_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_TPOT = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
_TOKENS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
_ENDINGS = ("stop", "length", "abort", "error", "repetition")


class Histogram:
    """Counts per bucket; cheap to add to, cumulated when it is shown."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Return each upper bound with how many values are not above it."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class Tally:
    """Everything that is counted. Times are real seconds; `rate` is how many simulated ones go into one of them.

    Attributes:
        prompt_tokens, cached_tokens: of prompts that were computed, and of these what the cache had.
        generated_tokens: of answers that have ended.
        rejected: requests refused for want of room in the queue.
        endings: how many answers ended how.
    """

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.rejected = 0
        self.endings = Counter(dict.fromkeys(_ENDINGS, 0))
        self.ttft = Histogram(_TTFT)
        self.inter_token = Histogram(_TPOT)
        self.tpot = Histogram(_TPOT)
        self.e2e = Histogram(_REQUEST)
        self.queue = Histogram(_REQUEST)
        self.inference = Histogram(_REQUEST)
        self.prefill = Histogram(_REQUEST)
        self.decode = Histogram(_REQUEST)
        self.prompt_lengths = Histogram(_TOKENS)
        self.answer_lengths = Histogram(_TOKENS)

    def first_token(self, sequence: Sequence, rate: float) -> None:
        """Count a prompt that is computed."""
        assert sequence.first_token is not None
        self.prompt_tokens += sequence.request.prompt_tokens
        self.cached_tokens += sequence.cached_tokens
        self.ttft.add((sequence.first_token - sequence.arrived) / rate)

    def finished(self, sequence: Sequence, rate: float) -> None:
        """Count an answer that is complete; each token but the first with the answer's mean time."""
        assert sequence.first_token is not None
        assert sequence.finished is not None
        arrived, admitted = sequence.arrived, sequence.served.admitted
        first, finished, tokens = sequence.first_token, sequence.finished, sequence.request.output_tokens
        if tokens > 1:
            each = (finished - first) / rate / (tokens - 1)
            self.inter_token.add(each, tokens - 1)
            self.tpot.add(each)
        self.e2e.add((finished - arrived) / rate)
        self.queue.add((admitted - arrived) / rate)
        self.inference.add((finished - admitted) / rate)
        self.prefill.add((first - admitted) / rate)
        self.decode.add((finished - first) / rate)
        self.prompt_lengths.add(sequence.request.prompt_tokens)
        self.answer_lengths.add(tokens)
        self.endings[sequence.finish_reason] += 1
        self.generated_tokens += tokens

    def aborted(self, sequence: Sequence) -> None:
        """Count an answer for which nobody waits any more."""
        self.endings["abort"] += 1
        self.generated_tokens += sequence.generated
