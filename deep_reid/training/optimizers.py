"""The optimizer of a run, its learning rate over time, and averages of the weights."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from deep_reid.config import RunConfig
from deep_reid.config.step import ADAMW_DECAY, StepSettings
from deep_reid.runs import restoring
from deep_reid.runtime.compat import tf

_MOMENTUM = 0.9
_EXPONENTIAL_END = 0.01


class AdamW(tf.train.AdamOptimizer):
    """Adam with decoupled weight decay: ``w -= learning_rate * (adam(gradient) + decay * w)``.

    Weights of convolutions and matrices decay [1]_; vectors, such as biases and those of batch
    norm, do not.

    Parameters
    ----------
    learning_rate : float or tf.Tensor
    decay : float

    References
    ----------
    .. [1] Loshchilov & Hutter: Decoupled weight decay regularization. ICLR 2019, arXiv:1711.05101.
    """

    def __init__(self, learning_rate: float | tf.Tensor, decay: float) -> None:
        super().__init__(learning_rate)
        self._rate = learning_rate * decay

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[tf.Tensor | None, tf.Variable]],
        global_step: tf.Variable | None = None,
        name: str | None = None,
    ) -> tf.Operation:
        """Let the weights decay, then apply the gradients.

        Parameters
        ----------
        grads_and_vars, global_step, name
            As in ``tf.train.Optimizer``.

        Returns
        -------
        tf.Operation
        """
        pairs = [pair for pair in grads_and_vars if pair[0] is not None]
        # Not before all gradients are computed: they depend on the weights as they were.
        with tf.control_dependencies([gradient for gradient, _ in pairs]):
            decays = [
                variable.assign_sub(self._rate * variable)
                for _, variable in pairs
                if variable.get_shape().ndims > 1
            ]
        with tf.control_dependencies(decays):
            return super().apply_gradients(pairs, global_step, name)


def create_optimizer(
    settings: StepSettings, learning_rate: float | tf.Tensor
) -> tf.train.Optimizer:
    """Create the optimizer that the settings name.

    Parameters
    ----------
    settings : StepSettings
    learning_rate : float or tf.Tensor

    Returns
    -------
    tf.train.Optimizer
    """
    if settings.optimizer == "sgd":
        return tf.train.MomentumOptimizer(learning_rate, _MOMENTUM, use_nesterov=True)
    if settings.optimizer == "adamw":
        decay = ADAMW_DECAY if settings.weight_decay is None else settings.weight_decay
        return AdamW(learning_rate, decay)
    return tf.train.AdamOptimizer(learning_rate)


def create_learning_rate(config: RunConfig) -> float | tf.Tensor:
    """Create the learning rate of a run, which may depend on the step.

    Parameters
    ----------
    config : RunConfig

    Returns
    -------
    float or tf.Tensor of float32, shape ()
        With n = ``number_of_steps`` and w = ``warmup_steps``, step s (from 0) has the rate times
        ``min(1, (s + 1) / w)``, and times ``0.01 ** t`` (exponential) or ``(1 + cos(pi t)) / 2``
        (cosine [1]_), where ``t = (s - w) / (n - w)``, at least 0 and at most 1.

    References
    ----------
    .. [1] Loshchilov & Hutter: SGDR: stochastic gradient descent with warm restarts. ICLR 2017,
       arXiv:1608.03983.
    """
    if config.lr_schedule == "constant" and not config.warmup_steps:
        return config.learning_rate
    step = tf.cast(tf.train.get_or_create_global_step(), tf.float32)
    rate = tf.constant(config.learning_rate, tf.float32)
    if config.warmup_steps:
        rate *= tf.minimum(1.0, (step + 1.0) / config.warmup_steps)
    if config.lr_schedule != "constant" and config.number_of_steps is not None:
        num_steps = config.number_of_steps - config.warmup_steps
        part = tf.clip_by_value((step - config.warmup_steps) / num_steps, 0.0, 1.0)
        if config.lr_schedule == "cosine":
            rate *= (1.0 + tf.cos(np.pi * part)) / 2.0
        else:
            rate *= _EXPONENTIAL_END**part
    return rate


def average_weights(train_op: tf.Tensor, variables: Sequence[Any], decay: float) -> tf.Tensor:
    """Update averages of the weights after each update of the weights [1]_.

    In the first steps, weights change fast: there, the share of the old average is at most
    ``(1 + s) / (10 + s)`` in step s.

    Parameters
    ----------
    train_op : tf.Tensor
    variables : sequence of tf.Variable
        The weights. Their averages are variables of the checkpoints, too; restoring a model takes
        these (see `deep_reid.runs.restoring`).
    decay : float
        Share of the old average.

    Returns
    -------
    tf.Tensor
        The value of `train_op`, after both updates.

    References
    ----------
    .. [1] Polyak & Juditsky: Acceleration of stochastic approximation by averaging. SIAM Journal on
       Control and Optimization 30(4), 1992.
    """
    averages = [
        tf.Variable(
            variable.initialized_value(),
            name=variable.op.name + restoring.OF_AVERAGES,
            trainable=False,
        )
        for variable in variables
    ]
    with tf.control_dependencies([train_op]):
        # Sums of integers: Grappler moves a cast of the variable itself before the update.
        step = tf.train.get_or_create_global_step().read_value()
        early_decay = tf.cast(1 + step, tf.float32) / tf.cast(10 + step, tf.float32)
        share = 1.0 - tf.minimum(decay, early_decay)
        # tf.train.ExponentialMovingAverage reads the weights at any time of the step.
        updates = [
            average.assign_sub(share * (average - variable.read_value()))
            for average, variable in zip(averages, variables, strict=True)
        ]
    with tf.control_dependencies(updates):
        return tf.identity(train_op)
