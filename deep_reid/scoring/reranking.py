"""k-reciprocal re-ranking; needs NumPy and SciPy only."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse

from deep_reid.errors import UsageError
from deep_reid.scoring.comparisons import (
    MAX_BLOCK_BYTES,
    blocks_of_keys,
    find_measure,
    nearest_of_row,
)
from deep_reid.scoring.features import as_features, check_dimensions
from deep_reid.system.checks import check_integer


@dataclass(frozen=True)
class Rerank:
    """Settings of k-reciprocal re-ranking, by default those of the paper; see `rerank_distances`.

    Raises
    ------
    UsageError
        If a number of neighbors is not a positive integer, or the weight is not in [0, 1].
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        for name in ("k1", "k2"):
            check_integer(name, getattr(self, name))
        if not 0.0 <= self.lambda_value <= 1.0:
            raise UsageError(f"lambda_value ({self.lambda_value}) must be in [0, 1]")


def rerank_distances(
    query_features: npt.ArrayLike,
    gallery_features: npt.ArrayLike,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    *,
    measure: str = "cosine",
    max_block_bytes: int = MAX_BLOCK_BYTES,
) -> np.ndarray:
    """Compute distances by k-reciprocal re-ranking [1]_.

    Queries and gallery are one set here; each item is its own first neighbor. R(p, k) has the
    items q for which q is among the k nearest of p, and p among the k nearest of q. R(p, k1) is
    extended by R(q, k1 / 2) of each member q, if at least 2/3 of it are in R(p, k1). The weights
    exp(-d) of this set are the encoding of p, which is averaged over the k2 nearest of p. The
    result is (1 - lambda) times the Jaccard distance of two encodings plus lambda times d.

    As in the authors' implementation, the item itself does not count among k, k1 / 2 is rounded
    to even, d is the *squared* Euclidean distance divided by the largest distance of p, and the
    encoding's weights sum to one. Cosine distances are half the squared Euclidean ones of unit
    vectors, and are not squared again. The share 2/3 is that of the paper: at least 2/3; the
    authors' code requires *more* than 2/3.

    All is computed in float64. Beyond the features, the dense memory is the result, 8 bytes per
    query and gallery item, and some blocks; encodings are sparse, and grow with items x k1 x k2.
    Time grows with the square of the number of items.

    Parameters
    ----------
    query_features : array-like of float, shape (Q, D)
    gallery_features : array-like of float, shape (G, D)
        All gallery items, with junk, as in the authors' implementation.
    k1, k2 : int
        Number of neighbors in an encoding, and of neighbors whose encodings are averaged.
    lambda_value : float
        Weight of the original distance, in [0, 1].
    measure : {"cosine", "euclidean"}
        The original distance.
    max_block_bytes : int
        Size of a block of distances; a block has at least one item.

    Returns
    -------
    distances : ndarray of float64, shape (Q, G)
        In [0, 1].

    Raises
    ------
    UsageError, DataError
        As in `Rerank` and `rank`.

    References
    ----------
    .. [1] Z. Zhong, L. Zheng, D. Cao, S. Li: Re-ranking Person Re-identification with
       k-reciprocal Encoding. CVPR 2017.
    """
    settings = Rerank(k1, k2, lambda_value)
    query_features = as_features(query_features, "query")
    gallery_features = as_features(gallery_features, "gallery")
    check_dimensions(query_features, gallery_features)
    create = find_measure(measure)
    sets = {"query": query_features, "gallery": gallery_features}
    squares = [create.check(features, name, np.float64) for name, features in sets.items()]
    everything, squared_lengths = np.concatenate([*sets.values()]), np.concatenate(squares)
    comparison = create(everything, everything, (squared_lengths, squared_lengths), np.float64)
    neighbors, largest = _find_neighbors(comparison, max(k1 + 1, k2), max_block_bytes)
    encodings = _encode(comparison, neighbors, largest, settings)
    return _mix_distances(
        comparison, encodings, largest, len(query_features), settings, max_block_bytes
    )


def _find_neighbors(comparison, k, max_block_bytes):
    """Return each item's k nearest, itself first, and its largest distance (1 instead of 0)."""
    k = min(k, comparison.num_items)
    neighbors = np.empty((comparison.num_items, k), np.int64)
    largest = np.empty(comparison.num_items)
    for rows, keys in blocks_of_keys(comparison, np.arange(comparison.num_items), max_block_bytes):
        largest[rows] = keys.max(axis=1) + comparison.offsets[rows]
        for row, row_keys in zip(rows, keys, strict=True):
            neighbors[row], _ = nearest_of_row(comparison, row, row_keys, k, first=row)
    largest[largest <= 0.0] = 1.0
    return neighbors, largest


def _encode(comparison, neighbors, largest, settings):
    """Return the sparse k-reciprocal encodings of all items, one per row."""
    size = (comparison.num_items, comparison.num_items)
    wide = _find_reciprocal(neighbors[:, : settings.k1 + 1])
    narrow = _find_reciprocal(neighbors[:, : round(settings.k1 / 2) + 1])
    overlaps = (wide @ narrow.T).multiply(wide).tocoo()
    is_near = 3 * overlaps.data >= 2 * np.diff(narrow.indptr)[overlaps.col]
    near = _indicate(overlaps.row[is_near], overlaps.col[is_near], size)
    rows, columns = (wide + near @ narrow).nonzero()
    weights = np.exp(-comparison.distances(rows, columns) / largest[rows])
    weights /= np.bincount(rows, weights)[rows]
    encodings = scipy.sparse.csr_array((weights, (rows, columns)), shape=size)
    return _average_over(neighbors[:, : settings.k2], encodings)


def _find_reciprocal(neighbors):
    """Return a sparse matrix with 1 where two items are among each other's neighbors."""
    num_items, k = neighbors.shape
    is_neighbor = _indicate(
        np.repeat(np.arange(num_items), k), neighbors.ravel(), (num_items, num_items)
    )
    return is_neighbor.multiply(is_neighbor.T).tocsr()


def _average_over(neighbors, encodings):
    num_items, k = neighbors.shape
    rows = np.repeat(np.arange(num_items), k)
    return _indicate(rows, neighbors.ravel(), (num_items, num_items)) @ encodings / k


def _indicate(rows, columns, shape):
    ones = np.ones(len(rows), np.int64)
    return scipy.sparse.csr_array((ones, (rows, columns)), shape=shape)


def _mix_distances(comparison, encodings, largest, num_queries, settings, max_block_bytes):
    """Return (1 - lambda) x Jaccard distance + lambda x original distance, (Q, G) float64."""
    num_gallery = comparison.num_items - num_queries
    gallery_by_item = encodings[num_queries:].T.tocsr()
    result = np.empty((num_queries, num_gallery), np.float64)
    for rows, keys in blocks_of_keys(comparison, np.arange(num_queries), max_block_bytes):
        for row, row_keys in zip(rows, keys[:, num_queries:], strict=True):
            original = np.maximum(row_keys + comparison.offsets[row], 0.0) / largest[row]
            jaccard = _jaccard_distances(encodings, row, gallery_by_item)
            result[row] = jaccard + settings.lambda_value * (original - jaccard)
    return result


def _jaccard_distances(encodings, row, gallery_by_item):
    """Compare one encoding with those of the gallery, through the items that they share."""
    entries = slice(*encodings.indptr[row : row + 2])
    shared = gallery_by_item[encodings.indices[entries]]
    weights = np.repeat(encodings.data[entries], np.diff(shared.indptr))
    common = np.bincount(
        shared.indices, np.minimum(weights, shared.data), minlength=gallery_by_item.shape[1]
    )
    # Each encoding sums to one, so their union has the weight 2 - common.
    return 1.0 - common / (2.0 - common)
