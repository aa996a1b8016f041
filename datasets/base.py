"""The base class of all data sets: their splits, checks of them, a summary."""

import abc
import functools
import logging
import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.system.tables import align

from .images import list_jpegs, read_images
from .own.hints import find_deeper, find_other_case
from .protocols import TestSet, create_image_test_set
from .split import Split
from .util import create_validation_split

__all__ = ["ReidDataset", "Split", "list_jpegs", "read_images"]

DRAW_COMMAND = (
    "python -m datasets.synthetic" if __package__ == "datasets" else "python -m deep_reid draw"
)
"""Draws a data set: in a clone, and where the package is installed."""

_logger = logging.getLogger(__name__)


class ReidDataset(abc.ABC):
    """A data set in a folder, split by identity into training and validation.

    The class attributes describe the data set; a subclass sets them all. A test split is read
    when it is first used: training needs only the training folder.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    num_validation_identities : float or int
        Share (float) or number (int) of the training identities to keep for validation.
    seed : int
        Seed of that choice.
    needs_train : bool
        Whether the training folder must exist; the test does not need it.

    Raises
    ------
    MissingPathError
        If the folder or its training folder does not exist.
    """

    NAME: ClassVar[str]
    """Name in commands, such as ``market1501``."""
    TITLE: ClassVar[str]
    """Name in messages, such as ``Market-1501``."""
    IMAGE_SHAPE: ClassVar[tuple[int, int, int]]
    """``(height, width, channels)`` to train with."""
    MAX_LABEL: ClassVar[int]
    """The largest identity number."""
    NUM_GALLERIES: ClassVar[int]
    """Number of random galleries over which validation CMC is averaged."""
    DEFAULT_DIR: ClassVar[str | None]
    """The folder of the data set if the command line names none; None: it must name one."""
    HOMEPAGE: ClassVar[str]
    """Where to get the data set."""
    TRAIN_DIR: ClassVar[str]
    """Folder of the training images, in the folder of the data set."""
    TEST_SPLITS: ClassVar[tuple[str, ...]]
    """Names of the attributes that hold the test splits."""
    COMPACT_LABELS: ClassVar[bool] = False
    """Whether a classifier has one class per training identity, instead of MAX_LABEL + 1."""
    FITS_BATCHES: ClassVar[bool] = False
    """Whether batches shrink if there are too few identities. Otherwise that is an error."""
    CAN_BE_DRAWN: ClassVar[bool] = False
    """Whether `datasets.synthetic` has a layout of this name."""
    SETTINGS: ClassVar[tuple[str, ...]] = ()
    """Names of the settings of a run that the data set also takes, as arguments."""

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str],
        num_validation_identities: float = 0.1,
        seed: int = 1234,
        *,
        needs_train: bool = True,
    ) -> None:
        self.dataset_dir = str(dataset_dir)
        self.num_validation_identities = num_validation_identities
        self.seed = seed
        self.find(dataset_dir, self.TRAIN_DIR if needs_train else "")

    @classmethod
    def find(cls, dataset_dir: str | os.PathLike[str], name: str) -> Path:
        """Return the path of a file or folder of the data set.

        Parameters
        ----------
        dataset_dir : str or Path
            The folder of the data set.
        name : str
            Path of the file or folder in it.

        Returns
        -------
        path : Path

        Raises
        ------
        MissingPathError
            If it does not exist; the message says where to get the data set.
        """
        path = Path(dataset_dir, name)
        if path.exists():
            return path
        if Path(dataset_dir).is_file():
            raise MissingPathError(
                f"{dataset_dir} is a file, not the folder of {cls.TITLE}: unpack it if it is an "
                "archive, and name the folder"
            )
        other_case = find_other_case(dataset_dir, name)
        if other_case is not None:
            raise MissingPathError(
                f"{dataset_dir} has {other_case}, but {cls.TITLE} has {name}: rename it"
            )
        deeper = find_deeper(dataset_dir, name) if Path(dataset_dir).is_dir() else None
        if deeper is not None:
            raise MissingPathError(
                f"{dataset_dir} is not the folder of {cls.TITLE}, which has {name}: name {deeper}"
            )
        # Never propose to draw into an existing folder: it may hold a part of the real data.
        missing, drawn_dir = (path, "DIR") if Path(dataset_dir).is_dir() else (dataset_dir,) * 2
        drawing = (
            f", or draw a synthetic one: {DRAW_COMMAND} --layout {cls.NAME} "
            f"--output_dir {drawn_dir}"
        )
        raise MissingPathError(
            f"{cls.TITLE} was not found: {missing} does not exist; get the data set from "
            f"{cls.HOMEPAGE}{drawing if cls.CAN_BE_DRAWN else ''}"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes of a classifier over the labels: MAX_LABEL + 1."""
        return self.MAX_LABEL + 1

    def name_of(self, label: int) -> str:
        """Return the name of an identity.

        Parameters
        ----------
        label : int

        Returns
        -------
        str
        """
        return str(label)

    @functools.cached_property
    def train(self) -> Split:
        """Images of the identities to train on, a Split."""
        return self._training_and_validation[0]

    @functools.cached_property
    def validation(self) -> Split:
        """Images of the identities kept for validation, a Split."""
        return self._training_and_validation[1]

    @functools.cached_property
    def _training_and_validation(self) -> tuple[Split, Split]:
        split = self._read_train()
        self._check_train(split)
        train, validation = map(split.subset, self._split_rows(split))
        self._warn_of_few_identities(split.num_identities, validation.num_identities)
        return train, validation

    @abc.abstractmethod
    def _read_train(self) -> Split:
        """Return the whole training folder as a Split."""

    def _split_rows(self, split):
        """Return the rows to train on, and those for validation."""
        return create_validation_split(split.labels, self.num_validation_identities, self.seed)

    def _check_train(self, split):
        wrong = np.flatnonzero((split.labels < 0) | (split.labels > self.MAX_LABEL))
        if len(wrong):
            raise DataError(
                f"{split.filenames[wrong[0]]} has the identity {split.labels[wrong[0]]}, but "
                f"identities for training must be in 0..{self.MAX_LABEL}: renumber or remove "
                f"the file ({len(wrong)} files break the rule)"
            )

    def _warn_of_few_identities(self, num_identities, num_validation):
        if num_validation > 1:
            return
        effect = "training works, but eval mode does not"
        if num_validation == 1:
            effect = "CMC over one identity is always 1, the scores say nothing"
        _logger.warning(
            "Validation has %d of the %d identities of %s: %s; use a data set with more "
            "identities, or keep more of them for validation.",
            num_validation,
            num_identities,
            self.dataset_dir,
            effect,
        )

    def test_set(self) -> TestSet:
        """Create the official test: single query, cross camera; each image is an item.

        Returns
        -------
        test_set : datasets.protocols.TestSet

        Raises
        ------
        MissingPathError
            If a folder or file of the test data does not exist.
        DataError
            If it does not have the form of the data set.
        UsageError
            If the data set has no queries.
        """
        names = ("query", "gallery")
        if not set(names) <= set(self.TEST_SPLITS):
            raise UsageError(f"{self.TITLE} has no queries: there is no official test")
        query, gallery = (getattr(self, name) for name in names)
        return create_image_test_set(f"{self.TITLE}: single query, cross camera", query, gallery)

    @abc.abstractmethod
    def export_files(self) -> dict[str, list[str]]:
        """List the images whose features the official evaluation code reads.

        Returns
        -------
        files : dict from str to list of str
            For each .mat file its images, in the official order.

        Raises
        ------
        MissingPathError
            If a folder or file of the test data does not exist.
        DataError
            If there are no images, or a name is not in the form of the data set.
        """

    def list_splits(self) -> dict[str, Split]:
        """List the splits that exist.

        Training does not need the test splits. A test split that does not exist is left out; one
        that cannot be read is left out with a warning.

        Returns
        -------
        dict of str to Split
            ``"train"``, ``"validation"``, and the test splits that exist.
        """
        splits = {"train": self.train, "validation": self.validation}
        for name in self.TEST_SPLITS:
            try:
                splits[name] = getattr(self, name)
            except MissingPathError:
                continue
            except DataError as error:
                _logger.warning("The %s split is left out of the summary: %s", name, error)
        return splits

    def summary_table(self) -> str:
        """Tabulate the number of images, identities and cameras of each split of `list_splits`.

        Returns
        -------
        table : str
            Lines of aligned columns: split, images, identities, cameras, and tracklets if the data
            set has them.
        """
        has_tracklets = self.train.tracklets is not None
        header = ["split", "images", "identities", "cameras"]
        rows = [header + ["tracklets"] * has_tracklets]
        for name, split in self.list_splits().items():
            numbers = [len(split), split.num_identities, split.num_cameras]
            if split.num_tracklets is not None:
                numbers.append(split.num_tracklets)
            rows.append([name, *(f"{number:,}" for number in numbers)])
        return align(rows)
