"""Recipes: named sets of settings that say how a network learns; free of TensorFlow."""

from collections.abc import Mapping
from typing import Any

from deep_reid.config.loss_modes import LOSS_MODES
from deep_reid.config.run import RunConfig
from deep_reid.config.step import NUM_COLORS

FAITHFUL = "faithful"
_OF_SOFTMAX = ("logit_scale_init", "logit_scale_penalty", "label_smoothing", "logit_margin")
_STRONG: dict[str, Any] = {
    "weight_init": "he",
    "logit_scale_init": 16.0,
    "logit_scale_penalty": 0.0,
    "logit_margin": 0.3,
    "batch_norm_decay": 0.9,
    "compact_labels": True,
    "learning_rate": 3e-3,
    "lr_schedule": "cosine",
}
_CHANGES: dict[str, dict[str, Any]] = {FAITHFUL: {}, "strong": _STRONG}
_CHANGES_FOR_FEW: dict[str, dict[str, Any]] = {
    FAITHFUL: {},
    "strong": {"recolor_identities": True, "augment": ("flip", "background")},
}
FEW_IDENTITIES = 50
"""With fewer to train on, a network knows them all before it knows what tells people apart."""

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
    text = _as_flags(_CHANGES[recipe])
    for_few = _as_flags(_CHANGES_FOR_FEW[recipe])
    return f"{text}, with fewer than {FEW_IDENTITIES} identities {for_few}" if for_few else text


def list_values(settings: Mapping[str, Any]) -> str:
    """Return settings and their values in one line, for the log.

    Parameters
    ----------
    settings : dict of str -> object
        By their names.

    Returns
    -------
    str
        Such as ``weight_init he, logit_margin 0.3``.
    """
    return ", ".join(f"{name} {_as_text(value)}" for name, value in settings.items())


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
    all_changes = [*_CHANGES.values(), *_CHANGES_FOR_FEW.values()]
    names = {name for changes in all_changes for name in changes}
    settings = {name: getattr(default, name) for name in sorted(names)}
    changes = dict(_CHANGES[recipe])
    if loss_mode != LOSS_MODES[0]:
        changes = {name: value for name, value in changes.items() if name not in _OF_SOFTMAX}
    return settings | changes


def settings_for_few(recipe: str, config: RunConfig, num_identities: int) -> dict[str, Any]:
    """Return what a recipe changes further for a small data set, with the softmax loss.

    Parameters
    ----------
    recipe : str
        One of `RECIPES`.
    config : RunConfig
        With the settings of `settings_of`.
    num_identities : int
        Number of identities to train on.

    Returns
    -------
    dict of str -> object
        By the names of settings of `deep_reid.config.RunConfig`. Empty with `FEW_IDENTITIES` or
        more. Identities are recolored only with the softmax loss, and in images with colors.
    """
    if num_identities >= FEW_IDENTITIES:
        return {}
    changes = dict(_CHANGES_FOR_FEW[recipe])
    if config.loss_mode != LOSS_MODES[0] or config.image_shape[2] != NUM_COLORS:
        changes.pop("recolor_identities", None)
    return changes


def _as_flags(settings):
    return " ".join(
        f"--{name}" if value is True else f"--{name}={_as_text(value)}"
        for name, value in settings.items()
    )


def _as_text(value):
    return ",".join(value) if isinstance(value, tuple) else str(value)
