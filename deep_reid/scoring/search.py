"""Searches a folder of images for those that are most like some queries; free of TensorFlow."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from deep_reid.errors import DataError, MissingPathError
from deep_reid.scoring import charts, feature_index, pages, shards, strips
from deep_reid.scoring.features import FeatureSet
from deep_reid.scoring.names import Names
from deep_reid.system import files

RESULTS_FILENAME = "results.csv"
PAGE_FILENAME = "search.html"
FILENAMES = (
    RESULTS_FILENAME,
    PAGE_FILENAME,
    *(f"{name}{ending}" for name in ("query", "gallery") for ending in (".npy", ".csv")),
)
"""All files that a search writes."""

MAX_STRIPS = 100
"""Largest number of queries on a page; the table has all."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def list_images(path: files.Path) -> list[str]:
    """List the images of a folder and its subfolders, or the one image that is named.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of str
        Sorted. Hidden files and folders are left out, and those that begin with ``@``, as file
        servers make them.

    Raises
    ------
    MissingPathError
        If it does not exist.
    DataError
        If there is no image.
    """
    path = os.fspath(path)
    if os.path.isfile(path):
        return [path]
    if not os.path.exists(path):
        raise MissingPathError(f"{path} does not exist: name an image, or a folder of images")
    if not os.path.isdir(path):
        raise DataError(f"{path} is neither a file nor a folder: name an image, or a folder")
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith((".", "@"))]
        found += [
            os.path.join(folder, name)
            for name in names
            if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith(".")
        ]
    if not found:
        raise DataError(
            f"{path} has no images, in its subfolders neither: an image ends in "
            f"{', '.join(IMAGE_ENDINGS)}"
        )
    return sorted(found)


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images with their features.

    Parameters
    ----------
    paths : sequence of N str
    features : np.ndarray of float, shape (N, D)
    """

    paths: Sequence[str]
    features: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What was found for each query.

    Parameters
    ----------
    query, gallery : Images
    found : list of list of tuple
        For each query (row of the gallery, distance), the nearest first.
    measure : {"cosine", "euclidean"}
    """

    query: Images
    gallery: Images
    found: list[list[tuple[int, float]]]
    measure: str


def search(query: Images, gallery: Images, measure: str, num_results: int) -> Results:
    """Find the gallery images that are nearest to each query, without the query itself.

    Parameters
    ----------
    query, gallery : Images
    measure : {"cosine", "euclidean"}
    num_results : int
        Number of images for each query; all of them if there are fewer.

    Returns
    -------
    Results

    Raises
    ------
    DataError
        If features do not fit together, or do not suit the measure.
    """
    rows = {os.path.realpath(path): row for row, path in enumerate(gallery.paths)}
    own_rows = np.array([rows.get(os.path.realpath(path), -1) for path in query.paths])
    # The identities are not known. The protocol's rules are for labels: here, none is equal.
    query_set = FeatureSet(query.features, np.full(len(query.paths), 1), name="query")
    gallery_set = FeatureSet(gallery.features, np.full(len(gallery.paths), 2))
    kwargs = {"measure": measure, "self_indices": own_rows}
    rows_of_queries = np.arange(len(own_rows))
    found = strips.find_items(query_set, gallery_set, rows_of_queries, kwargs, num_results)
    pairs = [[(row, distance) for row, distance, _ in items] for items in found]
    return Results(query, gallery, pairs, measure)


def write_results(search_dir: files.Path, results: Results) -> None:
    """Write ``results.csv``, and the features with an index of their paths.

    The table has a column ``cosine_distance`` or ``euclidean_distance``, with all digits.

    Parameters
    ----------
    search_dir : str or Path
        Made if it is missing.
    results : Results
    """
    search_dir = pathlib.Path(search_dir)
    for name, images in (("query", results.query), ("gallery", results.gallery)):
        path = search_dir / f"{name}.npy"
        shards.write_array(path, images.features)
        feature_index.write_index(path, images.paths)
    query_paths, gallery_paths = (
        [os.path.abspath(path) for path in images.paths]
        for images in (results.query, results.gallery)
    )
    lines = [
        # csv writes all digits of a float: the features of a new network are close together.
        (query_paths[query], rank, gallery_paths[row], float(distance))
        for query, items in enumerate(results.found)
        for rank, (row, distance) in enumerate(items, 1)
    ]
    header = ("query", "rank", "path", f"{results.measure}_distance")
    feature_index.write_csv(search_dir / RESULTS_FILENAME, header, lines)


def write_page(
    search_dir: files.Path,
    results: Results,
    folders: tuple[files.Path, files.Path],
    settings: Mapping[str, object],
) -> pathlib.Path:
    """Write ``search.html``, with the first queries and what was found for them as strips.

    Parameters
    ----------
    search_dir : str or Path
    results : Results
    folders : tuple of str or Path
        The folders, or files, of queries and gallery: paths are shown from there on.
    settings : dict
        Shown at the end.

    Returns
    -------
    pathlib.Path
        Name of the page.

    Raises
    ------
    UsageError
        If a package is missing.
    """
    pages.check_dependencies(PAGE_FILENAME)
    describe_query, describe_item = (
        _create_describer(images.paths, Names(folder=folder))
        for images, folder in zip((results.query, results.gallery), folders, strict=True)
    )
    shown = [
        {
            "query": describe_query(row),
            "items": [
                {**describe_item(index), "distance": distance, "kind": "result"}
                for index, distance in items[: strips.NUM_NEAREST]
            ],
        }
        for row, items in enumerate(results.found[:MAX_STRIPS])
    ]
    return pages.write_page(
        search_dir,
        PAGE_FILENAME,
        title="Search results",
        measure=charts.MEASURE_NAMES[results.measure],
        num_queries=len(results.query.paths),
        num_gallery=len(results.gallery.paths),
        num_items=max(1, *(len(strip["items"]) for strip in shown)),
        strips=shown,
        settings=settings,
    )


def _create_describer(paths, names):
    def describe(row):
        image = strips.embed_thumbnail(paths[row])
        return {"label": None, "camera": None, "path": names.path(paths[row]), "image": image}

    return describe
