"""Batch generators over arrays and lists of file names; needs only NumPy.

The generators check their arguments when they are called, not when the first batch is drawn.
"""

import itertools
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import rows_by_label
from deep_reid.system.checks import check_integer

Rows = np.ndarray | Sequence[Any]


class ThreadSafeIterator:
    """An iterator that several threads may draw from: each item goes to one of them.

    Parameters
    ----------
    iterator : iterator
        Such as a generator, which raises ``ValueError`` when two threads draw from it at once.
    """

    def __init__(self, iterator: Iterable[Any]) -> None:
        self._iterator = iter(iterator)
        self._lock = threading.Lock()

    def __iter__(self) -> "ThreadSafeIterator":
        return self

    def __next__(self) -> Any:
        with self._lock:
            return next(self._iterator)


def run_in_batches(
    f: Callable[[dict[Any, Any]], Any],
    data_dict: Mapping[Any, Rows],
    out: np.ndarray,
    batch_size: int,
) -> None:
    """Call a function on consecutive blocks of rows and collect its results.

    Parameters
    ----------
    f : callable
        Takes a dictionary like `data_dict` with a block of b rows of each value, and returns
        an array of shape (b, ...).
    data_dict : dict
        Maps any key to N rows: an array of shape (N, ...) or a list.
    out : ndarray, shape (N, ...)
        Takes the results; written in place.
    batch_size : int
        Rows per call, at least 1. The last block is shorter if N is not a multiple of it.

    Raises
    ------
    ValueError
        If the lengths of the values and of `out` differ, `batch_size` is less than 1, or `f` does
        not return one row for each row that it gets.

    Examples
    --------
    >>> import numpy as np
    >>> lengths = np.zeros(3, np.int64)
    >>> run_in_batches(lambda batch: [len(x) for x in batch["names"]],
    ...                {"names": ["a.jpg", "bc.jpg", "d.jpg"]}, lengths, batch_size=2)
    >>> lengths.tolist()
    [5, 6, 5]
    """
    check_integer("batch_size", batch_size)
    lengths = {str(key): len(rows) for key, rows in data_dict.items()}
    if any(length != len(out) for length in lengths.values()):
        raise ValueError(
            f"data_dict (rows: {lengths}) and out ({len(out)} rows) must have the same number "
            "of rows: give as many inputs as results"
        )
    for start in range(0, len(out), batch_size):
        target = out[start : start + batch_size]
        batch = {key: rows[start : start + batch_size] for key, rows in data_dict.items()}
        result = f(batch)
        # NumPy would broadcast a single row, and all features of the block would be equal.
        if len(result) != len(target):
            raise ValueError(
                f"f returned {len(result)} rows for the {len(target)} rows from row {start} on: "
                "it must return one result per row"
            )
        target[...] = result


def iterate_forever(batch_size: int, data: Rows, *other: Rows) -> Iterator[Any]:
    """Iterate over the rows in order, for ever.

    The batches are always full: at the end, a batch goes on at the first row, so that no row is
    left out.

    Parameters
    ----------
    batch_size : int
        Rows per batch, at least 1; it may be larger than the number of rows.
    data : ndarray of shape (N, ...), or list
        A list of str or Path becomes an array of str objects, a list of arrays is stacked.
    *other : ndarray of shape (N, ...), or list
        More data that goes with the rows of `data`.

    Returns
    -------
    batches : iterator of ndarray, or of list of ndarray; each of shape (batch_size, ...)
        An array if `data` is the only argument, else a list of one array per argument.

    Raises
    ------
    UsageError
        If `batch_size` is less than 1.
    ValueError
        If the arguments differ in length.
    DataError
        If there are no rows, or a list has arrays of different shapes.
    TypeError
        If an argument is neither an array nor a list.

    Examples
    --------
    >>> batches = iterate_forever(2, ["a.jpg", "b.jpg", "c.jpg"])
    >>> [next(batches).tolist() for _ in range(3)]
    [['a.jpg', 'b.jpg'], ['c.jpg', 'a.jpg'], ['b.jpg', 'c.jpg']]
    """
    arrays = _check_rows(batch_size, data, *other)
    num_rows = len(arrays[0])
    blocks = (
        np.arange(start, start + batch_size) % num_rows
        for start in itertools.count(step=batch_size)
    )
    return (_take(arrays, rows) for rows in blocks)


def random_shuffle_forever(
    batch_size: int, data: Rows, *other: Rows, seed: int | None = None
) -> Iterator[Any]:
    """Iterate over the rows in random order, for ever.

    Random permutations of the rows, one after the other, are cut into batches. So each N rows in
    sequence have each row once.

    Parameters
    ----------
    batch_size, data, *other
        As in `iterate_forever`.
    seed : int, optional
        Seed of ``numpy.random.default_rng``: the same seed gives the same batches.

    Returns
    -------
    batches : iterator of ndarray, or of list of ndarray; each of shape (batch_size, ...)
        As in `iterate_forever`.

    Raises
    ------
    UsageError
        If `batch_size` is less than 1 or `seed` is negative.
    ValueError, DataError, TypeError
        As in `iterate_forever`.
    """
    arrays = _check_rows(batch_size, data, *other)
    if seed is not None:
        check_integer("seed", seed, at_least=0)
    blocks = _shuffled_blocks(batch_size, len(arrays[0]), np.random.default_rng(seed))
    return (_take(arrays, rows) for rows in blocks)


def _shuffled_blocks(batch_size, num_rows, random):
    stream = np.empty(0, np.int64)
    while True:
        while len(stream) < batch_size:
            stream = np.concatenate([stream, random.permutation(num_rows)])
        yield stream[:batch_size]
        stream = stream[batch_size:]


def random_sample_identities_forever(
    batch_size: int,
    num_samples_per_id: int,
    data_x: Rows,
    data_y: Rows,
    num_fa_images: int = 0,
    *,
    seed: int | None = None,
    first_batch: int = 0,
) -> Iterator[list[np.ndarray]]:
    """Draw batches of P identities with K images each, for ever [1]_.

    The P identities of a batch are distinct and its rows are grouped by identity. An identity
    with fewer than K images gives each of them once, and the rest is drawn from them again.
    Batch i depends only on `seed` and i, so that a resumed run gets the same batches.

    Parameters
    ----------
    batch_size : int
        Rows per batch: P * K + `num_fa_images`.
    num_samples_per_id : int
        K, at least 1.
    data_x : ndarray of shape (N, ...), or list
        Images or file names. A list of str or Path becomes an array of str objects, a list of
        arrays is stacked.
    data_y : array-like of int, shape (N,)
        The identity of each row. Rows with a negative label are false alarms (images of no
        person): they are drawn only for `num_fa_images`.
    num_fa_images : int
        Number of false alarms at the end of each batch, at least 0.
    seed : int, optional
        Not negative. Default: drawn at random, once, at the call.
    first_batch : int
        The index i of the first batch to yield; not negative.

    Returns
    -------
    batches : iterator of list [batch_x, batch_y]
        `batch_x` is an ndarray of shape (batch_size, ...), `batch_y` one of int64 of shape
        (batch_size,).

    Raises
    ------
    UsageError
        If a number is out of its range, or `batch_size` does not divide into identities.
    ValueError
        If `data_x` and `data_y` differ in length.
    DataError
        If there are fewer than P identities, no rows, arrays of different shapes, or no false
        alarms although `num_fa_images` is not 0.
    TypeError
        If `data_x` or `data_y` is neither an array nor a list.

    References
    ----------
    .. [1] A. Hermans, L. Beyer, B. Leibe: In Defense of the Triplet Loss for Person
       Re-Identification. arXiv:1703.07737, 2017.

    Examples
    --------
    Two identities with two images each:

    >>> names = [f"{i}.jpg" for i in range(9)]
    >>> batches = random_sample_identities_forever(
    ...     4, 2, names, [7, 7, 7, 8, 8, 8, 9, 9, 9], seed=1
    ... )
    >>> batch_x, batch_y = next(batches)
    >>> len(set(batch_x.tolist())), batch_y.tolist()
    (4, [7, 7, 8, 8])
    """
    num_identities = count_identities(batch_size, num_samples_per_id, num_fa_images)
    images, labels = _check_rows(batch_size, data_x, data_y)
    if seed is not None:
        check_integer("seed", seed, at_least=0)
    check_integer("first_batch", first_batch, at_least=0)
    labels = labels.astype(np.int64)
    rows_of_identity = [rows for rows in rows_by_label(labels)[1] if labels[rows[0]] >= 0]
    false_alarms = np.flatnonzero(labels < 0)
    check_enough_identities(len(rows_of_identity), batch_size, num_samples_per_id, num_fa_images)
    if num_fa_images and not len(false_alarms):
        raise DataError(
            f"num_fa_images ({num_fa_images}) needs false alarms, but no label is negative: "
            "use num_fa_images=0, or give images of no person the label -1"
        )
    if seed is None:
        seed = secrets.randbits(128)

    def draw_rows(batch):
        random = np.random.default_rng((seed, batch))
        chosen = random.choice(len(rows_of_identity), num_identities, replace=False)
        drawn = [_draw(rows_of_identity[i], num_samples_per_id, random) for i in chosen]
        if num_fa_images:
            drawn.append(_draw(false_alarms, num_fa_images, random))
        return np.concatenate(drawn)

    blocks = (draw_rows(batch) for batch in itertools.count(first_batch))
    return (_take([images, labels], rows) for rows in blocks)


def _take(arrays, rows):
    batch = [array[rows] for array in arrays]
    return batch if len(batch) > 1 else batch[0]


def _draw(rows, count, random):
    """Draw distinct rows; if there are too few, each once and the rest again."""
    if len(rows) >= count:
        return random.choice(rows, count, replace=False)
    return np.concatenate([rows, random.choice(rows, count - len(rows))])


def count_identities(batch_size: int, num_samples_per_id: int, num_fa_images: int = 0) -> int:
    """Return the number of identities in a batch, P.

    Parameters
    ----------
    batch_size, num_samples_per_id, num_fa_images : int
        As in `random_sample_identities_forever`.

    Returns
    -------
    int

    Raises
    ------
    UsageError
        If a number is out of its range, or `batch_size` is not P * K + `num_fa_images`.
    """
    check_integer("batch_size", batch_size)
    check_integer("num_images_per_id", num_samples_per_id)
    check_integer("num_fa_images", num_fa_images, at_least=0)
    num_images = batch_size - num_fa_images
    num_identities, rest = divmod(num_images, num_samples_per_id)
    if rest or num_identities < 1:
        nearest = {max(n, 1) for n in (num_identities, num_identities + 1)}
        sizes = " or ".join(str(n * num_samples_per_id + num_fa_images) for n in sorted(nearest))
        rule = f"must be a multiple of num_images_per_id ({num_samples_per_id})"
        if num_fa_images:
            raise UsageError(
                f"batch_size - num_fa_images ({num_images}) {rule}: use batch_size {sizes}"
            )
        raise UsageError(f"batch_size ({batch_size}) {rule}: use {sizes}")
    return num_identities


def check_enough_identities(
    num_identities: int, batch_size: int, num_samples_per_id: int, num_fa_images: int = 0
) -> None:
    """Check that the data has as many identities as a batch.

    Parameters
    ----------
    num_identities : int
        Of the data.
    batch_size, num_samples_per_id, num_fa_images : int
        As in `random_sample_identities_forever`.

    Raises
    ------
    UsageError
        As `count_identities` does.
    DataError
        If there are fewer.
    """
    needed = count_identities(batch_size, num_samples_per_id, num_fa_images)
    if num_identities == 0:
        raise DataError(
            "the data has no identities (labels of at least 0): give images of "
            f"{needed} or more identities"
        )
    if num_identities < needed:
        largest = batch_size - (needed - num_identities) * num_samples_per_id
        raise DataError(
            f"batch_size {batch_size} with {num_samples_per_id} images per identity needs "
            f"{needed} identities, but the data has {num_identities}: use "
            f"--batch_size={largest} or less, or more identities"
        )


def _check_rows(batch_size, *data):
    """Return the data as arrays of the same length."""
    check_integer("batch_size", batch_size)
    arrays = [_as_array(rows) for rows in data]
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the data have {lengths} rows, but they must have the same number: give one label "
            "per image"
        )
    if not lengths[0]:
        raise DataError("the data have no rows, but a batch needs some: give at least one image")
    return arrays


def _as_array(rows):
    if isinstance(rows, np.ndarray):
        return rows
    if isinstance(rows, str | os.PathLike):
        raise TypeError(f"data ({rows!r}) must be an array or a list, one item per row")
    rows = list(rows)
    if rows and all(isinstance(row, str | os.PathLike) for row in rows):
        # Objects: half a million names as text of a fixed width would take 100 MB.
        return np.array([os.fspath(row) for row in rows], object)
    shapes = {np.shape(row) for row in rows}
    if len(shapes) > 1:
        raise DataError(
            f"the rows of the data have different shapes ({', '.join(map(str, sorted(shapes)))}): "
            "resize the images to one shape"
        )
    return np.array(rows)
