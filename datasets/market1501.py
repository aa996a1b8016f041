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
from typing import NamedTuple

from deep_reid.errors import DataError

from .base import ReidDataset, Split
from .ground_truth import read_good_mask
from .images import list_jpegs, read_split_images

MAX_LABEL = 1501
"""The largest person number of Market-1501."""

IMAGE_SHAPE = (128, 64, 3)
"""``(height, width, channels)`` of the files, and of the images to train with."""

_PATTERN = re.compile(
    r"(-1|[0-9]+)_c([0-9]+)s([0-9]+)_([0-9]+)_([0-9]+)\.jpg(?:\.jpg)?", re.IGNORECASE
)


class FileInfo(NamedTuple):
    """The five numbers in the name of an image file."""

    person: int
    camera: int
    sequence: int
    frame: int
    detection: int


def parse_filename(name):
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
    match = _PATTERN.fullmatch(os.path.basename(name))
    if match is None:
        raise DataError(
            f"{name} is not named like a Market-1501 image, PPPP_cCsS_FFFFFF_DD.jpg (such as "
            "0002_c1s1_000451_03.jpg): rename or remove the file"
        )
    return FileInfo(*map(int, match.groups()))


def read_train_split_to_str(dataset_dir):
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
        If it has no images, or a name is not in the form of the data set.
    """
    return _read_split(dataset_dir, Market1501.TRAIN_DIR)


def read_train_split_to_image(dataset_dir, image_shape=IMAGE_SHAPE):
    """Read the training images.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    image_shape : tuple of int
        ``(height, width, 3)`` or ``(height, width)``; images of another size are resized.

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width, 3)
        Colors in BGR order, sorted by file name. Train on them with
        ``functools.partial(deep_sort.preprocess, input_is_bgr=True)``.
    ids : ndarray of int64, shape (N,)
        The person on each image.
    camera_indices : ndarray of int64, shape (N,)
        The camera of each image, from 1 as in the file names.

    Raises
    ------
    MissingPathError
        If the folder does not exist.
    DataError
        If it has no images, a name is not in the form of the data set, or a file is not an image.
    UsageError
        If `image_shape` has another form.
    """
    return read_split_images(read_train_split_to_str(dataset_dir), image_shape)


def read_test_split_to_str(dataset_dir):
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
        The person on each of them; -1 is junk, 0 a distractor.
    query_filenames : list of Q str
        Paths of the images of ``query``, sorted by file name.
    query_ids : list of int
        The person on each of them.
    good_mask : ndarray of float32, shape (Q, G)
        0 if the gallery image is junk for the query, else 1. The files ``gt_query/*_junk.mat``
        list the junk. For a query without such a file, it follows from the file names: the id -1,
        or the query's id *and* camera.

    Raises
    ------
    MissingPathError
        If the folder of the gallery or of the queries does not exist.
    DataError
        If a folder has no images, a name is not in the form of the data set, or a file of
        ``gt_query`` is damaged or does not fit the gallery.
    """
    gallery = Split(*read_gallery_split_to_str(dataset_dir))
    query = Split(*read_query_split_to_str(dataset_dir))
    good_mask = read_good_mask(dataset_dir, query, gallery)
    return (
        gallery.filenames,
        gallery.labels.tolist(),
        query.filenames,
        query.labels.tolist(),
        good_mask,
    )


def read_test_split_to_image(dataset_dir, image_shape=IMAGE_SHAPE):
    """Read the images of gallery and queries, and which of them count for which query.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    image_shape : tuple of int
        ``(height, width, 3)`` or ``(height, width)``; images of another size are resized.

    Returns
    -------
    gallery_images : ndarray of uint8, shape (G, height, width, 3)
        Colors in BGR order. The real data set has 19,732 gallery images, which take 485 MB.
    gallery_ids : ndarray of int64, shape (G,)
    query_images : ndarray of uint8, shape (Q, height, width, 3)
        Colors in BGR order.
    query_ids : ndarray of int64, shape (Q,)
    good_mask : ndarray of float32, shape (Q, G)
        See `read_test_split_to_str`, also for the order and the errors.
    """
    gallery, gallery_ids, query, query_ids, good_mask = read_test_split_to_str(dataset_dir)
    return (
        *read_split_images((gallery, gallery_ids), image_shape),
        *read_split_images((query, query_ids), image_shape),
        good_mask,
    )


def read_gallery_split_to_str(dataset_dir):
    """List the gallery, ``bounding_box_test``, with junk (id -1) and distractors (id 0).

    Takes, returns and raises the same as `read_train_split_to_str`.
    """
    return _read_split(dataset_dir, "bounding_box_test")


def read_query_split_to_str(dataset_dir):
    """List the queries, folder ``query``.

    Takes, returns and raises the same as `read_train_split_to_str`.
    """
    return _read_split(dataset_dir, "query")


def _read_split(dataset_dir, name):
    Market1501.find(dataset_dir, name)
    directory = os.path.join(dataset_dir, name)
    names = list_jpegs(directory)
    if not names:
        raise DataError(
            f"{directory} has no .jpg files, but it must hold images such as "
            "0002_c1s1_000451_03.jpg: unpack the data set again"
        )
    infos = [parse_filename(os.path.join(directory, name)) for name in names]
    filenames = [os.path.join(directory, name) for name in names]
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
    TRAIN_DIR = "bounding_box_train"
    TEST_SPLITS = ("gallery", "query")

    def _read_train(self):
        return Split(*read_train_split_to_str(self.dataset_dir))

    @functools.cached_property
    def gallery(self):
        """Images of ``bounding_box_test``, a Split; with junk (-1) and distractors (0)."""
        return Split(*read_gallery_split_to_str(self.dataset_dir))

    @functools.cached_property
    def query(self):
        """Images of ``query``, a Split."""
        return Split(*read_query_split_to_str(self.dataset_dir))

    def export_files(self):
        """List the images whose features the official MATLAB code reads.

        Returns
        -------
        files : dict from str to list of str
            ``feat_test.mat``: all of ``bounding_box_test``, ``feat_query.mat``: all of
            ``query``; both sorted by name.

        Raises
        ------
        MissingPathError
            If a folder does not exist.
        DataError
            If a folder has no images, or a name is not in the form of the data set.
        """
        return {
            "feat_test.mat": list(self.gallery.filenames),
            "feat_query.mat": list(self.query.filenames),
        }
