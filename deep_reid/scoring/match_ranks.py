"""Ranks of matches: by fast keys, and by exact distances where keys are too close together."""

import numpy as np

from deep_reid.scoring.comparisons import Comparison, widen

# With more matches than this, sorting a row is faster than passing over it twice for each match.
_MANY_MATCHES = 30


def rank_matches(
    comparison: Comparison, row: int, keys: np.ndarray, matches: np.ndarray
) -> np.ndarray:
    """Return the sorted ranks, from 1, of a query's matches among the items with finite keys.

    Parameters
    ----------
    comparison : deep_reid.scoring.comparisons.Comparison
    row : int
        The query.
    keys : np.ndarray of float32, shape (num_gallery,)
        Infinite for items that are left out.
    matches : np.ndarray of int64
        Rows of the gallery.

    Returns
    -------
    np.ndarray of int64
    """
    lower, upper = widen(keys[matches], comparison.margins[row])
    if len(matches) > _MANY_MATCHES:
        ordered = np.sort(keys)
        num_before = np.searchsorted(ordered, lower, "left")
        num_up_to = np.searchsorted(ordered, upper, "right")
    else:
        num_before = np.array([np.count_nonzero(keys < bound) for bound in lower])
        num_up_to = np.array([np.count_nonzero(keys <= bound) for bound in upper])
    is_close = num_up_to - num_before > 1
    if is_close.any():
        close_matches, bounds = matches[is_close], (lower[is_close], upper[is_close])
        num_before[is_close] += _count_closely(comparison, row, keys, close_matches, *bounds)
    return np.sort(num_before) + 1


def _count_closely(comparison, row, keys, matches, lower, upper):
    """Count the items at or above each match's lower bound that are ranked before the match."""
    is_candidate = np.zeros(len(keys), bool)
    for bounds in _join_intervals(lower, upper):
        is_candidate |= (keys >= bounds[0]) & (keys <= bounds[1])
    candidates = np.flatnonzero(is_candidate)
    distances, candidate_keys = comparison.distances(row, candidates), keys[candidates]
    counts = np.empty(len(matches), np.int64)
    for i, position in enumerate(np.searchsorted(candidates, matches)):
        is_before = distances < distances[position]
        # Candidates are in the order of the gallery, which decides if distances are equal.
        is_before[:position] |= distances[:position] == distances[position]
        counts[i] = np.count_nonzero(is_before & (candidate_keys >= lower[i]))
    return counts


def _join_intervals(lower, upper):
    """Yield the intervals that the given ones, all of about the same width, cover together."""
    order = np.argsort(lower)
    lower, upper = lower[order], upper[order]
    (gaps,) = np.nonzero(lower[1:] > upper[:-1])
    starts, ends = np.append(0, gaps + 1), np.append(gaps, len(lower) - 1)
    return zip(lower[starts], upper[ends], strict=True)
