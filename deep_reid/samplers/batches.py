"""Batch generators over arrays and lists of file names; needs NumPy alone.

The generators check their arguments when they are called, not when the first batch is drawn.
"""

import itertools
import numbers
import os
import threading

import numpy as np

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import rows_by_label


class ThreadSafeIterator:
    """An iterator that several threads may draw from: one item goes to one of them.

    Parameters
    ----------
    iterator : iterator
        Such as a generator, which raises ``ValueError`` when two threads draw from it at once.
    """

    def __init__(self, iterator):
        self._iterator = iter(iterator)
        self._lock = threading.Lock()

    def __iter__(self):
        return self

    def __next__(self):
        with self._lock:
            return next(self._iterator)


def run_in_batches(f, data_dict, out, batch_size):
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
        Rows per call, at least 1. The last block is shorter where N is not a multiple of it.

    Raises
    ------
    ValueError
        If the lengths of the values and of `out` differ, `batch_size` is less than 1, or `f`
        returns another number of rows than it was given.

    Examples
    --------
    >>> import numpy as np
    >>> lengths = np.zeros(3, np.int64)
    >>> run_in_batches(lambda batch: [len(x) for x in batch["names"]],
    ...                {"names": ["a.jpg", "bc.jpg", "d.jpg"]}, lengths, batch_size=2)
    >>> lengths.tolist()
    [5, 6, 5]
    """
    _check_batch_size(batch_size)
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
        # One row too few would be broadcast, and all features of the block would be equal.
        if len(result) != len(target):
            raise ValueError(
                f"f returned {len(result)} rows for the {len(target)} rows from row {start} on: "
                "it must return one result per row"
            )
        target[...] = result


def iterate_forever(batch_size, data, *other):
    """Iterate over the rows in order, for ever.

    The batches are always full: one that reaches the end goes on at the first row, so that no
    row is left out.

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
        The array itself where `data` is the only argument, else a list of one array per argument.

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


def random_shuffle_forever(batch_size, data, *other, seed=None):
    """Iterate over the rows in random order, for ever.

    The order is a stream of permutations that is cut into batches: after every N rows, each
    row was used equally often.

    Parameters
    ----------
    batch_size : int
        Rows per batch, at least 1; it may be larger than the number of rows.
    data : ndarray of shape (N, ...), or list
        A list of str or Path becomes an array of str objects, a list of arrays is stacked.
    *other : ndarray of shape (N, ...), or list
        More data that goes with the rows of `data`.
    seed : int, optional
        Seed of ``numpy.random.default_rng``: the same seed gives the same batches.

    Returns
    -------
    batches : iterator of ndarray, or of list of ndarray; each of shape (batch_size, ...)
        The array itself where `data` is the only argument, else a list of one array per argument.

    Raises
    ------
    UsageError
        If `batch_size` is less than 1 or `seed` is negative.
    ValueError
        If the arguments differ in length.
    DataError
        If there are no rows, or a list has arrays of different shapes.
    TypeError
        If an argument is neither an array nor a list.
    """
    arrays = _check_rows(batch_size, data, *other)
    if seed is not None:
        _check_not_negative("seed", seed)
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
    batch_size,
    num_samples_per_id,
    data_x,
    data_y,
    num_fa_images=0,
    *,
    seed=None,
    first_batch=0,
):
    """Draw batches of P identities with K images each, for ever [1]_.

    The P identities of a batch are distinct and its rows are grouped by identity. An identity
    with fewer than K images gives each of them once, and the rest is drawn from them again.
    Batch i depends on `seed` and i alone, so that a stopped run goes on as if it had not
    stopped.

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
        Not negative. Without it, fresh entropy is drawn once, at the call.
    first_batch : int
        The number i of the first batch to yield; not negative.

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
        If there are fewer than P identities, no rows, arrays of different shapes, or false
        alarms are asked for and there are none.
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
    num_identities = _check_batch_shape(batch_size, num_samples_per_id, num_fa_images)
    data_x, data_y = _check_rows(batch_size, data_x, data_y)
    if seed is not None:
        _check_not_negative("seed", seed)
    _check_not_negative("first_batch", first_batch)
    data_y = data_y.astype(np.int64)
    labels, rows = rows_by_label(data_y)
    rows_of_identity = [r for label, r in zip(labels, rows, strict=True) if label >= 0]
    false_alarms = np.flatnonzero(data_y < 0)
    _check_enough_data(
        len(rows_of_identity), len(false_alarms), batch_size, num_samples_per_id, num_fa_images
    )
    if seed is None:
        seed = np.random.SeedSequence().entropy

    def draw_rows(batch):
        random = np.random.default_rng((seed, batch))
        chosen = random.choice(len(rows_of_identity), num_identities, replace=False)
        drawn = [_draw(rows_of_identity[i], num_samples_per_id, random) for i in chosen]
        if num_fa_images:
            drawn.append(_draw(false_alarms, num_fa_images, random))
        return np.concatenate(drawn)

    blocks = (draw_rows(batch) for batch in itertools.count(first_batch))
    return (_take([data_x, data_y], rows) for rows in blocks)


def _take(arrays, rows):
    batch = [array[rows] for array in arrays]
    return batch if len(batch) > 1 else batch[0]


def _draw(rows, count, random):
    """Draw distinct rows; where there are too few, each once and the rest again."""
    if len(rows) >= count:
        return random.choice(rows, count, replace=False)
    return np.concatenate([rows, random.choice(rows, count - len(rows))])


def _check_batch_shape(batch_size, num_samples_per_id, num_fa_images):
    """Return the number of identities in a batch."""
    _check_batch_size(batch_size)
    if not isinstance(num_samples_per_id, numbers.Integral) or num_samples_per_id < 1:
        raise UsageError(
            f"num_images_per_id ({num_samples_per_id!r}) must be an int of at least 1: use 4"
        )
    _check_not_negative("num_fa_images", num_fa_images)
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


def _check_enough_data(
    num_identities, num_false_alarms, batch_size, num_samples_per_id, num_fa_images
):
    needed = (batch_size - num_fa_images) // num_samples_per_id
    if num_identities == 0:
        raise DataError(
            "the data has no identities (labels of at least 0): give images of "
            f"{needed} or more identities"
        )
    if num_identities < needed:
        largest = num_identities * num_samples_per_id + num_fa_images
        raise DataError(
            f"batch_size {batch_size} with {num_samples_per_id} images per identity needs "
            f"{needed} identities, but the data has {num_identities}: use "
            f"--batch_size={largest} or less, or more identities"
        )
    if num_fa_images and not num_false_alarms:
        raise DataError(
            f"num_fa_images ({num_fa_images}) needs false alarms, but no label is negative: "
            "use num_fa_images=0, or give images of no person the label -1"
        )


def _check_batch_size(batch_size):
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise UsageError(
            f"batch_size ({batch_size!r}) must be an int of at least 1: use for example 128"
        )


def _check_not_negative(name, number):
    if not isinstance(number, numbers.Integral) or number < 0:
        raise UsageError(f"{name} ({number!r}) must be an int of at least 0: use for example 0")


def _check_rows(batch_size, *data):
    """Return the data as arrays of the same length."""
    _check_batch_size(batch_size)
    arrays = [_as_array(rows) for rows in data]
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the data have {lengths} rows, but they must have equally many: give one label "
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
        # Objects, not fixed-width text: half a million names would be copied to 100 MB.
        return np.array([os.fspath(row) for row in rows], object)
    shapes = {np.shape(row) for row in rows}
    if len(shapes) > 1:
        raise DataError(
            f"the rows of the data have different shapes ({', '.join(map(str, sorted(shapes)))}): "
            "resize the images to one shape"
        )
    return np.array(rows)
