"""The index beside a file of features: which image each row is of; free of TensorFlow."""

import csv
import os
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np

from deep_reid.errors import DataError, MissingPathError
from deep_reid.interfaces import TestSet
from deep_reid.system import files

COLUMNS = ("path", "identity", "camera", "row")

ENDING = ".csv"
"""Instead of the ending of the file of features."""


def path_of(features_path: files.Path) -> str:
    """Return the path of the index of a file of features."""
    return os.path.splitext(os.fspath(features_path))[0] + ENDING


def write_index(
    features_path: files.Path,
    images: Sequence[files.Path],
    describe: Callable[[files.Path], tuple[object, object]] = lambda path: ("", ""),
) -> str:
    """Write the index of a file of features, whole or not at all.

    Parameters
    ----------
    features_path : str or Path
    images : sequence of N str
        Their paths become absolute.
    describe : callable, optional
        Returns the identity and the camera of an image.

    Returns
    -------
    str
        Its path. Rows count from 0.
    """
    path = path_of(features_path)
    lines = [(os.path.abspath(image), *describe(image), row) for row, image in enumerate(images)]
    write_csv(path, COLUMNS, lines)
    return path


class IndexedPaths:
    """The paths in the indices of files of features, which may be too many for memory.

    Parameters
    ----------
    features_paths : sequence of str or Path
        The files, in the order of their rows.
    """

    def __init__(self, features_paths: Sequence[files.Path]) -> None:
        self._index_paths = [path_of(path) for path in features_paths]

    def find_rows(self, paths: Collection[str]) -> dict[str, int]:
        """Return the first row of each image that there is, by its path."""
        found: dict[str, int] = {}
        for row, path in enumerate(self):
            if path in paths:
                found.setdefault(path, row)
        return found

    def find_paths(self, rows: Collection[int]) -> dict[int, str]:
        """Return the path of each of some rows."""
        return {row: path for row, path in enumerate(self) if row in rows}

    def count(self) -> int:
        """Return the number of rows."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[str]:
        """Yield all paths in order.

        Raises
        ------
        MissingPathError
            If an index does not exist.
        DataError
            If it is no index, or a line is missing.
        """
        for index_path in self._index_paths:
            if not os.path.exists(index_path):
                raise MissingPathError(
                    f"{index_path} does not exist: it tells the image of each row of the features "
                    "beside it, and --mode=export writes both"
                )
            with open(index_path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                reader = csv.reader(file)
                if tuple(next(reader, ())) != COLUMNS:
                    raise DataError(f"{index_path} does not begin with {','.join(COLUMNS)}")
                for row, line in enumerate(reader):
                    if len(line) != len(COLUMNS) or line[-1] != str(row):
                        raise DataError(
                            f"{index_path}, line {reader.line_num}: it must be of row {row}: write "
                            "the features anew"
                        )
                    yield line[0]


def write_csv(path: files.Path, header: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    """Write a table, whole or not at all. Names that are not UTF-8 keep their bytes.

    Parameters
    ----------
    path : str or Path
    header : sequence of str
    lines : sequence of sequences
    """
    with (
        files.writing(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(lines)


def create_describer(
    test_set: TestSet, name_of: Callable[[int], str]
) -> Callable[[files.Path], tuple[object, object]]:
    """Create a function that returns the identity and the camera of an image of a test.

    Parameters
    ----------
    test_set : datasets.protocols.TestSet
    name_of : callable
        Returns the name of an identity, by its label.

    Returns
    -------
    callable
        For images that are not in the test, it returns empty texts.
    """
    images = test_set.gallery_images
    items = np.arange(len(images))
    if test_set.tracks is not None:
        items = np.full(len(images), -1)
        for item, (first, last) in enumerate(test_set.tracks):
            items[first : last + 1] = item
    known: dict[files.Path, tuple[object, object]] = {
        image: (name_of(int(test_set.gallery_labels[item])), int(test_set.gallery_cameras[item]))
        for image, item in zip(images, items.tolist(), strict=True)
        if item >= 0
    }
    query = zip(test_set.query_labels, test_set.query_cameras, strict=True)
    for image, (label, camera) in zip(test_set.query_images or (), query, strict=False):
        known[image] = (name_of(int(label)), int(camera))
    return lambda image: known.get(image, ("", ""))
