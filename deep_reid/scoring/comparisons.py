"""Compares features: fast keys for blocks of queries and items, exact distances for single pairs.

Keys are matrix products of some queries with a part of the gallery. Their last bits depend on the
shapes and on the machine. Items whose keys differ by less than these errors are compared again in
float64, one pair at a time. So rankings depend neither on the blocks nor on the machine, and of
items at equal distance the first in the gallery wins, as in a stable sort.
"""

import copy
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError, UsageError
from deep_reid.scoring.features import FeatureSet, Rows, blocks_of_rows, check_dimensions
from deep_reid.system.checks import check_integer

MAX_BLOCK_BYTES = 256 * 2**20
"""Size of the largest block of distances."""


_Part = TypeVar("_Part", bound="_OfFeatures")

# Pairs are compared in chunks of this many numbers, which fit into a processor's cache.
_CHUNK_SIZE = 2**17


class _OfFeatures:
    """Compares features by the product of two matrices.

    ``keys`` are fast and give nearly the ranking of ``distances``, which are exact to the last bits
    of float64. The distance is the key plus the query's entry of ``offsets``. A key is wrong by at
    most the query's entry of ``errors``; so if two keys differ by more than twice that, they
    decide. Only a `part` of the gallery has keys.

    Parameters
    ----------
    query : np.ndarray of float32, shape (Q, D)
    gallery : Rows, shape (G, D)
    squared_lengths : tuple of np.ndarray
        Those of the query and of the gallery, as `check` returns them.
    dtype : {float32, float64}
        Type of the keys.
    """

    offsets: np.ndarray
    errors: np.ndarray
    _left: np.ndarray
    _right: np.ndarray

    def __init__(
        self,
        query: np.ndarray,
        gallery: Rows,
        squared_lengths: tuple[np.ndarray, np.ndarray],
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._query, self._gallery = query, gallery
        self._query_squares, self._gallery_squares = squared_lengths
        self.dtype, self.num_items = np.dtype(dtype), len(gallery)
        self._prepare_queries()

    def part(self: _Part, start: int, stop: int) -> _Part:
        """Return the comparison with a part of the gallery, which is copied."""
        part = copy.copy(self)
        part._gallery = self._gallery[start:stop]
        part._gallery_squares = self._gallery_squares[start:stop]
        part.num_items = len(part._gallery)
        part._right = part._prepare_items()
        return part

    def keys(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Write the keys of some queries to `out`, of shape (len(rows), num_items)."""
        np.matmul(self._left[rows], self._right, out=out)

    def _prepare_queries(self):
        raise NotImplementedError

    def _prepare_items(self):
        raise NotImplementedError


class Cosine(_OfFeatures):
    """Compares by cosine distance."""

    @staticmethod
    def check(features: Rows, name: str, dtype: npt.DTypeLike) -> np.ndarray:
        """Return the squared lengths, or raise `DataError` if a feature cannot be compared."""
        del dtype  # Unit vectors fit into each type.
        squares = _squared_lengths(features)
        (bad_rows,) = np.nonzero(squares == 0.0)
        if len(bad_rows):
            raise DataError(
                f"row {bad_rows[0]} of the {name} features is zero and has no direction, which "
                'cosine distance needs: leave it out, or take the measure "euclidean"'
            )
        return squares

    def _prepare_queries(self):
        self._left = _divide_rows(self._query, -np.sqrt(self._query_squares), self.dtype)
        self.offsets = np.ones(len(self._query))
        self.errors = np.full(len(self._query), _relative_error(self._query.shape[1], self.dtype))

    def _prepare_items(self):
        return _divide_rows(self._gallery, np.sqrt(self._gallery_squares), self.dtype).T

    def distances(self, rows: int | np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the distance of each pair of a query and an item; one query serves all items."""
        lengths = np.sqrt(self._query_squares[rows]) * np.sqrt(self._gallery_squares[columns])
        return 1.0 - _sum_pairs(np.multiply, self._query, self._gallery, rows, columns) / lengths

    @staticmethod
    def readable(distances: np.ndarray) -> np.ndarray:
        """Convert distances to the usual ones."""
        return np.maximum(distances, 0.0)


class Euclidean(_OfFeatures):
    """Compares by squared Euclidean distance."""

    @staticmethod
    def check(features: Rows, name: str, dtype: npt.DTypeLike) -> np.ndarray:
        """Return the squared lengths, or raise `DataError` if a feature cannot be compared."""
        squares = _squared_lengths(features)
        # A squared distance is at most 4 times the larger squared length.
        (bad_rows,) = np.nonzero(squares > np.finfo(dtype).max / 8)
        if len(bad_rows):
            raise DataError(
                f"row {bad_rows[0]} of the {name} features is too long, its squared distances "
                f"overflow {np.dtype(dtype).name}: scale the features"
            )
        return squares

    def _prepare_queries(self):
        self.offsets = self._query_squares
        # One more column, and the product is |g|^2 - 2 q g without another pass over the block.
        ones = np.ones((len(self._query), 1))
        self._left = np.concatenate([self._query, ones], axis=1, dtype=self.dtype)
        self._left[:, :-1] *= -2.0
        dimension, largest = self._query.shape[1], np.sqrt(self._gallery_squares.max())
        scales = (2.0 * np.sqrt(self.offsets) + largest) * largest
        # The last term covers what underflows.
        underflow = (dimension + 8) * np.finfo(self.dtype).tiny
        self.errors = _relative_error(dimension, self.dtype) * scales + underflow

    def _prepare_items(self):
        squares = self._gallery_squares[:, np.newaxis]
        return np.concatenate([self._gallery, squares], axis=1, dtype=self.dtype).T

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
        self.offsets = np.zeros(len(distances))
        # Rounding to float32 may make two distances equal but never swaps them.
        self.errors = np.zeros(len(distances))

    def part(self, start: int, stop: int) -> "Given":
        """Return the distances to a part of the gallery."""
        return Given(self._distances[:, start:stop])

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
    gallery_rows: np.ndarray | None = None,
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
    squares = [create.check(each.features, each.name, dtype) for each in (query, gallery)]
    items: Rows = gallery.features  # whole shards stay in their files
    if gallery_rows is not None:
        items, squares[1] = items[gallery_rows], squares[1][gallery_rows]
    return create(np.asarray(query.features), items, (squares[0], squares[1]), dtype)


def blocks_of_keys(
    comparison: Comparison, rows: np.ndarray, max_block_bytes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of rows and their keys for all items; the next block overwrites the keys."""
    whole = comparison.part(0, comparison.num_items)
    row_bytes = comparison.num_items * comparison.dtype.itemsize
    fitting = check_integer("max_block_bytes", max_block_bytes) // row_bytes
    block_size = max(1, min(len(rows), fitting))
    keys = np.empty((block_size, comparison.num_items), comparison.dtype)
    for start in range(0, len(rows), block_size):
        block_rows = rows[start : start + block_size]
        whole.keys(block_rows, keys[: len(block_rows)])
        yield block_rows, keys[: len(block_rows)]


def nearest_of_row(
    comparison: Comparison, row: int, keys: np.ndarray, k: int, first: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a query's k nearest items and their distances; the item `first` comes first."""
    # Each of two keys may be wrong.
    _, upper = widen(np.partition(keys, k - 1)[k - 1 : k], 2.0 * comparison.errors[row], keys.dtype)
    candidates = np.flatnonzero(keys <= upper[0])
    distances = comparison.distances(row, candidates)
    if first is not None:
        distances[candidates == first] = -np.inf
    order = np.argsort(distances, kind="stable")[:k]
    return candidates[order], distances[order]


def _squared_lengths(features):
    squares = np.empty(len(features))
    for start, block in blocks_of_rows(features):
        exact = block.astype(np.float64)
        np.einsum("ij,ij->i", exact, exact, out=squares[start : start + len(block)])
    return squares


def _divide_rows(features, lengths, dtype):
    return np.divide(features, lengths.astype(dtype)[:, np.newaxis], dtype=dtype)


def _relative_error(dimension, dtype):
    """Bound the error of a key by the rounding of each step: half a unit in the last place."""
    error = (dimension + 8) * np.finfo(dtype).eps / 2
    return error / (1.0 - error)


def widen(
    keys: np.ndarray, error: float | np.ndarray, dtype: npt.DTypeLike
) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds ``keys - error`` and ``keys + error``, rounded away from the keys."""
    exact = keys.astype(np.float64)
    with np.errstate(over="ignore"):
        lower, upper = (exact - error).astype(dtype), (exact + error).astype(dtype)
    lower = np.nextafter(lower, -np.inf, dtype=dtype)
    # Infinite are the keys of items that are left out.
    return lower, np.minimum(np.nextafter(upper, np.inf, dtype=dtype), np.finfo(dtype).max)


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
