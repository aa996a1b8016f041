"""Compares features: fast keys for whole rows of the gallery, exact distances for single pairs.

Keys come as matrix products of a block of queries with the whole gallery, whose last bits depend on
the shapes and on the machine. What lies closer together than these errors is compared again in
float64, one pair at a time. So rankings depend neither on the blocks nor on the machine, and of
items at equal distance the first of the gallery wins, as in a stable sort.
"""

import numpy as np

from deep_reid.errors import DataError, UsageError

MAX_BLOCK_BYTES = 256 * 2**20
"""Size of the largest block of distances."""


# Pairs are compared in chunks of this many numbers, which a processor's cache holds.
_CHUNK_SIZE = 2**17


class Cosine:
    """Compares by cosine distance.

    ``keys`` are fast and rank nearly as ``distances``, which are exact to the last bits of
    float64. Two items whose keys of a query differ by more than its entry of ``margins`` are
    ranked as their keys; key plus ``offsets`` is the distance.
    """

    @staticmethod
    def check(features, name, dtype):
        """Find features that cannot be compared."""
        del dtype  # Unit vectors suit every one.
        (bad_rows,) = np.nonzero(_squared_lengths(features) == 0.0)
        if len(bad_rows):
            raise DataError(
                f"row {bad_rows[0]} of the {name} features is zero and has no direction, which "
                'cosine distance needs: leave it out, or take the measure "euclidean"'
            )

    def __init__(self, query, gallery, dtype=np.float32):
        self._query, self._gallery = query, gallery
        self._query_lengths = np.sqrt(_squared_lengths(query))
        self._gallery_lengths = np.sqrt(_squared_lengths(gallery))
        self._left = _divide_rows(query, -self._query_lengths, dtype)
        self._right = _divide_rows(gallery, self._gallery_lengths, dtype).T
        self.dtype, self.num_items = np.dtype(dtype), len(gallery)
        self.offsets = np.ones(len(query))
        self.margins = np.full(len(query), _relative_margin(query.shape[1], dtype))

    def keys(self, rows, out):
        """Write the keys of some queries to `out`, of shape (len(rows), num_items)."""
        np.matmul(self._left[rows], self._right, out=out)

    def distances(self, rows, columns):
        """Return the distance of each pair of a query (or always the same) and an item."""
        lengths = self._query_lengths[rows] * self._gallery_lengths[columns]
        return 1.0 - _sum_pairs(np.multiply, self._query, self._gallery, rows, columns) / lengths

    @staticmethod
    def readable(distances):
        """Turn distances into those that people expect."""
        return np.maximum(distances, 0.0)


class Euclidean:
    """Compares by squared Euclidean distance; see `Cosine`."""

    @staticmethod
    def check(features, name, dtype):
        """Find features that cannot be compared."""
        # A squared distance is at most 4 times the larger squared length.
        (bad_rows,) = np.nonzero(_squared_lengths(features) > np.finfo(dtype).max / 8)
        if len(bad_rows):
            raise DataError(
                f"row {bad_rows[0]} of the {name} features is too long, its squared distances "
                f"overflow {np.dtype(dtype).name}: scale the features"
            )

    def __init__(self, query, gallery, dtype=np.float32):
        self._query, self._gallery = query, gallery
        self.dtype, self.num_items = np.dtype(dtype), len(gallery)
        self.offsets = _squared_lengths(query)
        squared_lengths = _squared_lengths(gallery)
        # One more column, and the product is |g|^2 - 2 q g without another pass over the block.
        self._left = _add_column(query, 1.0, dtype)
        self._left[:, :-1] *= -2.0
        self._right = _add_column(gallery, squared_lengths, dtype).T
        largest = np.sqrt(squared_lengths.max())
        scales = (2.0 * np.sqrt(self.offsets) + largest) * largest
        # The last term covers what underflows.
        underflow = (query.shape[1] + 8) * np.finfo(dtype).tiny
        self.margins = _relative_margin(query.shape[1], dtype) * scales + underflow

    keys = Cosine.keys

    def distances(self, rows, columns):
        """Return the squared distance of each pair of a query (or always the same) and an item."""
        return _sum_pairs(_squared_difference, self._query, self._gallery, rows, columns)

    @staticmethod
    def readable(distances):
        """Turn distances into those that people expect."""
        return np.sqrt(distances)


class Given:
    """Looks distances up; see `Cosine`."""

    def __init__(self, distances):
        self._distances = distances
        self.dtype, self.num_items = np.dtype(np.float32), distances.shape[1]
        # Rounding to float32 may make two distances equal but never swaps them.
        self.margins = np.zeros(len(distances))

    def keys(self, rows, out):
        """Write the keys of some queries to `out`, of shape (len(rows), num_items)."""
        out[:] = self._distances[rows]
        if not np.isfinite(out).all():
            raise DataError("the distances must be finite in float32")

    def distances(self, rows, columns):
        """Return the distance of each pair of a query (or always the same) and an item."""
        return self._distances[rows, columns]

    @staticmethod
    def readable(distances):
        """Turn distances into those that people expect."""
        return distances


_MEASURES = {"cosine": Cosine, "euclidean": Euclidean}


def find_measure(measure):
    """Return the class that compares by a measure.

    Parameters
    ----------
    measure : {"cosine", "euclidean"}

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if measure not in _MEASURES:
        raise UsageError(f"measure {measure!r} must be one of {', '.join(_MEASURES)}")
    return _MEASURES[measure]


def blocks_of_keys(comparison, rows, max_block_bytes):
    """Yield rows with their keys, as many at a time as fit; the next block overwrites them."""
    row_bytes = comparison.num_items * comparison.dtype.itemsize
    fitting = check_positive("max_block_bytes", max_block_bytes) // row_bytes
    block_size = max(1, min(len(rows), fitting))
    keys = np.empty((block_size, comparison.num_items), comparison.dtype)
    for start in range(0, len(rows), block_size):
        block_rows = rows[start : start + block_size]
        comparison.keys(block_rows, keys[: len(block_rows)])
        yield block_rows, keys[: len(block_rows)]


def nearest_of_row(comparison, row, keys, k, first=None):
    """Return a query's k nearest items with their distances; `first` comes first."""
    _, upper = widen(np.partition(keys, k - 1)[k - 1 : k], comparison.margins[row])
    candidates = np.flatnonzero(keys <= upper[0])
    distances = comparison.distances(row, candidates)
    if first is not None:
        distances[candidates == first] = -np.inf
    order = np.argsort(distances, kind="stable")[:k]
    return candidates[order], distances[order]


def as_features(values, name):
    """Return features as float32 of shape (N, D), without a copy where they are.

    Parameters
    ----------
    values : array-like of float, shape (N, D)
    name : str
        What messages call them.

    Raises
    ------
    DataError
        If they have another shape, there are none, or one is not finite.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise DataError(
            f"the {name} features must be numbers in rows, one row per item, and at least one; "
            f"they are of shape {array.shape} and type {array.dtype}"
        )
    with np.errstate(over="ignore"):  # What float32 cannot hold is found as infinite below.
        features = np.ascontiguousarray(array, np.float32)
    # The extremes of a row tell of NaN and infinity without an array of the size of all features.
    is_finite = np.isfinite(features.max(axis=1)) & np.isfinite(features.min(axis=1))
    if not is_finite.all():
        raise DataError(
            f"row {np.argmin(is_finite)} of the {name} features is not finite in float32 "
            f"(one of {np.count_nonzero(~is_finite)}): mend or leave out what they come from"
        )
    return features


def check_dimensions(query_features, gallery_features):
    """Check that features have one dimension; a DataError says what to do if not."""
    if query_features.shape[1] != gallery_features.shape[1]:
        raise DataError(
            f"the query features have dimension {query_features.shape[1]} and the gallery "
            f"features {gallery_features.shape[1]}: take both from the same network"
        )


def check_positive(name, value):
    """Return a count as an int; a UsageError says what is wrong with another value."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise UsageError(f"{name} ({value!r}) must be an integer of 1 or more")
    return int(value)


def _squared_lengths(features):
    return np.einsum("ij,ij->i", features, features, dtype=np.float64)


def _divide_rows(features, lengths, dtype):
    return np.divide(features, lengths.astype(dtype)[:, np.newaxis], dtype=dtype)


def _add_column(features, column, dtype):
    result = np.empty((len(features), features.shape[1] + 1), dtype)
    result[:, :-1] = features
    result[:, -1] = column
    return result


def _relative_margin(dimension, dtype):
    """Bound the difference of the errors of two keys by the rounding of each step."""
    return (dimension + 8) * np.finfo(dtype).eps


def widen(keys, margin):
    """Return bounds below and above the keys, rounded away from them."""
    exact = keys.astype(np.float64)
    lower, upper = (exact - margin).astype(keys.dtype), (exact + margin).astype(keys.dtype)
    return np.nextafter(lower, -np.inf, dtype=keys.dtype), np.nextafter(
        upper, np.inf, dtype=keys.dtype
    )


def _squared_difference(a, b):
    return np.square(a - b)


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
