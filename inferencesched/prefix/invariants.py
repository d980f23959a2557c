"""What must always be true of a radix tree, as assertions: called by tests after every step, and by nobody else.

This is the tree's friend: it reads its columns and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesched.prefix.bitmaps import bitmap_bytes

if TYPE_CHECKING:
    from inferencesched.prefix.radix import RadixTree

__all__ = ["check"]

_ROOT = 0


def check(tree: RadixTree) -> None:
    """Assert every invariant. O(everything)."""
    nodes = tree._nodes
    rows = nodes.rows()
    assert len(rows) == len(nodes) == len(nodes.table), "nodes are miscounted"
    children: dict[int, list[int]] = {row: [] for row in (_ROOT, *rows)}
    for row in rows:
        assert nodes.parent[row] in children, "a node hangs in the air"
        children[nodes.parent[row]].append(row)
    nodes.table.check()
    tree._claims.check()
    tree._arena.check([(nodes.start[row], nodes.length[row] - 1) for row in rows])
    _check_shape(tree, children)
    _check_holders(tree, rows)
    _check_fans(tree, children)
    if tree._max_bytes is not None:
        assert tree.nbytes <= tree._max_bytes, f"{tree.nbytes} bytes of at most {tree._max_bytes}"


def _check_shape(tree: RadixTree, children: dict[int, list[int]]) -> None:
    nodes = tree._nodes
    for row, below in children.items():
        assert nodes.children[row] == len(below), "children are miscounted"
        only = 0
        for child in below:
            only ^= child
            assert nodes.table.find(nodes.first[child]) == child, "a node cannot be found by its first key"
        assert nodes.only_child[row] == only, "the only child would not be found"
        assert row == _ROOT or nodes.length[row] <= tree._max_run, "a run is too long"
        if row == _ROOT or len(below) != 1 or nodes.ends[row] or tree._max_bytes is not None:
            continue  # where memory is bounded, there may have been no room to join two runs
        alike = nodes.holders[row] == nodes.holders[below[0]]
        fits = nodes.length[row] + nodes.length[below[0]] <= tree._max_run
        assert not (alike and fits), "nothing distinguishes a node from its only child"


def _check_holders(tree: RadixTree, rows: list[int]) -> None:
    nodes = tree._nodes
    for row in rows:
        assert nodes.holders[row], "a node has no holder"
        above = nodes.holders[nodes.parent[row]] if nodes.parent[row] else -1
        assert not nodes.holders[row] & ~above, "an endpoint holds a node but not what comes before it"
    bitmaps = sum(bitmap_bytes(nodes.holders[row]) for row in rows)
    assert tree._bitmap_bytes == bitmaps, "bitmaps are miscounted"
    for slot, bit in enumerate(tree._bits):
        held = sum(nodes.length[row] for row in rows if nodes.holders[row] & bit)
        assert held == tree._sizes[slot], "an endpoint's blocks are miscounted"
        assert held <= tree._capacities[slot], "an endpoint holds more than it may"


def _check_fans(tree: RadixTree, children: dict[int, list[int]]) -> None:
    nodes, claims = tree._nodes, tree._claims
    ends = dict.fromkeys(children, 0)
    for claim in claims.rows():
        node = claims.node(claim)
        assert node in ends, "a claim rests on a node that is gone"
        assert nodes.holders[node] & tree._bits[claims.slot(claim)], "a claim of an endpoint that holds nothing here"
        ends[node] += bool(claims.stamp(claim))
    for row, below in children.items():
        assert ends[row] == nodes.ends[row], "the claims at a node are miscounted"
        for slot, bit in enumerate(tree._bits):
            if row == _ROOT or not nodes.holders[row] & bit:
                continue
            claim = claims.find(row, slot)
            fan = sum(bool(nodes.holders[child] & bit) for child in below)
            fan += bool(claim and claims.stamp(claim))
            assert fan >= 1, "an endpoint holds a node that no claim of its rests on"
            assert fan == (claims.fan(claim) if claim else 1), "a fan is miscounted"
