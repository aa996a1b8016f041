"""Distances from detections to tracks, and a threshold between right and wrong tracks.

Deep SORT compares a detection with a track by the *smallest* distance to the track's stored
features. The smallest of many distances is far smaller than one distance of two images, so a
threshold must be found on these minima. Free of TensorFlow. Memory does not grow with
queries x gallery.
"""

import decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL, rows_by_label
from deep_reid.scoring.comparisons import MAX_BLOCK_BYTES, blocks_of_keys, compare
from deep_reid.scoring.features import FeatureSet
from deep_reid.scoring.rules import Rules
from deep_reid.system.checks import check_integer

BUDGET = 100
"""Largest number of features of a track, as Deep SORT's ``nn_budget``."""

FALSE_MATCH_SHARE = 0.01
"""Largest share of wrong tracks within the threshold."""

MIN_FOUND_SHARE = 0.5
"""Smallest share of right tracks within the threshold, if the network has learned enough."""

MIN_WRONG_TRACKS = round(1 / FALSE_MATCH_SHARE)
"""Smallest number of distances to wrong tracks that can show such a share."""

MAX_COMPARISONS = 30_000_000
"""Largest number of distances to compute; a sample of the queries is taken to stay below it."""

_DIGITS = decimal.Context(prec=3, rounding=decimal.ROUND_DOWN)


class TrackDistances(NamedTuple):
    """Distances of pairs of a detection and a track; see `track_distances`.

    Attributes
    ----------
    own, other : ndarray of float64, shape (N,) and (M,)
        To the track of the same identity, and to the tracks of other identities.
    num_tracks : int
    median_size : int
        Median number of features of a track.
    is_sample : bool
        Whether only a sample of the queries was compared.
    """

    own: np.ndarray
    other: np.ndarray
    num_tracks: int
    median_size: int
    is_sample: bool


class Threshold(NamedTuple):
    """A threshold, and the shares of tracks within it; see `distance_threshold`."""

    distance: float
    share_of_own: float
    share_of_other: float

    @property
    def separates(self) -> bool:
        """Whether at least half of the right tracks are within it: `MIN_FOUND_SHARE`."""
        return self.share_of_own >= MIN_FOUND_SHARE


def track_distances(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    measure: str = "cosine",
    same_camera_is_junk: bool = True,
    self_indices: npt.ArrayLike | None = None,
    budget: int = BUDGET,
    max_comparisons: int = MAX_COMPARISONS,
    seed: int = 0,
) -> TrackDistances:
    """Compare queries, as detections, with the tracks of all identities of the gallery.

    A track has up to `budget` gallery items of one identity, of all cameras. The distance to a
    track is the smallest distance to any of its items. In the query's own track, items that are
    junk for the query do not count: itself, and those of its camera. Junk and distractors are
    neither detections nor tracks.

    Parameters
    ----------
    query, gallery, measure, same_camera_is_junk, self_indices
        As in `ranking.nearest`, with its errors.
    budget, max_comparisons, seed : int

    Returns
    -------
    TrackDistances
    """
    random = np.random.default_rng(seed)
    labels, tracks = _store_tracks(gallery.labels, check_integer("budget", budget), random)
    sizes = [len(rows) for rows in tracks]
    stored = np.concatenate([*tracks, np.empty(0, np.int64)])
    detections = np.flatnonzero(_is_person(query.labels))
    most = max(1, check_integer("max_comparisons", max_comparisons) // max(1, len(stored)))
    is_sample = len(detections) > most
    if is_sample:
        detections = np.sort(random.choice(detections, most, replace=False))
    if not len(stored) or not len(detections):
        return TrackDistances(np.empty(0), np.empty(0), len(sizes), 0, False)
    # In float32, the distances of an untrained network would drown in rounding.
    comparison = compare(query, gallery, measure, np.float64, gallery_rows=stored)
    rules = Rules(query, gallery, same_camera_is_junk, self_indices)
    starts = np.cumsum([0, *sizes[:-1]])
    columns = np.full(len(gallery), -1)
    columns[stored] = np.arange(len(stored))
    own, other = [], []
    for rows, keys in blocks_of_keys(comparison, detections, MAX_BLOCK_BYTES):
        is_own = query.labels[rows, np.newaxis] == labels
        for row, row_keys in zip(rows, keys, strict=True):
            left_out = columns[rules.split(row)[1]]
            row_keys[left_out[left_out >= 0]] = np.inf
        minima = np.minimum.reduceat(keys, starts, axis=1)
        is_left = np.isfinite(minima)
        minima = np.maximum(minima + comparison.offsets[rows, np.newaxis], 0.0)
        own.append(comparison.readable(minima[is_left & is_own]))
        other.append(comparison.readable(minima[is_left & ~is_own]))
    return TrackDistances(
        np.concatenate(own),
        np.concatenate(other),
        len(sizes),
        int(np.median(sizes)),
        is_sample,
    )


def distance_threshold(
    own: npt.ArrayLike, other: npt.ArrayLike, share: float = FALSE_MATCH_SHARE
) -> Threshold:
    """Find the largest distance within which at most a share of the wrong tracks lie.

    Parameters
    ----------
    own, other : array-like of float, shape (N,) and (M,)
        Distances from detections to their own tracks, and to tracks of others.
    share : float
        In (0, 1].

    Returns
    -------
    Threshold
        The largest of all distances up to which at most `share` of `other` lie, rounded down to
        three digits; and the shares of `own` and `other` that do not exceed it. As in Deep SORT's
        ``max_cosine_distance``, the threshold itself is included. If even the smallest distance is
        too large, the threshold is NaN, and nothing lies within it.

    Raises
    ------
    UsageError
        If the share is not in (0, 1].
    DataError
        If `own` or `other` is empty.
    """
    own, other = np.asarray(own, np.float64), np.asarray(other, np.float64)
    if not 0.0 < share <= 1.0:
        raise UsageError(f"share ({share}) must be in (0, 1]")
    if not own.size or not other.size:
        raise DataError(
            f"a threshold needs distances to own tracks and to those of others; there are "
            f"{own.size} and {other.size}"
        )
    num_allowed = int(share * other.size)
    limit = np.partition(other, num_allowed)[num_allowed] if num_allowed < other.size else np.inf
    distances = np.concatenate([own, other])
    distance = np.max(distances, where=distances < limit, initial=-np.inf)
    if distance < 0.0:
        return Threshold(np.nan, 0.0, 0.0)
    # A report shows three digits: rounded up, they would let more wrong tracks in.
    distance = float(_DIGITS.create_decimal(repr(float(distance))))
    return Threshold(distance, float(np.mean(own <= distance)), float(np.mean(other <= distance)))


def _store_tracks(labels, budget, random):
    """Return the identities of the gallery, and the rows of each, at most `budget`."""
    labels, rows = rows_by_label(labels)
    is_person = _is_person(labels)
    tracks = [rows_of_one for rows_of_one, keep in zip(rows, is_person, strict=True) if keep]
    return labels[is_person], [
        rows_of_one
        if len(rows_of_one) <= budget
        else np.sort(random.choice(rows_of_one, budget, replace=False))
        for rows_of_one in tracks
    ]


def _is_person(labels):
    return ~np.isin(labels, (JUNK_LABEL, DISTRACTOR_LABEL))
