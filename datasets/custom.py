"""Reads your own images, of persons or of anything else that has an identity.

The data has one of three forms:

- a folder with one folder of images per identity; or with the folders ``train``, ``query`` and
  ``gallery``, each with one folder per identity (`datasets.own.folders`);
- a list with the columns ``path,identity[,camera][,split]`` (`datasets.own.csv_listing`);
- a MOTChallenge sequence, a folder of sequences, or KITTI's tracking data, from which crops are cut
  (`datasets.own.mot`).

With a pattern, file names tell the identity, the camera or the split of images in folders and lists
(`deep_reid.system.name_patterns`).

Without queries and a gallery, the test uses the validation identities: each of their images is a
query, and all others are its gallery.
"""

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.samplers.galleries import JUNK_LABEL, rows_by_label
from deep_reid.system.name_patterns import NamePattern

from .base import DRAW_COMMAND, ReidDataset
from .own import csv_listing, folders, listing, mot
from .protocols import TestSet, create_each_image_test_set, create_image_test_set
from .split import Split

CROPS_DIR = os.path.join(".", "output", "custom", "crops")
"""The folder of the crops of MOTChallenge sequences."""

MIN_VALIDATION = 2
"""A share for validation has at least this many identities: CMC over one is always 1."""

_MIN_IDENTITIES_TO_SPLIT = 4
_logger = logging.getLogger(__name__)


class Custom(ReidDataset):
    """Your own images; see `ReidDataset` and this module.

    Labels number the identities of all splits from 1, in the sorted order of their names. If there
    are four identities or more and `num_validation_identities` is a positive share, at least two
    identities are kept for validation. Identities with a single image are only trained on.

    Parameters
    ----------
    dataset_dir, num_validation_identities, seed, needs_train
        As in `ReidDataset`.
    name_pattern : str, optional
        Tells identity, camera and split from file names; see `NamePattern`.
    mot_classes : sequence of str
        The classes of boxes to cut out of sequences. Empty: all.

    Raises
    ------
    UsageError
        If the pattern is none, or what it was given for has no file names to read.
    MissingPathError
        If the folder or file does not exist.
    DataError
        If it has none of the three forms, or breaks a rule of its form.
    """

    NAME = "custom"
    TITLE = "your own images"
    IMAGE_SHAPE = (128, 64, 3)
    NUM_GALLERIES = 10
    DEFAULT_DIR = None
    TRAIN_DIR = ""
    TEST_SPLITS = ("query", "gallery")
    COMPACT_LABELS = True
    FITS_BATCHES = True
    SETTINGS = ("name_pattern", "mot_classes")

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        num_validation_identities: float = 0.1,
        seed: int = 1234,
        *,
        needs_train: bool = True,
        name_pattern: str | None = None,
        mot_classes: Sequence[str] = (),
    ) -> None:
        self._pattern = None if name_pattern is None else NamePattern(name_pattern)
        self._mot_classes = tuple(mot_classes)
        super().__init__(dataset_dir, num_validation_identities, seed, needs_train=needs_train)

    @classmethod
    def find(cls, dataset_dir: str | os.PathLike[str], name: str = "") -> Path:
        """Return the path of the data set, or of a part of it; see `ReidDataset.find`."""
        path = Path(dataset_dir, name)
        if path.exists():
            return path
        raise MissingPathError(
            f"{path} does not exist: name a folder with one folder of images per identity, a CSV "
            f"file or a MOTChallenge sequence; or draw one: {DRAW_COMMAND} --layout folders "
            f"--output_dir {dataset_dir}"
        )

    @functools.cached_property
    def _listing(self) -> listing.Listing:
        is_file = os.path.isfile(self.dataset_dir)
        if mot.holds_sequences(self.dataset_dir):
            self._check_no_setting(self._pattern, "--name_pattern", "the boxes have identities")
            return mot.read_sequences(self.dataset_dir, CROPS_DIR, self._mot_classes)
        self._check_no_setting(self._mot_classes, "--mot_classes", "there are no boxes")
        if is_file:
            return csv_listing.read_csv(self.dataset_dir, self._pattern)
        return folders.read_folders(self.dataset_dir, self._pattern)

    def _check_no_setting(self, value, flag, reason):
        if value:
            raise UsageError(
                f"{flag} has no meaning for {self.dataset_dir}: {reason}, leave it out"
            )

    @functools.cached_property
    def _names(self) -> list[str]:
        return sorted(set(self._listing.identities) - {listing.JUNK_NAME})

    @property
    def num_classes(self) -> int:
        """Number of classes of a classifier over the labels, which count from 1."""
        return len(self._names) + 1

    def name_of(self, label: int) -> str:
        """Return the name of an identity; see `ReidDataset.name_of`."""
        return listing.JUNK_NAME if label == JUNK_LABEL else self._names[label - 1]

    def _read_split(self, name: str) -> Split:
        rows = self._listing.rows(name)
        if not rows:
            raise MissingPathError(
                f"{self.dataset_dir} has no images of the split {name!r}: add some, or leave the "
                "splits out"
            )
        labels = {name: label for label, name in enumerate(self._names, 1)}
        labels[listing.JUNK_NAME] = JUNK_LABEL
        return Split(
            [self._listing.filenames[row] for row in rows],
            [labels[self._listing.identities[row]] for row in rows],
            self._cameras[rows],
        )

    @functools.cached_property
    def _cameras(self) -> np.ndarray:
        """Number the cameras from 1, in the sorted order of their names; 1 if they are unknown."""
        names = self._listing.cameras or [""] * len(self._listing)
        return np.unique(names, return_inverse=True)[1] + 1

    def _read_train(self) -> Split:
        return self._read_split("train")

    @functools.cached_property
    def query(self) -> Split:
        """Images of the split ``query``, a Split."""
        return self._read_split("query")

    @functools.cached_property
    def gallery(self) -> Split:
        """Images of the split ``gallery``, a Split."""
        return self._read_split("gallery")

    def _check_train(self, split):
        if split.num_identities < 2:
            raise DataError(
                f"{self.dataset_dir} has one identity to train on ({self.name_of(1)}): a network "
                "learns from two or more"
            )

    def _split_rows(self, split):
        labels, rows = rows_by_label(split.labels)
        candidates = labels[[len(rows_of_one) > 1 for rows_of_one in rows]]
        num_single = len(labels) - len(candidates)
        if num_single:
            _logger.info(
                "%d identities with a single image are trained on, and left out of validation",
                num_single,
            )
        count = self._num_validation(len(labels), len(candidates))
        random = np.random.RandomState(self.seed)
        chosen = np.isin(split.labels, random.choice(candidates, count, replace=False))
        return np.flatnonzero(~chosen), np.flatnonzero(chosen)

    def _num_validation(self, num_identities, num_candidates):
        number = self.num_validation_identities
        if isinstance(number, float):
            is_raised = number > 0 and num_identities >= _MIN_IDENTITIES_TO_SPLIT
            count = max(int(number * num_identities), MIN_VALIDATION * is_raised)
            return min(count, num_candidates)
        most = min(num_candidates, num_identities - 2)
        if number > most:
            raise UsageError(
                f"num_validation ({number}) is too large: {num_candidates} of the "
                f"{num_identities} identities of {self.dataset_dir} have two images or more, and "
                f"two must be left to train on; use at most {most}"
            )
        return number

    def test_set(self) -> TestSet:
        """Create the test: queries against the gallery, or each validation image in turn.

        Returns
        -------
        datasets.protocols.TestSet

        Raises
        ------
        MissingPathError
            If there are queries without a gallery, or a gallery without queries.
        DataError
            If there are neither queries and a gallery nor identities for validation.
        """
        if {"query", "gallery"} & set(self._listing.splits):
            return create_image_test_set("Queries against the gallery", self.query, self.gallery)
        if not len(self.validation):
            raise DataError(
                f"{self.dataset_dir} has neither queries and a gallery nor identities for "
                "validation: add the splits, or keep identities with --num_validation"
            )
        protocol = f"Each image of {self.validation.num_identities} validation identities in turn"
        return create_each_image_test_set(protocol, self.validation)

    def export_files(self) -> dict[str, list[str]]:
        """List the images of the test, in the order of the test.

        Returns
        -------
        files : dict from str to list of str
            ``feat_test.mat``: the gallery; ``feat_query.mat``: the queries, unless they are
            images of the gallery.

        Raises
        ------
        MissingPathError, DataError
            As `test_set` does.
        """
        test_set = self.test_set()
        files = {"feat_test.mat": list(test_set.gallery_images)}
        if test_set.query_images is not None:
            files["feat_query.mat"] = list(test_set.query_images)
        return files
