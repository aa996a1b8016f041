"""The nearest items of a gallery that is compared part by part."""

import numpy as np

from deep_reid.scoring.comparisons import Comparison, nearest_of_row, widen
from deep_reid.scoring.tiles import count_fitting, visit_tiles


def find_nearest(
    comparison: Comparison, rows: np.ndarray, k: int, max_block_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the items nearest to some queries, by exact distances.

    Parameters
    ----------
    comparison : deep_reid.scoring.comparisons.Comparison
    rows : np.ndarray of int64, shape (R,)
        The queries.
    k : int
        At most the number of items.
    max_block_bytes : int

    Returns
    -------
    indices : np.ndarray of int64, shape (R, k)
        Nearest first, the smaller index first at equal distance.
    distances : np.ndarray of float64, shape (R, k)
        As `comparison` has them.
    """
    found = _Found(comparison, rows, k)
    fitting = count_fitting(comparison.num_items, max_block_bytes)
    visit_tiles(comparison, rows, found.update, max_rows=fitting)
    return found.indices, found.distances


class _Found:
    """The nearest of the items that were compared so far."""

    def __init__(self, comparison, rows, k):
        self._comparison, self._rows = comparison, rows
        self.indices = np.full((len(rows), k), -1)
        self.distances = np.full((len(rows), k), np.inf)
        # No key above it is of an item as near as the last one that was found.
        self._bounds = np.full(len(rows), np.inf, comparison.dtype)

    def update(self, first, part, start, keys):
        keys = keys[:, : part.num_items]
        is_candidate = keys <= self._bounds[first : first + len(keys), np.newaxis]
        for i in np.flatnonzero(is_candidate.any(axis=1)):
            row, position = self._rows[first + i], first + i
            if np.isinf(self._bounds[position]):
                k = min(keys.shape[1], self.indices.shape[1])
                columns, distances = nearest_of_row(part, row, keys[i], k)
            else:
                columns = np.flatnonzero(is_candidate[i])
                distances = part.distances(row, columns)
            self._merge(position, start + columns, distances)

    def _merge(self, position, indices, distances):
        """Add items that come after those before them in the gallery."""
        k = self.indices.shape[1]
        indices = np.append(self.indices[position], indices)
        distances = np.append(self.distances[position], distances)
        order = np.argsort(distances, kind="stable")[:k]
        self.indices[position], self.distances[position] = indices[order], distances[order]
        if np.isfinite(self.distances[position, -1]):
            row = self._rows[position]
            key = self.distances[position, -1:] - self._comparison.offsets[row]
            _, upper = widen(key, self._comparison.errors[row], self._comparison.dtype)
            self._bounds[position] = upper[0]
