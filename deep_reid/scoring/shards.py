"""Features in files that together are larger than memory: read a part at a time, never whole."""

import glob
import os
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError, MissingPathError, first_line
from deep_reid.system import files
from deep_reid.system.tables import list_some

_NAME = re.compile(r"(?P<name>.+)-(?P<index>\d{5,})-of-(?P<count>\d{5,})\.npy")
_WAY_OUT = "use .npy files with one row per image, such as --shard=i/n writes"


class Shards:
    """Rows of features that lie in several ``.npy`` files, one after another.

    A file is mapped into memory only while some of its rows are read, and these are copied. So
    memory grows with the rows that are taken at once, not with the files.

    Parameters
    ----------
    paths : sequence of str or Path
        The files, in the order of their rows: of numbers, shape (N, D), with the same D.

    Attributes
    ----------
    shape : tuple of int
        Rows of all files, and D.
    dtype : np.dtype
        float32, to which rows of other numbers are converted.

    Raises
    ------
    MissingPathError
        If a file does not exist.
    DataError
        If a file cannot be read, or is not like the first one.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, paths: Sequence[files.Path]) -> None:
        self.paths = tuple(os.fspath(path) for path in paths)
        self._facts = []
        for path in self.paths:
            rows = open_rows(path)
            if rows.ndim != 2 or rows.dtype.kind not in "iuf" or not rows.shape[1]:
                raise DataError(
                    f"{path} has the shape {rows.shape} and the type {rows.dtype}: {_WAY_OUT}"
                )
            self._facts.append((rows.shape, rows.dtype))
            if rows.shape[1] != self._facts[0][0][1]:
                raise DataError(
                    f"{path} has features of dimension {rows.shape[1]} and {self.paths[0]} of "
                    f"{self._facts[0][0][1]}: take all shards from the same network"
                )
        self._starts = np.cumsum([0, *(shape[0] for shape, _ in self._facts)])
        self.shape = (int(self._starts[-1]), self._facts[0][0][1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[np.integer]) -> np.ndarray:
        """Read rows: a slice of them without a step, or those that a vector of numbers names."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            rows_by_file = self._split_slice(start, stop)
            out = np.empty((max(0, stop - start), self.shape[1]), self.dtype)
        else:
            rows_by_file = self._split_vector(np.asarray(rows))
            out = np.empty((len(rows), self.shape[1]), self.dtype)
        for number, source, target in rows_by_file:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                out[target] = self._open(number)[source]
        return out

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Read all rows, for what needs them in memory."""
        del copy  # it always is one
        return self[:].astype(dtype or self.dtype, copy=False)

    def _split_slice(self, start, stop):
        for number, (first, end) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            low, high = max(start, first), min(stop, end)
            if low < high:
                yield number, slice(low - first, high - first), slice(low - start, high - start)

    def _split_vector(self, rows):
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            (target,) = np.nonzero(numbers == number)
            yield number, rows[target] - self._starts[number], target

    def _open(self, number):
        rows = open_rows(self.paths[number])
        if (rows.shape, rows.dtype) != self._facts[number]:
            raise DataError(f"{self.paths[number]} has changed while it was read: start again")
        return rows


def open_rows(path: files.Path, way_out: str = _WAY_OUT) -> np.ndarray:
    """Map a ``.npy`` file into memory, to be read.

    Parameters
    ----------
    path : str or Path
    way_out : str
        What to do if that fails; the end of the message.

    Returns
    -------
    np.memmap

    Raises
    ------
    MissingPathError
        If the file does not exist.
    DataError
        If it is damaged or of another format.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise missing_features(path)
    try:
        # Unlike np.load, this compares the size in the header with that of the file, and reads no
        # other format.
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy does not say which errors a damaged header raises
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = first_line(error) or "it needs more memory than there is"
        raise DataError(f"{path} cannot be read ({reason}): {way_out}") from error


def write_array(path: files.Path, features: np.ndarray) -> None:
    """Write features to a ``.npy`` file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    features : np.ndarray, shape (N, D)
    """
    with files.writing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, features, allow_pickle=False)


def missing_features(path: files.Path) -> MissingPathError:
    """Return the error for a file of features that does not exist."""
    return MissingPathError(
        f"features {os.fspath(path)} do not exist: --mode=export writes them, below ./output"
    )


def shard_path(path: files.Path, index: int, count: int) -> str:
    """Return the name of a shard of a file of features.

    Parameters
    ----------
    path : str or Path
        The file that all shards together stand for, such as ``export/feat_test.mat``.
    index, count : int
        Shard `index` of `count`, from 0.

    Returns
    -------
    str
        Such as ``export/feat_test-00000-of-00003.npy``.
    """
    return f"{os.path.splitext(os.fspath(path))[0]}-{index:05d}-of-{count:05d}.npy"


def shard_rows(num_rows: int, index: int, count: int, batch_size: int) -> slice:
    """Return the rows of a shard: whole batches, so that features depend on no shard.

    The last bits of an image's features depend on how many images are encoded with it.

    Parameters
    ----------
    num_rows : int
        Of all shards.
    index, count : int
        Shard `index` of `count`, from 0.
    batch_size : int
        Rows that are computed at once. The last batch may have fewer.

    Returns
    -------
    slice
        It may be empty.
    """
    num_batches = -(-num_rows // batch_size)
    start, stop = (batch_size * (num_batches * i // count) for i in (index, index + 1))
    return slice(start, min(stop, num_rows))


def is_pattern(path: files.Path) -> bool:
    """Tell whether a path is a pattern for several files, such as ``feat_test-*.npy``."""
    return glob.has_magic(os.fspath(path)) and not os.path.exists(path)


def find_shards(pattern: str) -> list[str]:
    """Find a complete set of shards.

    Parameters
    ----------
    pattern : str
        With ``*``, ``?`` or ``[...]``, as shells expand it.

    Returns
    -------
    list of str
        In the order of their rows.

    Raises
    ------
    MissingPathError
        If no file has such a name, or one of the shards is missing.
    DataError
        If a file is no shard, or they are of several sets.
    """
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise MissingPathError(f"no file is named {pattern}: --mode=export --shard=i/n writes them")
    parts = {path: _NAME.fullmatch(path) for path in paths}
    others = [path for path, match in parts.items() if match is None]
    if others:
        raise DataError(
            f"{pattern} names {list_some(others)}, which is not named as a shard is "
            "(feat_test-00000-of-00003.npy): give a narrower pattern"
        )
    sets = {(match["name"], int(match["count"])) for match in parts.values() if match}
    if len(sets) > 1:
        names = [shard_path(name + ".npy", 0, count) for name, count in sorted(sets)]
        raise DataError(
            f"{pattern} names shards of several sets ({list_some(names)} and so on): give a "
            "pattern for one of them"
        )
    ((name, count),) = sets
    by_index = {int(match["index"]): path for path, match in parts.items() if match}
    beyond = [path for index, path in by_index.items() if index >= count]
    if beyond:
        raise DataError(f"{list_some(beyond)}: there is no such shard of {count}: remove it")
    missing = [shard_path(name + ".npy", i, count) for i in range(count) if i not in by_index]
    if missing:
        raise MissingPathError(
            f"{len(missing)} of {count} shards are missing: {list_some(missing)}: write them with "
            f"--shard=i/{count}, and give a pattern for all"
        )
    return [by_index[index] for index in range(count)]
