"""The numbers of several policies side by side: a table, and a sentence that says what is in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import attrs
from rich.table import Table

from inferencesched.sim.report import Summary

__all__ = ["comparison_table", "headline"]

_BASELINES = ("round-robin", "random")


@attrs.frozen
class _Column:
    """A column of the table: its head, its number, how it is written, and whether less is better."""

    head: str
    number: Callable[[Summary], float]
    form: str
    scale: float = 1.0
    less_is_better: bool = True

    def cells(self, summaries: Sequence[Summary]) -> Iterable[str]:
        """Return one text for each policy, the best in bold."""
        texts = [self._text(self.number(summary) * self.scale) for summary in summaries]
        known = [float(text.rstrip("%")) for text in texts if text != "–"]
        best = (min(known) if self.less_is_better else max(known)) if known else math.nan
        return [f"[bold]{text}[/bold]" if text != "–" and float(text.rstrip("%")) == best else text for text in texts]

    def _text(self, number: float) -> str:
        return "–" if math.isnan(number) else format(number, self.form)


_COLUMNS = (
    _Column("TTFT s\np50", lambda s: s.ttft.p50, ".2f"),
    _Column("\np90", lambda s: s.ttft.p90, ".2f"),
    _Column("\np99", lambda s: s.ttft.p99, ".2f"),
    _Column("TPOT ms\np50", lambda s: s.tpot.p50, ".1f", 1000.0),
    _Column("\np90", lambda s: s.tpot.p90, ".1f", 1000.0),
    _Column("prefix\nhits", lambda s: s.hit_ratio_blocks, ".1%", less_is_better=False),
    _Column("load skew\nmax/mean", lambda s: s.load_skew, ".2f"),
    _Column("makespan\ns", lambda s: s.makespan, ".0f"),
)


def comparison_table(summaries: Sequence[Summary]) -> Table:
    """Return the table of the policies' numbers; the best of each column is bold."""
    table = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    table.add_column("\npolicy")
    for column in _COLUMNS:
        table.add_column(column.head, justify="right")
    cells = [list(column.cells(summaries)) for column in _COLUMNS]
    has_rejections = any(summary.rejected for summary in summaries)
    if has_rejections:
        table.add_column("\nrejected", justify="right")
        cells.append([str(summary.rejected) for summary in summaries])
    for row, summary in enumerate(summaries):
        table.add_row(summary.policy, *(column[row] for column in cells))
    return table


def headline(summaries: Sequence[Summary], policy: str) -> str | None:
    """Return one sentence on how `policy` did against the better of random and round-robin, if it is neither."""
    ours = next((s for s in summaries if s.policy == policy), None)
    rivals = [s for s in summaries if s.policy in _BASELINES]
    if ours is None or ours in rivals or not rivals:
        return None
    rival = min(rivals, key=lambda s: s.ttft.p90)
    return (
        f"{policy} against {rival.policy}: half of all first tokens within {ours.ttft.p50:.2f} s, not"
        f" {rival.ttft.p50:.2f} s; nine in ten within {ours.ttft.p90:.2f} s, not {rival.ttft.p90:.2f} s;"
        f" {ours.hit_ratio_blocks:.0%} of prompt blocks from cache, not {rival.hit_ratio_blocks:.0%}."
    )
