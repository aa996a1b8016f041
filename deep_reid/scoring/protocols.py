"""Scores by the official protocols: from features to a table and a file; free of TensorFlow."""

import collections
import filecmp
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError
from deep_reid.interfaces import TestSet
from deep_reid.scoring import ranking
from deep_reid.scoring.features import Rows
from deep_reid.scoring.shards import Shards, find_shards, is_pattern, missing_features, open_rows
from deep_reid.system import files
from deep_reid.system.matlab import VARIABLE_NAME, read_variable

RANKS = (1, 5, 10, 20)

# For each score: its entry in a metrics file, and its title in a table.
_MEANS = {
    "mean_average_precision": ("mAP_standard", "mAP (standard)"),
    "mean_average_precision_matlab": ("mAP_matlab", "mAP (Market-1501 MATLAB)"),
}
_COUNTS = {
    "num_queries": "queries",
    "num_queries_without_match": "queries without a match",
    "num_gallery": "gallery",
    "num_distractors": "distractors in it",
    "num_junk": "junk beside it",
}


def load_features(path: files.Path) -> Rows:
    """Read features from a file, or leave them in several.

    Parameters
    ----------
    path : str or Path
        A ``.mat`` file with the variable ``features``, or a ``.npy`` file, one row per image; or a
        pattern for all shards of such a file, such as ``feat_test-*-of-00003.npy``.

    Returns
    -------
    np.ndarray or Shards, shape (N, D)
        Shards are read when their rows are needed.

    Raises
    ------
    MissingPathError
        If the file, or a shard, does not exist.
    DataError
        If it cannot be read or lacks the variable, or the shards are not of one set.
    """
    path = os.fspath(path)
    if is_pattern(path):
        return Shards(find_shards(path))
    way_out = f"use a .mat file of version 4 or 5 with the variable {VARIABLE_NAME}, or a .npy file"
    if path.endswith(".npy"):
        return np.array(open_rows(path, way_out))
    if not os.path.exists(path):
        raise missing_features(path)
    return read_variable(path, VARIABLE_NAME, way_out)


def create_feature_sets(
    test_set: TestSet,
    gallery_features: npt.ArrayLike | Shards,
    query_features: npt.ArrayLike | Shards | None = None,
) -> tuple[ranking.FeatureSet, ranking.FeatureSet]:
    """Combine features with identities and cameras; average those of tracklets.

    A tracklet's feature is the mean of its images' features, normalized again.

    Parameters
    ----------
    test_set : datasets.protocols.TestSet
    gallery_features : array-like of float or Shards, shape (num_gallery_images, D)
    query_features : array-like of float or Shards, shape (Q, D), optional
        None if the queries are items of the gallery.

    Returns
    -------
    query, gallery : deep_reid.scoring.ranking.FeatureSet

    Raises
    ------
    DataError
        If there is not one row for each image, or a feature is not finite.
    """
    features = _as_rows(gallery_features)
    _check_length(features, test_set.num_gallery_images, "gallery")
    if test_set.tracks is not None:
        features = _average_tracks(features, test_set.tracks)
    gallery = ranking.FeatureSet(
        features, test_set.gallery_labels, test_set.gallery_cameras, name="gallery"
    )
    features = _as_rows(query_features)
    if test_set.query_rows is not None:
        features = gallery.features[test_set.query_rows]
    _check_length(features, len(test_set.query_labels), "query")
    query = ranking.FeatureSet(
        features, test_set.query_labels, test_set.query_cameras, name="query"
    )
    return query, gallery


def create_detections(
    test_set: TestSet, gallery_features: npt.ArrayLike | Shards
) -> tuple[ranking.FeatureSet, ranking.FeatureSet, np.ndarray] | None:
    """Combine the features of the images of tracklets with their identities and cameras.

    Parameters
    ----------
    test_set : datasets.protocols.TestSet
    gallery_features : array-like of float or Shards, shape (num_gallery_images, D)

    Returns
    -------
    query, gallery : deep_reid.scoring.ranking.FeatureSet
        By image.
    self_indices : np.ndarray of int64
        The gallery row of each query.

    None if items are images already.
    """
    if test_set.tracks is None or test_set.query_rows is None:
        return None
    first, last = np.asarray(test_set.tracks).T
    items = np.repeat(np.arange(len(first)), last + 1 - first)
    rows = np.concatenate([np.arange(start, stop + 1) for start, stop in test_set.tracks])
    features, labels = _as_rows(gallery_features)[rows], test_set.gallery_labels[items]
    cameras = test_set.gallery_cameras[items]
    gallery = ranking.FeatureSet(features, labels, cameras)
    own_rows = np.flatnonzero(np.isin(items, test_set.query_rows))
    own = (features[own_rows], labels[own_rows], cameras[own_rows])
    query = ranking.FeatureSet(*own, name="query")
    return query, gallery, own_rows


def find_self_indices(test_set: TestSet) -> np.ndarray:
    """Find each query itself in the gallery: a file of the same name and content.

    Parameters
    ----------
    test_set : datasets.protocols.TestSet

    Returns
    -------
    np.ndarray of int64, shape (Q,)
        -1 for a query that is not in the gallery.
    """
    if test_set.query_rows is not None:
        return test_set.query_rows
    rows = collections.defaultdict(list)
    gallery = zip(test_set.gallery_labels.tolist(), test_set.gallery_images, strict=True)
    for row, (label, image) in enumerate(gallery):
        rows[label, os.path.basename(image)].append((row, image))
    own_rows = np.full(len(test_set.query_labels), -1, np.int64)
    for query, image in enumerate(test_set.query_images or []):
        namesakes = rows[int(test_set.query_labels[query]), os.path.basename(image)]
        own_rows[query] = next((row for row, other in namesakes if _is_copy(other, image)), -1)
    return own_rows


def list_item_images(test_set: TestSet) -> tuple[Sequence[str], Sequence[str]]:
    """List an image of each query and each gallery item: of a tracklet, the middle one.

    Parameters
    ----------
    test_set : datasets.protocols.TestSet

    Returns
    -------
    query_images, gallery_images : list of str
    """
    gallery_images = test_set.gallery_images
    if test_set.tracks is not None:
        gallery_images = [gallery_images[(first + last) // 2] for first, last in test_set.tracks]
    if test_set.query_rows is None:
        return test_set.query_images or [], gallery_images
    return [gallery_images[row] for row in test_set.query_rows], gallery_images


def format_table(results: Mapping[str, ranking.RankingResult], unit: str = "") -> list[list[str]]:
    """Tabulate the scores.

    Parameters
    ----------
    results : dict of str to deep_reid.scoring.ranking.RankingResult
        From the name of a column to its scores.
    unit : str
        Written behind each score, not behind the numbers of queries and items.

    Returns
    -------
    list of list of str
        A header, and rows: scores in percent, then the numbers of queries and gallery items.
    """
    columns = list(results.values())
    rows = [[f"rank-{k}", *(f"{100 * r.rank_k(k):.2f}{unit}" for r in columns)] for k in RANKS]
    for name, (_, title) in _MEANS.items():
        rows.append([title, *(f"{100 * getattr(r, name):.2f}{unit}" for r in columns)])
    for name, title in _COUNTS.items():
        rows.append([title, *(f"{getattr(r, name):,}" for r in columns)])
    return [["score, in %", *results], *rows]


def to_metrics(result: ranking.RankingResult) -> dict[str, Any]:
    """Return the scores as entries of a metrics file.

    Parameters
    ----------
    result : deep_reid.scoring.ranking.RankingResult

    Returns
    -------
    dict
        Shares in [0, 1], and counts.
    """
    return {
        **{f"rank{k}": result.rank_k(k) for k in RANKS},
        **{entry: getattr(result, name) for name, (entry, _) in _MEANS.items()},
        **{name: getattr(result, name) for name in _COUNTS},
    }


def write_metrics(
    path: files.Path,
    result: ranking.RankingResult,
    reranked: ranking.RankingResult | None,
    settings: Mapping[str, Any],
) -> None:
    """Write scores to a JSON file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    result : deep_reid.scoring.ranking.RankingResult
    reranked : deep_reid.scoring.ranking.RankingResult or None
        Written as the entry ``reranked``.
    settings : dict
        Protocol, source of the features, versions: written beside the scores.
    """
    metrics = {**to_metrics(result), **settings}
    if reranked is not None:
        metrics["reranked"] = to_metrics(reranked)
    files.write_output(path, json.dumps(metrics, indent=2) + "\n")


def _is_copy(filename, other_filename):
    try:
        return filecmp.cmp(filename, other_filename, shallow=False)
    except FileNotFoundError:
        return True  # the user has only features: compare only names


def _as_rows(features):
    return features if isinstance(features, Shards) else np.asarray(features)


def _check_length(features, num_images, name):
    if features.ndim == 2 and len(features) == num_images:
        return
    way_out = "are these the features of this data set, all of them?"
    if features.ndim == 2 and features.shape[1] == num_images:
        way_out = "they have one column per image, but one row is expected: transpose them"
    raise DataError(
        f"the {name} features have the shape {features.shape}, but the {name} has {num_images:,} "
        f"images, and one row is expected for each: {way_out}"
    )


def _average_tracks(features, tracks):
    means = np.stack([features[first : last + 1].mean(axis=0) for first, last in tracks])
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    return means / np.maximum(lengths, np.finfo(np.float32).tiny)
