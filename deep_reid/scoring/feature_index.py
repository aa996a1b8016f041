"""The index beside a file of features: which image each row is of; free of TensorFlow."""

import csv
import os
from collections.abc import Callable, Sequence

import numpy as np

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
