"""Reads MARS [1]_ and data sets in its layout.

The folder has ``bbox_train/PPPP/*.jpg``, ``bbox_test/PPPP/*.jpg`` and ``info``, with files
``PPPPCcTttttFfff.jpg``: person, camera (from 1), tracklet, frame. The person ``00-1`` (id -1)
is junk, ``0000`` (id 0) are distractors. ``info/test_name.txt`` lists the test images in the
official order, to which the track tables in ``info`` refer.

The protocol ranks all test tracks for each query track. Tracks of the id -1 are junk, and so are
tracks of the query's id *and* camera (the query itself is one of them). Tracks of the id 0 are
ranked and never match.

References
----------
.. [1] L. Zheng, Z. Bie, Y. Sun, J. Wang, C. Su, S. Wang, Q. Tian: MARS: A Video Benchmark for
   Large-Scale Person Re-identification. ECCV 2016.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from deep_reid.errors import DataError
from deep_reid.samplers.galleries import JUNK_LABEL
from deep_reid.system.matlab import read_variable

from .base import ReidDataset
from .images import list_jpegs, parse_name, read_split_images
from .protocols import TestSet, create_track_test_set
from .split import Split

MAX_LABEL = 1500
"""The largest person number of MARS."""

IMAGE_SHAPE = (256, 128, 3)
"""``(height, width, channels)`` of the files; `Mars` trains at half the size."""

Columns: TypeAlias = tuple[list[str], list[int], list[int], list[int]]
"""File names, persons, cameras and tracklets of images."""

_PATTERN = re.compile(r"(.{4})C([0-9]+)T([0-9]+)F([0-9]+)\.jpg", re.IGNORECASE)


class FileInfo(NamedTuple):
    """The four numbers in the name of an image file."""

    person: int
    camera: int
    tracklet: int
    frame: int


def parse_filename(name: str) -> FileInfo:
    """Read the numbers in the name of an image file.

    Parameters
    ----------
    name : str
        Name in the form ``PPPPCcTttttFfff.jpg``, with or without a folder.

    Returns
    -------
    info : FileInfo
        ``(person, camera, tracklet, frame)``. Person -1 (not a number in the name) is junk, 0 is a
        distractor; cameras count from 1.

    Raises
    ------
    DataError
        If the name has another form.
    """
    form = "PPPPCcTttttFfff.jpg (such as 0001C1T0001F001.jpg)"
    person, *numbers = parse_name(_PATTERN, name, Mars.TITLE, form)
    return FileInfo(_read_person(person), *map(int, numbers))


def _read_person(text):
    return int(text) if re.fullmatch("[0-9]+", text) else JUNK_LABEL


def read_train_test_directory_to_str(directory: str | os.PathLike[str]) -> Columns:
    """List the images of ``bbox_train`` or ``bbox_test``.

    Parameters
    ----------
    directory : str or Path
        Has one folder for each person.

    Returns
    -------
    filenames : list of str
        Paths of the images, sorted by folder and file name.
    ids : list of int
        The number in the name of the image's folder; -1 (junk) if the name is not a number.
    camera_indices : list of int
        The camera of each image, from 1 as in the file names.
    tracklet_indices : list of int
        The tracklet of each image as in the file names, counted within person and camera.

    Raises
    ------
    MissingPathError
        If the folder does not exist.
    DataError
        If it has no images, or a name has another form.
    """
    Mars.find(Path(directory).parent, Path(directory).name)
    return _with_numbers(_list_person_folders(directory))


def read_train_test_directory_to_image(
    directory: str | os.PathLike[str], image_shape: Sequence[int] = (128, 64)
) -> tuple[np.ndarray, ...]:
    """Read the images of ``bbox_train`` or ``bbox_test``.

    MARS has 510,000 training images, which take 12 GB at 128 x 64, and even more test images: use
    `read_train_test_directory_to_str` unless the data set is small. Raises also what that raises.

    Parameters
    ----------
    directory : str or Path
        Has one folder for each person.
    image_shape : sequence of int
        ``(height, width)`` or ``(height, width, 3)``; images of another size are resized.

    Returns
    -------
    images : ndarray of uint8, shape (N, height, width, 3)
        Colors in BGR order, sorted by folder and file name. Train on them with
        ``functools.partial(deep_sort.preprocess, input_is_bgr=True)``.
    ids, camera_indices, tracklet_indices : ndarray of int64, shape (N,)
        See `read_train_test_directory_to_str`.

    Raises
    ------
    DataError
        If a file is not an image.
    UsageError
        If `image_shape` has another form.
    """
    return read_split_images(read_train_test_directory_to_str(directory), image_shape)


def read_train_split_to_str(dataset_dir: str | os.PathLike[str]) -> Columns:
    """List the training images.

    Takes the folder of the data set, a str or Path; returns and raises the same as
    `read_train_test_directory_to_str`.
    """
    return read_train_test_directory_to_str(os.path.join(dataset_dir, Mars.TRAIN_DIR))


def read_train_split_to_image(
    dataset_dir: str | os.PathLike[str], image_shape: Sequence[int] = (128, 64)
) -> tuple[np.ndarray, ...]:
    """Read the training images.

    Takes the folder of the data set, a str or Path, and `image_shape`; returns and raises the
    same as `read_train_test_directory_to_image`.
    """
    return read_split_images(read_train_split_to_str(dataset_dir), image_shape)


def read_test_split_to_str(dataset_dir: str | os.PathLike[str]) -> Columns:
    """List the test images, with junk (id -1) and distractors (id 0).

    ``info/test_name.txt`` gives names and order; the images on the disk are not listed (MARS has
    681,089). Without that file, the order is by folder and file name. Takes the folder of the data
    set, a str or Path; returns and raises the same as `read_train_test_directory_to_str`.
    """
    directory = os.path.join(dataset_dir, Mars.TEST_DIR)
    list_path = os.path.join(dataset_dir, Mars.TEST_LIST)
    if not os.path.exists(list_path):
        return read_train_test_directory_to_str(directory)
    Mars.find(dataset_dir, Mars.TEST_DIR)
    names = Path(list_path).read_text(encoding="utf-8").split()
    if not names:
        raise DataError(f"{list_path} names no images: restore it from the MARS evaluation code")
    return _with_numbers([os.path.join(directory, name[:4], name) for name in names])


def read_test_split_to_image(
    dataset_dir: str | os.PathLike[str], image_shape: Sequence[int] = (128, 64)
) -> tuple[np.ndarray, ...]:
    """Read the test images, with junk (id -1) and distractors (id 0).

    The order is that of `read_test_split_to_str`. Takes the folder of the data set, a str or
    Path, and `image_shape`; returns and raises the same as `read_train_test_directory_to_image`.
    """
    return read_split_images(read_test_split_to_str(dataset_dir), image_shape)


def _list_person_folders(directory):
    # Sorted: file systems list folders in any order, but seeded draws depend on row numbers.
    folders = sorted(entry.path for entry in os.scandir(os.fspath(directory)) if entry.is_dir())
    filenames = [os.path.join(folder, name) for folder in folders for name in list_jpegs(folder)]
    if not filenames:
        raise DataError(
            f"{directory} has no .jpg files in folders of persons, but it must hold images such "
            "as 0001/0001C1T0001F001.jpg: unpack the data set again"
        )
    return filenames


def _with_numbers(filenames):
    infos = [parse_filename(filename) for filename in filenames]
    persons = [_read_person(os.path.basename(os.path.dirname(name))) for name in filenames]
    return filenames, persons, [info.camera for info in infos], [info.tracklet for info in infos]


class Mars(ReidDataset):
    """MARS, or a data set in its layout; see `ReidDataset`."""

    NAME = "mars"
    TITLE = "MARS"
    IMAGE_SHAPE = (128, 64, 3)
    MAX_LABEL = MAX_LABEL
    NUM_GALLERIES = 20
    DEFAULT_DIR = "./resources/MARS-evaluation-master"
    HOMEPAGE = "http://zheng-lab.cecs.anu.edu.au/Project/project_mars.html"
    CAN_BE_DRAWN = True
    TRAIN_DIR = "bbox_train"
    TEST_DIR = "bbox_test"
    TEST_LIST = os.path.join("info", "test_name.txt")
    TEST_SPLITS = ("gallery",)

    def _read_train(self) -> Split:
        return Split(*read_train_split_to_str(self.dataset_dir))

    @functools.cached_property
    def gallery(self) -> Split:
        """All images of ``bbox_test``, a Split; some of its tracks are the queries."""
        return Split(*read_test_split_to_str(self.dataset_dir))

    def test_set(self) -> TestSet:
        """Create the official test: tracklets, cross camera; see `ReidDataset`."""
        return create_track_test_set(
            "MARS: tracklets (mean of their features), single query, cross camera",
            self._read_table("tracks_test_info.mat", "track_test_info"),
            self._read_table("query_IDX.mat", "query_IDX"),
            lambda: self.export_files()["feat_test.mat"],
        )

    def _read_table(self, filename, variable):
        path = self.find(self.dataset_dir, os.path.join("info", filename))
        return read_variable(path, variable, "restore it from the MARS evaluation code")

    def name_of(self, label: int) -> str:
        """Return the name of an identity, as the folders have it; see `ReidDataset.name_of`."""
        return str(label).rjust(4, "0")

    def export_files(self) -> dict[str, list[str]]:
        """List the images whose features the official MATLAB code reads; see `ReidDataset`.

        Returns
        -------
        files : dict from str to list of str
            ``feat_test.mat``: the images in the order of ``info/test_name.txt``, to which the
            track tables refer. That file must exist.
        """
        self.find(self.dataset_dir, self.TEST_LIST)
        return {"feat_test.mat": list(self.gallery.filenames)}
