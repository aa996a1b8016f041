"""Images of a data set, with what is known of each."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from deep_reid.errors import DataError
from deep_reid.samplers.galleries import JUNK_LABEL


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Split:
    """Images of a data set, with identity, camera and tracklet of each.

    Parameters
    ----------
    filenames : iterable of N str
        Paths of the image files.
    labels : array-like of int, shape (N,)
        The identity of each image; stored as int64. -1 marks junk.
    cameras : array-like of int, shape (N,)
        The camera of each image; stored as int64.
    tracklets : array-like of int, shape (N,), optional
        The tracklet of each image, counted within its identity and camera; stored as int64.

    Raises
    ------
    DataError
        If the lengths differ.
    """

    filenames: list[str]
    labels: np.ndarray
    cameras: np.ndarray
    tracklets: np.ndarray | None = None

    def __init__(
        self,
        filenames: Iterable[str],
        labels: ArrayLike,
        cameras: ArrayLike,
        tracklets: ArrayLike | None = None,
    ) -> None:
        # A frozen dataclass allows no other way to set its fields.
        object.__setattr__(self, "filenames", list(filenames))
        columns = {"labels": labels, "cameras": cameras, "tracklets": tracklets}
        for name, column in columns.items():
            values = None if column is None else np.asarray(column, np.int64)
            if values is not None and values.shape != (len(self),):
                raise DataError(
                    f"{name} {values.shape} must be a vector with one entry for each of the "
                    f"{len(self)} file names"
                )
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.filenames)

    @property
    def num_identities(self) -> int:
        """Number of different labels without -1 (junk); distractors (0) count as one."""
        return int(np.count_nonzero(np.unique(self.labels) != JUNK_LABEL))

    @property
    def num_cameras(self) -> int:
        """Number of different cameras."""
        return len(np.unique(self.cameras))

    @property
    def num_tracklets(self) -> int | None:
        """Number of different tracklets, junk included; None if the data set has no tracklets."""
        if self.tracklets is None:
            return None
        keys = np.stack([self.labels, self.cameras, self.tracklets])
        return np.unique(keys, axis=1).shape[1]

    def subset(self, indices: ArrayLike) -> "Split":
        """Return some of the images as a split.

        Parameters
        ----------
        indices : array-like of int, or of bool with shape (N,)
            Rows, in the order of the result, or a mask.

        Returns
        -------
        split : Split
        """
        indices = np.asarray(indices)
        # NumPy makes an empty list an array of float, which is no index.
        rows = np.arange(len(self))[indices if indices.size else indices.astype(np.int64)]
        return Split(
            [self.filenames[row] for row in rows],
            self.labels[rows],
            self.cameras[rows],
            None if self.tracklets is None else self.tracklets[rows],
        )
