"""The picture of a comparison: how long people waited, what came from cache, how evenly the work lay.

Needs matplotlib (the `cli` extra). Drawn without a display, and the same bytes for the same results.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from inferencesched.sim.replay import Result
from inferencesched.sim.report import summarize

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

__all__ = ["draw_comparison"]

# Okabe & Ito's palette: told apart by everybody. The policy drawn last is on top and thick.
_COLOURS = ("#999999", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442")
_LAST = "#0072B2"
_POINTS = 400  # of a curve; more cannot be seen

_STYLE: dict[RcKeyType, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 9.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "inferencesched",
}


def draw_comparison(results: Sequence[Result], form: Literal["png", "svg"]) -> bytes:
    """Return a picture of four charts that compare the results, one colour for each policy."""
    colours = [*(_COLOURS[place % len(_COLOURS)] for place in range(len(results) - 1)), _LAST]
    with rc_context(_STYLE):
        figure = Figure(figsize=(12, 8.8), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)  # type: ignore[union-attr, call-arg] # stubs lag
        ((first, further), (hits, work)) = figure.subplots(2, 2)
        _draw_shares(first, results, colours, [[run.ttft for run in result.runs] for result in results])
        first.set_title("Requests that had their first token within…")
        first.set_xlabel("time to first token, seconds (log scale)")
        _draw_shares(further, results, colours, [[1000 * run.tpot for run in result.runs] for result in results])
        further.set_title("Requests whose further tokens took at most…")
        further.set_xlabel("time per output token, milliseconds (log scale)")
        _draw_hits(hits, results, colours)
        _draw_work(work, results, colours)
        first.legend(frameon=False, loc="lower right")
        stream = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(stream, format=form, dpi=130, metadata=metadata)
    return stream.getvalue()


def _draw_shares(
    axes: Axes, results: Sequence[Result], colours: Sequence[str], values: Sequence[Sequence[float]]
) -> None:
    """Draw, for each policy, which share of its requests had at most so much of something."""
    shares = np.linspace(0, 1, _POINTS)
    for place, (result, colour, each) in enumerate(zip(results, colours, values, strict=True)):
        known = np.array(each)[~np.isnan(each)]
        if known.size:
            width = 2.4 if place == len(results) - 1 else 1.5
            axes.plot(np.quantile(known, shares), shares, color=colour, linewidth=width, label=result.policy)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("share of requests")
    axes.set_ylim(0, 1)
    axes.grid(color="#dddddd", linewidth=0.6)


def _draw_hits(axes: Axes, results: Sequence[Result], colours: Sequence[str]) -> None:
    """Draw the prefix hit ratio of each policy as a bar with its number."""
    ratios = [summarize(result).hit_ratio_blocks for result in results]
    bars = axes.barh([result.policy for result in results], ratios, color=colours, height=0.65)
    axes.bar_label(bars, [f"{ratio:.1%}" for ratio in ratios], padding=4)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(0, max([*ratios, 0.01]) * 1.15)
    axes.set_xlabel("share of all prompt blocks")
    axes.set_title("Prompt blocks found in the chosen server's KV cache")
    axes.tick_params(axis="y", length=0)


def _draw_work(axes: Axes, results: Sequence[Result], colours: Sequence[str]) -> None:
    """Draw every endpoint as a dot at its share of the work, relative to an even share."""
    most = 1.0
    for place, (result, colour) in enumerate(zip(results, colours, strict=True)):
        tokens = np.array([endpoint.tokens for endpoint in result.endpoints], dtype=float)
        shares = tokens / max(tokens.mean(), 1.0)
        most = max(most, shares.max())
        axes.scatter(shares, [place] * len(tokens), color=colour, alpha=0.7, s=36, linewidth=0)
    axes.axvline(1.0, color="#444444", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(results)), [result.policy for result in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set_xlim(0, 1.05 * most)
    axes.set_xlabel("tokens computed ÷ mean of all endpoints (one dot per endpoint)")
    axes.set_title("Work of each endpoint, relative to an even share")
    axes.tick_params(axis="y", length=0)
