"""The settings of a training step: the loss, the recipe, the threads that feed it."""

import dataclasses
import math
from typing import Any

from deep_reid.config.compute import ComputeSettings
from deep_reid.config.kinds import (
    NOT_NEGATIVE,
    PART,
    POSITIVE,
    Choice,
    Choices,
    Scopes,
    Switch,
    count,
)
from deep_reid.config.loss_modes import LOSS_MODE, LOSS_MODES
from deep_reid.config.setting import MACHINE, documented, setting
from deep_reid.errors import UsageError

WEIGHT_INITS = ("truncated_normal", "he")
AUGMENTATIONS = ("flip", "crop", "erase", "color", "background")
DEFAULT_AUGMENTATIONS = AUGMENTATIONS[:1]
OPTIMIZERS = ("adam", "adamw", "sgd")
LOGIT_SCALE_INIT = math.log(2)  # softplus(0)
LOGIT_SCALE_PENALTY = 0.1
ADAMW_DECAY = 0.01
NUM_COLORS = 3
NUM_RECOLORED = math.factorial(NUM_COLORS)
"""Orders of three colors: the identities that `recolor_identities` makes of one."""


def check_colors(num_channels: int) -> None:
    """Raise a `UsageError` if images have not the colors that `recolor_identities` exchanges."""
    if num_channels != NUM_COLORS:
        raise UsageError(
            f"recolor_identities exchanges {NUM_COLORS} colors, but images have {num_channels} "
            "channels: leave it out"
        )


_OF_FEEDING: dict[str, Any] = {"group": "machine", "belongs_to": MACHINE}
_OF_RECIPE: dict[str, Any] = {"group": "recipe"}


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepSettings(ComputeSettings):
    """Settings of a training step, and of the threads that feed it.

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    """

    loss_mode: str = setting(
        LOSS_MODES[0],
        LOSS_MODE,
        "loss to train on, or MODULE:NAME of your own; evaluation and test rank by its distance",
        modes=("train", "eval", "test", "search"),
        is_main=True,
        is_fixed=True,
    )
    trainable_scopes: tuple[str, ...] = setting(
        (),
        Scopes(),
        "train only these",
        is_fixed=True,
        default_text="all",
        detail="Names of scopes, or regular expressions for whole names",
    )
    weight_init: str = setting(
        WEIGHT_INITS[0],
        Choice(WEIGHT_INITS),
        "start of the weights: a standard deviation of 0.001 everywhere, or one that keeps the "
        "variance from layer to layer (he)",
        **_OF_RECIPE,
        is_fixed=True,
    )
    logit_scale_init: float = setting(
        LOGIT_SCALE_INIT,
        POSITIVE,
        "start of the factor between cosines and logits",
        **_OF_RECIPE,
        is_fixed=True,
        default_text="0.69, which is softplus(0)",
    )
    logit_scale_penalty: float = setting(
        LOGIT_SCALE_PENALTY,
        NOT_NEGATIVE,
        "weight of the L2 penalty on the variable behind that factor",
        **_OF_RECIPE,
    )
    batch_norm_decay: float = setting(
        0.999,
        PART,
        "share of the old value in batch norm's running averages, at each step",
        **_OF_RECIPE,
    )
    augment: tuple[str, ...] = setting(
        DEFAULT_AUGMENTATIONS,
        Choices(AUGMENTATIONS, none="none"),
        "random changes of training images, such as flip,crop,erase, or none",
        **_OF_RECIPE,
        default_text=",".join(DEFAULT_AUGMENTATIONS),
        detail="flip stands for what the preprocessing does in training; the package's mirrors",
    )
    recolor_identities: bool = setting(
        False,
        Switch(),
        "exchange red, green and blue in all images of an identity: they are another identity "
        f"then, of {NUM_RECOLORED} for each",
        **_OF_RECIPE,
        is_fixed=True,
    )
    label_smoothing: float = setting(
        0.0,
        PART,
        "share of a label that is spread over all classes, in the softmax loss",
        **_OF_RECIPE,
    )
    logit_margin: float = setting(
        0.0,
        NOT_NEGATIVE,
        "margin by which the cosine to the own class must exceed the others, in the softmax loss",
        **_OF_RECIPE,
    )
    triplet_weight: float = setting(
        0.0, NOT_NEGATIVE, "weight of the triplet loss, which is added to the loss", **_OF_RECIPE
    )
    magnet_weight: float = setting(
        0.0, NOT_NEGATIVE, "weight of the magnet loss, which is added to the loss", **_OF_RECIPE
    )
    optimizer: str = setting(
        OPTIMIZERS[0],
        Choice(OPTIMIZERS),
        "optimizer; sgd has a Nesterov momentum of 0.9",
        **_OF_RECIPE,
        is_fixed=True,
    )
    weight_decay: float | None = setting(
        None,
        NOT_NEGATIVE,
        "weight of the L2 penalty on weights; with adamw, their decay in units of the learning "
        "rate",
        **_OF_RECIPE,
        default_text=f"1e-08, or {ADAMW_DECAY} with adamw",
    )
    ema_decay: float = setting(
        0.0,
        PART,
        "share of the old value in averages of the weights, at each step; they replace the weights "
        "in all other modes; 0 for none",
        **_OF_RECIPE,
        is_fixed=True,
    )
    monitor_losses: bool = setting(
        True,
        Switch(),
        "show the other losses in TensorBoard, too; they are computed only for summaries",
    )
    num_enqueue_threads: int = setting(
        4,
        count(at_most=256),
        "threads that read and decode images (one, with --deterministic)",
        synonyms=("workers", "num_workers"),
        **_OF_FEEDING,
    )
    queue_capacity: int = setting(
        512,
        count(at_most=100_000),
        "decoded images that wait for the training step, in whole batches",
        **_OF_FEEDING,
    )

    def __post_init__(self) -> None:
        """Check each setting by its kind, then those that depend on each other."""
        super().__post_init__()
        needs_softmax = {"label_smoothing": self.label_smoothing, "logit_margin": self.logit_margin}
        for name, value in needs_softmax.items():
            if value and self.loss_mode != LOSS_MODES[0]:
                raise UsageError(
                    f"{name} ({value}) changes the loss {LOSS_MODES[0]}, but loss_mode is "
                    f"{self.loss_mode}: leave it out"
                )
        for mode, weight in self.further_losses.items():
            if self.loss_mode == mode:
                raise UsageError(
                    f"{mode}_weight ({weight}) adds the loss {mode} to another one, but loss_mode "
                    f"is {mode}: leave it out"
                )

    @property
    def classes_per_identity(self) -> int:
        """Number of classes of a classifier for each identity."""
        return NUM_RECOLORED if self.recolor_identities else 1

    @property
    def further_losses(self) -> dict[str, float]:
        """The weights of the losses that are added to the main one, by their modes."""
        weights = {"triplet": self.triplet_weight, "magnet": self.magnet_weight}
        return {mode: weight for mode, weight in weights.items() if weight}
