"""Search by an index, which is built once and kept beside the results."""

import json
import logging
import os
import time
from typing import Any

from deep_reid.cli import outputs
from deep_reid.errors import UsageError
from deep_reid.scoring import approximate
from deep_reid.scoring import search as searching
from deep_reid.scoring.shards import Shards
from deep_reid.system import files

FILENAME = "index.faiss"

_logger = logging.getLogger(__name__)

# Queries that are compared with all images, too, when an index is new.
_NUM_CHECKED = 100


def search(
    search_dir: str,
    query: searching.Images,
    gallery: searching.ImagesInFiles,
    measure: str,
    num_results: int,
) -> tuple[searching.Results, dict[str, Any]]:
    """Search by the index in a folder; build it if it is missing, or of other features.

    Parameters
    ----------
    search_dir : str
    query : deep_reid.scoring.search.Images
    gallery : deep_reid.scoring.search.ImagesInFiles
    measure : {"cosine", "euclidean"}
    num_results : int

    Returns
    -------
    results : deep_reid.scoring.search.Results
    facts : dict
        For manifest and page: the index, and its recall.

    Raises
    ------
    UsageError
        If the features are not in ``.npy`` files.
    DataError
        If the index cannot be read, or the features do not suit the measure.
    """
    if not isinstance(gallery.features, Shards):
        raise UsageError(
            "--index=faiss needs .npy files: write them with --mode=export --shard=0/1"
        )
    path = os.path.join(search_dir, FILENAME)
    made_of = {"measure": measure, "features": _describe(gallery.features)}
    facts = outputs.read_facts(path) if os.path.exists(path) else {}
    if {name: facts.get(name) for name in made_of} == made_of:
        _logger.info("Reading the index %s", path)
        index = approximate.Index.load(path, measure)
        results = searching.search(query, gallery, measure, num_results, index)
    else:
        _logger.info("Building an index of %d images", len(gallery.features))
        start = time.perf_counter()
        index = approximate.Index.build(gallery.features, measure)
        index.save(path)
        _logger.info("Built it in %.0f s: %s", time.perf_counter() - start, path)
        results = searching.search(query, gallery, measure, num_results, index)
        facts = {"file": FILENAME, **made_of, **_measure_recall(results, num_results)}
        files.write_output(path + outputs.ENDING, json.dumps(facts, indent=2) + "\n")
    recall = {name: value for name, value in facts.items() if name.startswith("recall")}
    for name, value in recall.items():
        _logger.info("%s of the index: %.3f, measured when it was built", name, value)
    return results, {"index": FILENAME, **recall}


def _measure_recall(results, num_results):
    """Search exactly for the first queries; return the share of images that the index found."""
    query = searching.Images(
        results.query.paths[:_NUM_CHECKED], results.query.features[:_NUM_CHECKED]
    )
    exact = searching.search(query, results.gallery, results.measure, num_results)
    recall = searching.measure_recall(results.found[:_NUM_CHECKED], exact.found)
    return {f"recall@{num_results}": recall}


def _describe(features):
    """Return what changes when other features are written: name, size and time of each file."""
    states = [(os.path.abspath(path), os.stat(path)) for path in features.paths]
    return [[path, state.st_size, state.st_mtime_ns] for path, state in states]
