"""Base classes of all data sets: splits, their checks, a summary."""

import abc
import dataclasses
import functools
import logging
from pathlib import Path
from typing import ClassVar

import numpy as np

from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.samplers.galleries import JUNK_LABEL
from deep_reid.system.tables import align

from .images import list_jpegs, read_images
from .protocols import create_image_test_set
from .util import create_validation_split

__all__ = ["ReidDataset", "Split", "list_jpegs", "read_images"]

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images of a data set, with identity, camera and tracklet of each.

    Parameters
    ----------
    filenames : list of N str
        Paths of the image files.
    labels : array-like of int, shape (N,)
        The identity of each image; kept as int64. -1 marks junk.
    cameras : array-like of int, shape (N,)
        The camera of each image; kept as int64.
    tracklets : array-like of int, shape (N,), optional
        The tracklet of each image, counted within its identity and camera; kept as int64.

    Raises
    ------
    DataError
        If the lengths differ.
    """

    filenames: list[str]
    labels: np.ndarray
    cameras: np.ndarray
    tracklets: np.ndarray | None = None

    def __post_init__(self):
        # A frozen dataclass allows no other way to convert its fields.
        object.__setattr__(self, "filenames", list(self.filenames))
        for name in ("labels", "cameras", "tracklets"):
            value = getattr(self, name)
            if value is None:
                continue
            value = np.asarray(value, np.int64)
            if value.shape != (len(self.filenames),):
                raise DataError(
                    f"{name} {value.shape} must be a vector with one entry for each of the "
                    f"{len(self.filenames)} file names"
                )
            object.__setattr__(self, name, value)

    def __len__(self):
        return len(self.filenames)

    @property
    def num_identities(self):
        """Number of different labels without -1 (junk); distractors (0) count as one."""
        return int(np.count_nonzero(np.unique(self.labels) != JUNK_LABEL))

    @property
    def num_cameras(self):
        """Number of different cameras."""
        return len(np.unique(self.cameras))

    @property
    def num_tracklets(self):
        """Number of different tracklets, junk included; None if the data set has no tracklets."""
        if self.tracklets is None:
            return None
        keys = np.stack([self.labels, self.cameras, self.tracklets])
        return np.unique(keys, axis=1).shape[1]

    def subset(self, indices):
        """Return some of the images as a split.

        Parameters
        ----------
        indices : array-like of int, or of bool with shape (N,)
            Rows, in the order of the result, or a mask.

        Returns
        -------
        split : Split
        """
        rows = np.arange(len(self))[np.asarray(indices)] if len(indices) else []
        rows = np.asarray(rows, np.int64)
        return Split(
            [self.filenames[row] for row in rows],
            self.labels[rows],
            self.cameras[rows],
            None if self.tracklets is None else self.tracklets[rows],
        )


class ReidDataset(abc.ABC):
    """A data set in a folder, split by identity into training and validation.

    The class attributes describe the data set; a subclass sets them all. A test split is read
    when it is first used: for training, the training folder is enough.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    num_validation_identities : float or int
        Share (float) or number (int) of the training identities to keep for validation.
    seed : int
        Seed of that choice.
    needs_train : bool
        Whether the training folder must exist. The test does not need it.

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
    DEFAULT_DIR: ClassVar[str]
    """The folder of the data set if the command line names none."""
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

    def __init__(self, dataset_dir, num_validation_identities=0.1, seed=1234, *, needs_train=True):
        self.dataset_dir = str(dataset_dir)
        self.num_validation_identities = num_validation_identities
        self.seed = seed
        self.find(dataset_dir, self.TRAIN_DIR if needs_train else "")

    @classmethod
    def find(cls, dataset_dir, name):
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
                f"{dataset_dir} is a file, not the folder of {cls.TITLE}: name the folder"
            )
        # Never propose to draw into an existing folder: it may hold a part of the real data.
        missing, drawn_dir = (path, "DIR") if Path(dataset_dir).is_dir() else (dataset_dir,) * 2
        raise MissingPathError(
            f"{cls.TITLE} was not found: {missing} does not exist; get the data set from "
            f"{cls.HOMEPAGE}, or draw a synthetic one: python -m {__package__}.synthetic "
            f"--layout {cls.NAME} --output_dir {drawn_dir}"
        )

    @property
    def num_classes(self):
        """Number of classes of a classifier over the labels: MAX_LABEL + 1."""
        return self.MAX_LABEL + 1

    def name_of(self, label):
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
    def train(self):
        """Images of the identities to train on, a Split."""
        return self._training_and_validation[0]

    @functools.cached_property
    def validation(self):
        """Images of the identities kept for validation, a Split."""
        return self._training_and_validation[1]

    @functools.cached_property
    def _training_and_validation(self):
        split = self._read_train()
        self._check_train(split)
        train, validation = (split.subset(rows) for rows in self._split_rows(split))
        self._warn_of_few_identities(split.num_identities, validation.num_identities)
        return train, validation

    @abc.abstractmethod
    def _read_train(self):
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
        drawn = f"{num_validation} of the {num_identities} identities of {self.dataset_dir}"
        way_out = "use a data set with more identities, or keep more of them for validation"
        if num_validation == 0:
            _logger.warning(
                "Validation has %s: training works, but eval mode does not; %s.", drawn, way_out
            )
        elif num_validation == 1:
            _logger.warning(
                "Validation has %s: CMC over one identity is always 1, the scores say nothing; %s.",
                drawn,
                way_out,
            )

    def test_set(self):
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
        if not {"query", "gallery"} <= set(self.TEST_SPLITS):
            raise UsageError(f"{self.TITLE} has no queries: there is no official test")
        protocol = f"{self.TITLE}: single query, cross camera"
        return create_image_test_set(protocol, self.query, self.gallery)

    @abc.abstractmethod
    def export_files(self):
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

    def list_splits(self):
        """List the splits that exist.

        Training does not need the test splits. A test split that does not exist is left out; one
        that cannot be read is left out with a warning.

        Returns
        -------
        dict of str to Split
            ``"train"``, ``"validation"``, and the test splits.
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

    def summary_table(self):
        """Tabulate the number of images, identities and cameras of each split of `list_splits`.

        Returns
        -------
        table : str
            Lines of aligned columns: split, images, identities, cameras, and tracklets if the data
            set has them.
        """
        splits = self.list_splits()
        header = ["split", "images", "identities", "cameras"]
        rows = [[len(split), split.num_identities, split.num_cameras] for split in splits.values()]
        if self.train.tracklets is not None:
            header.append("tracklets")
            for row, split in zip(rows, splits.values(), strict=True):
                row.append(split.num_tracklets)
        cells = [[f"{number:,}" for number in row] for row in rows]
        return align([header, *([name, *row] for name, row in zip(splits, cells, strict=True))])
