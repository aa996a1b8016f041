"""Recipes: named sets of settings that say how a network learns; free of TensorFlow."""

from typing import Any

from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.run import RunConfig
from deep_reid.config.step import AUGMENTATIONS, NUM_COLORS

FAITHFUL = "faithful"
_OF_SOFTMAX = ("logit_scale_init", "logit_scale_penalty", "label_smoothing", "logit_margin")
_STRONG: dict[str, Any] = {
    "weight_init": "he",
    "logit_scale_init": 16.0,
    "logit_scale_penalty": 0.0,
    "logit_margin": 0.3,
    "batch_norm_decay": 0.99,
    "augment": AUGMENTATIONS,
    "recolor_identities": True,
    "compact_labels": True,
    "lr_schedule": "cosine",
}
_CHANGES: dict[str, dict[str, Any]] = {FAITHFUL: {}, "strong": _STRONG}
RECIPES = tuple(_CHANGES)
"""Names of recipes. ``faithful`` is the default of all that another recipe changes."""


def describe(recipe: str) -> str:
    """Return what a recipe changes, as flags.

    Parameters
    ----------
    recipe : str
        One of `RECIPES`.

    Returns
    -------
    str
    """
    return " ".join(_describe(name, value) for name, value in _CHANGES[recipe].items())


def _describe(name, value):
    return f"--{name}" if value is True else f"--{name}={format_value(value)}"


def format_value(value: Any) -> str:
    """Return the value of a setting as a flag has it."""
    return ",".join(value) if isinstance(value, tuple) else str(value)


def settings_of(
    recipe: str, default: RunConfig, loss_mode: str, num_channels: int = NUM_COLORS
) -> dict[str, Any]:
    """Return the settings of a recipe, without those that a loss or gray images do not have.

    Parameters
    ----------
    recipe : str
        One of `RECIPES`.
    default : RunConfig
        What the recipe does not change keeps these values: an earlier recipe is taken back.
    loss_mode : str
    num_channels : int
        Of the images.

    Returns
    -------
    dict of str -> object
        By the names of settings of `deep_reid.config.RunConfig`.
    """
    names = {name for changes in _CHANGES.values() for name in changes}
    settings = {name: getattr(default, name) for name in sorted(names)}
    changes = dict(_CHANGES[recipe])
    if loss_mode != LOSS_MODES[0]:
        changes = {name: value for name, value in changes.items() if name not in _OF_SOFTMAX}
    if num_channels != NUM_COLORS:
        changes.pop("recolor_identities", None)
    return settings | changes
