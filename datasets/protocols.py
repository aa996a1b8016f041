"""Test protocols as data: the images to encode, the queries, and the labels and cameras of all."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from deep_reid.errors import DataError

from .split import Split


@dataclasses.dataclass(frozen=True, eq=False)
class TestSet:
    """Queries and gallery of a test; file names are listed when they are first used.

    Parameters
    ----------
    protocol : str
        Its name in logs and reports.
    gallery_labels, gallery_cameras : np.ndarray of int64, shape (G,)
        Identity and camera of each gallery item. -1 is junk, 0 a distractor.
    query_labels, query_cameras : np.ndarray of int64, shape (Q,)
    num_gallery_images : int
        Number of images in the gallery: G, or more if items are tracklets.
    list_gallery_images : callable
        Returns the file names of the gallery's images, in the official order.
    list_query_images : callable, optional
        Returns the file names of the queries. None: queries are items of the gallery.
    query_rows : np.ndarray of int64, shape (Q,), optional
        The gallery items that are the queries, if the queries have no images of their own.
        A query never matches its own item.
    tracks : np.ndarray of int64, shape (G, 2), optional
        First and last image of each gallery item, zero-based and inclusive, if items are
        tracklets. None: each image is an item.
    """

    # Keeps pytest from collecting the class as a test.
    __test__ = False

    protocol: str
    gallery_labels: np.ndarray
    gallery_cameras: np.ndarray
    query_labels: np.ndarray
    query_cameras: np.ndarray
    num_gallery_images: int
    list_gallery_images: Callable[[], Sequence[str]]
    list_query_images: Callable[[], Sequence[str]] | None = None
    query_rows: np.ndarray | None = None
    tracks: np.ndarray | None = None

    @functools.cached_property
    def is_cross_camera(self) -> bool:
        """Whether another camera sees any query's identity: else a cross-camera test is empty."""
        views = {*zip(self.gallery_labels.tolist(), self.gallery_cameras.tolist(), strict=True)}
        cameras_of: dict[int, set[int]] = collections.defaultdict(set)
        for label, camera in views:
            cameras_of[label].add(camera)
        queries = zip(self.query_labels.tolist(), self.query_cameras.tolist(), strict=True)
        return any(cameras_of[label] - {camera} for label, camera in queries)

    @functools.cached_property
    def gallery_images(self) -> Sequence[str]:
        """File names of the gallery's images, in the official order."""
        return self.list_gallery_images()

    @functools.cached_property
    def query_images(self) -> Sequence[str] | None:
        """File names of the queries' images; None if queries are items of the gallery."""
        return None if self.list_query_images is None else self.list_query_images()


def create_image_test_set(protocol: str, query: Split, gallery: Split) -> TestSet:
    """Create a test in which each image is an item.

    Parameters
    ----------
    protocol : str
    query, gallery : datasets.split.Split

    Returns
    -------
    TestSet
    """
    return TestSet(
        protocol,
        gallery.labels,
        gallery.cameras,
        query.labels,
        query.cameras,
        len(gallery),
        lambda: gallery.filenames,
        lambda: query.filenames,
    )


def create_track_test_set(
    protocol: str,
    tracks: ArrayLike,
    query_tracks: ArrayLike,
    list_images: Callable[[], Sequence[str]],
) -> TestSet:
    """Create a test in which each tracklet is an item, and some tracklets are the queries.

    Parameters
    ----------
    protocol : str
    tracks : array-like of int, shape (G, 4)
        First image, last image (one-based, inclusive), identity, camera.
    query_tracks : array-like of int, shape (Q,)
        One-based numbers of tracks.
    list_images : callable
        Returns the file names of all images, in the order that the tracks refer to.

    Returns
    -------
    TestSet

    Raises
    ------
    DataError
        If a track is empty, or a query is not a track.
    """
    tracks = np.asarray(tracks, np.int64).reshape(-1, 4)
    query_rows = np.asarray(query_tracks, np.int64).ravel() - 1
    first, last, labels, cameras = (tracks - (1, 1, 0, 0)).T
    if not len(tracks) or first.min() < 0 or np.any(last < first):
        raise DataError("the table of tracks is empty or has an empty track: restore it")
    if not len(query_rows) or query_rows.min() < 0 or query_rows.max() >= len(tracks):
        raise DataError(f"the queries must be tracks of the table, 1 .. {len(tracks)}: restore it")
    return TestSet(
        protocol,
        labels,
        cameras,
        labels[query_rows],
        cameras[query_rows],
        int(last.max()) + 1,
        list_images,
        query_rows=query_rows,
        tracks=np.stack([first, last], axis=1),
    )


def create_each_image_test_set(protocol: str, split: Split) -> TestSet:
    """Create a test in which each image is a query, and all images are the gallery.

    Parameters
    ----------
    protocol : str
    split : datasets.split.Split

    Returns
    -------
    TestSet
    """
    return dataclasses.replace(
        create_image_test_set(protocol, split, split),
        list_query_images=None,
        query_rows=np.arange(len(split)),
    )
