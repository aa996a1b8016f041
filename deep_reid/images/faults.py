"""What is done with images that cannot be read: training stops, or does without them.

A policy has two methods, which feed threads call side by side: ``replace(batch)`` before a batch is
decoded, and ``handle(batch, error)`` when that fails, which returns the batch to try next or
raises.
"""

import logging
import os
import threading

import numpy as np

from deep_reid.config.run import BAD_IMAGE_POLICIES
from deep_reid.errors import DataError, UsageError
from deep_reid.images import decoding, files, pipeline
from deep_reid.runtime.compat import tf

MAX_PERCENT_BAD = 1
"""More bad files than these, of the distinct files of a data set, end a training."""

_logger = logging.getLogger(__name__)


def create_policy(on_bad_image, read_from_file, image_shape, num_files=None):
    """Create the policy for a data set.

    Parameters
    ----------
    on_bad_image : {"stop", "skip"}
    read_from_file : bool
        Images that are no files cannot be bad: "skip" is "stop" for them.
    image_shape : tuple of int
        (height, width, channels) of the network's input.
    num_files : int, optional
        Number of distinct files; "skip" needs it.

    Returns
    -------
    StopAtBadImages or SkipBadImages

    Raises
    ------
    UsageError
        If the policy is unknown, or `num_files` is missing.
    """
    if on_bad_image not in BAD_IMAGE_POLICIES:
        choices = ", ".join(BAD_IMAGE_POLICIES)
        raise UsageError(f"on_bad_image ({on_bad_image!r}) is unknown: use one of {choices}")
    if on_bad_image == "stop" or not read_from_file:
        return StopAtBadImages(pipeline.create_error_explainer(read_from_file, image_shape))
    if num_files is None:
        raise UsageError("on_bad_image='skip' needs num_files: give the number of distinct files")
    return SkipBadImages(num_files, lambda names: find_unreadable_images(names, image_shape[2]))


def find_unreadable_images(filenames, num_channels):
    """Find out which files cannot be decoded.

    Parameters
    ----------
    filenames : iterable of str
    num_channels : {1, 3}

    Returns
    -------
    list of str
    """
    unreadable = []
    with decoding.open_decoder(num_channels) as decode:
        for filename in filenames:
            try:
                decode(filename)
            except tf.errors.OpError:
                unreadable.append(filename)
    return unreadable


class StopAtBadImages:
    """The first image that cannot be read is an error.

    Parameters
    ----------
    explain_error : callable
        ``explain_error(batch)`` returns an error that says more, or None.
    """

    num_bad = 0

    def __init__(self, explain_error):
        self._explain_error = explain_error

    def replace(self, batch):
        """Return the batch as it is.

        Parameters
        ----------
        batch : sequence of array

        Returns
        -------
        sequence of array
        """
        return batch

    def handle(self, batch, error):
        """Raise the error, or the one that explains it.

        Parameters
        ----------
        batch : sequence of array
        error : tf.errors.OpError
            What was raised over the batch.
        """
        better_error = self._explain_error(batch)
        if better_error is None:
            raise error
        raise better_error from error


class SkipBadImages:
    """Images that cannot be read are replaced by others of their batch, up to a limit.

    The other image has the same label; where no image of a label is left, it comes with its own
    label. Which one it is depends on the batch alone.

    Parameters
    ----------
    num_files : int
        Distinct files of the data set, of which `MAX_PERCENT_BAD` may be bad.
    find_unreadable : callable
        ``find_unreadable(filenames)`` returns those that cannot be decoded.

    Raises
    ------
    UsageError
        If `num_files` is less than 1.
    """

    def __init__(self, num_files, find_unreadable):
        if num_files < 1:
            raise UsageError(f"num_files ({num_files}) must be at least 1")
        self._num_files = num_files
        self._find_unreadable = find_unreadable
        self._bad = set()
        self._lock = threading.Lock()

    @property
    def num_bad(self):
        """Number of distinct bad files that were met so far."""
        return len(self._bad)

    def replace(self, batch):
        """Replace the files that are known to be bad.

        Parameters
        ----------
        batch : sequence of array
            File names, labels, and whatever else goes with them row by row.

        Returns
        -------
        sequence of array
            The batch itself where nothing is to be replaced.

        Raises
        ------
        DataError
            If all files of the batch are bad.
        """
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

    def handle(self, batch, error):
        """Find the bad files of a batch that could not be decoded, and replace them.

        Parameters
        ----------
        batch : sequence of array
            As in `replace`.
        error : tf.errors.OpError
            What was raised over the batch.

        Returns
        -------
        sequence of array

        Raises
        ------
        DataError
            If too many files are bad by now, or all of the batch.
        tf.errors.OpError
            The error itself, if each file can be read.
        """
        replaced = self.replace(batch)
        if replaced is not batch:  # another thread was faster
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
                "Image %s cannot be read (%s): another one takes its place", name, reason
            )
        if 100 * num_bad > MAX_PERCENT_BAD * self._num_files:
            raise DataError(
                f"{num_bad} of {self._num_files} images cannot be read, more than the limit of "
                f"{MAX_PERCENT_BAD} %; the last is {name} ({reason}): replace the files or remove "
                "them from the data set (--check_data lists them all)"
            )


def _choose_rows(is_bad, labels):
    """Choose for each row the one that takes its place: itself, where it is not bad."""
    rows = np.arange(len(labels))
    good = np.flatnonzero(~is_bad)
    for label in np.unique(labels[is_bad]):
        bad = np.flatnonzero(is_bad & (labels == label))
        substitutes = good[labels[good] == label]
        if not len(substitutes):
            substitutes = good[labels[good] == labels[good[0]]]
        rows[bad] = np.resize(substitutes, len(bad))
    return rows
