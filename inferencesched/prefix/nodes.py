"""The nodes of the tree as parallel columns: a node is a row number, and costs about forty bytes besides its keys.

Columns instead of objects, because an index of a million nodes must neither cost a kilobyte each nor be walked by the
garbage collector. Row 0 is the root: it holds nothing and stands above all prompts. Rows of deleted nodes are chained
through `parent` and used again.

A node keeps its first key in a column, where the table of children finds it, and the rest of its run in the arena. It
does not list its children: nothing ever walks down except by key. Their number and the exclusive-or of their rows are
kept, so that the only child is known when just one is left.

Nothing here knows the rules of the tree.
"""

from __future__ import annotations

import sys
from array import array

from inferencesched.prefix.table import KeyTable

__all__ = ["Nodes"]


class Nodes:
    """Rows of nodes.

    Attributes:
        first: key of the first block of the run.
        parent: row of the node above (0: the root).
        start: address of the rest of the run in the arena; without meaning where the run is one block.
        length: blocks in the run; 0 marks a free row.
        children: how many nodes have this one for a parent.
        only_child: exclusive-or of their rows: with one child, that child.
        ends: how many claims rest on this node.
        holders: which endpoints hold the run, one bit per slot.
        table: finds a node by its first key.

    Complexity: every method O(1).
    """

    __slots__ = (
        "_free", "_free_count", "children", "ends", "first", "holders",
        "length", "only_child", "parent", "start", "table",
    )  # fmt: skip

    def __init__(self) -> None:
        self.first = array("Q", [0])
        self.parent = array("I", [0])
        self.start = array("I", [0])
        self.length = array("H", [0])
        self.children = array("I", [0])
        self.only_child = array("I", [0])
        self.ends = array("H", [0])
        self.holders: list[int] = [0]
        self.table = KeyTable(self.first)
        self._free = 0
        self._free_count = 0

    def __len__(self) -> int:
        """Nodes in use, without the root."""
        return len(self.first) - 1 - self._free_count

    @property
    def nbytes(self) -> int:
        """Bytes allocated for the columns (the bitmaps that `holders` refers to are not counted here)."""
        columns = (self.first, self.parent, self.start, self.length, self.children, self.only_child, self.ends)
        return sum(map(sys.getsizeof, columns)) + sys.getsizeof(self.holders) + self.table.nbytes

    def growth(self, rows: int) -> int:
        """Return the most that `nbytes` can rise by when `rows` more nodes are taken."""
        if self._free_count >= rows:
            return 0
        # An array over-allocates by a sixteenth, a list by an eighth: 28 bytes a row in seven arrays, 8 in the list.
        length = len(self.first) + rows
        return (length // 16 + rows + 8) * 28 + (length // 8 + rows + 8) * 8 + self.table.growth(rows)

    def take(self, first: int, parent: int, start: int, length: int, holders: int) -> int:
        """Make a node without children and enter it in the table; return its row. The parent is not told."""
        row = self._free
        if row:
            self._free = self.parent[row]
            self._free_count -= 1
            self.first[row], self.parent[row], self.start[row], self.length[row] = first, parent, start, length
            self.holders[row] = holders
        else:
            row = len(self.first)
            self.first.append(first)
            self.parent.append(parent)
            self.start.append(start)
            self.length.append(length)
            self.children.append(0)
            self.only_child.append(0)
            self.ends.append(0)
            self.holders.append(holders)
        self.table.add(row)
        return row

    def release(self, row: int) -> None:
        """Give the row of a deleted node back; it must be out of the table already."""
        self.length[row] = self.children[row] = self.only_child[row] = self.ends[row] = self.holders[row] = 0
        self.parent[row] = self._free
        self._free = row
        self._free_count += 1

    def adopt(self, parent: int, child: int) -> None:
        """Count `child` among the children of `parent`."""
        self.children[parent] += 1
        self.only_child[parent] ^= child

    def orphan(self, parent: int, child: int) -> None:
        """Count `child` no longer among the children of `parent`."""
        self.children[parent] -= 1
        self.only_child[parent] ^= child

    def replace(self, parent: int, old: int, new: int) -> None:
        """Count `new` among the children of `parent` in the place of `old`."""
        self.only_child[parent] ^= old ^ new

    def rows(self) -> list[int]:
        """Return the rows in use, without the root. O(n)."""
        return [row for row in range(1, len(self.length)) if self.length[row]]
