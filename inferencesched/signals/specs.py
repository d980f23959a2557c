"""What names a metric in a configuration: ``name`` or ``name{label=value,other="value"}``, as upstream writes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from inferencesched.signals.exposition import Layout, Sample, samples

__all__ = ["MetricSpec"]

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SPEC = re.compile(rf"\s*({_NAME})\s*(?:\{{(.*)\}})?\s*", re.DOTALL)
_PAIR = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*(?:"([^"]*)"|([^",{}\s]+))\s*(?:,|$)')


def _frozen(labels: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(labels))


@attrs.frozen
class MetricSpec:
    """A metric's name, and the labels that its series must have.

    Attributes:
        name: the whole name, as a page has it.
        labels: a series may have more than these.
        key: the name in bytes.

    >>> MetricSpec.parse('nv_trt_llm_request_metrics{request_type="waiting"}')
    MetricSpec('nv_trt_llm_request_metrics{request_type="waiting"}')
    """

    name: str
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_frozen)
    key: bytes = attrs.field(init=False, repr=False, eq=False)

    @key.default
    def _bytes(self) -> bytes:
        return self.name.encode()

    @classmethod
    def parse(cls, text: str) -> MetricSpec:
        """Return the metric that `text` names.

        Raises:
            ValueError: it names none.
        """
        match = _SPEC.fullmatch(text)
        if match is None:
            raise ValueError(f"expected a metric such as name or name{{label=value}}, got {text!r}")
        labels: dict[str, str] = {}
        rest = (match[2] or "").strip()
        while rest:
            pair = _PAIR.match(rest)
            if pair is None:
                raise ValueError(f"expected label=value in {text!r}, got {rest!r}")
            labels[pair[1]] = pair[2] if pair[2] is not None else pair[3]
            rest = rest[pair.end() :]
        return cls(match[1], labels)

    def __str__(self) -> str:
        if not self.labels:
            return self.name
        pairs = ",".join(f'{key}="{value}"' for key, value in self.labels.items())
        return f"{self.name}{{{pairs}}}"

    def __repr__(self) -> str:
        return f"MetricSpec({str(self)!r})"

    def series(self, page: bytes, layout: Layout | None = None) -> list[Sample]:
        """Return the samples that match; of those with timestamps, the newest. Complexity: see `samples`."""
        found = samples(page, self.key, layout)
        if self.labels:
            found = [each for each in found if self.labels.items() <= each.labels.items()]
        if len(found) > 1:
            newest = max(each.timestamp for each in found)
            found = [each for each in found if each.timestamp == newest]
        return found
