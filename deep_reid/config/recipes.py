"""Recipes: named sets of settings that say how a network learns; free of TensorFlow."""

from typing import Any

from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.run import RunConfig

FAITHFUL = "faithful"
_OF_SOFTMAX = ("logit_scale_init", "logit_scale_penalty", "label_smoothing", "logit_margin")
_STRONG: dict[str, Any] = {
    "weight_init": "he",
    "logit_scale_init": 16.0,
    "logit_scale_penalty": 0.0,
    "logit_margin": 0.3,
    "batch_norm_decay": 0.99,
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
    values = _CHANGES[recipe].items()
    return " ".join(f"--{name}" if value is True else f"--{name}={value}" for name, value in values)


def settings_of(recipe: str, default: RunConfig, loss_mode: str) -> dict[str, Any]:
    """Return the settings of a recipe, without those that a loss does not have.

    Parameters
    ----------
    recipe : str
        One of `RECIPES`.
    default : RunConfig
        What the recipe does not change keeps these values: an earlier recipe is taken back.
    loss_mode : str

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
    return settings | changes
