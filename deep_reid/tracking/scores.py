"""Scores of tracks: MOTA, IDF1, ID switches and HOTA, as TrackEval [1]_ computes them.

Only `score` imports TrackEval.

References
----------
.. [1] J. Luiten, A. Hoffhues: TrackEval. https://github.com/JonathonLuiten/TrackEval, 2020.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from deep_reid.tracking.sequences import Truth

ALL = "all"
"""Name of the scores of all sequences together."""

_LEAST_OVERLAP = 0.5
_EPSILON = np.finfo(np.float64).eps


class Scores(NamedTuple):
    """Scores of tracks.

    Attributes
    ----------
    mota : float
        1 - (false boxes + missing boxes + switches) / boxes [1]_.
    idf1 : float
        F1 score of boxes with the right identity [2]_.
    switches : int
        Number of times that a person's track changes.
    hota : float
        Geometric mean of detection and association accuracy, over 19 thresholds of overlap [3]_.
    false_boxes, missing_boxes, num_boxes : int
        Tracked boxes without a person, persons without a tracked box, and boxes of persons.

    References
    ----------
    .. [1] K. Bernardin, R. Stiefelhagen: Evaluating Multiple Object Tracking Performance: The CLEAR
       MOT Metrics. EURASIP Journal on Image and Video Processing, 2008.
    .. [2] E. Ristani, F. Solera, R. Zou, R. Cucchiara, C. Tomasi: Performance Measures and a Data
       Set for Multi-Target, Multi-Camera Tracking. ECCV Workshops, 2016.
    .. [3] J. Luiten, A. Osep, P. Dendorfer, P. Torr, A. Geiger, L. Leal-Taixe, B. Leibe: HOTA: A
       Higher Order Metric for Evaluating Multi-Object Tracking. IJCV, 2021.
    """

    mota: float
    idf1: float
    switches: int
    hota: float
    false_boxes: int
    missing_boxes: int
    num_boxes: int


def score(truths: Mapping[str, Truth], tracks: Mapping[str, np.ndarray]) -> dict[str, Scores]:
    """Score the tracks of sequences.

    Parameters
    ----------
    truths : dict of str to Truth
        By the name of the sequence; at least one.
    tracks : dict of str to np.ndarray of shape (M, 6)
        As `deep_reid.tracking.deep_sort.track` returns them.

    Returns
    -------
    dict of str to Scores
        By the name of the sequence, and of all together: `ALL`.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity

    config = {"THRESHOLD": _LEAST_OVERLAP, "PRINT_CONFIG": False}
    data = {name: _prepare(truth, tracks[name]) for name, truth in truths.items()}
    results = []
    for metric in (CLEAR(config), Identity(config), HOTA()):
        of_each = {name: metric.eval_sequence(one) for name, one in data.items()}
        results.append({**of_each, ALL: metric.combine_sequences(of_each)})
    return {name: _join(*(result[name] for result in results)) for name in results[0]}


def _join(clear, identity, hota):
    return Scores(
        float(clear["MOTA"]),
        float(identity["IDF1"]),
        int(clear["IDSW"]),
        float(np.mean(hota["HOTA"])),
        int(clear["CLR_FP"]),
        int(clear["CLR_FN"]),
        int(clear["CLR_TP"] + clear["CLR_FN"]),
    )


def _prepare(truth, tracks) -> dict[str, Any]:
    """Return a sequence as TrackEval's metrics take it."""
    persons, tracked = truth.boxes, _remove_ignored(truth, tracks)
    frames = np.union1d(persons[:, 0], tracked[:, 0])
    person_ids, person_rows = _by_frame(persons, frames)
    track_ids, track_rows = _by_frame(tracked, frames)
    return {
        "num_timesteps": len(frames),
        "num_gt_dets": len(persons),
        "num_tracker_dets": len(tracked),
        "num_gt_ids": len(np.unique(persons[:, 1])),
        "num_tracker_ids": len(np.unique(tracked[:, 1])),
        "gt_ids": person_ids,
        "tracker_ids": track_ids,
        "similarity_scores": [
            overlaps(persons[a, 2:], tracked[b, 2:])
            for a, b in zip(person_rows, track_rows, strict=True)
        ],
    }


def _remove_ignored(truth, tracks):
    """Remove the tracked boxes that fit best to boxes that are neither right nor wrong."""
    everything = np.concatenate([truth.boxes, truth.others])
    is_ignored = np.concatenate([np.zeros(len(truth.boxes), bool), truth.is_ignored])
    is_kept = np.ones(len(tracks), bool)
    for frame in np.unique(everything[is_ignored, 0]):
        rows, columns = (np.flatnonzero(each[:, 0] == frame) for each in (everything, tracks))
        similarity = overlaps(everything[rows, 2:], tracks[columns, 2:])
        similarity[similarity < _LEAST_OVERLAP - _EPSILON] = 0.0
        for row, column in zip(*linear_sum_assignment(-similarity), strict=True):
            if similarity[row, column] > 0.0 and is_ignored[rows[row]]:
                is_kept[columns[column]] = False
    return tracks[is_kept]


def _by_frame(boxes, frames):
    """Return, for each frame, the identities as whole numbers from 0, and the rows."""
    identities = np.unique(boxes[:, 1], return_inverse=True)[1].ravel()
    rows: Sequence[np.ndarray] = [np.flatnonzero(boxes[:, 0] == frame) for frame in frames]
    return [identities[each] for each in rows], rows


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes.

    Parameters
    ----------
    first, second : np.ndarray of float64, shape (N, 4) and (M, 4)
        Left, top, width, height.

    Returns
    -------
    np.ndarray of float64, shape (N, M)
    """
    starts = np.maximum(first[:, np.newaxis, :2], second[np.newaxis, :, :2])
    ends = np.minimum(
        (first[:, :2] + first[:, 2:])[:, np.newaxis], (second[:, :2] + second[:, 2:])[np.newaxis]
    )
    shared = np.prod(np.maximum(ends - starts, 0.0), axis=2)
    areas = np.prod(first[:, 2:], axis=1)[:, np.newaxis] + np.prod(second[:, 2:], axis=1)
    union = areas - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0.0)
