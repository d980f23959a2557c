"""The numbers of a replay: how long people waited, how much was computed twice, how evenly the work lay.

Definitions, so that they can be compared with others':

* TTFT: from a request's arrival to its first token, queueing included. TPOT: the mean time between further tokens of
  one answer; percentiles are over requests. Rejected requests have neither.
* Prefix hit ratio: leading prompt blocks (or tokens) that the chosen engine had in its KV cache when it first took the
  request in, over all prompt blocks (or tokens) of the requests that were placed.
* Load skew: tokens computed by the busiest endpoint (prompts less what was cached, and answers) over the mean of all
  endpoints. 1 is even; the number of endpoints is one doing everything.
* Makespan: from the first arrival to the last token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from inferencesched.sim.replay import Result

__all__ = ["Quantiles", "Summary", "summarize"]


@attrs.frozen
class Quantiles:
    """The 50th, 90th and 99th percentile of a time in seconds; NaN of nothing."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Return the percentiles of `values` (linear interpolation); NaNs are left out."""
        known = [value for value in values if not math.isnan(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan)
        p50, p90, p99 = np.percentile(known, [50, 90, 99])
        return cls(float(p50), float(p90), float(p99))

    def to_dict(self) -> dict[str, float | None]:
        """Return the percentiles as plain JSON values, to the microsecond."""
        return {name: _plain(value) for name, value in attrs.asdict(self).items()}


@attrs.frozen
class Summary:
    """One policy's numbers, as this module defines them. Times in seconds."""

    policy: str
    requests: int
    rejected: int
    ttft: Quantiles
    tpot: Quantiles
    hit_ratio_blocks: float
    hit_ratio_tokens: float
    load_skew: float
    makespan: float
    preemptions: int

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON values; unknown ones are None."""
        return {
            "policy": self.policy,
            "requests": self.requests,
            "rejected": self.rejected,
            "ttft_seconds": self.ttft.to_dict(),
            "tpot_seconds": self.tpot.to_dict(),
            "prefix_hit_ratio": {"blocks": _plain(self.hit_ratio_blocks), "tokens": _plain(self.hit_ratio_tokens)},
            "load_skew_max_over_mean": _plain(self.load_skew),
            "makespan_seconds": _plain(self.makespan),
            "preemptions": self.preemptions,
        }


def summarize(result: Result) -> Summary:
    """Return the numbers of one replay."""
    placed = [run for run in result.runs if run.endpoint is not None]
    work = [endpoint.tokens for endpoint in result.endpoints]
    last = max((run.finished for run in placed), default=math.nan)
    return Summary(
        policy=result.policy,
        requests=len(result.runs),
        rejected=len(result.runs) - len(placed),
        ttft=Quantiles.of([run.ttft for run in placed]),
        tpot=Quantiles.of([run.tpot for run in placed]),
        hit_ratio_blocks=_ratio(sum(run.matched_blocks for run in placed), sum(len(r.request.blocks) for r in placed)),
        hit_ratio_tokens=_ratio(sum(r.matched_tokens for r in placed), sum(r.request.prompt_tokens for r in placed)),
        load_skew=_ratio(max(work) * len(work), sum(work)),
        makespan=last - result.runs[0].request.arrival if result.runs else math.nan,
        preemptions=sum(endpoint.preemptions for endpoint in result.endpoints),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else round(number, 6)
