"""Ranks of matches: by fast keys, and by exact distances where keys are too close together.

The rank of a match is one more than the number of items before it. These are counted tile by tile;
keys that are as near as a key may be wrong are compared again, before the tile is left.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deep_reid.scoring.comparisons import Comparison, widen
from deep_reid.scoring.tiles import TILE_ROWS, visit_tiles

# With more matches than this, sorting the keys is faster than passing over them for each match.
_MANY_MATCHES = 150
# If fewer of the keys may count, as with trained features, comparing these alone is faster.
_FEW = 1 / 25
# Items and matches that are compared at once.
_CHUNK_SIZE = 2**17


class Queries(NamedTuple):
    """Queries whose matches are ranked together; those with many matches should be neighbors.

    Parameters
    ----------
    rows : np.ndarray of int64, shape (N,)
    matches : sequence of N np.ndarray of int64
        Rows of the gallery, for each query.
    left_out : sequence of N np.ndarray of int64
        Rows of the gallery that are in no ranking of the query.
    """

    rows: np.ndarray
    matches: Sequence[np.ndarray]
    left_out: Sequence[np.ndarray]


def rank_matches(comparison: Comparison, queries: Queries, junk: np.ndarray) -> list[np.ndarray]:
    """Rank the matches of queries among the items that are not left out.

    Parameters
    ----------
    comparison : deep_reid.scoring.comparisons.Comparison
    queries : Queries
    junk : np.ndarray of int64
        Rows of the gallery that are in no ranking of any query; sorted.

    Returns
    -------
    list of np.ndarray of int64
        The sorted ranks, from 1, of each query's matches.
    """
    tiles = [
        _Tile(comparison, queries.rows[first:][:TILE_ROWS], queries.matches[first:][:TILE_ROWS])
        for first in range(0, len(queries.rows), TILE_ROWS)
    ]
    visit_tiles(
        comparison,
        queries.rows,
        lambda first, *keys: tiles[first // TILE_ROWS].count(*keys),
        lambda first, *keys: _leave_out(queries.left_out[first:], junk, *keys),
    )
    return [ranks for tile in tiles for ranks in tile.list_ranks()]


def _leave_out(left_out, junk, start, keys):
    """Give infinite keys to items that are left out, so that they are behind all matches."""
    num_items = keys.shape[1]
    low, high = np.searchsorted(junk, [start, start + num_items])
    keys[:, junk[low:high] - start] = np.inf
    left_out = left_out[: len(keys)]
    rows = np.repeat(np.arange(len(keys)), [len(items) for items in left_out])
    columns = np.concatenate(left_out) - start
    is_within = (columns >= 0) & (columns < num_items)
    keys[rows[is_within], columns[is_within]] = np.inf


class _Tile:
    """Counts the items before each match of the queries of a tile.

    Arrays have a row per query, and a column per match of the query with the most matches, the
    farthest first. Missing matches have the distance minus infinity, so nothing is before them.
    """

    def __init__(self, comparison, rows, matches):
        self._rows = rows
        self._num_matches = np.array([len(items) for items in matches])
        self._size = int(self._num_matches.max())
        is_match = np.arange(self._size) < self._num_matches[:, np.newaxis]
        pairs = np.repeat(rows, self._num_matches), np.concatenate(matches)
        self._matches = np.full(is_match.shape, -1)
        self._matches[is_match] = pairs[1]
        self._distances = np.full(is_match.shape, -np.inf)
        self._distances[is_match] = comparison.distances(*pairs)
        order = np.argsort(-self._distances, axis=1)
        self._matches = np.take_along_axis(self._matches, order, axis=1)
        self._distances = np.take_along_axis(self._distances, order, axis=1)
        keys = self._distances - comparison.offsets[rows, np.newaxis]
        # No key below the lower bound, and none above the upper one, is of an item as near.
        self._lower, self._upper = widen(
            keys, comparison.errors[rows, np.newaxis], comparison.dtype
        )
        self._counts = np.zeros(is_match.shape, np.int64)

    def list_ranks(self):
        """Return the sorted ranks of each query's matches."""
        return [
            np.sort(counts[:num_matches]) + 1
            for counts, num_matches in zip(self._counts, self._num_matches, strict=True)
        ]

    def count(self, part, start, keys):
        """Count the items of a part of the gallery, which begins at `start`, by their keys."""
        # No other key is within the bounds of a match, or below.
        is_candidate = keys <= self._upper[:, :1]
        if np.count_nonzero(is_candidate) < _FEW * keys.size:
            close = self._count_chosen(keys, np.flatnonzero(is_candidate))
        elif self._size > _MANY_MATCHES:
            close = np.flatnonzero(self._count_by_sorting(keys))
        else:
            close = np.flatnonzero(self._count_by_passes(keys, is_candidate))
        for chunk in self._chunks(close):
            self._count_closely(part, start, keys, close[chunk])

    def _chunks(self, positions):
        step = max(1, _CHUNK_SIZE // self._size)
        return [slice(first, first + step) for first in range(0, len(positions), step)]

    def _count_chosen(self, keys, positions):
        """Count the keys at some positions below each match's bounds; return those within any."""
        is_close = np.zeros(len(positions), bool)
        for chunk in self._chunks(positions):
            rows, columns = np.divmod(positions[chunk], keys.shape[1])
            chosen = keys[rows, columns][:, np.newaxis]
            is_below, is_up_to = chosen < self._lower[rows], chosen <= self._upper[rows]
            self._add(rows, is_below)
            is_close[chunk] = (is_below != is_up_to).any(axis=1)
        return positions[is_close]

    def _count_by_passes(self, keys, is_up_to):
        """Count the keys below each match's bounds; return which keys are within any bounds.

        `is_up_to` tells which keys are up to the first match's bounds; it is overwritten.
        """
        is_below, is_close = np.empty(keys.shape, bool), np.zeros(keys.shape, bool)
        # 8 flags at a time; each of the 8 bytes of a sum counts up to 255.
        below, up_to, close = (each.view(np.uint64) for each in (is_below, is_up_to, is_close))
        starts = np.arange(0, below.shape[1], 255)
        sums = np.empty((self._size, len(keys), len(starts)), np.uint64)
        for match in range(self._size):
            if match:
                np.less_equal(keys, self._upper[:, match, np.newaxis], out=is_up_to)
            np.less(keys, self._lower[:, match, np.newaxis], out=is_below)
            np.add.reduceat(below, starts, axis=1, out=sums[match])
            np.bitwise_or(close, np.bitwise_xor(below, up_to, out=up_to), out=close)
        self._counts += sums.view(np.uint8).sum(axis=2, dtype=np.int64).T
        return is_close

    def _count_by_sorting(self, keys):
        """Do the same, faster if there are many matches."""
        is_close = np.zeros(keys.shape, bool)
        for row, row_keys in enumerate(keys):
            order = np.argsort(row_keys)
            ordered = row_keys[order]
            num_below = np.searchsorted(ordered, self._lower[row], "left")
            num_up_to = np.searchsorted(ordered, self._upper[row], "right")
            self._counts[row] += num_below
            changes = np.bincount(num_below, minlength=len(order) + 1)
            changes -= np.bincount(num_up_to, minlength=len(order) + 1)
            is_close[row, order[np.cumsum(changes)[:-1] > 0]] = True
        return is_close

    def _count_closely(self, part, start, keys, positions):
        """Count the items at or above each match's lower bound that are before the match."""
        rows, columns = np.divmod(positions, keys.shape[1])
        distances = part.distances(self._rows[rows], columns)[:, np.newaxis]
        own = self._distances[rows]
        # The order of the gallery decides if distances are equal.
        is_first = (start + columns)[:, np.newaxis] < self._matches[rows]
        is_before = (distances < own) | ((distances == own) & is_first)
        is_before &= keys[rows, columns][:, np.newaxis] >= self._lower[rows]
        self._add(rows, is_before)

    def _add(self, rows, flags):
        """Add flags, of shape (items, matches), to the counts of each item's row; rows ascend."""
        (starts,) = np.nonzero(np.diff(rows, prepend=-1))
        self._counts[rows[starts]] += np.add.reduceat(flags, starts, axis=0, dtype=np.int64)
