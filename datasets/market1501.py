"""Reads Market-1501 [1]_ and data sets in its layout.

The folder has ``bounding_box_train``, ``bounding_box_test`` (the gallery) and ``query``, with
files ``PPPP_cCsS_FFFFFF_DD.jpg``: person, camera (from 1), sequence, frame, detection. Some
files of the original end in ``.jpg.jpg``.

The protocol ranks the gallery for each query:

- gallery images of the id -1 are junk: the ranking ignores them;
- gallery images of the id 0 are distractors: they are ranked and never match;
- gallery images of the query's id *and* camera are junk for that query;
- the other images of the query's id are the matches.

The real data set lists the same in the files of ``gt_query``: see `datasets.ground_truth`.

References
----------
.. [1] L. Zheng, L. Shen, L. Tian, S. Wang, J. Wang, Q. Tian: Scalable Person
   Re-identification: A Benchmark. ICCV 2015.
"""

import functools
import os
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from deep_reid.errors import DataError

from .base import ReidDataset
from .ground_truth import read_good_mask
from .images import list_jpegs, parse_name, read_split_images
from .split import Split

MAX_LABEL = 1501
"""The largest person number of Market-1501."""

IMAGE_SHAPE = (128, 64, 3)
"""``(height, width, channels)`` of the files, and of the images to train with."""

Columns: TypeAlias = tuple[list[str], list[int], list[int]]
"""File names, persons and cameras of images."""

_PATTERN = re.compile(
    r"(-1|[0-9]+)_c([0-9]+)s([0-9]+)_([0-9]+)_([0-9]+)\.jpg(?:\.jpg)?", re.IGNORECASE
)
_EXAMPLE = "0002_c1s1_000451_03.jpg"


class FileInfo(NamedTuple):
    """The five numbers in the name of an image file."""

    person: int
    camera: int
    sequence: int
    frame: int
    detection: int


def parse_filename(name: str) -> FileInfo:
    """Read the numbers in the name of an image file.

    Parameters
    ----------
    name : str
        Name in the form ``PPPP_cCsS_FFFFFF_DD.jpg``, with or without a folder.

    Returns
    -------
    info : FileInfo
        ``(person, camera, sequence, frame, detection)``. Person -1 is junk, 0 is a distractor;
        cameras count from 1.

    Raises
    ------
    DataError
        If the name has another form.
    """
    form = f"PPPP_cCsS_FFFFFF_DD.jpg (such as {_EXAMPLE})"
    return FileInfo(*map(int, parse_name(_PATTERN, name, Market1501.TITLE, form)))


def read_train_split_to_str(dataset_dir: str | os.PathLike[str]) -> Columns:
    """List the training images.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.

    Returns
    -------
    filenames : list of str
        Paths of the images, sorted by file name.
    ids : list of int
        The person on each image.
    camera_indices : list of int
        The camera of each image, from 1 as in the file names.

    Raises
    ------
    MissingPathError
        If the folder does not exist.
    DataError
        If it has no images, or a name has another form.
    """
    return _read_split(dataset_dir, Market1501.TRAIN_DIR)


def read_train_split_to_image(
    dataset_dir: str | os.PathLike[str], image_shape: Sequence[int] = IMAGE_SHAPE
) -> tuple[np.ndarray, ...]:
    """Read the training images.

    Raises also what `read_train_split_to_str` raises.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    image_shape : sequence of int
        ``(height, width, 3)`` or ``(height, width)``; images of another size are resized.

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width, 3)
        Colors in BGR order, sorted by file name. Train on them with
        ``functools.partial(deep_sort.preprocess, input_is_bgr=True)``.
    ids, camera_indices : ndarray of int64, shape (N,)
        See `read_train_split_to_str`.

    Raises
    ------
    DataError
        If a file is not an image.
    UsageError
        If `image_shape` has another form.
    """
    return read_split_images(read_train_split_to_str(dataset_dir), image_shape)


def read_test_split_to_str(
    dataset_dir: str | os.PathLike[str],
) -> tuple[list[str], list[int], list[str], list[int], np.ndarray]:
    """List gallery and queries, and which gallery images count for which query.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.

    Returns
    -------
    gallery_filenames : list of G str
        Paths of the images of ``bounding_box_test``, sorted by file name.
    gallery_ids : list of int
        The person on each gallery image; -1 is junk, 0 a distractor.
    query_filenames : list of Q str
        Paths of the images of ``query``, sorted by file name.
    query_ids : list of int
        The person on each query.
    good_mask : ndarray of float32, shape (Q, G)
        0 if the gallery image is junk for the query, else 1; see
        `datasets.ground_truth.read_good_mask`.

    Raises
    ------
    MissingPathError
        If the folder of the gallery or of the queries does not exist.
    DataError
        If a folder has no images, a name has another form, or a file of ``gt_query`` is damaged
        or does not fit the gallery.
    """
    gallery, query = read_gallery_split_to_str(dataset_dir), read_query_split_to_str(dataset_dir)
    good_mask = read_good_mask(dataset_dir, Split(*query), Split(*gallery))
    return *gallery[:2], *query[:2], good_mask


def read_test_split_to_image(
    dataset_dir: str | os.PathLike[str], image_shape: Sequence[int] = IMAGE_SHAPE
) -> tuple[np.ndarray, ...]:
    """Read the images of gallery and queries, and which gallery images count for which query.

    Takes the same as `read_train_split_to_image`, and raises the same as that and
    `read_test_split_to_str`.

    Returns
    -------
    gallery_images : ndarray of uint8, shape (G, height, width, 3)
        Colors in BGR order. The real data set has 19,732 gallery images, which take 485 MB.
    gallery_ids : ndarray of int64, shape (G,)
    query_images : ndarray of uint8, shape (Q, height, width, 3)
        Colors in BGR order.
    query_ids : ndarray of int64, shape (Q,)
    good_mask : ndarray of float32, shape (Q, G)
        See `read_test_split_to_str`, also for the order.
    """
    gallery, gallery_ids, query, query_ids, good_mask = read_test_split_to_str(dataset_dir)
    return (
        *read_split_images((gallery, gallery_ids), image_shape),
        *read_split_images((query, query_ids), image_shape),
        good_mask,
    )


def read_gallery_split_to_str(dataset_dir: str | os.PathLike[str]) -> Columns:
    """List the gallery, ``bounding_box_test``, with junk (id -1) and distractors (id 0).

    Takes, returns and raises the same as `read_train_split_to_str`.
    """
    return _read_split(dataset_dir, "bounding_box_test")


def read_query_split_to_str(dataset_dir: str | os.PathLike[str]) -> Columns:
    """List the queries, folder ``query``.

    Takes, returns and raises the same as `read_train_split_to_str`.
    """
    return _read_split(dataset_dir, "query")


def _read_split(dataset_dir, name):
    Market1501.find(dataset_dir, name)
    directory = os.path.join(dataset_dir, name)
    filenames = [os.path.join(directory, name) for name in list_jpegs(directory)]
    if not filenames:
        raise DataError(
            f"{directory} has no .jpg files, but it must hold images such as {_EXAMPLE}: "
            "unpack the data set again"
        )
    infos = [parse_filename(filename) for filename in filenames]
    return filenames, [info.person for info in infos], [info.camera for info in infos]


class Market1501(ReidDataset):
    """Market-1501, or a data set in its layout; see `ReidDataset`."""

    NAME = "market1501"
    TITLE = "Market-1501"
    IMAGE_SHAPE = IMAGE_SHAPE
    MAX_LABEL = MAX_LABEL
    NUM_GALLERIES = 10
    DEFAULT_DIR = "./resources/Market-1501-v15.09.15"
    HOMEPAGE = "http://zheng-lab.cecs.anu.edu.au/Project/project_reid.html"
    CAN_BE_DRAWN = True
    TRAIN_DIR = "bounding_box_train"
    TEST_SPLITS = ("gallery", "query")

    def _read_train(self) -> Split:
        return Split(*read_train_split_to_str(self.dataset_dir))

    @functools.cached_property
    def gallery(self) -> Split:
        """Images of ``bounding_box_test``, a Split; with junk (-1) and distractors (0)."""
        return Split(*read_gallery_split_to_str(self.dataset_dir))

    @functools.cached_property
    def query(self) -> Split:
        """Images of ``query``, a Split."""
        return Split(*read_query_split_to_str(self.dataset_dir))

    def name_of(self, label: int) -> str:
        """Return the name of an identity, as the files have it; see `ReidDataset.name_of`."""
        return f"{label:04d}" if label >= 0 else str(label)

    def export_files(self) -> dict[str, list[str]]:
        """List the images whose features the official MATLAB code reads; see `ReidDataset`.

        Returns
        -------
        files : dict from str to list of str
            ``feat_test.mat``: all of ``bounding_box_test``, ``feat_query.mat``: all of
            ``query``; both sorted by name.
        """
        return {
            "feat_test.mat": list(self.gallery.filenames),
            "feat_query.mat": list(self.query.filenames),
        }
