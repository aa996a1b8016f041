"""The rules of the protocols: which gallery items are matches or junk for a query."""

import numpy as np
import numpy.typing as npt

from deep_reid.errors import DataError
from deep_reid.samplers.galleries import DISTRACTOR_LABEL, JUNK_LABEL, rows_by_label
from deep_reid.scoring.features import FeatureSet, check_dimensions

NO_MATCH, MATCH, JUNK, DISTRACTOR = range(4)
"""Codes of gallery items that `nearest` returns."""

_NO_ROWS = np.empty(0, np.int64)


class Rules:
    """Which gallery items are matches and which are junk, query by query.

    Parameters
    ----------
    query, gallery : FeatureSet
    same_camera_is_junk : bool
        Whether items of the query's identity and camera are left out of its ranking.
    self_indices : array-like of int, shape (num_queries,), optional
        The gallery row that is the query itself, or -1.

    Raises
    ------
    DataError
        If the sets do not fit together.
    """

    def __init__(
        self,
        query: FeatureSet,
        gallery: FeatureSet,
        same_camera_is_junk: bool,
        self_indices: npt.ArrayLike | None,
    ) -> None:
        check_dimensions(query.features, gallery.features)
        if same_camera_is_junk and (query.cameras is None) != (gallery.cameras is None):
            without = query if query.cameras is None else gallery
            raise DataError(
                f"the {without.name} has no cameras, but the other set has: give both, or neither, "
                "or use same_camera_is_junk=False"
            )
        self._query, self._gallery = query, gallery
        self._cameras = (query.cameras, gallery.cameras) if same_camera_is_junk else (None, None)
        self._self_indices = self._check_self_indices(self_indices)
        labels, rows = rows_by_label(gallery.labels)
        self._rows_of_identity = dict(zip(labels.tolist(), rows, strict=True))
        self.junk = self._rows_of_identity.pop(JUNK_LABEL, _NO_ROWS)
        self._rows_of_identity.pop(DISTRACTOR_LABEL, None)

    def _check_self_indices(self, self_indices):
        if self_indices is None:
            return np.full(len(self._query), -1)
        self_indices = np.asarray(self_indices)
        if self_indices.shape != (len(self._query),) or self_indices.dtype.kind not in "iu":
            raise DataError(
                f"self_indices must be a vector of {len(self._query)} integers, one per query"
            )
        if self_indices.min() < -1 or self_indices.max() >= len(self._gallery):
            raise DataError(
                f"self_indices must be rows of the gallery, 0 .. {len(self._gallery) - 1}, or -1"
            )
        return self_indices.astype(np.int64)

    def split(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the matches of a query, and the items that are junk for this query."""
        label, own_index = int(self._query.labels[row]), self._self_indices[row]
        of_label = self._rows_of_identity.get(label, _NO_ROWS)
        is_left_out = of_label == own_index
        query_cameras, gallery_cameras = self._cameras
        if query_cameras is not None and gallery_cameras is not None:
            is_left_out |= gallery_cameras[of_label] == query_cameras[row]
        matches, left_out = of_label[~is_left_out], of_label[is_left_out]
        return matches, left_out if own_index < 0 else np.union1d(left_out, own_index)

    def queries_with_match(self) -> np.ndarray:
        """Return the rows of the queries that have a match, or raise `DataError` if none has."""
        rows = [row for row in range(len(self._query)) if len(self.split(row)[0])]
        if not rows:
            raise DataError(
                f"none of the {len(self._query)} queries has a match in the gallery of "
                f"{len(self._gallery)} items (of the query's label, and of another camera): are "
                "these the features of this data set, in its order?"
            )
        return np.array(rows)

    def codes(self, row: int, items: np.ndarray) -> np.ndarray:
        """Return the codes of some gallery items for a query."""
        matches, left_out = self.split(row)
        labels = self._gallery.labels[items]
        codes = np.full(len(items), NO_MATCH, np.int8)
        codes[labels == DISTRACTOR_LABEL] = DISTRACTOR
        codes[np.isin(items, matches)] = MATCH
        codes[(labels == JUNK_LABEL) | np.isin(items, left_out)] = JUNK
        return codes
