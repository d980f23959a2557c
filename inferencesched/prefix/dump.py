"""A tree as plain values and back: for a restart, and for a successor that takes over the memory.

The nodes are written once each, parents first; the claims follow from the oldest to the newest. Reading replays the
claims as insertions, so that a tree that already holds something, or has other limits, ends up in order too.

This is the tree's friend: it reads its columns. It writes only through `RadixTree.insert`.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from typing import Any

from inferencesched.prefix.radix import RadixTree

__all__ = ["FORMAT", "restore", "snapshot"]

FORMAT = "inferencesched-prefix-1"
"""Written into every snapshot; arrays are little-endian, of 32 bits (keys: 64)."""


def snapshot(tree: RadixTree, names: Mapping[int, str]) -> dict[str, Any]:
    """Return what the named slots hold, as JSON-able values and bytes.

    Complexity: O(nodes + blocks + claims · log claims).
    """
    nodes, arena, claims = tree._nodes, tree._arena, tree._claims
    position = {0: 0}
    parents, lengths, keys = array("I"), array("I"), array("Q")
    for row in _parents_first(nodes.rows(), nodes.parent):
        position[row] = len(position)
        parents.append(position[nodes.parent[row]])
        lengths.append(nodes.length[row])
        keys.append(nodes.first[row])
        keys.extend(arena.run(nodes.start[row], nodes.length[row] - 1))
    rows = [row for row in claims.rows() if claims.stamp(row) and claims.slot(row) in names]
    rows.sort(key=claims.stamp)
    endpoints = sorted({names[claims.slot(row)] for row in rows})
    return {
        "format": FORMAT,
        "parents": _packed(parents),
        "lengths": _packed(lengths),
        "keys": _packed(keys),
        "endpoints": endpoints,
        "claim_endpoints": _packed(array("I", [endpoints.index(names[claims.slot(row)]) for row in rows])),
        "claim_nodes": _packed(array("I", [position[claims.node(row)] for row in rows])),
    }


def restore(tree: RadixTree, state: Mapping[str, Any], slots: Mapping[str, int]) -> None:
    """Insert what a snapshot says of the endpoints in `slots`; the others are passed over.

    Raises:
        ValueError: the state is not a snapshot of this format.

    Complexity: O(claims × path).
    """
    if state.get("format") != FORMAT:
        raise ValueError(f"expected a snapshot in the format '{FORMAT}', got {state.get('format')!r}")
    parents, lengths = _unpacked("I", state["parents"]), _unpacked("I", state["lengths"])
    keys = _unpacked("Q", state["keys"])
    ends = array("Q", [0])
    for length in lengths:
        ends.append(ends[-1] + length)
    owners = [slots.get(name) for name in state["endpoints"]]
    for owner, node in zip(_unpacked("I", state["claim_endpoints"]), _unpacked("I", state["claim_nodes"]), strict=True):
        slot = owners[owner]
        if slot is None:
            continue
        steps = []
        while node:
            steps.append(keys[ends[node - 1] : ends[node]])
            node = parents[node - 1]  # noqa: PLW2901 — climbing
        path = array("Q")
        for step in reversed(steps):
            path.extend(step)
        tree.insert(path, slot)


def _parents_first(rows: list[int], parent: array[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for row in rows:
        children.setdefault(parent[row], []).append(row)
    ordered: list[int] = []
    waiting = [0]
    while waiting:
        below = children.get(waiting.pop(), [])
        ordered.extend(below)
        waiting.extend(below)
    return ordered


def _packed(values: array[int]) -> bytes:
    return _little(values).tobytes()


def _unpacked(code: str, data: bytes) -> array[int]:
    values = array(code)
    values.frombytes(data)
    return _little(values)


def _little(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values
