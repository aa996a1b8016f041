"""Compares the features of an exported network with those of its checkpoint; free of TensorFlow."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from deep_reid.errors import DataError
from deep_reid.scoring import ranking

# Rounding differs between runtimes by some 1e-6. A wrong order of channels, range of values, or
# preprocessing differs by more than 1e-3, even in an untrained network.
_LARGEST_DIFFERENCE = 1e-4
_SMALLEST_COSINE = {"none": 0.99999, "bfloat16": 0.99, "int8": 0.95}
_LARGEST_LOSS = 0.02


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Images to compare with.

    Parameters
    ----------
    images : np.ndarray of uint8, shape (N, H, W, C)
        BGR or gray, of the network's size.
    labels : np.ndarray of int64, shape (N,), optional
        Their identities. None: there are no scores.
    measure : {"cosine", "euclidean"}
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    measure: str = "cosine"

    def score(self, features: np.ndarray) -> dict[str, float] | None:
        """Rank all images for each image, but for itself.

        Parameters
        ----------
        features : np.ndarray of float32, shape (N, D)

        Returns
        -------
        dict of str -> float
            ``rank1`` and ``mAP``, in [0, 1]. None without labels, or if no identity has two images.
        """
        if self.labels is None or len(np.unique(self.labels)) in (1, len(self.labels)):
            return None
        # From 1 on: in rankings, 0 is a distractor.
        labels = 1 + np.unique(self.labels, return_inverse=True)[1]
        items = ranking.FeatureSet(features, labels, np.zeros_like(labels), name="gallery")
        result = ranking.rank(
            items,
            items,
            measure=self.measure,
            same_camera_is_junk=False,
            self_indices=np.arange(len(features)),
        )
        return {"rank1": result.rank_k(1), "mAP": result.mean_average_precision}


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far the features of an exported network are from those of its checkpoint.

    Parameters
    ----------
    quantization : str
    num_images : int
    largest_difference : float
        Of two components.
    smallest_cosine : float
        Of the two features of an image.
    equal_nearest : float
        Share of images whose nearest other image is the same.
    scores_before, scores_after : dict or None
        Rank-1 and mAP of the images among each other: of the checkpoint, of the file.
    """

    quantization: str
    num_images: int
    largest_difference: float
    smallest_cosine: float
    equal_nearest: float
    scores_before: Mapping[str, float] | None
    scores_after: Mapping[str, float] | None

    def check(self, name: str) -> None:
        """Check that the difference is that of rounding or quantization.

        Parameters
        ----------
        name : str
            What was written, for the message.

        Raises
        ------
        DataError
            If it is larger.
        """
        smallest = _SMALLEST_COSINE[self.quantization]
        problem = None
        if not self.smallest_cosine >= smallest:  # also for NaN
            problem = f"a cosine of {self.smallest_cosine:.5f}, but at least {smallest} is expected"
        elif self.quantization == "none" and self.largest_difference > _LARGEST_DIFFERENCE:
            problem = (
                f"a difference of {self.largest_difference:.1g}, but at most "
                f"{_LARGEST_DIFFERENCE:g} is expected"
            )
        elif self.quantization != "none" and self.largest_loss > self._bound_of_loss:
            problem = (
                f"scores that are {100 * self.largest_loss:.1f} points lower, but at most "
                f"{100 * self._bound_of_loss:.1f} are expected"
            )
        if problem:
            raise DataError(
                f"{name} was not kept: of {self.num_images} images, its features have {problem}: "
                "use another format or quantization, or train longer (--precise_batch_norm helps "
                "after a short training)"
            )

    @property
    def _bound_of_loss(self):
        return _LARGEST_LOSS + 1 / self.num_images  # one image is no evidence

    @property
    def largest_loss(self) -> float:
        """How much lower rank-1 or mAP are than the checkpoint's."""
        if self.scores_before is None or self.scores_after is None:
            return 0.0
        after = self.scores_after
        return max(before - after[name] for name, before in self.scores_before.items())

    def to_row(self, name: str) -> list[str]:
        """Return a row of the table for logs."""
        row = [
            name,
            f"{self.largest_difference:.1e}",
            f"{self.smallest_cosine:.6f}",
            f"{100 * self.equal_nearest:.1f}",
        ]
        for score in ("rank1", "mAP"):
            for scores in (self.scores_before, self.scores_after):
                row.append("" if scores is None else f"{100 * scores[score]:.2f}")
        return row

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, and what the scores are, for a manifest."""
        return {**dataclasses.asdict(self), "protocol": PROTOCOL}


PROTOCOL = "each image among all others, of any camera"
"""Of the scores. They are higher than those of a test, which leaves the query's camera out."""

HEADER = [
    "file",
    "largest difference",
    "smallest cosine",
    "same nearest, %",
    "rank-1 before",
    "after",
    "mAP before",
    "after",
]
"""Of the table of `Parity.to_row`."""


def compare(
    expected: np.ndarray, features: np.ndarray, samples: Samples, quantization: str
) -> Parity:
    """Compare features.

    Parameters
    ----------
    expected, features : np.ndarray of float32, shape (N, D)
        Of the checkpoint, and of the file.
    samples : Samples
        The images that both are of.
    quantization : str

    Returns
    -------
    Parity
    """
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(features, axis=1)
    cosines = np.sum(expected * features, axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)
    return Parity(
        quantization=quantization,
        num_images=len(expected),
        largest_difference=float(abs(expected - features).max()),
        smallest_cosine=float(cosines.min()),
        equal_nearest=float(np.mean(_find_nearest(expected) == _find_nearest(features))),
        scores_before=samples.score(expected),
        scores_after=samples.score(features),
    )


def _find_nearest(features):
    similarities = features @ features.T
    np.fill_diagonal(similarities, -np.inf)
    return similarities.argmax(axis=1)
