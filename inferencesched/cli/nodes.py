"""YAML text → documents that know their lines; whatever the text is, the outcome is documents and problems.

Scalars are read as the Endpoint Picker's YAML library reads them: ``1e9`` is a number, a time of day and a date are
strings. A key that stands twice in a mapping is a problem, as is a reference to itself; anchors, aliases and merges are
fine, and what they expand to is counted, so that a small file cannot stand for a large one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from inferencesched.documents import Document
from inferencesched.errors import Problem

__all__ = ["documents_in"]

_MOST_NODES = 200_000  # aliases followed; a folder with every resource of a large cluster has a tenth of that
_DEEPEST = 100  # real documents nest about ten deep; far below Python's own limit
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONFIGURATION = re.compile(r"^kind: *[\"']?EndpointPickerConfig\b", re.MULTILINE)
_PREFIX = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2, but for the booleans, which stay those of 1.1 as they do in Go."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 — so declared in PyYAML


for _tag, _pattern, _first in (
    ("bool", r"(?i:true|false|yes|no|on|off)", "tTfFyYnNoO"),
    ("int", r"[-+]?(?:[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+|0b[01]+)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan)", "-+.0123456789"),
    ("merge", r"<<", "<"),
    ("null", r"(?:~|(?i:null)|)", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_PREFIX + _tag, re.compile(rf"^(?:{_pattern})$"), list(_first))


class _Unreadable(Exception):
    """Ends the reading of one document; the problem is all there is to say."""


def documents_in(text: str, file: str | None, problems: list[Problem], *, above: int = 0) -> list[Document]:
    """Return the documents that stand in `text`; those of a Kubernetes ``List`` or ``ConfigMap`` one by one.

    What cannot be read is appended to `problems`, with its line; what stands before it is still returned.

    Args:
        above: lines of the file above the text.
    """
    documents: list[Document] = []
    try:
        for node in yaml.compose_all(text, _Loader):
            documents += _Walk(file, problems, above).documents(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = above + mark.line + 1 if mark is not None else None
        problems.append(Problem("", f"not YAML: {error.problem or error.context}", file, line))
    except yaml.YAMLError as error:
        problems.append(Problem("", f"not YAML: {str(error).splitlines()[0]}", file))
    except RecursionError:
        problems.append(Problem("", f"nested deeper than {_DEEPEST} levels", file))
    except (ValueError, OverflowError):  # PyYAML lets chr() of it come through
        problems.append(Problem("", "not YAML: an escape that stands for no character", file))
    return documents


class _Walk:
    """One way through the nodes of one document: plain values, lines by path, problems, and a count of the steps."""

    def __init__(self, file: str | None, problems: list[Problem], above: int) -> None:
        self._file, self._problems, self._above = file, problems, above
        self._lines: dict[str, int] = {}
        self._open: set[int] = set()
        self._nodes = 0

    def documents(self, root: yaml.Node) -> Iterator[Document]:
        """Yield the document that `root` stands for, or the items of a list of documents."""
        items = _items(root)
        if items is not None:
            for item in items:
                yield from _Walk(self._file, self._problems, self._above).documents(item)
            return
        for text in (embedded := _configurations(root)):
            above = self._above + text.start_mark.line + (text.style in {"|", ">"})
            yield from documents_in(text.value, self._file, self._problems, above=above)
        if embedded:
            return
        try:
            content = self._value(root, "")
        except _Unreadable:
            return
        self._lines[""] = self._line(root)
        yield Document(content, self._file, self._lines)

    def _value(self, node: yaml.Node, path: str) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            self._give_up(node, path, f"more than {_MOST_NODES:,} values, aliases followed")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            self._give_up(node, path, "the alias refers to what it stands in")
        if len(self._open) >= _DEEPEST:
            self._give_up(node, path, f"nested deeper than {_DEEPEST} levels")
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        self._open.remove(id(node))
        return value

    def _list(self, node: yaml.Node, path: str) -> list[Any]:
        items = []
        for i, item in enumerate(node.value):
            self._lines.setdefault(f"{path}[{i}]", self._line(item))
            items.append(self._value(item, f"{path}[{i}]"))
        return items

    def _mapping(self, node: yaml.Node, path: str) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = self._line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, path, "expected a plain word for a key")
                continue
            key = self._text(key_node, path)
            at = f"{path}.{key}".lstrip(".")
            if key_node.tag == _PREFIX + "merge":
                merged = {**self._merge(value_node, at), **merged}
                continue
            if key in lines:
                self._note(key_node, at, f"'{key}' stands here for the second time, first in line {lines[key]}")
                continue
            lines[key] = line
            self._lines[at] = line
            values[key] = self._value(value_node, at)
        return {**merged, **values}

    def _merge(self, node: yaml.Node, path: str) -> dict[str, Any]:
        """Return what ``<<: *alias``, or a list of aliases of which the first wins, brings in."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            value = self._value(source, path.removesuffix("<<").rstrip("."))
            if not isinstance(value, dict):
                self._note(node, path, "expected a mapping to merge")
                continue
            merged = {**value, **merged}
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        tag, text = node.tag.removeprefix(_PREFIX), node.value
        if tag == "str":
            return self._text(node, path)
        if tag == "null":
            return None
        try:
            if tag == "bool":
                return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}[text.lower()]
            if tag == "int":
                return int(text, 0 if re.match(r"[-+]?0[xob]", text) else 10)
            if tag == "float":
                return float(re.sub(r"\.(?=(?i:inf|nan))", "", text))
        except (KeyError, ValueError):
            self._note(node, path, f"'{text[:40]}' is no {tag}")
            return None
        self._note(node, path, f"the tag '{node.tag}' has no meaning here")
        return None

    def _text(self, node: yaml.ScalarNode, path: str) -> str:
        """Return the text with the surrogate pairs of JSON's escapes put together; half a pair cannot be printed."""
        text: str = node.value
        if not _SURROGATE.search(text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self._note(node, path, "half of a surrogate pair is no character")
            return _SURROGATE.sub("�", text)

    def _line(self, node: yaml.Node) -> int:
        line: int = self._above + node.start_mark.line + 1
        return line

    def _note(self, node: yaml.Node, path: str, message: str) -> None:
        self._problems.append(Problem(path, message, self._file, self._line(node)))

    def _give_up(self, node: yaml.Node, path: str, message: str) -> None:
        self._note(node, path if len(path) < 200 else f"{path[:200]}…", message)
        raise _Unreadable


def _items(root: yaml.Node) -> list[yaml.Node] | None:
    """Return the items of a Kubernetes list (``kind: List`` with ``items``), None for any other document."""
    kind, items = _entry(root, "kind"), _entry(root, "items")
    is_list = isinstance(kind, yaml.ScalarNode) and kind.value.endswith("List") and isinstance(items, yaml.SequenceNode)
    return items.value if is_list and items is not None else None


def _configurations(root: yaml.Node) -> list[yaml.ScalarNode]:
    """Return the texts inside a document that are configurations of a scheduler: a ConfigMap's, a Helm chart's."""
    found: list[yaml.ScalarNode] = []
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [value for _, value in reversed(node.value)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
        elif isinstance(node, yaml.ScalarNode) and _CONFIGURATION.search(node.value):
            found.append(node)
    return found


def _entry(root: yaml.Node, key: str) -> yaml.Node | None:
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    return next((value for name, value in entries if isinstance(name, yaml.ScalarNode) and name.value == key), None)
