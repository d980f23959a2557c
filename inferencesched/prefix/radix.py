"""The radix tree: which endpoints hold which prefixes, as far as the blocks of their prompts are known.

    root ─┬─ [0 … 44]  endpoints {a, b, c}     a system prompt, 45 blocks in one node
          │     ├─ [45 … 63]  {a}              the rest of one prompt
          │     └─ [45 … 51]  {b, c}
          │            └─ [52 … 90]  {c}       a conversation that went on
          └─ [0 … 12]  {b}

A node is a run of blocks, split where two prompts part. Its blocks are prefix keys (see `hashing`): a key equals only
if everything before it equals too. So a match compares one key at the end of each run, and bisects inside the run where
the prompt parts from it; and the node that continues a path is found by its first key in one table for the whole tree.
Prompts of different models or salts have different keys from their first block on, and share the tree without knowing.

What an endpoint holds is closed under prefixes: it holds a node only if it holds the parent. Each endpoint is a
least-recently-used cache of blocks in which a prefix is always fresher than what continues it: eviction takes single
blocks from the far end of the oldest path, exactly as many as are too many. Who used what last is kept in `claims`.

Two limits, never exceeded: blocks per endpoint, and bytes in all (counted as the interpreter allocates them).

The tree knows endpoints as small numbers, *slots*. It knows nothing of names, requests, models or time.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from inferencesched.errors import LifecycleError
from inferencesched.prefix import invariants
from inferencesched.prefix.arena import SEGMENT_KEYS, KeyArena
from inferencesched.prefix.bitmaps import Positions, bitmap_bytes
from inferencesched.prefix.claims import MAX_SLOTS, Claims
from inferencesched.prefix.hashing import Keys, PrefixKeys
from inferencesched.prefix.nodes import Nodes

__all__ = ["UNLIMITED", "RadixTree", "Span"]

UNLIMITED = 1 << 62
"""A capacity that is never reached."""

_ROOT = 0

_FEW = 4
"""Holders that are entered in a column one by one: hot prefixes have many, and come again; the rest of a prompt has few
and other ones each time."""

_STEPS = 64
"""Insertions that one count of the bytes lets pass, where there is room for so many."""


Span = tuple[int, int]
"""One step of a match: how many leading blocks of the prompt, and who holds that many (a bitmap, one bit per slot)."""


_Path = tuple[list[int], int, int, int]
"""How far a prompt leads: the nodes it covers, their blocks, then a node that it ends in (or 0) and how far inside."""


class RadixTree:
    """Prefixes and their holders.

    Args:
        max_bytes: what `nbytes` never exceeds; None for no limit.
        max_run: blocks per node at most (default: as many as a segment of the arena allows).
        segment_keys: size of the arena's segments; the default suits everything but tests.

    >>> tree = RadixTree()
    >>> a, b = tree.open(), tree.open()
    >>> tree.insert(array("Q", [11, 12, 13]), a), tree.insert(array("Q", [11, 12, 99]), b)
    (3, 3)
    >>> tree.depths(array("Q", [11, 12, 13, 14]))
    array([3., 2.])

    Complexity: stated per method; *path* is the number of nodes along a prompt, not of its blocks.
    """

    def __init__(
        self, *, max_bytes: int | None = None, max_run: int | None = None, segment_keys: int = SEGMENT_KEYS
    ) -> None:
        self._arena = KeyArena(segment_keys)
        self._nodes = Nodes()
        self._claims = Claims()
        self._bits: list[int] = []  # slot → the bitmap with only its bit; one object for all leaves
        self._sizes: list[int] = []  # slot → blocks held
        self._capacities: list[int] = []
        self._closed: list[int] = []  # slots to be used again
        self._positions = Positions(0)
        self._bitmap_bytes = 0  # of bitmaps with more than one bit
        self._segment_keys = segment_keys
        self._max_run = min(max_run or segment_keys, self._arena.longest_run, (1 << 16) - 1)
        self._max_bytes = max_bytes
        self._steps = 0  # insertions that may pass before the bytes are counted again,
        self._spare_bytes = 0  # and what their bitmaps may take
        self._shape = object()  # another one after every change of what a walk would find
        self.visits = 0
        self.evicted_blocks = 0
        least = self.nbytes + 4 * self._arena.segment_bytes
        if max_bytes is not None and max_bytes < least:
            raise ValueError(f"max_bytes must be at least {least}, got {max_bytes}")

    def __len__(self) -> int:
        """Blocks in the tree, each counted once however many endpoints hold it. O(1)."""
        return self._arena.live + len(self._nodes)

    @property
    def nodes(self) -> int:
        """Nodes in the tree. O(1)."""
        return len(self._nodes)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for the tree, as the interpreter counts them, garbage and spare room included. O(1)."""
        lists = (self._bits, self._sizes, self._capacities, self._closed)
        per_slot = 3 * 32 * len(self._bits)  # the integers in them
        return (
            self._arena.nbytes
            + self._nodes.nbytes
            + self._claims.nbytes
            + self._bitmap_bytes
            + self._positions.nbytes
            + sum(map(sys.getsizeof, lists))
            + per_slot
        )

    # --- endpoints -------------------------------------------------------------------------------------------------

    def open(self, capacity: int = UNLIMITED) -> int:
        """Return the slot of a new endpoint that holds nothing and may hold `capacity` blocks.

        A slot that was closed is used again; nothing of its former endpoint is left in the tree by then.

        Raises:
            LifecycleError: all 65,536 slots are open, or so many that the byte limit cannot hold.

        Complexity: O(1).
        """
        if self._closed:
            slot = self._closed.pop()
        else:
            slot = len(self._bits)
            if slot == MAX_SLOTS:
                raise LifecycleError(f"a prefix index has room for {MAX_SLOTS} endpoints")
            self._bits.append(1 << slot)
            self._sizes.append(0)
            self._capacities.append(0)
            self._claims.add_slot()
            self._positions = Positions(slot + 1)
        self._capacities[slot] = capacity
        self._give_back()
        return slot

    def close(self, slot: int) -> int:
        """Remove an endpoint with all it holds; return how many blocks that was.

        Complexity: O(nodes it holds), each once.
        """
        held = self.clear(slot)
        self._capacities[slot] = 0
        self._closed.append(slot)
        return held

    def clear(self, slot: int) -> int:
        """Remove all that an endpoint holds; return how many blocks that was. O(nodes it holds)."""
        held = self._sizes[slot]
        self._trim(slot, held)
        return held

    def resize(self, slot: int, capacity: int) -> None:
        """Set how many blocks an endpoint may hold, and evict what is too much. O(nodes evicted)."""
        self._capacities[slot] = capacity
        self._trim(slot, self._sizes[slot] - capacity)

    def limit(self, max_bytes: int | None) -> None:
        """Set what `nbytes` never exceeds, and evict what is too much.

        Raises:
            LifecycleError: even the empty tree is larger.
        """
        self._max_bytes = max_bytes
        self._give_back()

    def capacity(self, slot: int) -> int:
        """Return how many blocks an endpoint may hold. O(1)."""
        return self._capacities[slot]

    def size(self, slot: int) -> int:
        """Return how many blocks an endpoint holds. O(1)."""
        return self._sizes[slot]

    @property
    def slots(self) -> int:
        """How many slots there are, open and closed: the length of what `depths` returns. O(1)."""
        return len(self._bits)

    # --- reading ---------------------------------------------------------------------------------------------------

    def match(self, keys: Keys) -> list[Span]:
        """Return how far the prompt is known, and by whom, from its first blocks to the deepest known one.

        Each span reaches deeper than the one before and has no holder that the one before had not. Recency is left as
        it is: looking is not using.

        Complexity: O(path), plus the hashing of the prompt once; O(log run) where it ends inside a run.
        """
        path, _, last, inside = walked = self._walk(keys, len(keys))
        if isinstance(keys, PrefixKeys):
            keys.note = (self._shape, walked)  # mostly the same prompt is inserted next
        holders, length, blocks, spans = self._nodes.holders, self._nodes.length, 0, []
        for node in path:
            blocks += length[node]
            spans.append((blocks, holders[node]))
        if last:
            spans.append((blocks + inside, holders[last]))
        return spans

    def spread(self, spans: list[Span], unit: int = 1) -> NDArray[np.float64]:
        """Return a match as a column over slots: how deep each endpoint goes, without a gap from the first block on.

        Args:
            spans: what `match` returned.
            unit: what a block counts for (tokens, say).

        Complexity: O(slots), vectorised, for each change of holders along the path.
        """
        found = np.zeros(len(self._bits))
        for index, (blocks, holders) in enumerate(spans, 1):
            if index < len(spans) and spans[index][1] == holders:
                continue  # the next span says the same of the same endpoints, and more
            depth, left = blocks * unit, holders  # deeper than what stands there
            if holders.bit_count() > _FEW:
                found[self._positions.of(holders)] = depth
                continue
            while left:
                slot = left.bit_length() - 1
                found[slot] = depth
                left ^= self._bits[slot]
        return found

    def depths(self, keys: Keys) -> NDArray[np.float64]:
        """Return how many leading blocks of the prompt each slot holds: `match`, then `spread`."""
        return self.spread(self.match(keys))

    def held(self, keys: Keys, slot: int) -> int:
        """Return how many leading blocks of the prompt one endpoint holds. Complexity: that of `match`."""
        bit = self._bits[slot]
        return max((blocks for blocks, holders in self.match(keys) if holders & bit), default=0)

    # --- writing ---------------------------------------------------------------------------------------------------

    def insert(self, keys: Keys, slot: int, blocks: int | None = None) -> int:
        """Say that an endpoint now holds the prompt and has just used all of it.

        What the endpoint holds beyond its capacity is evicted, the least recently used first. Where the byte limit
        stands in the way, the least recently used of all endpoints goes first; if even that is not enough, as much of
        the prompt as fits is kept.

        Args:
            blocks: how many leading blocks count; None for all.

        Returns:
            How many blocks the endpoint did not hold before.

        Complexity: O(path + new blocks), plus O(1) per node evicted.
        """
        capacity = self._capacities[slot]
        wanted = min(len(keys) if blocks is None else blocks, capacity)
        before = self._sizes[slot]
        gained = self._insert_below(_ROOT, keys, slot, wanted)
        self._trim(slot, before + gained - capacity)
        return gained

    def touch(self, keys: Keys, slot: int) -> int:
        """Refresh the recency of what an endpoint holds of the prompt; return how many blocks that is. O(path)."""
        held = self.held(keys, slot)
        if held:
            self.insert(keys, slot, held)
        return held

    def evict(self, slot: int, blocks: int) -> None:
        """Evict the `blocks` least recently used blocks of an endpoint. Complexity: O(nodes evicted)."""
        self._trim(slot, min(blocks, self._sizes[slot]))

    # --- the walk --------------------------------------------------------------------------------------------------

    def _walk(self, keys: Keys, wanted: int, blocks: int = 0, node: int = _ROOT) -> _Path:
        """Follow the prompt down from a node that is known to be on its path, `blocks` blocks deep."""
        nodes, find, read = self._nodes, self._nodes.table.find, self._arena.read
        parent, lengths, start = nodes.parent, nodes.length, nodes.start
        path = [node] if node else []
        while blocks < wanted:
            child = find(keys[blocks])
            if not child or parent[child] != node:
                break
            length = lengths[child]
            reached = blocks + length
            if reached > wanted or (length > 1 and keys[reached - 1] != read(start[child] + length - 2)):
                inside = self._bisect(keys, blocks, child, min(length - 1, wanted - blocks))
                self.visits += len(path) + 1
                return path, blocks, child, inside
            path.append(child)
            node, blocks = child, reached
        self.visits += len(path)
        return path, blocks, 0, 0

    def _known_walk(self, keys: Keys, wanted: int, end: int) -> _Path | None:
        """Return the walk that `match` has made for these keys from the root, if it would be the same today."""
        if end or not isinstance(keys, PrefixKeys) or keys.note is None or wanted != len(keys):
            return None
        shape, (path, blocks, last, inside) = keys.note
        return ([*path], blocks, last, inside) if shape is self._shape else None

    def _bisect(self, keys: Keys, blocks: int, node: int, most: int) -> int:
        """Return how many blocks of the node's run the prompt shares: at least 1, at most `most`."""
        read, base = self._arena.read, self._nodes.start[node] - 1
        low = 1
        while low < most:
            middle = (low + most + 1) // 2
            if keys[blocks + middle - 1] == read(base + middle - 1):
                low = middle
            else:
                most = middle - 1
        return low

    # --- blocks by their own key: for those who are told of blocks and not of prompts --------------------------------

    def locate(self, upwards: Iterable[int]) -> tuple[int, int]:
        """Find a block, given its key and then those of the blocks before it, the nearest first.

        Returns:
            Its node, and how many blocks of the node's run end with it; (0, 0) if it is not in the tree.

        Complexity: O(run), for the first key of its node is looked for; `max_run` bounds it.
        """
        find, target = self._nodes.table.find, 0
        for before, key in enumerate(upwards):
            target = target if before else key
            node = find(key)
            if node:
                rest = before and self._arena.read(self._nodes.start[node] + before - 1)
                inside = before < self._nodes.length[node] and (not before or rest == target)
                return (node, before + 1) if inside else (_ROOT, 0)
            if before >= self._max_run:
                break
        return _ROOT, 0

    def extend(self, upwards: Iterable[int] | None, keys: array[int], slot: int) -> bool:
        """Say that an endpoint holds further blocks after one that it holds already.

        Args:
            upwards: key of that block and those before it, as for `locate`; None where a prompt begins.
            keys: of the further blocks, in order.

        Returns:
            Whether the endpoint holds the block to go on from.

        Complexity: O(run + new blocks).
        """
        if upwards is None:
            self._insert_below(_ROOT, keys, slot, len(keys))
            return True
        node, inside = self.locate(upwards)
        if not node or not self._nodes.holders[node] & self._bits[slot]:
            return False
        known, length, base = 0, self._nodes.length[node], self._nodes.start[node] - 1
        while known < len(keys) and inside < length and keys[known] == self._arena.read(base + inside):
            known += 1
            inside += 1
        if known == len(keys):
            return True
        if inside < length:
            if not self._make_room(0, 1):
                return True
            lower, node = node, self._split(node, inside)
            self._merge(lower)
            self._merge(self._nodes.parent[node])
        # A claim keeps the node in place while room is made; it passes on to the last of the further blocks.
        self._nodes.ends[node] += self._claims.claim(node, slot, held=True)
        self._insert_below(node, keys[known:], slot, len(keys) - known)
        return True

    def cut(self, upwards: Iterable[int], slot: int) -> int:
        """Take a block from an endpoint, and those of the same run behind it; return how many that were.

        Nothing happens where the endpoint holds something below the run: the deepest blocks have to be cut first.

        Complexity: O(run).
        """
        node, inside = self.locate(upwards)
        row = self._claims.find(node, slot) if node else 0
        if not row or not self._claims.stamp(row) or self._claims.fan(row) > 1:
            return 0
        before = self._sizes[slot]
        if inside == 1 or not self._shorten(node, row, slot, inside - 1):
            self._drop(node, row, slot)
        return before - self._sizes[slot]

    @property
    def tick(self) -> int:
        """The number of the latest use: see `expire`. O(1)."""
        return self._claims.tick

    def expire(self, tick: int) -> None:
        """Evict all that no endpoint has used since that tick. Complexity: O(nodes evicted · slots), vectorised."""
        claims = self._claims
        while (row := claims.oldest_of_all()) and claims.stamp(row) <= tick:
            self._evict(row)

    # --- one step of an insertion -------------------------------------------------------------------------------------

    def _insert_below(self, end: int, keys: Keys, slot: int, wanted: int) -> int:
        """Insert `wanted` blocks below a node that the endpoint has claimed; return how many are new to it."""
        reached = gained = 0
        while reached < wanted:
            former = reached
            reached, end, new = self._advance(keys, slot, wanted, reached, end)
            gained += new
            if reached == former:
                break
        return gained

    def _advance(self, keys: Keys, slot: int, wanted: int, reached: int, end: int) -> tuple[int, int, int]:
        """Let the endpoint hold the prompt as far as the tree has it, plus one run of new blocks.

        Args:
            reached: how far the former step came.
            end: the node where it ended. The endpoint has just claimed it, so it is neither evicted nor merged away.

        Returns:
            Blocks of the prompt held now, the node where they end, and how many of them are new to the endpoint.
        """
        while True:
            path, blocks, last, inside = self._known_walk(keys, wanted, end) or self._walk(keys, wanted, reached, end)
            blocks += inside
            run = min(wanted - blocks, self._max_run)
            if self._make_room(run, len(path) + 2):
                break
            if not self._evict_oldest(spare=end):
                return reached, end, 0
        if last:
            path.append(self._split(last, inside))
            self._merge(last)  # what is left of it may be short enough for that now
        if run:
            path.append(self._graft(path[-1] if path else _ROOT, keys[blocks : blocks + run]))
        new = self._hold(path, slot)
        return blocks + run, path[-1], new

    def _graft(self, parent: int, run: array[int]) -> int:
        """Add a child without holders."""
        self._shape = object()
        child = self._nodes.take(run[0], parent, self._arena.allocate(run[1:]), len(run), 0)
        self._nodes.adopt(parent, child)
        return child

    def _hold(self, path: list[int], slot: int) -> int:
        """Give the whole path to an endpoint and claim its end; return how many blocks are new to it."""
        nodes, claims, bit = self._nodes, self._claims, self._bits[slot]
        holders, ends = nodes.holders, nodes.ends
        *above, end = path
        fresh = len(path)
        while fresh and not holders[path[fresh - 1]] & bit:
            fresh -= 1
        new = 0
        if fresh < len(path):
            shared = joined = 0  # neighbours on a path mostly have the same holders: let them share the bitmap too
            for node in path[fresh:]:
                bits = holders[node]
                if bits != shared or not joined:
                    shared, joined = bits, bits | bit if bits else bit
                self._set_holders(node, joined)
                new += nodes.length[node]
            self._sizes[slot] += new
            if fresh:
                claims.spread(path[fresh - 1], slot)
        ends[end] += claims.claim(end, slot, held=not new)
        for node in above[:fresh]:
            if ends[node]:
                ends[node] -= claims.unclaim(node, slot)
        for node in above:
            if nodes.children[node] == 1 and not ends[node]:
                self._merge(node)
        return new

    def _set_holders(self, node: int, bits: int) -> None:
        holders = self._nodes.holders
        self._bitmap_bytes += bitmap_bytes(bits) - bitmap_bytes(holders[node])
        holders[node] = bits

    # --- shape -----------------------------------------------------------------------------------------------------

    def _split(self, node: int, keep: int) -> int:
        """Cut a node after `keep` blocks; return the new upper part. The lower one keeps its row, and so its claims."""
        nodes, arena = self._nodes, self._arena
        self._shape = object()
        start, parent, bits = nodes.start[node], nodes.parent[node], nodes.holders[node]
        first = nodes.first[node]
        nodes.table.discard(node)
        nodes.first[node] = arena.read(start + keep - 1)
        nodes.table.add(node)
        arena.free(start + keep - 1, 1)
        upper = nodes.take(first, parent, start, keep, bits)
        self._bitmap_bytes += bitmap_bytes(bits)
        nodes.start[node] = start + keep
        nodes.length[node] -= keep
        nodes.parent[node] = upper
        nodes.replace(parent, node, upper)
        nodes.adopt(upper, node)
        return upper

    def _merge(self, upper: int) -> None:
        """Join a node with its only child, if nothing distinguishes the two any more."""
        nodes, arena = self._nodes, self._arena
        if nodes.children[upper] != 1 or nodes.ends[upper] or upper == _ROOT:
            return
        lower = nodes.only_child[upper]
        above, below = nodes.length[upper], nodes.length[lower]
        if nodes.holders[upper] != nodes.holders[lower] or above + below > self._max_run:
            return
        if not self._room_in_arena(above + below - 1):
            return
        self._shape = object()
        run = arena.run(nodes.start[upper], above - 1)
        run.append(nodes.first[lower])
        run.extend(arena.run(nodes.start[lower], below - 1))
        arena.free(nodes.start[upper], above - 1)
        arena.free(nodes.start[lower], below - 1)
        nodes.table.discard(upper)
        nodes.table.discard(lower)
        nodes.first[lower] = nodes.first[upper]
        nodes.table.add(lower)
        nodes.start[lower] = arena.allocate(run)
        nodes.length[lower] = above + below
        nodes.parent[lower] = nodes.parent[upper]
        nodes.replace(nodes.parent[upper], upper, lower)
        self._bitmap_bytes -= bitmap_bytes(nodes.holders[upper])
        nodes.release(upper)

    # --- eviction --------------------------------------------------------------------------------------------------

    def _trim(self, slot: int, blocks: int) -> None:
        """Evict exactly `blocks` blocks of an endpoint from the far ends of its oldest claims."""
        claims, lengths = self._claims, self._nodes.length
        while blocks > 0:
            row = claims.oldest(slot)
            node = claims.node(row)
            if claims.fan(row) > 1:
                self._waive(node, row)
                continue
            length = lengths[node]
            if length > blocks and self._shorten(node, row, slot, length - blocks):
                return
            self._drop(node, row, slot)
            blocks -= length

    def _shorten(self, node: int, row: int, slot: int, keep: int) -> bool:
        """Let an endpoint give up the last blocks of a leaf of its own; False where there is no memory to divide it."""
        nodes, parent = self._nodes, self._nodes.parent[node]
        lost = nodes.length[node] - keep
        if nodes.holders[node] == self._bits[slot]:
            self._shape = object()
            self._arena.free(nodes.start[node] + keep - 1, lost)
            nodes.length[node] = keep
        elif not self._make_room(0, 1):
            return False
        else:
            upper = self._split(node, keep)
            self._claims.move(row, upper)
            nodes.ends[node] -= 1
            nodes.ends[upper] += 1
            self._leave(node, slot)
        self._merge(parent)
        self._sizes[slot] -= lost
        self.evicted_blocks += lost
        return True

    def _drop(self, node: int, row: int, slot: int) -> None:
        """Let an endpoint give up a leaf of its own; its claim passes to the parent if that becomes a leaf by it."""
        nodes, claims = self._nodes, self._claims
        parent, length = nodes.parent[node], nodes.length[node]
        nodes.ends[node] -= 1
        self._leave(node, slot)
        self._sizes[slot] -= length
        self.evicted_blocks += length
        if parent == _ROOT:
            claims.drop(row)
        elif other := claims.find(parent, slot):
            claims.drop(row)
            claims.withdraw(other)
        else:
            claims.move(row, parent)
            nodes.ends[parent] += 1
        self._merge(parent)

    def _leave(self, node: int, slot: int) -> None:
        """Take an endpoint out of a node's holders, and delete the node with its last holder."""
        nodes = self._nodes
        bits = nodes.holders[node] ^ self._bits[slot]
        if bits:
            self._set_holders(node, bits if bits & (bits - 1) else self._bits[bits.bit_length() - 1])
            self._merge(node)
            return
        self._shape = object()
        nodes.table.discard(node)
        nodes.orphan(nodes.parent[node], node)
        self._arena.free(nodes.start[node], nodes.length[node] - 1)
        nodes.release(node)

    def _evict_oldest(self, *, spare: int) -> bool:
        """Evict the leaf that any endpoint used least recently; False if there is none, or it is the one at `spare`."""
        row = self._claims.oldest_of_all()
        if not row:
            return False
        node = self._claims.node(row)
        if node == spare:
            return False
        self._evict(row)
        return True

    def _evict(self, row: int) -> None:
        """Evict the leaf that a claim rests on."""
        node = self._claims.node(row)
        if self._claims.fan(row) > 1:
            self._waive(node, row)
        else:
            self._drop(node, row, self._claims.slot(row))

    def _waive(self, node: int, row: int) -> None:
        """Delete a claim that others of the same endpoint lie below: what it claims is held by theirs."""
        self._nodes.ends[node] -= 1
        self._claims.waive(row)
        self._merge(node)

    # --- memory ----------------------------------------------------------------------------------------------------

    def _make_room(self, run: int, path: int) -> bool:
        """Return whether an insertion fits the byte limit: a new run, two nodes, and bitmaps for all its path."""
        if self._max_bytes is None:
            return self._room_in_arena(run)
        nodes, claims, arena = self._nodes, self._claims, self._arena
        bitmaps = path * (28 + len(self._bits) // 7)
        if self._steps and bitmaps <= self._spare_bytes and run <= arena.tail:
            self._steps -= 1
            self._spare_bytes -= bitmaps
            return True
        growth = nodes.growth(2) + claims.growth(2) + bitmaps
        reserve = 0 if arena.spare else arena.segment_bytes  # one segment always stays for moving
        free = self._max_bytes - self.nbytes - reserve
        if growth > free:
            return False
        if run > arena.tail:
            return self._room_in_arena(run, growth)
        # With room for all the rows that the next ones can take, they need not count, up to the end of the segment.
        self._spare_bytes = free - bitmaps - nodes.growth(2 * _STEPS) - claims.growth(3 * _STEPS)
        self._steps = _STEPS - 1 if self._spare_bytes > 0 else 0
        return True

    def _room_in_arena(self, run: int, growth: int = 0) -> bool:
        """Return whether the arena has room for a run, after emptying a wasteful segment or taking a new one."""
        arena = self._arena
        while arena.tail < run:
            self._steps = 0
            segments = 0 if arena.spare >= 2 else 2 - arena.spare  # one to write, one to stay
            crowded = self._max_bytes is not None and (
                self.nbytes + growth + segments * arena.segment_bytes + 64 > self._max_bytes
            )
            if not crowded and not arena.wasteful:
                return True
            segment = arena.emptiest()
            if segment is None:
                return not crowded
            self._empty(segment)
        return True

    def _give_back(self) -> None:
        """Return to the byte limit after an endpoint came, whose slot takes a few bytes of its own."""
        self._steps = 0
        while self._max_bytes is not None and self.nbytes > self._max_bytes:
            if not self._arena.give_back() and not self._evict_oldest(spare=_ROOT):
                raise LifecycleError(f"{self._max_bytes} bytes are too few for {len(self._bits)} endpoints")

    def _empty(self, segment: int) -> None:
        """Move all runs out of a segment, so that it can be written again. O(nodes), vectorised, plus its runs."""
        nodes, arena = self._nodes, self._arena
        for node in arena.tenants(segment, nodes.start, nodes.length).tolist():
            start, rest = nodes.start[node], nodes.length[node] - 1
            run = arena.run(start, rest)
            nodes.start[node] = arena.allocate(run)
            arena.free(start, rest)

    def check(self) -> None:
        """Assert every invariant of the tree. O(everything)."""
        invariants.check(self)
