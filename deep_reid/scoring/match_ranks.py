"""Ranks of matches: by fast keys, and by exact distances where keys are too close together.

The rank of a match is one more than the number of items before it. These are counted part by part
of the gallery, in tiles of some queries and the items of a part, which a core's cache holds.
"""

import concurrent.futures
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deep_reid.scoring.comparisons import Comparison, widen
from deep_reid.system.memory import count_cores

PART_SIZE = 15_360
"""Items of the gallery in a part; NumPy is slow on rows of less than 8,192 numbers."""

_TILE_ROWS = 16
# Queries whose keys for a part stay in the processor's last cache; a multiple of those of a tile.
_BLOCK_ROWS = 256
# With more matches than this, sorting the keys is faster than passing over them for each match.
_MANY_MATCHES = 150
# Close items and matches that are compared at once.
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
    rows = queries.rows
    firsts = range(0, len(rows), _TILE_ROWS)
    tiles = [_Tile(comparison, rows[i:][:_TILE_ROWS], queries.matches[i:][:_TILE_ROWS])
             for i in firsts]  # fmt: skip
    keys = np.empty((min(len(rows), _BLOCK_ROWS), PART_SIZE), comparison.dtype)
    with concurrent.futures.ThreadPoolExecutor(count_cores()) as pool:
        for start in range(0, comparison.num_items, PART_SIZE):
            part = comparison.part(start, start + PART_SIZE)
            for first in range(0, len(rows), _BLOCK_ROWS):
                block_rows = rows[first : first + _BLOCK_ROWS]
                # Flags are added up 8 at a time.
                block = keys[: len(block_rows), : part.num_items + -part.num_items % 8]
                part.keys(block_rows, block[:, : part.num_items])
                block[:, part.num_items :] = np.inf
                left_out = queries.left_out[first : first + _BLOCK_ROWS]
                _leave_out(block, start, part.num_items, left_out, junk)
                running = [
                    pool.submit(tiles[(first + i) // _TILE_ROWS].count, part, start,
                                block[i : i + _TILE_ROWS])
                    for i in range(0, len(block), _TILE_ROWS)
                ]  # fmt: skip
                for tile in running:
                    tile.result()
    return [ranks for tile in tiles for ranks in tile.list_ranks()]


def _leave_out(block, start, num_items, left_out, junk):
    """Give infinite keys to items that are left out, so that they are behind all matches."""
    low, high = np.searchsorted(junk, [start, start + num_items])
    block[:, junk[low:high] - start] = np.inf
    rows = np.repeat(np.arange(len(left_out)), [len(items) for items in left_out])
    columns = np.concatenate(left_out) - start
    is_within = (columns >= 0) & (columns < num_items)
    block[rows[is_within], columns[is_within]] = np.inf


class _Tile:
    """Counts the items before each match of some queries.

    Arrays have a row per query, and a column per match of the query with the most matches. Missing
    matches have the distance minus infinity, so nothing is before them.
    """

    def __init__(self, comparison, rows, matches):
        self._rows = rows
        self._num_matches = np.array([len(items) for items in matches])
        is_match = np.arange(self._num_matches.max()) < self._num_matches[:, np.newaxis]
        pairs = np.repeat(rows, self._num_matches), np.concatenate(matches)
        self._matches = np.full(is_match.shape, -1)
        self._matches[is_match] = pairs[1]
        self._distances = np.full(is_match.shape, -np.inf)
        self._distances[is_match] = comparison.distances(*pairs)
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
        is_many = self._matches.shape[1] > _MANY_MATCHES
        is_close = self._count_by_sorting(keys) if is_many else self._count_by_passes(keys)
        positions = np.flatnonzero(is_close)
        step = max(1, _CHUNK_SIZE // self._matches.shape[1])
        for first in range(0, len(positions), step):
            self._count_closely(part, start, keys, positions[first : first + step])

    def _count_by_passes(self, keys):
        """Count the keys below each match's bounds; return which keys are within any bounds."""
        is_below, is_up_to = np.empty(keys.shape, bool), np.empty(keys.shape, bool)
        is_close = np.zeros(keys.shape, bool)
        for match in range(self._matches.shape[1]):
            np.less(keys, self._lower[:, match, np.newaxis], out=is_below)
            np.less_equal(keys, self._upper[:, match, np.newaxis], out=is_up_to)
            self._counts[:, match] += _count_true(is_below)
            np.logical_or(is_close, np.not_equal(is_below, is_up_to, out=is_up_to), out=is_close)
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
        (starts,) = np.nonzero(np.diff(rows, prepend=-1))
        self._counts[rows[starts]] += np.add.reduceat(is_before, starts, axis=0, dtype=np.int64)


def _count_true(flags):
    """Count the flags of each row, of a number of columns that 8 divides."""
    words = flags.view(np.uint64)
    # Each of the 8 bytes of a sum counts up to 255.
    sums = np.add.reduceat(words, range(0, words.shape[1], 255), axis=1)
    return sums.view(np.uint8).sum(axis=1, dtype=np.int64)
