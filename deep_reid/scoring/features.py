"""Features with their identities and cameras, and checks of features."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError
from deep_reid.scoring.shards import Shards

Rows = np.ndarray | Shards
"""Features in memory, or in files that are read a part at a time."""

_BLOCK_ROWS = 2**14


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features with the identity and the camera of each.

    Parameters
    ----------
    features : array-like of float or Shards, shape (N, D)
        One row per image or tracklet; kept as float32, and copied only if they are not. Those of
        `deep_reid.scoring.shards.Shards` stay in their files.
    labels : array-like of int, shape (N,)
        The identities: -1 is junk and 0 a distractor.
    cameras : array-like of int, shape (N,), optional
        The cameras, if they are known.
    name : str
        What messages call it: "query" or "gallery".

    Raises
    ------
    DataError
        If there are no rows, a feature is not finite, or the shapes do not fit together.
    """

    features: Rows
    labels: np.ndarray
    cameras: np.ndarray | None = None
    name: str = field(default="gallery", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", as_features(self.features, self.name))
        for attribute in ("labels", "cameras"):
            values = getattr(self, attribute)
            if values is not None or attribute == "labels":
                object.__setattr__(self, attribute, self._as_integers(values, attribute))

    def __len__(self) -> int:
        return len(self.features)

    def _as_integers(self, values, attribute):
        array = np.asarray(values)
        if array.shape != (len(self),):
            raise DataError(
                f"the {self.name} has {len(self)} features, but its {attribute} are of shape "
                f"{array.shape}: give one of the {attribute} per feature, as a vector"
            )
        integers = array.astype(np.int64) if array.dtype.kind in "iuf" else None
        if integers is None or not np.array_equal(integers, array):
            raise DataError(f"the {attribute} of the {self.name} must be integers")
        return integers


def as_features(values: npt.ArrayLike | Shards, name: str) -> Rows:
    """Return features as float32 of shape (N, D); copy them only if they are not.

    Parameters
    ----------
    values : array-like of float or Shards, shape (N, D)
    name : str
        What messages call them.

    Raises
    ------
    DataError
        If there are none, they have another shape, or one is not finite.
    """
    features = values if isinstance(values, Shards) else _as_array(values, name)
    is_finite = np.empty(len(features), bool)
    for start, block in blocks_of_rows(features):
        # The extremes of a row show NaN and infinity without an array as large as the features.
        extremes = block.max(axis=1), block.min(axis=1)
        is_finite[start : start + len(block)] = np.isfinite(extremes).all(axis=0)
    if not is_finite.all():
        raise DataError(
            f"row {np.argmin(is_finite)} of the {name} features is not finite in float32 "
            f"(one of {np.count_nonzero(~is_finite)}): repair or leave out its image"
        )
    return features


def _as_array(values, name):
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
        raise DataError(
            f"the {name} features must be numbers in rows, one row per item, and at least one; "
            f"they are of shape {array.shape} and type {array.dtype}"
        )
    with np.errstate(over="ignore"):  # What float32 cannot hold becomes infinite.
        return np.ascontiguousarray(array, np.float32)


def blocks_of_rows(features: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """Yield features block by block, each with its first row."""
    for start in range(0, len(features), _BLOCK_ROWS):
        yield start, features[start : start + _BLOCK_ROWS]


def check_dimensions(query_features: Rows, gallery_features: Rows) -> None:
    """Raise `DataError` if the dimensions of the features differ."""
    if query_features.shape[1] != gallery_features.shape[1]:
        raise DataError(
            f"the query features have dimension {query_features.shape[1]} and the gallery "
            f"features {gallery_features.shape[1]}: take both from the same network"
        )
