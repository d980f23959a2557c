"""Prometheus text, one metric at a time: the samples of a name, found without reading the rest of the page.

A page of an engine has some 700 lines, of which a scheduler wants eight, twenty times a second. So a name is searched
for as bytes, and only a line that begins with exactly that name is looked at; labels are read when somebody asks for
them. Comments, other metrics, and names that merely begin alike are never parsed.

Text format 0.0.4; an exemplar behind a value is not read. Nothing here knows an engine or a column.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType

import attrs

__all__ = ["Layout", "Sample", "samples"]

_BLOCK = rb'\{(?:[^"}\n]++|"(?:[^"\\\n]++|\\[^\n])*+")*+\}'
_REST = re.compile(rb"[ \t]*+(" + _BLOCK + rb")?[ \t]*+([^ \t\r\n]++)(?:[ \t]++(-?[0-9]+))?")
"""What follows the name: the label block, the value, a timestamp in milliseconds."""

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r"\\([\\\"n])")

_INDENT = re.compile(rb"[ \t\r]*")
_PARTS_OF_A_FAMILY = (b"_bucket", b"_count", b"_sum")
"""Of histograms and summaries: their lines take turns."""
_OF_ANOTHER = (b"# HELP ", b"# TYPE ")
_PASSED_OVER = frozenset((b"#", b"\n"))
_BLANK_OR_COMMENT = frozenset((b"#", b"\n", b" ", b"\t", b"\r"))
_AFTER_A_NAME = frozenset((b"{", b" ", b"\t"))

_SHIFT_BYTES = 512
"""How far a metric may have moved since the last look and is still found there: numbers before it grew, no lines."""

_BLOCKS = 4096
"""Label blocks that are remembered: they hardly ever change, and some have forty labels. About 4 MiB at worst."""


@attrs.frozen
class Sample:
    """One line: a series and its value.

    Attributes:
        block: its labels as they are written, in braces; empty where there are none.
        value: what it stands at.
        timestamp: milliseconds, if the line has one; 0 otherwise.
    """

    block: bytes
    value: float
    timestamp: int = 0

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels by name, escapes resolved."""
        return _labels(self.block)


@functools.lru_cache(maxsize=_BLOCKS)
def _labels(block: bytes) -> Mapping[str, str]:
    found = _LABEL.findall(block.decode("utf-8", "replace"))
    return MappingProxyType({name: _ESCAPE.sub(_unescape, value) if "\\" in value else value for name, value in found})


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


class Layout:
    """Where the metrics of one server's page began when it was last read. Its pages keep their shape from look to look.

    A metric is searched for there first, and through the whole page if it is not there. What is found is the same: a
    line counts as the first of its metric if what stands before it cannot belong to it, and the format has the lines of
    a metric in one group.
    """

    __slots__ = ("_begins",)

    def __init__(self) -> None:
        self._begins: dict[bytes, int] = {}

    def first(self, page: bytes, name: bytes, family: bytes) -> int:
        """Return where the name first stands at the beginning of a line, and remember it; -1 if nowhere."""
        at = self._begins.get(name, -1)
        if at >= 0:
            at = _near(page, name, family, at)
        if at < 0:
            at = _first(page, name)
        self._begins[name] = at
        return at


def samples(page: bytes, name: bytes, layout: Layout | None = None) -> list[Sample]:
    r"""Return the samples of the metric `name`, in the order of the page; what is no sample is passed over.

    Args:
        layout: of the pages of this server: the next search takes less.

    >>> samples(b'a_total 1\na{x="1"} 2\na{x="2"} 3e0 1700000000000\n', b"a")
    [Sample(block=b'{x="1"}', value=2.0, timestamp=0), Sample(block=b'{x="2"}', value=3.0, timestamp=1700000000000)]

    Complexity: one search through the page up to the metric (none with a layout that holds), and one match for each
    of its lines.
    """
    found: list[Sample] = []
    family = name[: name.rfind(b"_")] if name.endswith(_PARTS_OF_A_FAMILY) else name
    at = _first(page, name) if layout is None else layout.first(page, name, family)
    while at >= 0:
        match = _REST.match(page, at + len(name))
        value = None if match is None else _number(match[2])
        if match is not None and value is not None:
            found.append(Sample(match[1] or b"", value, int(match[3] or 0)))
        at = _next(page, name, family, at)
    return found


def _first(page: bytes, name: bytes) -> int:
    """Return where the name first stands at the beginning of a line; -1 if nowhere."""
    at = page.find(name)
    while at >= 0:
        line = page.rfind(b"\n", 0, at) + 1
        if _is_whole(page, name, at) and (line == at or not page[line:at].strip(b" \t\r")):
            return at
        at = page.find(name, at + len(name))
    return -1


def _near(page: bytes, name: bytes, family: bytes, at: int) -> int:
    """Return the same, if it is not far from where it was and there is no doubt; else -1."""
    begin, end, line = max(0, at - _SHIFT_BYTES), at + _SHIFT_BYTES, b"\n" + name
    while (at := page.find(line, begin, end) + 1) > 0 and not _is_whole(page, name, at):
        begin = at
    if at == 0:
        return -1
    before = page.rfind(b"\n", 0, at - 1) + 1
    if page.startswith(_OF_ANOTHER, before):
        return at
    in_doubt = page[before : before + 1] in _BLANK_OR_COMMENT or page.startswith(family, before)
    return -1 if in_doubt else at


def _next(page: bytes, name: bytes, family: bytes, at: int) -> int:
    """Return where the name next begins a line, or -1: the lines of a family stand together."""
    while (at := page.find(b"\n", at) + 1) > 0:
        if page.startswith(_OF_ANOTHER, at):
            return -1
        indent = _INDENT.match(page, at)
        at = at if indent is None else indent.end()
        if page.startswith(name, at) and _is_whole(page, name, at):
            return at
        if page[at : at + 1] not in _PASSED_OVER and not page.startswith(family, at):
            return -1
    return -1


def _is_whole(page: bytes, name: bytes, at: int) -> bool:
    """Whether the name ends where these bytes do, and is not the beginning of a longer one."""
    return page[at + len(name) : at + len(name) + 1] in _AFTER_A_NAME


def _number(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
