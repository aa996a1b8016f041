"""Tracks of a sequence by Deep SORT, as the package deep-sort-realtime implements it.

Settings are those of Deep SORT's ``evaluate_motchallenge``: a track keeps 100 features, is
confirmed after 3 detections, and is deleted after 30 frames without one. Only `track` imports the
tracker.
"""

import dataclasses
import logging

import numpy as np

from deep_reid.scoring.tracks import BUDGET
from deep_reid.system import files

DEFAULT_DISTANCE = 0.2
"""Deep SORT's default of ``max_cosine_distance``."""

# The tracker logs its settings when it is made, at each threshold.
logging.getLogger("deep_sort_realtime").setLevel(logging.WARNING)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """Which detections the tracker gets.

    Parameters
    ----------
    min_confidence : float
        Detections with a lower confidence are left out.
    nms_max_overlap : float
        Of two boxes that overlap more, the one with the lower confidence is left out; 1: none is.
    """

    min_confidence: float = 0.3
    nms_max_overlap: float = 1.0


def track(
    detections: np.ndarray,
    features: np.ndarray,
    frame_numbers: range,
    max_cosine_distance: float,
    settings: TrackerSettings = TrackerSettings(),
) -> np.ndarray:
    """Track the persons of a sequence.

    Parameters
    ----------
    detections : np.ndarray of float64, shape (N, 10)
        Columns of ``det.txt``.
    features : np.ndarray of float32, shape (N, D)
        None of them is zero.
    frame_numbers : range
        All frames, also those without a detection.
    max_cosine_distance : float
    settings : TrackerSettings

    Returns
    -------
    np.ndarray of float64, shape (M, 6)
        Frame, track, left, top, width and height. As Deep SORT does, only boxes of confirmed
        tracks that have a detection in this frame or the one before.
    """
    from deep_sort_realtime.deepsort_tracker import DeepSort

    tracker = DeepSort(
        max_cosine_distance=max_cosine_distance,
        nn_budget=BUDGET,
        nms_max_overlap=settings.nms_max_overlap,
        embedder=None,
    )
    is_kept = detections[:, 6] >= settings.min_confidence
    detections, features = detections[is_kept], features[is_kept]
    starts = np.searchsorted(detections[:, 0], [*frame_numbers, frame_numbers.stop])
    rows = []
    for frame, start, end in zip(frame_numbers, starts[:-1], starts[1:], strict=True):
        # Box, confidence and class.
        found = [(row[2:6], row[6], None) for row in detections[start:end]]
        for one in tracker.update_tracks(found, embeds=list(features[start:end])):
            if one.is_confirmed() and one.time_since_update <= 1:
                rows.append((frame, int(one.track_id), *one.to_ltwh()))
    return np.array(rows, np.float64).reshape(-1, 6)


def write(path: files.Path, tracks: np.ndarray) -> None:
    """Write tracks in the format of MOTChallenge's results, as Deep SORT does, whole or not at all.

    Parameters
    ----------
    path : str or Path
    tracks : np.ndarray of float64, shape (M, 6)
        As `track` returns them.
    """
    lines = [
        f"{frame:.0f},{number:.0f},{left:.2f},{top:.2f},{width:.2f},{height:.2f},1,-1,-1,-1\n"
        for frame, number, left, top, width, height in tracks.tolist()
    ]
    files.write_output(path, "".join(lines))
