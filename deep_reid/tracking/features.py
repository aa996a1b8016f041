"""Features of detections, in the files of Deep SORT's ``generate_detections`` [1]_.

Such a file, ``SEQUENCE.npy``, has a row for each detection: the ten columns of ``det.txt``, and the
feature. Networks of this package have features of 128 numbers: the array has the shape (N, 138).

References
----------
.. [1] N. Wojke, A. Bewley, D. Paulus: Simple Online and Realtime Tracking with a Deep Association
   Metric. ICIP, 2017. https://github.com/nwojke/deep_sort
"""

from collections.abc import Callable

import numpy as np

from deep_reid.datasets.images import read_bgr_image
from deep_reid.errors import DataError
from deep_reid.system import files
from deep_reid.tracking.sequences import TrackedSequence

NUM_COLUMNS = 10
"""Columns of a row before its feature."""

_LEFT, _END = 2, 6  # of the columns left, top, width, height

Encode = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From a frame (H, W, 3), BGR, uint8, and boxes (N, 4) to features (N, D)."""


def compute(
    sequence: TrackedSequence, encode: Encode, progress: Callable[[int], object] | None = None
) -> np.ndarray:
    """Compute the features of all detections of a sequence.

    Parameters
    ----------
    sequence : TrackedSequence
    encode : callable
        Such as a `deep_reid.Encoder`.
    progress : callable, optional
        Called with the number of detections after each frame that has some.

    Returns
    -------
    np.ndarray of float32, shape (N, D)
        In the order of ``sequence.detections``.

    Raises
    ------
    DataError
        If a frame cannot be decoded, or a feature is zero or not finite: Deep SORT divides by its
        length.
    """
    numbers = sequence.detections[:, 0]
    features = []
    # Frames without detections are read, too: they are shown.
    for frame, path in sorted(sequence.frames.items()):
        image = read_bgr_image(path, "frame")
        rows = np.flatnonzero(numbers == frame)
        if not len(rows):
            continue
        features.append(encode(image, sequence.detections[rows, _LEFT:_END]))
        check(features[-1], f"{path}, detection")
        if progress is not None:
            progress(len(rows))
    return np.concatenate(features).astype(np.float32, copy=False)


def check(features: np.ndarray, name: str) -> None:
    """Check that each feature has a length to divide by.

    Parameters
    ----------
    features : np.ndarray of float, shape (N, D)
    name : str
        What the message calls a row, before its number.

    Raises
    ------
    DataError
    """
    lengths = np.linalg.norm(np.asarray(features, np.float64), axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0.0)))
    if len(bad):
        kind = "zero" if lengths[bad[0]] == 0.0 else "not finite"
        raise DataError(
            f"{name} {bad[0]}: its feature is {kind}, and Deep SORT divides by its length: use "
            "another checkpoint, of a training that did not collapse or diverge"
        )


def write(path: files.Path, detections: np.ndarray, features: np.ndarray) -> None:
    """Write detections with their features, as ``generate_detections`` does, whole or not at all.

    Parameters
    ----------
    path : str or Path
    detections : np.ndarray of float64, shape (N, 10)
    features : np.ndarray of float32, shape (N, D)
    """
    with files.writing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.concatenate([detections, features], axis=1), allow_pickle=False)
