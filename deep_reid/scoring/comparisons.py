"""Compares features: fast keys for whole rows of the gallery, exact distances for single pairs.

Keys are matrix products of a block of queries with the whole gallery. Their last bits depend on the
shapes and on the machine. Items whose keys differ by less than these errors are compared again in
float64, one pair at a time. So rankings depend neither on the blocks nor on the machine, and of
items at equal distance the first in the gallery wins, as in a stable sort.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError, UsageError
from deep_reid.scoring.features import FeatureSet, check_dimensions
from deep_reid.system.checks import check_integer

MAX_BLOCK_BYTES = 256 * 2**20
"""Size of the largest block of distances."""


# Pairs are compared in chunks of this many numbers, which fit into a processor's cache.
_CHUNK_SIZE = 2**17


class _OfFeatures:
    """Compares features by the product of two matrices.

    ``keys`` are fast and give nearly the ranking of ``distances``, which are exact to the last bits
    of float64. If the keys of two items differ by more than the query's entry of ``margins``, the
    keys decide. The distance is the key plus the query's entry of ``offsets``.
    """

    offsets: np.ndarray
    margins: np.ndarray
    _left: np.ndarray
    _right: np.ndarray

    def __init__(self, query: np.ndarray, gallery: np.ndarray, dtype: npt.DTypeLike) -> None:
        self._query, self._gallery = query, gallery
        self.dtype, self.num_items = np.dtype(dtype), len(gallery)

    def keys(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write the keys of some queries to `out`, of shape (len(rows), num_items)."""
        np.matmul(self._left[rows], self._right, out=out)


class Cosine(_OfFeatures):
    """Compares by cosine distance."""

    @staticmethod
    def check(features: np.ndarray, name: str, dtype: npt.DTypeLike) -> None:
        """Raise `DataError` if a feature cannot be compared."""
        del dtype  # Unit vectors fit into each type.
        (bad_rows,) = np.nonzero(_squared_lengths(features) == 0.0)
        if len(bad_rows):
            raise DataError(
                f"row {bad_rows[0]} of the {name} features is zero and has no direction, which "
                'cosine distance needs: leave it out, or take the measure "euclidean"'
            )

    def __init__(
        self, query: np.ndarray, gallery: np.ndarray, dtype: npt.DTypeLike = np.float32
    ) -> None:
        super().__init__(query, gallery, dtype)
        self._query_lengths = np.sqrt(_squared_lengths(query))
        self._gallery_lengths = np.sqrt(_squared_lengths(gallery))
        self._left = _divide_rows(query, -self._query_lengths, dtype)
        self._right = _divide_rows(gallery, self._gallery_lengths, dtype).T
        self.offsets = np.ones(len(query))
        self.margins = np.full(len(query), _relative_margin(query.shape[1], dtype))

    def distances(self, rows: int | np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the distance of each pair of a query and an item; one query serves all items."""
        lengths = self._query_lengths[rows] * self._gallery_lengths[columns]
        return 1.0 - _sum_pairs(np.multiply, self._query, self._gallery, rows, columns) / lengths

    @staticmethod
    def readable(distances: np.ndarray) -> np.ndarray:
        """Convert distances to the usual ones."""
        return np.maximum(distances, 0.0)


class Euclidean(_OfFeatures):
    """Compares by squared Euclidean distance."""

    @staticmethod
    def check(features: np.ndarray, name: str, dtype: npt.DTypeLike) -> None:
        """Raise `DataError` if a feature cannot be compared."""
        # A squared distance is at most 4 times the larger squared length.
        (bad_rows,) = np.nonzero(_squared_lengths(features) > np.finfo(dtype).max / 8)
        if len(bad_rows):
            raise DataError(
                f"row {bad_rows[0]} of the {name} features is too long, its squared distances "
                f"overflow {np.dtype(dtype).name}: scale the features"
            )

    def __init__(
        self, query: np.ndarray, gallery: np.ndarray, dtype: npt.DTypeLike = np.float32
    ) -> None:
        super().__init__(query, gallery, dtype)
        self.offsets = _squared_lengths(query)
        squared_lengths = _squared_lengths(gallery)
        # One more column, and the product is |g|^2 - 2 q g without another pass over the block.
        ones = np.ones((len(query), 1))
        self._left = np.concatenate([query, ones], axis=1, dtype=dtype)
        self._left[:, :-1] *= -2.0
        lengths = squared_lengths[:, np.newaxis]
        self._right = np.concatenate([gallery, lengths], axis=1, dtype=dtype).T
        largest = np.sqrt(squared_lengths.max())
        scales = (2.0 * np.sqrt(self.offsets) + largest) * largest
        # The last term covers what underflows.
        underflow = (query.shape[1] + 8) * np.finfo(dtype).tiny
        self.margins = _relative_margin(query.shape[1], dtype) * scales + underflow

    def distances(self, rows: int | np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the squared distance of each pair; see `Cosine.distances`."""
        return _sum_pairs(lambda a, b: np.square(a - b), self._query, self._gallery, rows, columns)

    @staticmethod
    def readable(distances: np.ndarray) -> np.ndarray:
        """Convert distances to the usual ones."""
        return np.sqrt(distances)


class Given:
    """Looks up distances that were computed before."""

    def __init__(self, distances: np.ndarray) -> None:
        self._distances = distances
        self.dtype, self.num_items = np.dtype(np.float32), distances.shape[1]
        # Rounding to float32 may make two distances equal but never swaps them.
        self.margins = np.zeros(len(distances))

    def keys(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write the keys of some queries to `out`, of shape (len(rows), num_items)."""
        out[:] = self._distances[rows]
        if not np.isfinite(out).all():
            raise DataError("the distances must be finite in float32")

    def distances(self, rows: int | np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the distance of each pair; see `Cosine.distances`."""
        return self._distances[rows, columns]

    @staticmethod
    def readable(distances: np.ndarray) -> np.ndarray:
        """Convert distances to the usual ones."""
        return distances


Comparison = Cosine | Euclidean | Given
Measure = type[Cosine] | type[Euclidean]

_MEASURES: dict[str, Measure] = {"cosine": Cosine, "euclidean": Euclidean}


def find_measure(measure: str) -> Measure:
    """Return the class that compares by a measure.

    Parameters
    ----------
    measure : {"cosine", "euclidean"}

    Raises
    ------
    UsageError
        If the measure is unknown.
    """
    if measure not in _MEASURES:
        raise UsageError(f"measure {measure!r} must be one of {', '.join(_MEASURES)}")
    return _MEASURES[measure]


def compare(
    query: FeatureSet,
    gallery: FeatureSet,
    measure: str,
    dtype: npt.DTypeLike = np.float32,
    gallery_rows: np.ndarray | slice = slice(None),
) -> Cosine | Euclidean:
    """Check that features can be compared, and prepare their comparison.

    Parameters
    ----------
    query, gallery : FeatureSet
    measure : {"cosine", "euclidean"}
    dtype : {float32, float64}
        Type of the keys.
    gallery_rows : np.ndarray of int, optional
        The gallery items to compare with. Default: all.

    Raises
    ------
    UsageError
        If the measure is unknown.
    DataError
        If the dimensions differ, or a feature does not suit the measure.
    """
    create = find_measure(measure)
    check_dimensions(query.features, gallery.features)
    for features in (query, gallery):
        create.check(features.features, features.name, dtype)
    return create(query.features, gallery.features[gallery_rows], dtype)


def blocks_of_keys(
    comparison: Comparison, rows: np.ndarray, max_block_bytes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of rows and their keys; the next block overwrites the keys."""
    row_bytes = comparison.num_items * comparison.dtype.itemsize
    fitting = check_integer("max_block_bytes", max_block_bytes) // row_bytes
    block_size = max(1, min(len(rows), fitting))
    keys = np.empty((block_size, comparison.num_items), comparison.dtype)
    for start in range(0, len(rows), block_size):
        block_rows = rows[start : start + block_size]
        comparison.keys(block_rows, keys[: len(block_rows)])
        yield block_rows, keys[: len(block_rows)]


def nearest_of_row(
    comparison: Comparison, row: int, keys: np.ndarray, k: int, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a query's k nearest items and their distances; the item `first` comes first."""
    _, upper = widen(np.partition(keys, k - 1)[k - 1 : k], comparison.margins[row])
    candidates = np.flatnonzero(keys <= upper[0])
    distances = comparison.distances(row, candidates)
    if first is not None:
        distances[candidates == first] = -np.inf
    order = np.argsort(distances, kind="stable")[:k]
    return candidates[order], distances[order]


def _squared_lengths(features):
    return np.einsum("ij,ij->i", features, features, dtype=np.float64)


def _divide_rows(features, lengths, dtype):
    return np.divide(features, lengths.astype(dtype)[:, np.newaxis], dtype=dtype)


def _relative_margin(dimension, dtype):
    """Bound the difference of the errors of two keys by the rounding of each step."""
    return (dimension + 8) * np.finfo(dtype).eps


def widen(keys: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds ``keys - margin`` and ``keys + margin``, rounded away from the keys."""
    exact = keys.astype(np.float64)
    lower, upper = (exact - margin).astype(keys.dtype), (exact + margin).astype(keys.dtype)
    return np.nextafter(lower, -np.inf, dtype=keys.dtype), np.nextafter(
        upper, np.inf, dtype=keys.dtype
    )


def _sum_pairs(combine, left, right, rows, columns):
    """Sum ``combine(left[row], right[column])`` in float64; each sum depends on its pair alone."""
    rows = np.broadcast_to(rows, columns.shape)
    sums = np.empty(len(columns))
    step = max(1, _CHUNK_SIZE // left.shape[1])
    for start in range(0, len(columns), step):
        chunk = slice(start, start + step)
        a, b = left[rows[chunk]].astype(np.float64), right[columns[chunk]].astype(np.float64)
        sums[chunk] = combine(a, b).sum(axis=1)
    return sums
