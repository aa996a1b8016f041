"""Policies for images that cannot be read: training stops, or skips them.

A policy has two methods, which feed threads call in parallel: ``replace(batch)`` before a batch is
decoded, and ``handle(batch, error)`` if decoding fails. `handle` returns the batch to try next, or
raises.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import numpy as np

from deep_reid.config.kinds import Choice
from deep_reid.config.run import BAD_IMAGE_POLICIES, MAX_BAD_PERCENT
from deep_reid.errors import DataError, UsageError
from deep_reid.images import decoding, files, pipeline
from deep_reid.runtime.compat import tf

_logger = logging.getLogger(__name__)


def create_policy(
    on_bad_image: str,
    read_from_file: bool,
    image_shape: Sequence[int],
    num_files: int | None = None,
    max_bad_percent: float = MAX_BAD_PERCENT,
) -> "StopAtBadImages | SkipBadImages":
    """Create the policy for a data set.

    Parameters
    ----------
    on_bad_image : {"stop", "skip"}
    read_from_file : bool
        Whether images are files. Arrays cannot be bad: "skip" means "stop" for them.
    image_shape : tuple of int
        (height, width, channels) of the network's input.
    num_files : int, optional
        Number of distinct files; "skip" needs it.
    max_bad_percent : float
        How many of them "skip" replaces.

    Returns
    -------
    StopAtBadImages or SkipBadImages

    Raises
    ------
    UsageError
        If the policy is unknown, or `num_files` is missing.
    """
    Choice(BAD_IMAGE_POLICIES).check("on_bad_image", on_bad_image)
    if on_bad_image == "stop" or not read_from_file:
        explain_error = pipeline.create_error_explainer(read_from_file, image_shape)
        return StopAtBadImages(explain_error, read_from_file)
    if num_files is None:
        raise UsageError("on_bad_image='skip' needs num_files: give the number of distinct files")
    return SkipBadImages(
        num_files,
        lambda names: find_unreadable_images(names, image_shape[2]),
        max_bad_percent,
    )


def find_unreadable_images(filenames: Iterable[str], num_channels: int) -> list[str]:
    """Find the files that cannot be decoded.

    Parameters
    ----------
    filenames : iterable of str
    num_channels : {1, 3}

    Returns
    -------
    list of str
    """
    return list(decoding.find_decoding_errors(filenames, num_channels))


class StopAtBadImages:
    """Ends a training at the first image that cannot be read.

    Parameters
    ----------
    explain_error : callable
        ``explain_error(batch)`` returns an error that says more, or None.
    are_files : bool
        Whether the first array of a batch has names of files.
    """

    num_bad = 0

    def __init__(
        self, explain_error: Callable[[Sequence], Exception | None], are_files: bool = False
    ) -> None:
        self._explain_error = explain_error
        self._are_files = are_files

    def replace(self, batch: Sequence) -> Sequence:
        """Return the batch unchanged, if its files can be read without danger.

        Parameters
        ----------
        batch : sequence of array

        Returns
        -------
        sequence of array

        Raises
        ------
        DataError
            If a file may have no end.
        """
        if self._are_files:
            decoding.check_ends(batch[0])
        return batch

    def handle(self, batch: Sequence, error: tf.errors.OpError) -> NoReturn:
        """Raise an error that explains the given one; if there is none, the given one.

        Parameters
        ----------
        batch : sequence of array
        error : tf.errors.OpError
            The error that decoding the batch raised.
        """
        better_error = self._explain_error(batch)
        if better_error is None:
            raise error
        raise better_error from error


class SkipBadImages:
    """Replaces images that cannot be read by others of their batch, up to a limit.

    The other image has the same label. If no image with that label is left, another image takes
    the row together with its own label. The choice depends only on the batch.

    Parameters
    ----------
    num_files : int
        Number of distinct files to train on.
    find_unreadable : callable
        ``find_unreadable(filenames)`` returns the files that cannot be decoded.
    max_bad_percent : float
        How many of the files may be bad.

    Raises
    ------
    UsageError
        If `num_files` is less than 1.
    """

    def __init__(
        self,
        num_files: int,
        find_unreadable: Callable[[Iterable[str]], Iterable[str]],
        max_bad_percent: float = MAX_BAD_PERCENT,
    ) -> None:
        if num_files < 1:
            raise UsageError(f"num_files ({num_files}) must be at least 1")
        self._num_files = num_files
        self._find_unreadable = find_unreadable
        self._max_bad_percent = max_bad_percent
        self._bad: set[str] = set()
        self._lock = threading.Lock()

    @property
    def num_bad(self) -> int:
        """Number of distinct bad files found so far."""
        return len(self._bad)

    def replace(self, batch: Sequence) -> Sequence:
        """Replace the files that are known to be bad.

        Parameters
        ----------
        batch : sequence of array
            File names, labels, and any further arrays with the same rows.

        Returns
        -------
        sequence of array
            The batch itself if it has no bad files.

        Raises
        ------
        DataError
            If all files of the batch are bad, or too many files of the data set.
        """
        while (endless := files.find_endless(set(batch[0]) - self._bad)) is not None:
            self._remember(endless)
        if not self._bad:
            return batch
        is_bad = np.array([filename in self._bad for filename in batch[0]])
        if not is_bad.any():
            return batch
        if is_bad.all():
            raise DataError(
                f"all {len(is_bad)} images of a batch cannot be read, the first is "
                f"{os.fsdecode(batch[0][0])}: replace the files or remove them from the data set "
                "(--check_data lists them all)"
            )
        rows = _choose_rows(is_bad, np.asarray(batch[1]))
        return tuple(np.asarray(array)[rows] for array in batch)

    def handle(self, batch: Sequence, error: tf.errors.OpError) -> Sequence:
        """Find the bad files of a batch that could not be decoded, and replace them.

        Parameters
        ----------
        batch : sequence of array
            As in `replace`.
        error : tf.errors.OpError
            The error that decoding the batch raised.

        Returns
        -------
        sequence of array

        Raises
        ------
        DataError
            If too many files of the data set are bad, or all files of the batch.
        tf.errors.OpError
            The given error, if every file can be read.
        """
        replaced = self.replace(batch)
        if replaced is not batch:  # another thread has found bad files of this batch
            return replaced
        found = self._find_unreadable(dict.fromkeys(batch[0]))
        if not found:
            raise error
        try:
            for filename in found:
                self._remember(filename)
            return self.replace(batch)
        except DataError as data_error:
            raise data_error from error

    def _remember(self, filename):
        name = os.fsdecode(filename)
        reason = files.explain_file(filename)
        with self._lock:
            if filename in self._bad:
                return
            self._bad.add(filename)
            num_bad = len(self._bad)
            _logger.warning(
                "Image %s cannot be read (%s): another one takes its place (%d of %d files so far, "
                "%g %% may be skipped)",
                name,
                reason,
                num_bad,
                self._num_files,
                self._max_bad_percent,
            )
        if 100 * num_bad > self._max_bad_percent * self._num_files:
            raise DataError(
                f"{num_bad} of {self._num_files} images cannot be read, more than the limit of "
                f"{self._max_bad_percent:g} %; the last is {name} ({reason}): replace the files or "
                "remove them from the data set (--check_data lists them all), or raise the limit, "
                "a share of the files to train on (--max_bad_percent)"
            )


def _choose_rows(is_bad, labels):
    """Choose a row for each row's place: itself if it is good, otherwise a good one."""
    rows = np.arange(len(labels))
    good = np.flatnonzero(~is_bad)
    for label in np.unique(labels[is_bad]):
        bad = np.flatnonzero(is_bad & (labels == label))
        substitutes = good[labels[good] == label]
        if not len(substitutes):
            substitutes = good[labels[good] == labels[good[0]]]
        rows[bad] = np.resize(substitutes, len(bad))
    return rows
