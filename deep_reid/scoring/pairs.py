"""Distances between images of the same person and of different ones, and a threshold between them.

Free of TensorFlow. Memory does not grow with queries x gallery.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL
from deep_reid.scoring.comparisons import compare
from deep_reid.scoring.features import FeatureSet
from deep_reid.system.checks import check_integer

FALSE_MATCH_SHARE = 0.01
"""Share of the pairs of different identities that are closer than the threshold."""

MAX_PAIRS = 1_000_000
"""Largest number of distances in the distribution: half of one identity, half of two."""


class PairDistances(NamedTuple):
    """Distances of pairs of a query and a gallery item; see `sample_distances`.

    Attributes
    ----------
    same, different : ndarray of float64, shape (N,) and (M,)
        Of pairs of one identity and of two.
    is_sample : bool
        Whether pairs were drawn at random; False if these are all pairs.
    """

    same: np.ndarray
    different: np.ndarray
    is_sample: bool


class Threshold(NamedTuple):
    """A threshold, and the shares of pairs up to it; see `distance_threshold`."""

    distance: float
    share_of_same: float
    share_of_different: float


def sample_distances(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    measure: str = "cosine",
    same_camera_is_junk: bool = True,
    self_indices: npt.ArrayLike | None = None,
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
) -> PairDistances:
    """Compare queries with gallery items of the same identity and of different ones.

    Pairs are of two cameras, as in the protocol. Junk has no identity and distractors are hardly
    people, so no pair has one. There are at most ``max_pairs / 2`` pairs of either sort: if there
    are more, before those of one camera are left out, this number is drawn with replacement.

    Parameters
    ----------
    query, gallery, measure, same_camera_is_junk, self_indices
        As in `ranking.nearest`, with its errors.
    max_pairs, seed : int

    Returns
    -------
    PairDistances
    """
    comparison = compare(query, gallery, measure)
    random = np.random.default_rng(seed)
    most = max(1, check_integer("max_pairs", max_pairs) // 2)
    by_camera = compares_cameras(query, gallery, same_camera_is_junk)
    distances, is_sample = [], False
    for number_pairs, is_same in ((_number_same_pairs, True), (_number_all_pairs, False)):
        total, locate = number_pairs(query, gallery)
        is_drawn = total > most
        rows, columns = locate(random.integers(total, size=most) if is_drawn else np.arange(total))
        keep = (query.labels[rows] == gallery.labels[columns]) == is_same
        if by_camera:
            keep &= np.asarray(query.cameras)[rows] != np.asarray(gallery.cameras)[columns]
        if self_indices is not None:
            keep &= np.asarray(self_indices)[rows] != columns
        distances.append(comparison.readable(comparison.distances(rows[keep], columns[keep])))
        is_sample |= is_drawn
    same, different = distances
    return PairDistances(same, different, is_sample)


def distance_threshold(
    same: npt.ArrayLike, different: npt.ArrayLike, share: float = FALSE_MATCH_SHARE
) -> Threshold:
    """Find the distance up to which a share of the pairs of different identities lies.

    Parameters
    ----------
    same, different : array-like of float, shape (N,) and (M,)
        Distances of pairs of one identity and of two.
    share : float
        In (0, 1].

    Returns
    -------
    Threshold
        The smallest of the distances `different` that at least `share` of them do not exceed, and
        the shares of `same` and `different` that do not exceed it. Deep SORT's
        ``max_cosine_distance`` includes the threshold, too.

    Raises
    ------
    UsageError
        If the share is not in (0, 1].
    DataError
        If `same` or `different` is empty.
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
    """Return the number of pairs of one identity, and a function from index to pair."""
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
    """Return the number of pairs of people, and a function from index to pair."""
    query_rows, gallery_rows = _rows_of_people(query), _rows_of_people(gallery)

    def locate(numbers):
        rows, columns = np.divmod(numbers, max(1, len(gallery_rows)))
        return query_rows[rows], gallery_rows[columns]

    return len(query_rows) * len(gallery_rows), locate


def compares_cameras(query: FeatureSet, gallery: FeatureSet, same_camera_is_junk: bool) -> bool:
    """Tell whether pairs must be of two cameras: by the protocol, if the cameras are known."""
    return same_camera_is_junk and query.cameras is not None and gallery.cameras is not None


def _rows_of_people(features):
    return np.flatnonzero(~np.isin(features.labels, (JUNK_LABEL, DISTRACTOR_LABEL)))
