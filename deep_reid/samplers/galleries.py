"""Labels with a meaning, and seeded draws of probe and gallery images; needs only NumPy."""

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError

JUNK_LABEL = -1
"""Label of gallery items that are left out of every ranking."""

DISTRACTOR_LABEL = 0
"""Label of gallery items that are ranked and never match."""


def rows_by_label(labels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Group the rows of a label vector by label.

    Parameters
    ----------
    labels : ndarray of int, shape (N,)

    Returns
    -------
    unique_labels : ndarray of int, shape (M,)
        The different labels, sorted.
    rows : list of M ndarrays of int64
        For each label its row numbers, increasing.
    """
    # One stable sort instead of one comparison of all rows per label: MARS has 510,000 rows.
    order = np.argsort(labels, kind="stable")
    unique_labels, first = np.unique(labels[order], return_index=True)
    return unique_labels, np.split(order, first[1:]) if len(order) else []


def count_comparable(labels: npt.ArrayLike) -> int:
    """Count the identities that an evaluation can compare: those with two images or more.

    Parameters
    ----------
    labels : array-like of int, shape (N,)

    Returns
    -------
    int

    Raises
    ------
    DataError
        If there are none.
    """
    _, counts = np.unique(np.asarray(labels), return_counts=True)
    num_comparable = int(np.count_nonzero(counts > 1))
    if not num_comparable:
        raise DataError(
            f"none of the {len(counts)} validation identities has two images to compare: use a "
            "data set with more identities or with more images of each, or keep more identities "
            "for validation (--num_validation)"
        )
    return num_comparable


def create_cmc_probe_and_gallery(
    data_y: npt.ArrayLike, camera_indices: npt.ArrayLike | None = None, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one probe and one gallery image of each identity.

    This is the single-shot protocol of cumulative matching characteristics (CMC) [1]_: the
    gallery has one image per identity, so that rank-k of a probe is 0 or 1. Identities come in
    sorted order. If an identity has images of two or more cameras, two cameras are drawn, then
    one image of each; if it has one camera, two images of it. An identity with a single image is
    left out.

    Parameters
    ----------
    data_y : array-like of int, shape (N,)
        The identity of each image. Every value counts as an identity, negative ones too.
    camera_indices : array-like of int, shape (N,), optional
        The camera of each image. Without it, all images count as of one camera.
    seed : int, optional
        Seed of ``numpy.random.RandomState``: the same seed gives the same draw.

    Returns
    -------
    probe_indices : ndarray of int64, shape (M,)
        Rows of the probes, one for each of the M identities that have two images or more.
    gallery_indices : ndarray of int64, shape (M,)
        Rows of the gallery images; entry i is of the same identity as probe i.

    Raises
    ------
    ValueError
        If `data_y` and `camera_indices` are not vectors of the same length.

    References
    ----------
    .. [1] D. Gray, S. Brennan, H. Tao: Evaluating Appearance Models for Recognition,
       Reacquisition, and Tracking. PETS 2007.
    """
    data_y = np.asarray(data_y)
    cameras = np.zeros(data_y.shape, np.int64) if camera_indices is None else camera_indices
    cameras = np.asarray(cameras)
    if data_y.ndim != 1 or cameras.shape != data_y.shape:
        raise ValueError(
            f"data_y {data_y.shape} and camera_indices {cameras.shape} must be vectors of the "
            "same length: give one identity and one camera per image"
        )
    random = np.random.RandomState(seed)
    pairs = [
        _draw_pair(rows, cameras[rows], random)
        for rows in rows_by_label(data_y)[1]
        if len(rows) > 1
    ]
    probes, gallery = np.array(pairs, np.int64).reshape(-1, 2).T
    return probes, gallery


def _draw_pair(rows, cameras, random):
    unique_cameras = np.unique(cameras)
    if len(unique_cameras) == 1:
        return random.choice(rows, 2, replace=False)
    pair_of_cameras = random.choice(unique_cameras, 2, replace=False)
    return [random.choice(rows[cameras == camera]) for camera in pair_of_cameras]
