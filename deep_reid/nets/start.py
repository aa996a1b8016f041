"""How a network starts: weights, the classifier's scale, batch norm's averages, weight decay.

These settings of a run reach a network through its graph, so that a network factory keeps its
signature: the user's code calls it, too. A network takes them by `take`. A setting that no network
takes is refused, not ignored.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from deep_reid.config.setting import list_settings
from deep_reid.config.step import StepSettings
from deep_reid.errors import UsageError
from deep_reid.runtime.compat import tf

NAMES = (
    "weight_init",
    "logit_scale_init",
    "logit_scale_penalty",
    "batch_norm_decay",
    "weight_decay",
)
"""Settings of `deep_reid.config.step.StepSettings` that a network can take."""

# Collections whose names start with two underscores are not exported with a checkpoint.
_STARTS = "__deep_reid_starts"
DEFAULTS = {name: list_settings(StepSettings)[name].default for name in NAMES}
_SCALES = "__deep_reid_logit_scales"


class _Start:
    def __init__(self, values):
        self.values = values
        self.taken = set()


@contextlib.contextmanager
def starting(settings: StepSettings) -> Iterator[None]:
    """Let a network that is built in a block take its start from settings.

    Parameters
    ----------
    settings : StepSettings

    Raises
    ------
    UsageError
        At the end of the block, if a setting is not the default, but no network has taken it.
    """
    start = _Start({name: getattr(settings, name) for name in NAMES})
    if settings.optimizer == "adamw":
        start.values["weight_decay"] = 0.0  # the optimizer lets the weights decay
        start.taken.add("weight_decay")
    starts = tf.get_collection_ref(_STARTS)
    starts.append(start)
    try:
        yield
    finally:
        starts.remove(start)
    for name, value in start.values.items():
        if value != DEFAULTS[name] and name not in start.taken:
            raise UsageError(
                f"{name} ({value}) would change nothing: the network does not take it, or has no "
                f"classifier. Leave it out (with a recipe: --{name}={DEFAULTS[name]}), or let your "
                f"own network ask for "
                f'deep_reid.nets.start.take("{name}")'
            )


def take(name: str) -> Any:
    """Return a setting of the network's start, and note that it is used.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Returns
    -------
    object
        The default where no settings were given, such as in inference.
    """
    starts = tf.get_collection(_STARTS)
    if not starts:
        return DEFAULTS[name]
    starts[-1].taken.add(name)
    return starts[-1].values[name]


def create_weight_initializer(stddev: float) -> "tf.keras.initializers.Initializer":
    """Create the initializer of weights and class vectors that the settings name.

    Parameters
    ----------
    stddev : float
        Standard deviation for ``truncated_normal``.

    Returns
    -------
    callable
        ``he``: a truncated normal distribution of variance ``2 / fan_in`` [1]_.

    References
    ----------
    .. [1] He, Zhang, Ren & Sun: Delving deep into rectifiers. ICCV 2015, arXiv:1502.01852.
    """
    if take("weight_init") == "he":
        return tf.variance_scaling_initializer(scale=2.0, mode="fan_in")
    return tf.truncated_normal_initializer(stddev=stddev)


def create_scale_initializer() -> "tf.keras.initializers.Initializer":
    """Create the initializer of the variable whose softplus is the factor of the logits.

    Returns
    -------
    callable
        Zeros for the default, ``softplus(0)``.
    """
    scale = take("logit_scale_init")
    if scale == DEFAULTS["logit_scale_init"]:
        return tf.zeros_initializer()
    # The inverse of softplus, log(exp(scale) - 1), which does not overflow.
    return tf.constant_initializer(scale + math.log(-math.expm1(-scale)))


def add_logit_scale(scale: tf.Tensor) -> None:
    """Tell the losses which factor a classifier has between cosines and logits.

    Parameters
    ----------
    scale : tf.Tensor of float, shape () or (num_classes,)
    """
    tf.add_to_collection(_SCALES, scale)


def find_logit_scale() -> tf.Tensor | None:
    """Find the factor between cosines and logits of the network that was built last.

    Returns
    -------
    tf.Tensor or None
        None if no network of the graph has added one.
    """
    scales = tf.get_collection(_SCALES)
    return scales[-1] if scales else None
