"""The ways in which engines tell a fact: as the value of a metric, in the labels of one, or as a list of adapters.

Where several series of a metric match, they are parts of one server (the ranks behind one port, the models of one
process): counts are added up, a share is that of the fullest. What should be there and is not is *absent*, with a
reason; an engine without LoRA adapters has none, and that is a fact.

Nothing here knows the name of a metric or of an engine; those are values, in `inferencesched.signals.dialects`.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Protocol

import attrs

from inferencesched.interfaces import Reading
from inferencesched.signals.exposition import Layout, Sample
from inferencesched.signals.specs import MetricSpec

__all__ = ["AdapterInfo", "CacheInfo", "Number", "Part"]

_RANK_LABELS = ("engine", "dp_rank")
"""Labels by which vLLM and SGLang tell the data-parallel ranks of one page apart."""


class Part(Protocol):
    """Something that an engine tells."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The facts it tells."""
        ...

    @property
    def names(self) -> tuple[MetricSpec, ...]:
        """The metrics it is told by, the preferred name first."""
        ...

    def read(self, page: bytes, /, *, rank: int = 0, layout: Layout | None = None) -> Reading:
        """Return the facts; above 0, of the series of several ranks only those of `rank` count."""
        ...


@attrs.frozen
class Number:
    """One number, the value of a metric.

    Attributes:
        column: which fact it is.
        names: what the metric is called; the first name that the page has is read.
        combine: what several series amount to.
        scale: what the value is multiplied by (0.01 where a share is given in percent).
    """

    column: str
    names: tuple[MetricSpec, ...]
    combine: Literal["sum", "max"] = "sum"
    scale: float = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The one fact."""
        return (self.column,)

    def read(self, page: bytes, /, *, rank: int = 0, layout: Layout | None = None) -> Reading:
        """Return the number; absent if the page has none of the names, or says NaN."""
        for name in self.names:
            found = of_rank(name.series(page, layout), rank)
            if found:
                values = [each.value for each in found]
                value = self.scale * (sum(values) if self.combine == "sum" else max(values))
                if math.isnan(value):
                    return Reading(absent={self.column: f"'{name}' is NaN"})
                return Reading({self.column: value})
        wanted = " nor ".join([f"'{name}'" for name in self.names])
        return Reading(absent={self.column: f"the page has no {wanted}"})


@attrs.frozen
class CacheInfo:
    """The size of the KV cache, in the labels of a metric whose value says nothing.

    Attributes:
        metric: its name.
        block_size: the label with the tokens per block.
        num_blocks: the label with the number of blocks.
        size_tokens: the label with the size in tokens, for a server that leaves `num_blocks` empty.
    """

    columns: ClassVar[tuple[str, ...]] = ("cache_block_size_tokens", "cache_num_blocks")

    metric: MetricSpec
    block_size: str
    num_blocks: str
    size_tokens: str = ""

    @property
    def names(self) -> tuple[MetricSpec, ...]:
        """The one metric."""
        return (self.metric,)

    def read(self, page: bytes, /, *, rank: int = 0, layout: Layout | None = None) -> Reading:
        """Return both numbers, of the first series."""
        found = of_rank(self.metric.series(page, layout), rank)
        if not found:
            return Reading(absent=dict.fromkeys(self.columns, f"the page has no '{self.metric}'"))
        labels = found[0].labels
        block, blocks = _positive(labels.get(self.block_size)), _positive(labels.get(self.num_blocks))
        size = _positive(labels.get(self.size_tokens))
        if blocks is None and block is not None and size is not None:
            blocks = size // block
        values = dict(zip(self.columns, (block, blocks), strict=True))
        label_of = dict(zip(self.columns, (self.block_size, self.num_blocks), strict=True))
        return Reading(
            {column: value for column, value in values.items() if value is not None},
            {
                column: f"label '{label}' of '{self.metric}' is {labels.get(label)!r}"
                for column, label in label_of.items()
                if values[column] is None
            },
        )


@attrs.frozen
class AdapterInfo:
    """LoRA adapters, in the labels of a metric whose value is the time at which they were such.

    An engine keeps a series for each set of adapters it ever had: the newest counts. Without the metric, none are
    loaded; how many may be is then unknown, and nothing is amiss.
    """

    columns: ClassVar[tuple[str, ...]] = ("active_adapters", "waiting_adapters", "max_active_adapters")

    metric: MetricSpec
    running: str = "running_lora_adapters"
    waiting: str = "waiting_lora_adapters"
    most: str = "max_lora"

    @property
    def names(self) -> tuple[MetricSpec, ...]:
        """The one metric."""
        return (self.metric,)

    def read(self, page: bytes, /, *, rank: int = 0, layout: Layout | None = None) -> Reading:
        """Return both sets, and how many adapters may run at once."""
        found = of_rank(self.metric.series(page, layout), rank)
        if not found:
            return Reading({"active_adapters": frozenset(), "waiting_adapters": frozenset()})
        labels = max(found, key=lambda sample: sample.value).labels
        facts: dict[str, object] = {
            "active_adapters": _listed(labels.get(self.running, "")),
            "waiting_adapters": _listed(labels.get(self.waiting, "")),
        }
        most = _positive(labels.get(self.most))
        if most is None:
            return Reading(
                facts,
                {"max_active_adapters": f"label '{self.most}' of '{self.metric}' is {labels.get(self.most)!r}"},
            )
        return Reading({**facts, "max_active_adapters": most})


def of_rank(found: list[Sample], rank: int) -> list[Sample]:
    """Return the samples of one rank above 0, if the page tells its ranks apart; else all."""
    if rank == 0 or len(found) < 2:
        return found
    mine = [each for each in found if any(each.labels.get(label) == str(rank) for label in _RANK_LABELS)]
    return mine or found


def _positive(text: str | None) -> float | None:
    """Return the whole number > 0 that a label holds, or None."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and int(text) > 0 else None


def _listed(text: str) -> frozenset[str]:
    return frozenset(name for name in map(str.strip, text.split(",")) if name)
