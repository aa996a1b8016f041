"""The settings of a run: checked when they are made, and saved beside its checkpoints."""

import dataclasses
import json
import pathlib
import sys

from deep_reid import files
from deep_reid.errors import DataError, MissingPathError, UsageError

LOSS_MODES = ("cosine-softmax", "magnet", "triplet")
BAD_IMAGE_POLICIES = ("stop", "skip")
IMAGE_SOURCES = ("files", "arrays")
PRECISIONS = ("float32", "bfloat16", "float16")
NETWORKS = ("deep_sort", "mars_small128")
"""The package's networks: modules of `deep_reid.nets`."""

NUM_VALIDATION = 0.1
SPLIT_SEED = 1234
CONFIG_FILENAME = "config.json"

_COUNTS = (
    "num_images_per_id",
    "batch_size",
    "max_checkpoints_to_keep",
    "log_every_n_steps",
    "num_enqueue_threads",
    "queue_capacity",
)
_OPTIONAL_COUNTS = ("number_of_steps", "num_classes")
# Far beyond what helps, and below what systems refuse, or take minutes for.
_UPPER_BOUNDS = {
    "num_enqueue_threads": 256,
    "queue_capacity": 100_000,
    "intra_op_threads": 1024,
    "inter_op_threads": 1024,
}
_POSITIVE_NUMBERS = (
    "learning_rate",
    "save_summaries_secs",
    "save_interval_secs",
    "feed_timeout_secs",
)


def measure_of_loss_mode(loss_mode):
    """Return the name of the distance by which features trained with a loss are ranked.

    Parameters
    ----------
    loss_mode : str
        One of `LOSS_MODES`.

    Returns
    -------
    {"cosine", "euclidean"}

    Raises
    ------
    UsageError
        If there is no such loss.

    Examples
    --------
    >>> measure_of_loss_mode("cosine-softmax"), measure_of_loss_mode("triplet")
    ('cosine', 'euclidean')
    """
    check_choice("loss_mode", loss_mode, LOSS_MODES)
    return "cosine" if loss_mode == "cosine-softmax" else "euclidean"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """How TensorFlow computes; nothing here changes what is computed, but its precision.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "float16"}
        Type in which convolutions and the fully connected layer are computed, with what lies
        between them. Weights, statistics of batch norm and the optimizer stay float32;
        normalization, logits, losses and scores are as exact as in float32, or more.
    intra_op_threads, inter_op_threads : int, optional
        Threads within an op, and ops side by side. None: one per core.
    gpu_memory_growth : bool
        Whether GPU memory is taken as it is needed, so that evaluation finds room beside training,
        instead of all at once.
    xla : bool
        Whether XLA compiles what it can.

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    """

    precision: str = "float32"
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    gpu_memory_growth: bool = True
    xla: bool = False

    def __post_init__(self):
        """Check the settings."""
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("intra_op_threads", "inter_op_threads"):
            object.__setattr__(self, name, _as_plain_integer(getattr(self, name)))
            if getattr(self, name) is not None:
                check_positive_integer(name, getattr(self, name))

    @staticmethod
    def of(compute):
        """Return these settings out of an object that has them, such as a `RunConfig`.

        Parameters
        ----------
        compute : ComputeSettings

        Returns
        -------
        ComputeSettings

        Raises
        ------
        TypeError
            If it is something else, such as the name of a precision.
        """
        if not isinstance(compute, ComputeSettings):
            raise TypeError(f"compute is {compute!r}: use ComputeSettings(precision=...)")
        names = [field.name for field in dataclasses.fields(ComputeSettings)]
        return ComputeSettings(**{name: getattr(compute, name) for name in names})


@dataclasses.dataclass(frozen=True)
class RunConfig(ComputeSettings):
    """Settings of a training run, and of how it is computed.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width, channels) of the network's input.
    num_images_per_id : int
        Images of each identity in a batch, K of the P x K batches.
    batch_size : int
        Images in a batch; a multiple of `num_images_per_id`.
    loss_mode : {"cosine-softmax", "magnet", "triplet"}
    learning_rate : float
        Of the Adam optimizer.
    number_of_steps : int, optional
        The step at which training ends. None: it goes on until it is stopped.
    seed : int, optional
        Makes initial weights and sampling reproducible. None: different each time.
    restore_path : str, optional
        Checkpoint from which the weights of a new run are taken.
    exclude_from_restore : tuple of str
        Scopes of variables that are not taken from `restore_path`: names, or regular expressions
        for whole names.
    trainable_scopes : tuple of str
        Scopes of variables to train, in the same form. Empty: all.
    save_summaries_secs, save_interval_secs : float
        Seconds between two summaries, and between two checkpoints.
    max_checkpoints_to_keep : int
        Older checkpoints are deleted.
    log_every_n_steps : int
        Steps between two lines in the log.
    network : {"deep_sort", "mars_small128"}, optional
        None: one of the caller's own.
    num_classes : int, optional
        Number of classes of the network's logits. None: it has none.
    image_source : {"files", "arrays"}, optional
        What the images were trained from. None: an older version did not record it.
    dataset : str, optional
        Folder or file of the training data. None: the caller brought images of its own.
    num_validation : int or float
        Number (int) or share (float) of the identities that are kept for validation.
    split_seed : int
        Seed of the choice of these identities.
    deterministic : bool
        Whether the same seed gives the same losses, step by step: TensorFlow computes with ops that
        repeat exactly, and one thread feeds images.
    compact_labels : bool
        Whether the classifier has one class for each identity to train on, instead of one for each
        number up to the data set's largest.
    on_bad_image : {"stop", "skip"}
        What is done when an image cannot be read: training stops with the file's name, or the file
        is replaced by another image of its batch, as long as not more than 1 % of all are bad.
    feed_timeout_secs : float
        Training ends with an error when its data give no batch for so many seconds, although there
        is room for one.
    num_enqueue_threads : int
        Threads that read and decode images.
    queue_capacity : int
        Images that wait for the training step, decoded; in whole batches, at least one.
    monitor_losses : bool
        Whether the losses that are not trained on are summarized, too.
    precision, intra_op_threads, inter_op_threads, gpu_memory_growth, xla
        As in `ComputeSettings`.

    Raises
    ------
    UsageError
        If a setting breaks its rule; the message says which, and what to use instead.

    Examples
    --------
    >>> config = RunConfig((128, 64, 3), batch_size=64, seed=1)
    >>> config.batch_size, config.loss_mode
    (64, 'cosine-softmax')
    >>> RunConfig((128, 64, 3), batch_size=130)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    deep_reid.errors.UsageError: batch_size (130) must be a multiple of num_images_per_id (4): ...
    """

    image_shape: tuple
    num_images_per_id: int = 4
    batch_size: int = 128
    loss_mode: str = "cosine-softmax"
    learning_rate: float = 1e-3
    number_of_steps: int | None = None
    seed: int | None = None
    restore_path: str | None = None
    exclude_from_restore: tuple = ()
    trainable_scopes: tuple = ()
    save_summaries_secs: float = 60
    save_interval_secs: float = 300
    max_checkpoints_to_keep: int = 5
    log_every_n_steps: int = 10
    network: str | None = None
    num_classes: int | None = None
    image_source: str | None = None
    dataset: str | None = None
    num_validation: int | float = NUM_VALIDATION
    split_seed: int = SPLIT_SEED
    compact_labels: bool = False
    deterministic: bool = False
    on_bad_image: str = "stop"
    feed_timeout_secs: float = 600
    num_enqueue_threads: int = 4
    queue_capacity: int = 512
    monitor_losses: bool = True

    def __post_init__(self):
        """Bring the settings into their types and check them."""
        super().__post_init__()
        object.__setattr__(self, "image_shape", as_image_shape(self.image_shape, (1, 3)))
        for name in ("exclude_from_restore", "trainable_scopes"):
            object.__setattr__(self, name, _as_tuple(name, getattr(self, name)))
        for name in ("restore_path", "dataset"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, str(getattr(self, name)))
        for name in (*_COUNTS, *_OPTIONAL_COUNTS, "seed", "split_seed"):
            object.__setattr__(self, name, _as_plain_integer(getattr(self, name)))
        for name in ("learning_rate", "num_validation", "feed_timeout_secs"):
            object.__setattr__(self, name, _as_plain_number(getattr(self, name)))
        self._check_scopes()
        for name in _COUNTS:
            check_positive_integer(name, getattr(self, name))
        for name in _OPTIONAL_COUNTS:
            if getattr(self, name) is not None:
                check_positive_integer(name, getattr(self, name))
        for name in _POSITIVE_NUMBERS:
            _check_positive(name, getattr(self, name))
        if self.seed is not None:
            _check_seed("seed", self.seed)
        _check_seed("split_seed", self.split_seed)
        self._check_batch_size()
        self._check_num_validation()
        check_choice("loss_mode", self.loss_mode, LOSS_MODES)
        check_choice("on_bad_image", self.on_bad_image, BAD_IMAGE_POLICIES)
        if self.network is not None:
            check_choice("network", self.network, NETWORKS)
        if self.image_source is not None:
            check_choice("image_source", self.image_source, IMAGE_SOURCES)

    @property
    def num_identities_per_batch(self):
        """Number of identities in a batch, P of the P x K batches."""
        return self.batch_size // self.num_images_per_id

    def save(self, run_dir):
        """Write the settings to ``config.json`` in the run directory.

        Parameters
        ----------
        run_dir : str or Path
        """
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)
        files.write_text(pathlib.Path(run_dir) / CONFIG_FILENAME, text + "\n")

    @classmethod
    def load(cls, run_dir):
        """Read the settings of a run.

        Parameters
        ----------
        run_dir : str or Path

        Returns
        -------
        RunConfig
            Settings that this version does not know are left out.

        Raises
        ------
        MissingPathError
            If the run directory has no ``config.json``.
        DataError
            If the file is not what `save` writes.
        """
        path = pathlib.Path(run_dir) / CONFIG_FILENAME
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise MissingPathError(f"{path} does not exist: name the directory of a run") from error
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON ({error}): restore or delete it") from error
        if not isinstance(settings, dict) or "image_shape" not in settings:
            raise DataError(f"{path} does not hold the settings of a run: restore or delete it")
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            return cls(**{name: value for name, value in settings.items() if name in known})
        except UsageError as error:
            raise DataError(f"{path}: {error}") from error

    def _check_scopes(self):
        for name in ("exclude_from_restore", "trainable_scopes"):
            for scope in getattr(self, name):
                if not isinstance(scope, str):
                    raise UsageError(f"{name}: {scope!r} must be the name of a scope, as 'conv1_1'")

    def _check_num_validation(self):
        value = self.num_validation
        is_share = isinstance(value, float) and 0.0 <= value < 1.0
        if not is_share and not (_is_integer(value) and value >= 0):
            raise UsageError(
                f"num_validation ({value!r}) must be a number of identities (0, 1, 2, ...) or a "
                "share of them (at least 0.0 and less than 1.0)"
            )

    def _check_batch_size(self):
        remainder = self.batch_size % self.num_images_per_id
        if remainder:
            below = self.batch_size - remainder
            above = below + self.num_images_per_id
            choices = f"{below} or {above}" if below else str(above)
            raise UsageError(
                f"batch_size ({self.batch_size}) must be a multiple of num_images_per_id "
                f"({self.num_images_per_id}): use {choices}"
            )


def _as_tuple(name, values):
    if values is None:
        return ()
    if isinstance(values, (str, dict)) or not hasattr(values, "__iter__"):
        raise UsageError(f"{name} ({values!r}) must be a list: use [{values!r}]")
    return tuple(_as_plain_integer(value) for value in values)


def _as_plain_integer(value):
    """Turn NumPy's integers, which JSON does not know, into Python's; leave the rest alone."""
    is_integer = hasattr(value, "__index__") and not isinstance(value, bool)
    return int(value) if is_integer else value


def _as_plain_number(value):
    """Turn NumPy's numbers into Python's; leave the rest alone."""
    value = _as_plain_integer(value)
    return float(value) if hasattr(value, "dtype") else value


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def as_image_shape(image_shape, num_channels=None):
    """Check the shape of an image.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width, channels).
    num_channels : sequence of int, optional
        The numbers of channels that are possible. Default: all.

    Returns
    -------
    tuple of int
        (height, width, channels).

    Raises
    ------
    UsageError
        If it is something else.
    """
    sizes = _as_tuple("image_shape", image_shape)
    is_shape = len(sizes) == 3 and all(_is_integer(size) and size > 0 for size in sizes)
    if not is_shape or (num_channels and sizes[2] not in num_channels):
        rule = f" with {' or '.join(map(str, num_channels))} channels" if num_channels else ""
        raise UsageError(
            f"image_shape {sizes} must be (height, width, channels){rule}: the default of the "
            "re-identification sets is (128, 64, 3)"
        )
    return sizes


def add_channels(image_shape):
    """Check the shape of an image as code written for the original gives it.

    Parameters
    ----------
    image_shape : sequence of int
        (height, width, channels), or (height, width) for gray images.

    Returns
    -------
    tuple of int
        (height, width, channels).

    Raises
    ------
    UsageError
        If it is something else.
    """
    sizes = _as_tuple("image_shape", image_shape)
    return as_image_shape((*sizes, 1) if len(sizes) == 2 else sizes)


def check_positive_integer(name, value):
    """Check a count.

    Parameters
    ----------
    name : str
        Of the setting.
    value : int

    Raises
    ------
    UsageError
        If it is none, less than 1, or beyond what is of use for a setting of that name.
    """
    value = _as_plain_integer(value)
    if not _is_integer(value) or value < 1:
        raise UsageError(f"{name} ({value!r}) must be a whole number of at least 1")
    if value > _UPPER_BOUNDS.get(name, value):
        raise UsageError(f"{name} ({value}) must be at most {_UPPER_BOUNDS[name]}")


def _check_seed(name, value):
    if not _is_integer(value) or not 0 <= value < 2**31:
        raise UsageError(f"{name} ({value!r}) must be a whole number from 0 to 2^31 - 1")


def check_choice(name, value, choices):
    """Check a setting that has a few possible values.

    Parameters
    ----------
    name : str
    value : str
    choices : sequence of str

    Raises
    ------
    UsageError
        If it is none of them.
    """
    if value not in choices:
        raise UsageError(f"{name} ({value!r}) is unknown: use one of {', '.join(choices)}")


def _check_positive(name, value):
    is_number = isinstance(value, float) or _is_integer(value)
    if not is_number or not 0 < value <= sys.float_info.max:
        raise UsageError(f"{name} ({value!r}) must be a number greater than 0")
