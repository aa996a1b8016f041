"""Approximate search in large galleries, by an index of faiss; needs the extra ``index``.

The index is an inverted file with scalar quantization [1]_: k-means cells of about the square root
of the number of items, of which a search visits some, and one byte for each number of a feature. It
proposes more items than are asked for. Their exact distances decide about their order.

.. [1] H. Jegou, M. Douze, C. Schmid: Product Quantization for Nearest Neighbor Search. PAMI 2011.
"""

import importlib
import math
from typing import Any

import numpy as np

from deep_reid.errors import DataError, first_line
from deep_reid.scoring.comparisons import compare, find_measure
from deep_reid.scoring.features import FeatureSet, Rows, as_features, blocks_of_rows
from deep_reid.system import files, packages
from deep_reid.system.memory import count_cores

# Share and least number of the cells that a search visits.
_SHARE_OF_CELLS = 1 / 32
_MIN_CELLS = 16
# Items that are proposed for each one that is asked for.
_NUM_PROPOSED = 4
# k-means needs no more items for a cell.
_TRAINING_ITEMS = 64


def check_dependencies() -> None:
    """Check that faiss is installed.

    Raises
    ------
    UsageError
        If it is missing; the message names what to install.
    """
    _import_faiss()


class Index:
    """An index of the features of a gallery; see `build` and `load`.

    Parameters
    ----------
    index : faiss.Index
    measure : {"cosine", "euclidean"}
    """

    def __init__(self, index: Any, measure: str) -> None:
        self._index, self._measure = index, measure

    @classmethod
    def build(cls, gallery: Rows, measure: str, seed: int = 0) -> "Index":
        """Build an index; the gallery is read block by block: checked first, then added.

        Parameters
        ----------
        gallery : np.ndarray or Shards, shape (N, D)
        measure : {"cosine", "euclidean"}
        seed : int
            Draws the items that k-means begins with.

        Returns
        -------
        Index

        Raises
        ------
        DataError
            If a feature is not finite, or does not suit the measure.
        """
        faiss = _import_faiss()
        find_measure(measure).check(as_features(gallery, "gallery"), "gallery", np.float32)
        num_items, dimension = gallery.shape
        num_cells = min(num_items, 2 ** math.ceil(math.log2(num_items) / 2))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(dimension), dimension, num_cells, faiss.ScalarQuantizer.QT_8bit
        )
        index.cp.seed, index.cp.min_points_per_centroid = 1 + seed, 1
        sample = np.random.default_rng(seed).choice(
            num_items, min(num_items, _TRAINING_ITEMS * num_cells), replace=False
        )
        index.train(_normalize(gallery[np.sort(sample)], measure))
        for _, block in blocks_of_rows(gallery):
            index.add(_normalize(block, measure))
        return cls(index, measure)

    @classmethod
    def load(cls, path: files.Path, measure: str) -> "Index":
        """Read an index from a file that `save` wrote.

        Parameters
        ----------
        path : str or Path
        measure : {"cosine", "euclidean"}
            The one that it was built for.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        faiss = _import_faiss()
        try:
            return cls(faiss.read_index(str(path)), measure)
        except RuntimeError as error:
            raise DataError(
                f"{path} cannot be read as an index ({first_line(error)}): remove it, and it is "
                "built anew"
            ) from error

    def save(self, path: files.Path) -> None:
        """Write the index to a file, whole or not at all.

        Parameters
        ----------
        path : str or Path
        """
        with files.writing(path) as temporary:
            _import_faiss().write_index(self._index, temporary)

    def find(self, query: np.ndarray, gallery: Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find items near to some queries.

        Parameters
        ----------
        query : np.ndarray of float32, shape (Q, D)
        gallery : np.ndarray or Shards, shape (N, D)
            What the index was built of. Only the items that the index proposes are read.
        k : int
            At most N.

        Returns
        -------
        indices : np.ndarray of int64, shape (Q, k)
            Nearest first; -1 where the cells that were visited have too few items.
        distances : np.ndarray of float64, shape (Q, k)
            Exact ones, as `deep_reid.scoring.ranking.nearest` returns; infinite where there is no
            item.
        """
        self._index.nprobe = max(_MIN_CELLS, math.ceil(_SHARE_OF_CELLS * self._index.nlist))
        num_proposed = min(_NUM_PROPOSED * k, len(gallery))
        _, proposed = self._index.search(_normalize(query, self._measure), num_proposed)
        items = np.unique(proposed[proposed >= 0])
        comparison = compare(
            FeatureSet(query, np.ones(len(query), int), name="query"),
            FeatureSet(gallery[items], np.ones(len(items), int)),
            self._measure,
        )
        indices, distances = np.full((len(query), k), -1), np.full((len(query), k), np.inf)
        for row, proposed_items in enumerate(proposed):
            columns = np.searchsorted(items, np.sort(proposed_items[proposed_items >= 0]))
            exact = comparison.distances(row, columns)
            order = np.argsort(exact, kind="stable")[:k]
            indices[row, : len(order)] = items[columns[order]]
            distances[row, : len(order)] = comparison.readable(exact[order])
        return indices, distances


def _normalize(features, measure):
    """Return what is compared by Euclidean distance."""
    if measure == "euclidean":
        return features
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _import_faiss():
    packages.require({"faiss": "index"}, "--index=faiss")
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(count_cores())
    return faiss
