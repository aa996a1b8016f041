"""What a network, a loss or a data set must have to be used by the package; free of TensorFlow.

The package's own satisfy the same protocols. They describe, no more: nothing has to inherit from
them. ``docs/extending.md`` has an example of each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

Tensor: TypeAlias = Any
"""A ``tf.Tensor`` of graph mode: ``from deep_reid.compat import tf``."""


@runtime_checkable
class Preprocess(Protocol):
    """Turns an image of uint8 into what the network takes; runs in the feed threads.

    With an attribute ``takes_batches = True`` it is called once for a batch (N, H, W, C). With an
    attribute ``input_is_bgr = True`` it expects OpenCV's order of channels: then it can only be
    trained on arrays, since files are decoded to RGB.
    """

    def __call__(self, image: Tensor, is_training: bool = False) -> Tensor:
        """Add the ops for one image to the default graph.

        Parameters
        ----------
        image : tf.Tensor of uint8, or of float32 where it was resized, shape (H, W, C)
            RGB or gray, in [0, 255].
        is_training : bool
            Passed by name. Whether to augment at random.

        Returns
        -------
        tf.Tensor of float32, shape (H, W, C)
        """


@runtime_checkable
class NetworkFactory(Protocol):
    """Connects a network to images; is called once in each graph."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add the network to the default graph, with its variables.

        Parameters
        ----------
        images : tf.Tensor of float32, shape (N, H, W, C)
            As `Preprocess` returns them. N may be unknown, H, W and C never are.

        Returns
        -------
        features : tf.Tensor of float32, shape (N, D)
            D is known. The package's networks give rows of unit length, and so should others whose
            frozen graph goes into a tracker.
        logits : tf.Tensor of float32, shape (N, num_classes), or None
            None where no classifier was asked for.
        """


@runtime_checkable
class Network(Protocol):
    """A network with its preprocessing: ``--network=MODULE:NAME``.

    A class, which is made without arguments, or an object. The package's own are modules of
    `deep_reid.nets`. Two more methods are optional:

    ``fits(variable_shapes) -> bool``
        Whether a checkpoint may be of this network; `variable_shapes` is a dict from the name of
        each variable to its shape, a list of int. Without it, every checkpoint is tried.
    ``num_classes_in(variable_shapes) -> int or None``
        Number of classes of a checkpoint's classifier. Without it, what its run has recorded.
    """

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing of its images, in training and everywhere else."""

    def create_network_factory(
        self, is_training: bool, num_classes: int | None, add_logits: bool
    ) -> NetworkFactory:
        """Settle the network's settings, to be connected to images later.

        Parameters
        ----------
        is_training : bool
            Whether batch norm uses and gathers the batch's statistics, and dropout drops.
        num_classes : int or None
            Number of identities to train on. None outside training, unless a checkpoint is
            finalized that has a classifier.
        add_logits : bool
            Whether the loss needs a classifier. Without it, variables of one must not be made.

        All three are passed by name.

        Returns
        -------
        NetworkFactory
        """


@runtime_checkable
class Loss(Protocol):
    """A loss: ``--loss_mode=MODULE:NAME``; a function, another callable, or a class of one.

    A class is made without arguments. Two attributes are optional:

    ``needs_logits`` : bool, default False
        Whether the network is made with a classifier.
    ``measure`` : {"cosine", "euclidean"}, default "cosine"
        The distance by which evaluation and test rank features.
    """

    def __call__(self, features: Tensor, logits: Tensor | None, labels: Tensor) -> Tensor:
        """Add the ops of the loss to the default graph.

        Parameters
        ----------
        features : tf.Tensor of float32, shape (N, D)
            As the network gives them. Of float64 where the network is computed in bfloat16 or
            float16, as losses must stay exact: constants take the type ``features.dtype``.
        logits : tf.Tensor of the same type, shape (N, num_classes), or None
            None where the network has no classifier.
        labels : tf.Tensor of int64, shape (N,)
            In [0, num_classes) where there are logits.

        Returns
        -------
        tf.Tensor of float, shape ()
            Mean over the rows. Penalties on weights are added by the package.
        """


@runtime_checkable
class Split(Protocol):
    """Images of a data set, and who is seen where on them."""

    @property
    def filenames(self) -> Sequence[str]:
        """Paths of N image files."""

    @property
    def labels(self) -> np.ndarray:
        """The identity of each image, int64, shape (N,)."""

    @property
    def cameras(self) -> np.ndarray:
        """The camera of each image, int64, shape (N,)."""

    @property
    def num_identities(self) -> int:
        """Number of different labels."""

    def __len__(self) -> int:
        """Return the number of images, N."""


@runtime_checkable
class TestSet(Protocol):
    """Queries and gallery of a test; `datasets.protocols.TestSet` is one."""

    protocol: str
    """Name of the protocol, for people."""
    gallery_labels: np.ndarray
    """Identity of each gallery item, int64, shape (G,): -1 is junk, 0 a distractor."""
    gallery_cameras: np.ndarray
    """Camera of each gallery item, int64, shape (G,)."""
    query_labels: np.ndarray
    """Identity of each query, int64, shape (Q,)."""
    query_cameras: np.ndarray
    """Camera of each query, int64, shape (Q,)."""
    num_gallery_images: int
    """Number of images in the gallery: G, unless items are tracklets."""
    list_query_images: Callable[[], Sequence[str]] | None
    """None where the queries are items of the gallery."""
    query_rows: np.ndarray | None
    """The gallery items that are the queries, int64, shape (Q,); None where they are images."""
    tracks: np.ndarray | None
    """First and last image of each gallery item, int64, shape (G, 2), where items are tracklets."""

    @property
    def is_cross_camera(self) -> bool:
        """Whether any query is seen by another camera: else a cross-camera test is empty."""

    @property
    def gallery_images(self) -> Sequence[str]:
        """Paths of the gallery's images, in the official order."""

    @property
    def query_images(self) -> Sequence[str] | None:
        """Paths of the queries' images; None where they are items of the gallery."""


@runtime_checkable
class Dataset(Protocol):
    """A data set: its class is handed to ``cli.main``.

    A subclass of `datasets.base.ReidDataset` has all of this, and says no more than where its
    images are. The test splits are read when `test_set` and `export_files` ask for them.

    Parameters
    ----------
    dataset_dir : str
        Its folder or file, ``--dataset``.
    num_validation_identities : float or int
        Share (float) or number (int) of the training identities that are kept for validation.
    seed : int
        Seed of that choice.
    needs_train : bool
        False for the test alone: then the training images may be missing.

    Raises
    ------
    deep_reid.errors.MissingPathError
        If its folder or its training images do not exist.
    """

    NAME: ClassVar[str]
    """Part of default directories and file names, such as ``market1501``."""
    TITLE: ClassVar[str]
    """Name for people, such as ``Market-1501``."""
    IMAGE_SHAPE: ClassVar[tuple[int, int, int]]
    """``(height, width, channels)`` to train with."""
    DEFAULT_DIR: ClassVar[str | None]
    """Where the data set is looked for when no folder is given; None: it must be given."""
    NUM_GALLERIES: ClassVar[int]
    """Number of random galleries over which evaluation averages."""
    COMPACT_LABELS: ClassVar[bool]
    """Whether a classifier has one class for each identity to train on, not `num_classes`."""
    FITS_BATCHES: ClassVar[bool]
    """Whether batches shrink to the number of identities, where that is an error otherwise."""

    dataset_dir: str
    """As it was given."""

    def __init__(
        self,
        dataset_dir: str,
        num_validation_identities: float = 0.1,
        seed: int = 1234,
        *,
        needs_train: bool = True,
    ): ...

    @classmethod
    def find(cls, dataset_dir: str, name: str) -> Any:
        """Check that a file or folder of the data set exists.

        Parameters
        ----------
        dataset_dir : str
        name : str
            Path below `dataset_dir`; empty: that itself.

        Raises
        ------
        deep_reid.errors.MissingPathError
            If it does not exist.
        """

    @property
    def train(self) -> Split:
        """Images of the identities to train on."""

    @property
    def validation(self) -> Split:
        """Images of the identities kept for validation."""

    @property
    def num_classes(self) -> int:
        """Number of classes of a classifier over the labels: the largest label + 1."""

    def name_of(self, label: int) -> str:
        """Return the name of an identity.

        Parameters
        ----------
        label : int

        Returns
        -------
        str
        """

    def list_splits(self) -> Mapping[str, Split]:
        """List the splits that are there, those for testing included.

        Returns
        -------
        dict of str -> Split
        """

    def summary_table(self) -> str:
        """Tabulate the splits, for the log of a training.

        Returns
        -------
        str
            Lines.
        """

    def test_set(self) -> TestSet:
        """Create the official test, for ``--mode=test``.

        Returns
        -------
        TestSet

        Raises
        ------
        deep_reid.errors.UsageError
            If there is none.
        """

    def export_files(self) -> Mapping[str, Sequence[str]]:
        """List the images whose features the official evaluation code wants.

        Returns
        -------
        dict of str -> list of str
            For each .mat file that ``--mode=export`` writes, its images.
        """
