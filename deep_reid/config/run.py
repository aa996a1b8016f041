"""The settings of a run: checked when they are made, and saved beside its checkpoints."""

import dataclasses
import json
import pathlib
from typing import Any

from deep_reid.config.kinds import (
    COUNT,
    COUNT_OR_0,
    COUNT_OR_SHARE,
    PERCENT,
    POSITIVE,
    SEED,
    Choice,
    ChoiceOrImport,
    FileNamePattern,
    ImageShape,
    Names,
    Path,
    Scopes,
    Switch,
)
from deep_reid.config.setting import MODES, documented, list_settings, setting
from deep_reid.config.step import StepSettings, check_colors
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.samplers.batches import count_identities
from deep_reid.system import files
from deep_reid.system.name_patterns import PRESETS

BAD_IMAGE_POLICIES = ("stop", "skip")
MAX_BAD_PERCENT = 1.0
IMAGE_SOURCES = ("files", "arrays")
LR_SCHEDULES = ("constant", "exponential", "cosine")
NETWORKS = ("deep_sort", "mars_small128")
"""The package's networks: modules of `deep_reid.nets`."""

NETWORK = ChoiceOrImport(NETWORKS)

CONFIG_FILENAME = "config.json"
_OF_DATA: dict[str, Any] = {"group": "data", "modes": MODES}
_OF_SPLITS: dict[str, Any] = {
    "group": "data",
    "modes": MODES,
    # These modes read no split, except to set batch norm anew.
    "needs": dict.fromkeys(("search", "track", "finalize"), "--precise_batch_norm"),
}


@documented
@dataclasses.dataclass(frozen=True)
class RunConfig(StepSettings):
    """Settings of a training run, and of how it is computed.

    Raises
    ------
    UsageError
        If a setting breaks its rule; the message names it, and what to use instead.

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

    image_shape: tuple[int, int, int] = setting(
        dataclasses.MISSING,
        ImageShape(),
        "size that images are resized to",
        synonyms=("size", "image_size", "img_size", "input_size", "height", "width"),
        **_OF_DATA,
        is_fixed=True,
        detail="(height, width, channels) of the network's input",
    )
    num_images_per_id: int = setting(
        4,
        COUNT,
        "images of each identity in a batch, K of the P x K batches",
        synonyms=("num_instances", "instances"),
        group="recipe",
    )
    batch_size: int = setting(
        128,
        COUNT,
        "images per step, by default four of each identity",
        is_main=True,
        synonyms=("bs",),
    )
    learning_rate: float = setting(
        1e-3, POSITIVE, "learning rate of the optimizer", is_main=True, synonyms=("lr", "rate")
    )
    lr_schedule: str = setting(
        LR_SCHEDULES[0],
        Choice(LR_SCHEDULES),
        "how the learning rate falls until the last step: not at all, exponentially to one "
        "hundredth, or as half a cosine wave to 0",
        group="recipe",
    )
    warmup_steps: int = setting(
        0,
        COUNT_OR_0,
        "first steps, in which the learning rate rises from 0",
        group="recipe",
    )
    number_of_steps: int | None = setting(
        None,
        COUNT,
        "step at which training ends",
        is_main=True,
        default_text="no end",
        synonyms=(
            "steps",
            "num_steps",
            "max_steps",
            "iterations",
            "max_iter",
            "epochs",
            "num_epochs",
        ),
    )
    seed: int | None = setting(
        None,
        SEED,
        "makes weights and sampling reproducible",
        synonyms=("random_seed",),
        is_main=True,
        default_text="drawn at random",
    )
    restore_path: str | None = setting(
        None,
        Path(),
        "checkpoint that a new run starts from: its prefix, any of its files or its directory",
        is_main=True,
        flags=("--restore_path", "--checkpoint"),
        synonyms=("weights", "pretrained", "init"),
        default_text="none",
    )
    exclude_from_restore: tuple[str, ...] = setting(
        (),
        Scopes(),
        "initialize these anew instead of restoring them from --restore_path",
        default_text="none",
        detail="Names of scopes, or regular expressions for whole names",
    )
    save_summaries_secs: float = setting(60, POSITIVE, "seconds between summaries", group="saving")
    save_interval_secs: float = setting(
        300, POSITIVE, "seconds between checkpoints", group="saving", is_main=True
    )
    max_checkpoints_to_keep: int = setting(
        5, COUNT, "checkpoints to keep; older ones are deleted", group="saving"
    )
    log_every_n_steps: int | None = setting(
        None,
        COUNT,
        "steps between lines in the log",
        group="saving",
        default_text="a line every 10 seconds",
    )
    network: str | None = setting(
        None,
        NETWORK,
        "network, or MODULE:NAME of your own",
        synonyms=("model", "arch", "backbone"),
        **_OF_DATA,
        is_main=True,
        is_fixed=True,
        default_text=NETWORKS[0],
        detail="None: the caller's network",
    )
    num_classes: int | None = setting(
        None,
        COUNT,
        "number of classes of the network's logits",
        flags=(),
        is_fixed=True,
        detail="None: the network has no logits",
    )
    image_source: str | None = setting(
        None,
        Choice(IMAGE_SOURCES),
        "what the run was trained on",
        flags=(),
        detail="None: an older version did not record it",
    )
    dataset: str | None = setting(
        None,
        Path(),
        "folder or file of the data set",
        **_OF_DATA,
        is_main=True,
        flags=("--dataset_dir", "--dataset"),
        synonyms=("data", "data_dir", "data_path"),
        detail="None: the caller's images",
    )
    name_pattern: str | None = setting(
        None,
        FileNamePattern(),
        "regular expression that reads (?P<identity>...), (?P<camera>...) and (?P<split>...) from "
        f"the names of images, or one of {', '.join(PRESETS)}",
        **_OF_SPLITS,
        of_dataset=True,
        default_text="folders are identities",
    )
    mot_classes: tuple[str, ...] = setting(
        (),
        Names(),
        "classes of boxes to cut out of sequences, such as 1, or Pedestrian Cyclist",
        **_OF_SPLITS,
        of_dataset=True,
        default_text="all",
    )
    num_validation: int | float = setting(
        0.1,
        COUNT_OR_SHARE,
        "identities kept for validation: a number such as 10, or a share such as 0.1",
        **_OF_SPLITS,
    )
    split_seed: int = setting(1234, SEED, "chooses the identities for validation", **_OF_SPLITS)
    compact_labels: bool = setting(
        False,
        Switch(),
        "one class for each identity to train on, instead of one for each number up to the data "
        "set's largest",
        group="data",
    )
    deterministic: bool = setting(
        False,
        Switch(),
        "the same --seed gives the same losses, step by step: slower",
        detail="TensorFlow computes with ops that repeat exactly, and one thread feeds images",
    )
    on_bad_image: str = setting(
        "stop",
        Choice(BAD_IMAGE_POLICIES),
        "what to do when an image cannot be read: stop, or skip, which replaces some of the "
        "images by others of their identity",
    )
    max_bad_percent: float = setting(
        MAX_BAD_PERCENT,
        PERCENT,
        "percent of the images to train on that may be skipped: more end the training",
    )
    feed_timeout_secs: float = setting(
        600,
        POSITIVE,
        "seconds without data after which training and evaluation end with an error",
        modes=("train", "eval"),
    )

    def __post_init__(self) -> None:
        """Check each setting by its kind, then those that depend on each other."""
        super().__post_init__()
        count_identities(self.batch_size, self.num_images_per_id)
        if self.recolor_identities:
            check_colors(self.image_shape[2])
        if self.lr_schedule != LR_SCHEDULES[0]:
            if self.number_of_steps is None:
                raise UsageError(
                    f"lr_schedule ({self.lr_schedule}) lets the learning rate fall until the last "
                    "step: give number_of_steps (--number_of_steps=N), or the constant one "
                    "(--lr_schedule=constant)"
                )
            if self.warmup_steps >= self.number_of_steps:
                raise UsageError(
                    f"warmup_steps ({self.warmup_steps}) must be less than number_of_steps "
                    f"({self.number_of_steps})"
                )

    @property
    def num_identities_per_batch(self) -> int:
        """Number of identities in a batch, P of the P x K batches."""
        return count_identities(self.batch_size, self.num_images_per_id)

    def save(self, run_dir: files.Path) -> None:
        """Write the settings to ``config.json`` in the run directory.

        Parameters
        ----------
        run_dir : str or Path
        """
        text = json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)
        files.write_text(pathlib.Path(run_dir) / CONFIG_FILENAME, text + "\n")

    @classmethod
    def load(cls, run_dir: files.Path) -> "RunConfig":
        """Read the settings of a run.

        Parameters
        ----------
        run_dir : str or Path
            The run's directory.

        Returns
        -------
        RunConfig
            Without the settings that this version does not know.

        Raises
        ------
        MissingPathError
            If the run directory has no ``config.json``.
        DataError
            If the file is not what `save` writes.
        """
        path = pathlib.Path(run_dir) / CONFIG_FILENAME
        try:
            return cls.read(path, otherwise="restore or delete it")
        except FileNotFoundError as error:
            raise MissingPathError(f"{path} does not exist: name the directory of a run") from error

    @classmethod
    def read(cls, path: files.Path, otherwise: str) -> "RunConfig":
        """Read the settings of a run from their file.

        Parameters
        ----------
        path : str or Path
        otherwise : str
            What to do if the file holds something else, for the error.

        Returns
        -------
        RunConfig

        Raises
        ------
        DataError
            If the file is not what `save` writes.
        """
        try:
            settings = files.read_json(path)
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON ({error}): {otherwise}") from error
        if not isinstance(settings, dict) or "image_shape" not in settings:
            raise DataError(f"{path} does not hold the settings of a run: {otherwise}")
        known = list_settings(cls)
        try:
            return cls(**{name: value for name, value in settings.items() if name in known})
        except UsageError as error:
            raise DataError(f"{path}: {error}") from error


def check_positive_integer(name: str, value: object) -> None:
    """Check a count by the rule of the setting of this name.

    Parameters
    ----------
    name : str
        Of a setting of a run, or of another count.
    value : int

    Raises
    ------
    UsageError
        If it is no count, less than 1, or more than that setting allows.
    """
    facts = list_settings(RunConfig).get(name)
    (COUNT if facts is None else facts.kind).check(name, value)
