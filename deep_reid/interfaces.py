"""What the package needs of a network, a loss or a data set; free of TensorFlow.

The package's own networks, losses and data sets follow the same protocols. Nothing has to inherit
from them. ``docs/extending.md`` has an example of each.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

Tensor: TypeAlias = Any
"""A ``tf.Tensor`` of graph mode: ``from deep_reid.compat import tf``."""


@runtime_checkable
class Preprocess(Protocol):
    """Turns a uint8 image into the network's input; runs in the feed threads.

    With an attribute ``takes_batches = True`` it is called once for a batch (N, H, W, C). With an
    attribute ``input_is_bgr = True`` it expects OpenCV's order of channels: then it works only with
    arrays, since files are decoded to RGB.
    """

    def __call__(self, image: Tensor, is_training: bool = False) -> Tensor:
        """Add the ops for one image to the default graph.

        Parameters
        ----------
        image : tf.Tensor of uint8, or of float32 if it was resized, shape (H, W, C)
            RGB or gray, in [0, 255].
        is_training : bool
            Passed by name. Whether to augment at random.

        Returns
        -------
        tf.Tensor of float32, shape (H, W, C)
        """


@runtime_checkable
class NetworkFactory(Protocol):
    """Connects a network to images; called once in each graph."""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Add the network to the default graph, with its variables.

        Parameters
        ----------
        images : tf.Tensor of float32, shape (N, H, W, C)
            As `Preprocess` returns them. N may be unknown, H, W and C never are.

        Returns
        -------
        features : tf.Tensor of float32, shape (N, D)
            D is known. The rows of the package's networks have unit length; a tracker needs this
            of a frozen graph.
        logits : tf.Tensor of float32, shape (N, num_classes), or None
            None if `add_logits` was False.
        """


@runtime_checkable
class Network(Protocol):
    """A network with its preprocessing: ``--network=MODULE:NAME``.

    An object, or a class that needs no arguments. The package's own are modules of
    `deep_reid.nets`. Two more methods are optional:

    ``fits(variable_shapes) -> bool``
        Whether a checkpoint may be of this network; `variable_shapes` is a dict from the name of
        each variable to its shape, a list of int. Without it, every checkpoint is tried.
    ``num_classes_in(variable_shapes) -> int or None``
        Number of classes of a checkpoint's classifier. Without it, the number in config.json.
    """

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing of its images, in training and in all other modes."""

    def create_network_factory(
        self, is_training: bool, num_classes: int | None, add_logits: bool
    ) -> NetworkFactory:
        """Create a function that connects the network to images.

        Parameters
        ----------
        is_training : bool
            Whether batch norm uses and collects the batch's statistics, and dropout is active.
        num_classes : int or None
            Number of identities to train on. None outside training, except to finalize a checkpoint
            that has a classifier.
        add_logits : bool
            Whether the loss needs a classifier. If not, the network must not make its variables.

        All three are passed by name.

        Returns
        -------
        NetworkFactory
        """


@runtime_checkable
class Loss(Protocol):
    """A loss: ``--loss_mode=MODULE:NAME``; a function or another callable, or a class of one.

    The class needs no arguments. Two attributes are optional:

    ``needs_logits`` : bool, default False
        Whether the network needs a classifier.
    ``measure`` : {"cosine", "euclidean"}, default "cosine"
        The distance by which evaluation and test rank features.
    """

    def __call__(self, features: Tensor, logits: Tensor | None, labels: Tensor) -> Tensor:
        """Add the ops of the loss to the default graph.

        Parameters
        ----------
        features : tf.Tensor of float32, shape (N, D)
            The network's output. Of float64 if the network is computed in bfloat16 or float16,
            because losses must stay exact: constants must have the type ``features.dtype``.
        logits : tf.Tensor of the same type, shape (N, num_classes), or None
            None if the network has no classifier.
        labels : tf.Tensor of int64, shape (N,)
            In [0, num_classes) if there are logits.

        Returns
        -------
        tf.Tensor of float, shape ()
            Mean over the rows. The package adds penalties on weights.
        """


@runtime_checkable
class Split(Protocol):
    """Images of a data set, with the identity and the camera of each."""

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

    @property
    def protocol(self) -> str:
        """Name of the protocol, for people."""

    @property
    def gallery_labels(self) -> np.ndarray:
        """Identity of each gallery item, int64, shape (G,): -1 is junk, 0 a distractor."""

    @property
    def gallery_cameras(self) -> np.ndarray:
        """Camera of each gallery item, int64, shape (G,)."""

    @property
    def query_labels(self) -> np.ndarray:
        """Identity of each query, int64, shape (Q,)."""

    @property
    def query_cameras(self) -> np.ndarray:
        """Camera of each query, int64, shape (Q,)."""

    @property
    def num_gallery_images(self) -> int:
        """Number of images in the gallery: G, unless items are tracklets."""

    @property
    def list_query_images(self) -> Callable[[], Sequence[str]] | None:
        """None if the queries are items of the gallery."""

    @property
    def query_rows(self) -> np.ndarray | None:
        """Gallery rows of the queries, int64, shape (Q,); None if the queries are other images."""

    @property
    def tracks(self) -> np.ndarray | None:
        """First and last image of each item, int64, shape (G, 2), if items are tracklets."""

    @property
    def is_cross_camera(self) -> bool:
        """Whether another camera has seen any of the queries: if not, there is no match."""

    @property
    def gallery_images(self) -> Sequence[str]:
        """Paths of the gallery's images, in the official order."""

    @property
    def query_images(self) -> Sequence[str] | None:
        """Paths of the queries' images; None if the queries are items of the gallery."""


@runtime_checkable
class Dataset(Protocol):
    """A data set: ``cli.main`` takes its class.

    A subclass of `datasets.base.ReidDataset` has all of this, and defines only where its images
    are. `test_set` and `export_files` read the test splits when they are called.

    Parameters
    ----------
    dataset_dir : str
        Its folder or file, ``--dataset``.
    num_validation_identities : float or int
        Share (float) or number (int) of the training identities that are kept for validation.
    seed : int
        Seed of that choice.
    needs_train : bool
        False for a test: then the training images may be missing.

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
    # Not str | None: attributes of protocols can be set, so a class with a plain str would not fit.
    DEFAULT_DIR: ClassVar[Any]
    """The default folder of the data set, a str. None: the user must name it."""
    NUM_GALLERIES: ClassVar[int]
    """Number of random galleries over which evaluation averages."""
    COMPACT_LABELS: ClassVar[bool]
    """Whether a classifier has one class for each training identity instead of `num_classes`."""
    FITS_BATCHES: ClassVar[bool]
    """Whether batches shrink if there are too few identities; otherwise, that is an error."""

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
            Path below `dataset_dir`; empty: `dataset_dir` itself.

        Raises
        ------
        deep_reid.errors.MissingPathError
            If it does not exist.
        """

    @property
    def dataset_dir(self) -> str:
        """The argument of this name."""

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
        """List the splits that exist, with those for testing.

        Returns
        -------
        dict of str -> Split
        """

    def summary_table(self) -> str:
        """Write a table of the splits, for the log of a training.

        Returns
        -------
        str
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
        """List the images whose features the official evaluation code needs.

        Returns
        -------
        dict of str -> list of str
            The images of each .mat file that ``--mode=export`` writes.
        """
