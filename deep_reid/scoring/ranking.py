"""Ranks a gallery for each query and scores it by the protocols of Market-1501 and MARS.

`rank` gives the CMC and both average precisions, `nearest` the first items of a few rankings. Needs
NumPy and SciPy only.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError, UsageError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL
from deep_reid.scoring.comparisons import (
    MAX_BLOCK_BYTES,
    Given,
    compare,
    find_measure,
)
from deep_reid.scoring.features import FeatureSet
from deep_reid.scoring.match_ranks import Queries, rank_matches
from deep_reid.scoring.neighbors import find_nearest
from deep_reid.scoring.reranking import Rerank, rerank_distances
from deep_reid.scoring.rules import Rules
from deep_reid.scoring.tiles import count_fitting
from deep_reid.system.checks import check_integer

__all__ = [
    "FeatureSet",
    "NearestItems",
    "RankingResult",
    "Rerank",
    "nearest",
    "rank",
    "rerank_distances",
]


@dataclass(frozen=True, eq=False)
class RankingResult:
    """Scores of a ranking; means are over the queries with a match, shares in [0, 1].

    Attributes
    ----------
    ranks : tuple of int
        The ranks to report.
    cmc : ndarray of float64, shape (max(ranks),)
        Entry k - 1 is the share of queries with a match among the first k items.
    mean_average_precision : float
        By the standard definition: the mean of the precisions at the matches.
    mean_average_precision_matlab : float
        By the MATLAB code of Market-1501 and MARS: trapezoids between the matches.
    average_precision, average_precision_matlab : ndarray of float64, shape (num_queries,)
        Of each query; NaN if it has no match.
    first_match_rank : ndarray of int64, shape (num_queries,)
        Rank of each query's first match, from 1; 0 if it has no match.
    num_queries : int
        All queries, with and without a match.
    num_queries_without_match : int
        Queries without a match, which are in no mean.
    num_gallery : int
        Gallery items, with those of label 0 and without those of label -1.
    num_distractors : int
        Gallery items of label 0.
    num_junk : int
        Gallery items of label -1, which are not in `num_gallery`. Items that are junk only for
        some queries, because of their camera, do not count.
    """

    ranks: tuple[int, ...]
    cmc: np.ndarray
    mean_average_precision: float
    mean_average_precision_matlab: float
    average_precision: np.ndarray
    average_precision_matlab: np.ndarray
    first_match_rank: np.ndarray
    num_queries: int
    num_queries_without_match: int
    num_gallery: int
    num_distractors: int
    num_junk: int

    def rank_k(self, k: int) -> float:
        """Return the share of queries with a match among the first `k` items, for any k >= 1."""
        check_integer("k", k)
        return float(np.mean(self.first_match_rank[self.first_match_rank > 0] <= k))


class NearestItems(NamedTuple):
    """The first items of some rankings, junk included; see `nearest`."""

    indices: np.ndarray
    distances: np.ndarray
    codes: np.ndarray


def rank(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    measure: str = "cosine",
    same_camera_is_junk: bool = True,
    self_indices: npt.ArrayLike | None = None,
    ranks: Sequence[int] = (1, 5, 10, 20),
    rerank: Rerank | None = None,
    distances: npt.ArrayLike | None = None,
    max_block_bytes: int = MAX_BLOCK_BYTES,
    progress: Callable[[int], object] | None = None,
) -> RankingResult:
    """Rank the gallery for each query and score the rankings.

    The protocol is that of Market-1501 [1]_ and MARS [2]_, single query and cross camera: gallery
    items of label -1, and those of the query's label *and* camera, are junk, which is left out of
    the ranking; items of label 0 are ranked and never match. A query without a match (such as any
    of label 0 or -1) is counted and left out of all means.

    Memory does not grow with queries x gallery, unless `rerank` is given: beyond the features, it
    holds one copy of them and one block of distances.

    Parameters
    ----------
    query, gallery : FeatureSet
        Of Q and G items, with features of the same dimension.
    measure : {"cosine", "euclidean"}
        The distance to rank by. For cosine, features need not be of unit length.
    same_camera_is_junk : bool
        If False, or if neither set has cameras, an item of the query's label and camera is a match
        like others, and only the query itself is left out.
    self_indices : array-like of int, shape (Q,), optional
        The gallery row that is the query itself, which is left out; -1 if there is none.
    ranks : sequence of int
        The ranks to report.
    rerank : Rerank, optional
        Rank by the distances of `rerank_distances`; needs 8 bytes per query and gallery item.
    distances : array-like of float, shape (Q, G), optional
        Rank by these instead of the features.
    max_block_bytes : int
        Size of a block of distances; a block has at least one query.
    progress : callable, optional
        ``progress(num_queries)`` after each block, such as the ``update`` of a progress bar.

    Returns
    -------
    RankingResult

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    DataError
        If the two sets do not fit together, no query has a match, or a feature has no direction
        (cosine) or is too long for float32 (euclidean).

    References
    ----------
    .. [1] L. Zheng, L. Shen, L. Tian, S. Wang, J. Wang, Q. Tian: Scalable Person
       Re-identification: A Benchmark. ICCV 2015.
    .. [2] L. Zheng, Z. Bie, Y. Sun, J. Wang, C. Su, S. Wang, Q. Tian: MARS: A Video Benchmark
       for Large-Scale Person Re-identification. ECCV 2016.

    Examples
    --------
    The nearest item is of the query's identity and camera, which is junk; then comes the match:

    >>> query = FeatureSet([[1, 0]], [7], [1], name="query")
    >>> gallery = FeatureSet([[1, 0], [0.9, 0.1], [0, 1]], [7, 7, 8], [1, 2, 2])
    >>> result = rank(query, gallery)
    >>> result.rank_k(1), result.mean_average_precision
    (1.0, 1.0)
    """
    ranks = tuple(check_integer("each of ranks", k) for k in ranks)
    if not ranks:
        raise UsageError("ranks is empty: give at least one, such as 1")
    rules = Rules(query, gallery, same_camera_is_junk, self_indices)
    rows = rules.queries_with_match()
    comparison = _compare(query, gallery, measure, rerank, distances, max_block_bytes)
    if progress is not None:
        progress(len(query) - len(rows))
    scores = np.full((3, len(query)), np.nan)
    for queries in _group(rules, rows, len(gallery), max_block_bytes):
        match_ranks = rank_matches(comparison, queries, rules.junk)
        scores[:, queries.rows] = np.transpose([_score(each) for each in match_ranks])
        if progress is not None:
            progress(len(queries.rows))
    return _summarize(scores, rows, ranks, gallery)


def nearest(
    query: FeatureSet,
    gallery: FeatureSet,
    query_rows: npt.ArrayLike,
    k: int = 10,
    *,
    measure: str = "cosine",
    same_camera_is_junk: bool = True,
    self_indices: npt.ArrayLike | None = None,
    rerank: Rerank | None = None,
    distances: npt.ArrayLike | None = None,
    max_block_bytes: int = MAX_BLOCK_BYTES,
) -> NearestItems:
    """Find the gallery items nearest to some queries, junk included.

    Parameters
    ----------
    query, gallery, measure, same_camera_is_junk, self_indices, rerank, distances, max_block_bytes
        As in `rank`.
    query_rows : array-like of int, shape (R,)
        The queries.
    k : int
        Number of items; all of them, if the gallery has fewer.

    Returns
    -------
    items : NearestItems
        Of shape (R, k) each: ``indices`` (int64) of gallery items, nearest first, the smaller index
        first at equal distance; their ``distances`` (float64): cosine distances in [0, 2],
        Euclidean ones (not squared), or the given ones; and ``codes`` (int8), each `MATCH`,
        `NO_MATCH`, `JUNK` or `DISTRACTOR`.

    Raises
    ------
    UsageError
        If a setting breaks its rule, or a row is not one of the queries.
    DataError
        If the two sets do not fit together, or the features do not suit the measure.

    Examples
    --------
    >>> query = FeatureSet([[1, 0]], [7], [1], name="query")
    >>> gallery = FeatureSet([[0, 1], [0.9, 0.1], [1, 0]], [8, 7, 7], [2, 2, 1])
    >>> items = nearest(query, gallery, [0], k=2)
    >>> items.indices.tolist()
    [[2, 1]]
    >>> from deep_reid.scoring.rules import JUNK, MATCH
    >>> items.codes.tolist() == [[JUNK, MATCH]]
    True
    """
    k = min(check_integer("k", k), len(gallery))
    query_rows = np.asarray(query_rows, np.int64)
    if query_rows.ndim != 1 or np.any((query_rows < 0) | (query_rows >= len(query))):
        raise UsageError(f"query_rows must be a vector of rows of the query, 0 .. {len(query) - 1}")
    rules = Rules(query, gallery, same_camera_is_junk, self_indices)
    comparison = _compare(query, gallery, measure, rerank, distances, max_block_bytes)
    indices, values = find_nearest(comparison, query_rows, k, max_block_bytes)
    codes = np.empty(indices.shape, np.int8)
    for position, row in enumerate(query_rows):
        codes[position] = rules.codes(row, indices[position])
    return NearestItems(indices, comparison.readable(values), codes)


def _compare(query, gallery, measure, rerank, distances, max_block_bytes):
    if rerank is not None and distances is not None:
        raise UsageError("give rerank or distances, not both: given distances are not re-ranked")
    if distances is not None:
        find_measure(measure)  # a wrong one is an error, although it is not used
        distances = np.asarray(distances)
        if distances.shape != (len(query), len(gallery)):
            raise DataError(
                f"the distances have the shape {distances.shape}, but there are {len(query)} "
                f"queries and {len(gallery)} gallery items"
            )
        return Given(distances)
    if rerank is not None:
        if not isinstance(rerank, Rerank):
            raise UsageError(f"rerank ({rerank!r}) must be a Rerank, such as Rerank()")
        return Given(
            rerank_distances(
                query.features,
                gallery.features,
                *astuple(rerank),
                measure=measure,
                max_block_bytes=max_block_bytes,
            )
        )
    return compare(query, gallery, measure)


def _group(rules, rows, num_items, max_block_bytes):
    """Group queries, so that their keys for a part of the gallery, and their matches, fit."""
    fitting = count_fitting(num_items, max_block_bytes)
    parts = [rules.split(row) for row in rows]
    num_matches = np.array([len(matches) for matches, _ in parts])
    order = np.argsort(-num_matches, kind="stable")
    while len(order):
        # The first has the most matches, each of which takes some numbers of 8 bytes.
        size = min(fitting, max(1, max_block_bytes // (64 * num_matches[order[0]])))
        group, order = order[:size], order[size:]
        yield Queries(rows[group], *zip(*(parts[i] for i in group), strict=True))


def _score(match_ranks):
    """Return the average precision, that of the MATLAB code, and the rank of the first match."""
    hits = np.arange(1, len(match_ranks) + 1)
    precision = hits / match_ranks
    # The precision just before a hit; 1 before rank 1.
    precision_before = (hits - 1) / np.maximum(match_ranks - 1, 1)
    precision_before[match_ranks == 1] = 1.0
    return precision.mean(), (precision_before + precision).mean() / 2.0, match_ranks[0]


def _summarize(scores, rows, ranks, gallery):
    num_first = np.bincount(scores[2, rows].astype(np.int64), minlength=max(ranks) + 1)
    return RankingResult(
        ranks=ranks,
        cmc=np.cumsum(num_first)[1 : max(ranks) + 1] / len(rows),
        mean_average_precision=float(scores[0, rows].mean()),
        mean_average_precision_matlab=float(scores[1, rows].mean()),
        average_precision=scores[0],
        average_precision_matlab=scores[1],
        first_match_rank=np.nan_to_num(scores[2]).astype(np.int64),
        num_queries=scores.shape[1],
        num_queries_without_match=scores.shape[1] - len(rows),
        num_gallery=int(np.count_nonzero(gallery.labels != JUNK_LABEL)),
        num_distractors=int(np.count_nonzero(gallery.labels == DISTRACTOR_LABEL)),
        num_junk=int(np.count_nonzero(gallery.labels == JUNK_LABEL)),
    )
