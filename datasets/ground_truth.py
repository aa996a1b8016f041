"""Finds the gallery images that are junk for a query of Market-1501, by its files or by its rule.

``gt_query`` has two MATLAB files for each query ``NAME.jpg``: ``NAME_good.mat`` with the variable
``good_index``, the matches, and ``NAME_junk.mat`` with ``junk_index``. Both hold positions, counted
from one, in the sorted list of ``bounding_box_test``.
"""

import logging
import os
import re

import numpy as np

from deep_reid.errors import DataError
from deep_reid.samplers.galleries import JUNK_LABEL
from deep_reid.system.matlab import read_variable

from .split import Split

FOLDER = "gt_query"

_logger = logging.getLogger(__name__)
_ENDING = re.compile(r"(\.jpg)+$", re.IGNORECASE)
_WAY_OUT = "unpack the data set again, or remove gt_query: junk then follows from the file names"


def path_of(dataset_dir: str | os.PathLike[str], filename: str, kind: str) -> str:
    """Return the path of a query's file.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    filename : str
        The query image, with or without a folder.
    kind : str
        ``"good"`` or ``"junk"``.

    Returns
    -------
    path : str
    """
    name = _ENDING.sub("", os.path.basename(filename))
    return os.path.join(dataset_dir, FOLDER, f"{name}_{kind}.mat")


def find_junk(label: int, camera: int, gallery: Split) -> np.ndarray:
    """Find the junk of one query by the rule of the protocol.

    Parameters
    ----------
    label, camera : int
        Identity and camera of the query.
    gallery : datasets.split.Split
        G images.

    Returns
    -------
    is_junk : ndarray of bool, shape (G,)
        True for images of the id -1, and for images of the query's id *and* camera.
    """
    same_view = (gallery.labels == label) & (gallery.cameras == camera)
    return same_view | (gallery.labels == JUNK_LABEL)


def read_good_mask(dataset_dir: str | os.PathLike[str], query: Split, gallery: Split) -> np.ndarray:
    """Read which gallery images count for which query.

    The files ``gt_query/*_junk.mat`` list the junk. Without such a file, `find_junk` finds the
    junk of a query; for the real data set, the result is the same. A warning is logged if some
    queries have a file and others have none.

    Parameters
    ----------
    dataset_dir : str or Path
        The folder of the data set.
    query, gallery : datasets.split.Split
        Q and G images, the gallery sorted by file name.

    Returns
    -------
    good_mask : ndarray of float32, shape (Q, G)
        0 if the gallery image is junk for the query, else 1.

    Raises
    ------
    DataError
        If a file is damaged, or holds numbers that are not positions in the gallery.
    """
    paths = [path_of(dataset_dir, filename, "junk") for filename in query.filenames]
    missing = {path for path in paths if not os.path.isfile(path)}
    if missing and len(missing) < len(paths):
        _logger.warning(
            "%d of %d queries have no file such as %s: their junk follows from the file names",
            len(missing),
            len(paths),
            min(missing),
        )
    good_mask = np.ones((len(query), len(gallery)), np.float32)
    for row, path, label, camera in zip(good_mask, paths, query.labels, query.cameras, strict=True):
        is_by_rule = path in missing
        row[find_junk(label, camera, gallery) if is_by_rule else _read_junk(path, len(gallery))] = 0
    return good_mask


def _read_junk(path, num_gallery):
    """Read the zero-based positions of junk from one file: ndarray of int64."""
    positions = np.asarray(read_variable(path, "junk_index", _WAY_OUT)).ravel()
    if positions.size == 0:
        return np.empty(0, np.int64)
    if positions.dtype.kind not in "iuf":
        raise DataError(f"junk_index of {path} must hold numbers: {_WAY_OUT}")
    is_position = (positions >= 1) & (positions <= num_gallery) & (np.floor(positions) == positions)
    if not is_position.all():
        raise DataError(
            f"junk_index of {path} has {positions[~is_position][0]:.12g}, but the gallery "
            f"has the positions 1..{num_gallery}: {_WAY_OUT}"
        )
    return positions.astype(np.int64) - 1
