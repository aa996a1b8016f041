"""Rankings as strips of pictures: a query, and the items that are nearest to it."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from deep_reid.scoring.features import FeatureSet
from deep_reid.scoring.names import Names
from deep_reid.scoring.ranking import nearest
from deep_reid.scoring.rules import DISTRACTOR, JUNK, MATCH, NO_MATCH
from deep_reid.system import files

NUM_NEAREST = 10
"""Gallery items in a strip."""

# Names in the template and its style sheet.
_KINDS = {MATCH: "match", NO_MATCH: "no match", DISTRACTOR: "distractor", JUNK: "junk"}
_MAX_WIDTH, _MAX_HEIGHT = 96, 192  # Sharp on dense screens, and a few kB each.
_JPEG_QUALITY = 82


def find_items(
    query: FeatureSet,
    gallery: FeatureSet,
    rows: np.ndarray,
    kwargs: Mapping[str, Any],
    count: int = NUM_NEAREST,
) -> list[list[tuple[int, float, str]]]:
    """Find the gallery items to show beside some queries: the nearest ones, without the query.

    Parameters
    ----------
    query, gallery : FeatureSet
    rows : np.ndarray of int
        The queries.
    kwargs : dict
        For `ranking.nearest`.
    count : int
        Number of items to find for each query.

    Returns
    -------
    list of list of tuple
        For each query its items: row in the gallery, distance, and what it is for the query.
    """
    own_rows = kwargs.get("self_indices")
    own_rows = np.full(len(query), -1) if own_rows is None else np.asarray(own_rows)
    found = nearest(query, gallery, rows, count + 1, **kwargs)
    return [
        [
            (index, distance, _KINDS[code])
            for index, distance, code in zip(*parts, strict=True)
            if index != own_rows[row]
        ][:count]
        for row, *parts in zip(rows.tolist(), *(part.tolist() for part in found), strict=True)
    ]


def create_describer(
    features: FeatureSet, images: Sequence[files.Path], names: Names
) -> Callable[[int], dict[str, Any]]:
    """Create a function that returns what the template shows of an item, by its row.

    Parameters
    ----------
    features : FeatureSet
    images : sequence of str
        An image file per item.
    names : Names

    Returns
    -------
    callable
    """

    def describe(row):
        label = int(features.labels[row])
        return {
            "row": int(row),
            "label": label,
            "identity": names.identity(label) if label > 0 else "",
            "camera": None if features.cameras is None else int(features.cameras[row]),
            "path": names.path(images[row]),
            "image": embed_thumbnail(images[row]),
        }

    return describe


def embed_thumbnail(filename: files.Path) -> str | None:
    """Return a small JPEG as a data URL; None if the image cannot be read."""
    try:
        image = cv2.imdecode(np.fromfile(filename, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        return None
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = min(_MAX_WIDTH / width, _MAX_HEIGHT / height)
    if scale < 1.0:
        size = max(1, round(scale * width)), max(1, round(scale * height))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return data_url("image/jpeg", data.tobytes())


def data_url(media_type: str, data: bytes) -> str:
    """Return data as a URL that contains them."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
