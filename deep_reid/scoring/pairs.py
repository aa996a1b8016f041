"""Distances between images of the same person and of different ones, and a threshold between them.

Free of TensorFlow, and of memory that grows with queries x gallery.
"""

from typing import NamedTuple

import numpy as np

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL
from deep_reid.scoring.comparisons import check_dimensions, check_positive, find_measure

FALSE_MATCH_SHARE = 0.01
"""Share of the pairs of different identities that match at the threshold."""

MAX_PAIRS = 1_000_000
"""Number of distances in the distribution: half of one identity, half of two."""


class PairDistances(NamedTuple):
    """Distances of pairs of a query and a gallery item; see `sample_distances`.

    Attributes
    ----------
    same, different : ndarray of float64, shape (N,) and (M,)
        Of pairs of one identity and of two.
    is_sample : bool
        Whether pairs were drawn; False where these are all.
    """

    same: np.ndarray
    different: np.ndarray
    is_sample: bool


class Threshold(NamedTuple):
    """A distance up to which pairs match, and the shares that do; see `distance_threshold`."""

    distance: float
    share_of_same: float
    share_of_different: float


def sample_distances(
    query,
    gallery,
    *,
    measure="cosine",
    same_camera_is_junk=True,
    self_indices=None,
    max_pairs=MAX_PAIRS,
    seed=0,
):
    """Compare queries with gallery items of the same identity and of different ones.

    Pairs are of two cameras, as in the protocol. Junk has no identity and distractors are hardly
    people, so neither is in a pair. Where there are more than ``max_pairs / 2`` pairs of either
    sort before those of one camera are left out, so many are drawn, with replacement: memory does
    not grow with queries x gallery.

    Parameters
    ----------
    query, gallery, measure, same_camera_is_junk, self_indices
        As in `ranking.nearest`, with its errors.
    max_pairs, seed : int

    Returns
    -------
    PairDistances
    """
    create = find_measure(measure)
    check_dimensions(query.features, gallery.features)
    for features in (query, gallery):
        create.check(features.features, features.name, np.float32)
    comparison = create(query.features, gallery.features)
    random = np.random.default_rng(seed)
    most = max(1, check_positive("max_pairs", max_pairs) // 2)
    by_camera = compares_cameras(query, gallery, same_camera_is_junk)
    distances, is_sample = [], False
    for number_pairs, is_same in ((_number_same_pairs, True), (_number_all_pairs, False)):
        total, locate = number_pairs(query, gallery)
        is_drawn = total > most
        rows, columns = locate(random.integers(total, size=most) if is_drawn else np.arange(total))
        keep = (query.labels[rows] == gallery.labels[columns]) == is_same
        if by_camera:
            keep &= query.cameras[rows] != gallery.cameras[columns]
        if self_indices is not None:
            keep &= np.asarray(self_indices)[rows] != columns
        distances.append(comparison.readable(comparison.distances(rows[keep], columns[keep])))
        is_sample |= is_drawn
    same, different = distances
    return PairDistances(same, different, is_sample)


def distance_threshold(same, different, share=FALSE_MATCH_SHARE):
    """Find the distance at which a share of the pairs of different identities match.

    Parameters
    ----------
    same, different : array-like of float, shape (N,) and (M,)
        Distances of pairs of one identity and of two.
    share : float
        In (0, 1].

    Returns
    -------
    Threshold
        The smallest of the distances `different` up to which (and including it, as Deep SORT's
        ``max_cosine_distance`` does) at least `share` of them lie, and the shares of the pairs of
        each sort that match with it.

    Raises
    ------
    UsageError
        If the share is not in (0, 1].
    DataError
        If there are no distances of one of the sorts.
    """
    same, different = np.asarray(same, np.float64), np.asarray(different, np.float64)
    if not 0.0 < share <= 1.0:
        raise UsageError(f"share ({share}) must be in (0, 1]")
    if not same.size or not different.size:
        raise DataError(
            f"a threshold needs pairs of the same and of different identities; there are "
            f"{same.size} and {different.size}"
        )
    distance = np.quantile(different, share, method="inverted_cdf")
    return Threshold(
        float(distance), float(np.mean(same <= distance)), float(np.mean(different <= distance))
    )


def _number_same_pairs(query, gallery):
    """Return the number of pairs of one identity, and a function from number to pair."""
    query_rows, gallery_rows = _rows_of_people(query), _rows_of_people(gallery)
    gallery_rows = gallery_rows[np.argsort(gallery.labels[gallery_rows], kind="stable")]
    ordered, wanted = gallery.labels[gallery_rows], query.labels[query_rows]
    stops = np.searchsorted(ordered, wanted, "right")
    ends = np.cumsum(stops - np.searchsorted(ordered, wanted, "left"))

    def locate(numbers):
        positions = np.searchsorted(ends, numbers, "right")
        columns = stops[positions] - (ends[positions] - numbers)
        return query_rows[positions], gallery_rows[columns]

    return int(ends[-1]) if len(ends) else 0, locate


def _number_all_pairs(query, gallery):
    """Return the number of pairs of people, and a function from number to pair."""
    query_rows, gallery_rows = _rows_of_people(query), _rows_of_people(gallery)

    def locate(numbers):
        rows, columns = np.divmod(numbers, max(1, len(gallery_rows)))
        return query_rows[rows], gallery_rows[columns]

    return len(query_rows) * len(gallery_rows), locate


def compares_cameras(query, gallery, same_camera_is_junk):
    """Tell whether pairs are of two cameras: by the protocol, where cameras are known."""
    return same_camera_is_junk and query.cameras is not None and gallery.cameras is not None


def _rows_of_people(features):
    return np.flatnonzero(~np.isin(features.labels, (JUNK_LABEL, DISTRACTOR_LABEL)))
