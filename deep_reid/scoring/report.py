"""Writes a ranking as one HTML page: scores, curves, distances and pictures.

The page needs no other files. Only `write_report` imports matplotlib and jinja2, see
`check_dependencies`.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError
from deep_reid.scoring import charts, pages, strips
from deep_reid.scoring.names import BY_LABEL, Names
from deep_reid.scoring.pages import check_dependencies
from deep_reid.scoring.ranking import FeatureSet, RankingResult
from deep_reid.scoring.tracks import (
    BUDGET,
    MIN_WRONG_TRACKS,
    distance_threshold,
    track_distances,
)
from deep_reid.system import files
from deep_reid.system.checks import check_integer

FILENAME = "report.html"
"""Name of the page in its folder."""

STRIPS_PER_GROUP = 5
"""Number of best, of median and of worst queries."""

_RULES = ("same_camera_is_junk", "self_indices")


def write_report(
    report_dir: files.Path,
    *,
    title: str,
    table: Sequence[Sequence[object]],
    result: RankingResult,
    query: FeatureSet,
    gallery: FeatureSet,
    query_images: Sequence[files.Path],
    gallery_images: Sequence[files.Path],
    measure: str,
    settings: Mapping[str, object],
    names: Names = BY_LABEL,
    detections: tuple[FeatureSet, FeatureSet, npt.ArrayLike | None] | None = None,
    reranked: RankingResult | None = None,
    nearest_kwargs: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Write ``report.html``, whole or not at all.

    Parameters
    ----------
    report_dir : str or Path
        Made if it is missing.
    title : str
        Begins with a capital letter on the page.
    table : list of rows
        Each row is a name and a text, or a name and two texts: without and with re-ranking. A
        row with one text in a table with re-ranking is valid for both.
    result : RankingResult
    query, gallery : FeatureSet
    query_images, gallery_images : sequences of Q and G str
        An image file per item; one of its images if the item is a tracklet. An image that cannot
        be read becomes a gray box.
    measure : {"cosine", "euclidean"}
    settings : dict
        Shown at the end: checkpoint, protocol, versions.
    names : Names
        How people and images are called.
    detections : tuple of FeatureSet, FeatureSet and self_indices, optional
        Queries and gallery by image, if their items are tracklets: a tracker compares images.
    reranked : RankingResult, optional
        Its CMC is drawn too.
    nearest_kwargs : dict, optional
        For `ranking.nearest`; ``same_camera_is_junk`` and ``self_indices`` also hold for the
        distances to tracks. With ``rerank`` the strips show re-ranked distances, and `reranked`
        selects the queries.

    Returns
    -------
    pathlib.Path
        Name of the page.

    Raises
    ------
    UsageError
        If a package is missing, or a setting breaks its rule.
    DataError
        If there is not one image for each item.
    """
    check_dependencies()
    _check_image_counts(query, query_images)
    _check_image_counts(gallery, gallery_images)
    kwargs = {"measure": measure, **(nearest_kwargs or {})}
    rules = {name: kwargs[name] for name in _RULES if name in kwargs}
    shows_reranked = kwargs.get("rerank") is not None and reranked is not None
    if detections is None:
        detections = (query, gallery, rules.get("self_indices"))
    found = _create_strips(
        reranked if shows_reranked else result,
        (query, gallery),
        (query_images, gallery_images),
        names,
        kwargs,
    )
    return pages.write_page(
        report_dir,
        FILENAME,
        title=title[:1].upper() + title[1:],
        num_columns=max((len(row) for row in table), default=2),
        table=[[str(cell) for cell in row] for row in table],
        result=result,
        reranked=reranked,
        measure=charts.MEASURE_NAMES[measure],
        cmc=charts.draw_cmc(result, reranked),
        tracks=_describe_tracks(*detections, measure, rules.get("same_camera_is_junk", True)),
        has_cameras=gallery.cameras is not None,
        strips=found,
        num_items=max(len(strip["items"]) for group in found.values() for strip in group),
        shows_reranked=shows_reranked,
        settings=settings,
    )


def choose_queries(result: RankingResult, count: int = STRIPS_PER_GROUP) -> dict[str, np.ndarray]:
    """Choose the best, the median and the worst queries by their average precision.

    Parameters
    ----------
    result : RankingResult
    count : int
        Number of each; fewer if fewer than three times this number of queries have a match.

    Returns
    -------
    dict of str to ndarray of int64
        Rows of ``"best"``, ``"median"`` and ``"worst"`` queries, which have a match and are all
        different. The worst one is the first of its group.
    """
    rows = np.flatnonzero(np.isfinite(result.average_precision))
    # Many queries have the same precision: without a shuffle, all of them would show one person.
    rows = np.random.default_rng(0).permutation(rows)
    order = rows[np.argsort(-result.average_precision[rows], kind="stable")]
    count = min(check_integer("count", count), max(1, len(order) // 3))
    others = order[count : max(count, len(order) - count)]
    middle = max(0, (len(others) - count) // 2)
    return {
        "best": order[:count],
        "median": others[middle : middle + count],
        "worst": order[max(count, len(order) - count) :][::-1],
    }


def _check_image_counts(features, images):
    if len(images) != len(features):
        raise DataError(
            f"the {features.name} has {len(features)} items, but {len(images)} images: give one "
            "file name per item"
        )


def _create_strips(result, sets, images, names, kwargs):
    """Return, per group of queries, the strips that the template shows."""
    groups = choose_queries(result)
    rows = np.concatenate(list(groups.values()))
    items = dict(zip(rows.tolist(), strips.find_items(sets[0], sets[1], rows, kwargs), strict=True))
    describe_query, describe_item = (
        strips.create_describer(each, filenames, names)
        for each, filenames in zip(sets, images, strict=True)
    )
    return {
        name: [
            {
                "query": describe_query(row),
                "average_precision": result.average_precision[row],
                "first_match_rank": result.first_match_rank[row],
                "items": [
                    {**describe_item(index), "distance": distance, "kind": kind}
                    for index, distance, kind in items[row]
                ],
            }
            for row in group.tolist()
        ]
        for name, group in groups.items()
    }


def _describe_tracks(query, gallery, self_indices, measure, same_camera_is_junk):
    """Return the facts about the distances to tracks that the template shows."""
    if all(_are_unit_vectors(each.features) for each in (query, gallery)):
        measure = "cosine"  # what Deep SORT computes: it ranks unit vectors as Euclidean distance
    distances = track_distances(
        query,
        gallery,
        measure=measure,
        same_camera_is_junk=same_camera_is_junk,
        self_indices=self_indices,
    )
    facts = {
        "distances": distances,
        "measure": charts.MEASURE_NAMES[measure],
        "budget": BUDGET,
        "min_wrong_tracks": MIN_WRONG_TRACKS,
        "by_camera": same_camera_is_junk and query.cameras is not None,
        "threshold": None,
    }
    if not len(distances.own) or len(distances.other) < MIN_WRONG_TRACKS:
        return facts
    threshold = distance_threshold(distances.own, distances.other)
    image = charts.draw_distances(distances, threshold, measure)
    return {**facts, "threshold": threshold, "image": image}


def _are_unit_vectors(features):
    return np.allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-3)
