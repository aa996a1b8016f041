"""Recipes: named sets of settings that say how a network learns; free of TensorFlow."""

from typing import Any

from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.run import RunConfig
from deep_reid.config.setting import list_settings

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
RECIPES: dict[str, dict[str, Any]] = {
    FAITHFUL: {name: list_settings(RunConfig)[name].default for name in _STRONG},
    "strong": _STRONG,
}
"""Settings of `deep_reid.config.RunConfig` by the name of their recipe. ``faithful`` has the
defaults of those that another recipe changes: it takes an earlier recipe back."""


def settings_of(recipe: str, loss_mode: str) -> dict[str, Any]:
    """Return the settings of a recipe, without those that a loss does not have.

    Parameters
    ----------
    recipe : str
        One of `RECIPES`.
    loss_mode : str

    Returns
    -------
    dict of str -> object
        By the names of settings of `deep_reid.config.RunConfig`.
    """
    left_out = () if loss_mode == LOSS_MODES[0] or recipe == FAITHFUL else _OF_SOFTMAX
    return {name: value for name, value in RECIPES[recipe].items() if name not in left_out}
