"""Searches a folder of images for those that are most like some queries; free of TensorFlow."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from deep_reid.errors import DataError, MissingPathError
from deep_reid.scoring import approximate, charts, feature_index, pages, shards, strips
from deep_reid.scoring.features import FeatureSet, Rows, check_dimensions
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

    def find_rows(self, paths: Sequence[str]) -> list[int]:
        """Return the row of each of some images, -1 for those that are not among these."""
        rows = {os.path.realpath(path): row for row, path in enumerate(self.paths)}
        return [rows.get(os.path.realpath(path), -1) for path in paths]

    def find_paths(self, rows: Collection[int]) -> dict[int, str]:
        """Return the path of each of some rows."""
        return {row: self.paths[row] for row in rows}


@dataclasses.dataclass(frozen=True, eq=False)
class ImagesInFiles:
    """Images whose features lie in files, with an index beside each.

    Parameters
    ----------
    paths : IndexedPaths
    features : np.ndarray of float or Shards, shape (N, D)
    """

    paths: feature_index.IndexedPaths
    features: Rows

    def find_rows(self, paths: Sequence[str]) -> list[int]:
        """Return the row of each of some images, -1 for those that are not among these."""
        wanted = [(os.path.abspath(path), os.path.realpath(path)) for path in paths]
        found = self.paths.find_rows({path for both in wanted for path in both})
        return [found.get(path, found.get(real_path, -1)) for path, real_path in wanted]

    def find_paths(self, rows: Collection[int]) -> dict[int, str]:
        """Return the path of each of some rows."""
        return self.paths.find_paths(rows)


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What was found for each query.

    Parameters
    ----------
    query : Images
    gallery : Images or ImagesInFiles
    found : list of list of tuple
        For each query (row of the gallery, distance), the nearest first.
    measure : {"cosine", "euclidean"}
    """

    query: Images
    gallery: Images | ImagesInFiles
    found: list[list[tuple[int, float]]]
    measure: str

    @functools.cached_property
    def found_paths(self) -> Mapping[int, str]:
        """The paths of all gallery images that were found, by row."""
        return self.gallery.find_paths({row for items in self.found for row, _ in items})


def search(
    query: Images,
    gallery: Images | ImagesInFiles,
    measure: str,
    num_results: int,
    index: approximate.Index | None = None,
) -> Results:
    """Find the gallery images that are nearest to each query, without the query itself.

    Parameters
    ----------
    query : Images
    gallery : Images or ImagesInFiles
    measure : {"cosine", "euclidean"}
    num_results : int
        Number of images for each query; all of them if there are fewer.
    index : deep_reid.scoring.approximate.Index, optional
        Of the gallery. It may miss some of the nearest images. Default: compare with all.

    Returns
    -------
    Results

    Raises
    ------
    DataError
        If features do not fit together, or do not suit the measure.
    """
    own_rows = np.array(gallery.find_rows(query.paths), np.int64)
    if index is not None:
        count = min(num_results + 1, len(gallery.features))
        check_dimensions(query.features, gallery.features)
        parts = index.find(np.asarray(query.features), gallery.features, count)
        pairs = [
            [(row, distance) for row, distance in zip(*both, strict=True) if row not in (-1, own)]
            for own, *both in zip(own_rows, *(part.tolist() for part in parts), strict=True)
        ]
        return Results(query, gallery, [items[:num_results] for items in pairs], measure)
    # The identities are not known. The protocol's rules are for labels: here, none is equal.
    query_set = FeatureSet(query.features, np.full(len(query.paths), 1), name="query")
    gallery_set = FeatureSet(gallery.features, np.full(len(gallery.features), 2))
    kwargs = {"measure": measure, "self_indices": own_rows}
    rows_of_queries = np.arange(len(own_rows))
    found = strips.find_items(query_set, gallery_set, rows_of_queries, kwargs, num_results)
    pairs = [[(row, distance) for row, distance, _ in items] for items in found]
    return Results(query, gallery, pairs, measure)


def measure_recall(
    found: Sequence[Sequence[tuple[int, float]]], exact: Sequence[Sequence[tuple[int, float]]]
) -> float:
    """Return the share of the nearest images that an index has found.

    Parameters
    ----------
    found, exact : list of list of tuple
        What was found with and without the index, as in `Results`.

    Returns
    -------
    float
        In [0, 1]: recall@k for the k exact results of each query, the mean over the queries.
    """
    shares = [
        len({row for row, _ in some} & {row for row, _ in all_}) / max(1, len(all_))
        for some, all_ in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


def write_results(search_dir: files.Path, results: Results) -> None:
    """Write ``results.csv``, and features that are in no file, with an index of their paths.

    The table has a column ``cosine_distance`` or ``euclidean_distance``, with all digits.

    Parameters
    ----------
    search_dir : str or Path
        Made if it is missing.
    results : Results
    """
    search_dir = pathlib.Path(search_dir)
    for name, images in (("query", results.query), ("gallery", results.gallery)):
        if isinstance(images, ImagesInFiles):
            continue
        path = search_dir / f"{name}.npy"
        shards.write_array(path, images.features)
        feature_index.write_index(path, images.paths)
    query_paths, paths = map(os.path.abspath, results.query.paths), results.found_paths
    lines = [
        # csv writes all digits of a float: the features of a new network are close together.
        (query, rank, os.path.abspath(paths[row]), float(distance))
        for query, items in zip(query_paths, results.found, strict=True)
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
        _create_describer(paths, Names(folder=folder))
        for paths, folder in zip((results.query.paths, results.found_paths), folders, strict=True)
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
        num_gallery=len(results.gallery.features),
        num_items=max(1, *(len(strip["items"]) for strip in shown)),
        strips=shown,
        settings=settings,
    )


def _create_describer(paths, names):
    def describe(row):
        image = strips.embed_thumbnail(paths[row])
        return {"label": None, "camera": None, "path": names.path(paths[row]), "image": image}

    return describe
