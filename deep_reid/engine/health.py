"""Checks of a training: for numbers that are not finite, and for embeddings that collapse.

The tensors to check are registered when a graph is built. The step function reads them with each
step, in the same ``session.run``.
"""

import logging
import math
from collections.abc import Sequence

import numpy as np

from deep_reid.errors import RunError
from deep_reid.runtime.compat import tf

COLLAPSE_DISTANCE = 0.01
"""If the root mean square distance of embeddings is smaller, they tell no identities apart."""

COLLAPSE_STEPS = 200
"""Consecutive steps with collapsed embeddings before the warning."""

# Collections whose names begin with two underscores are not exported with a checkpoint.
_FINITE = "__deep_reid_finite"
_SPREAD = "__deep_reid_spread"
_logger = logging.getLogger(__name__)


def watch_numbers(name: str, tensor: tf.Tensor) -> None:
    """Register a tensor to be checked in each step.

    Call this in the order in which tensors are computed: the first bad one is named.

    Parameters
    ----------
    name : str
        Name of the tensor for people, such as ``"gradient of fc1/weights"``.
    tensor : tf.Tensor of float
    """
    is_finite = tf.reduce_all(tf.is_finite(tensor))
    tf.add_to_collection(_FINITE, (name, is_finite))


def watch_gradients(
    gradients: list[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]],
) -> list[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]]:
    """Register gradients to be checked in each step; a ``transform_grads_fn`` of TF-Slim.

    Parameters
    ----------
    gradients : list of (gradient, tf.Variable)

    Returns
    -------
    list of (gradient, tf.Variable)
        The same.
    """
    # Backpropagation begins with the last layer: its gradient is computed first.
    for gradient, variable in reversed(gradients):
        if gradient is not None:
            values = getattr(gradient, "values", gradient)
            watch_numbers(f"gradient of {variable.op.name}", values)
    return gradients


def watch_spread(features: tf.Tensor) -> None:
    """Register the distances among a batch's features to be checked, and to be a summary.

    Parameters
    ----------
    features : tf.Tensor of float32, shape (N, D)
    """
    features = tf.stop_gradient(features)
    mean = tf.reduce_mean(features, axis=0)
    # Half the mean of all squared distances is the variance, which needs no table of distances.
    variance = tf.reduce_mean(tf.reduce_sum(tf.square(features - mean), axis=1))
    spread = tf.sqrt(2.0 * variance)
    tf.summary.scalar("features/spread", spread)
    tf.add_to_collection(_SPREAD, spread)


class Health:
    """Checks the registered tensors of a graph.

    Parameters
    ----------
    graph : tf.Graph

    Attributes
    ----------
    tensors : list of tf.Tensor
        Fetch them with each step, and give their values to `check`.
    """

    def __init__(self, graph: tf.Graph) -> None:
        watched = graph.get_collection(_FINITE)
        self._names = [name for name, _ in watched]
        with graph.as_default():
            finite = tf.stack([tensor for _, tensor in watched]) if watched else tf.constant([True])
            spreads = graph.get_collection(_SPREAD)
            self.tensors = [finite, spreads[-1] if spreads else tf.constant(1.0)]
        self._num_collapsed = 0

    def check(self, step: int, values: Sequence[np.ndarray]) -> None:
        """Raise if a number is not finite; warn once if the embeddings have collapsed.

        Parameters
        ----------
        step : int
        values : sequence
            The values of `tensors`.

        Raises
        ------
        RunError
            If a number is not finite; the message names the first such tensor.
        """
        finite, spread = values
        if not finite.all():
            raise RunError(
                f"step {step}: {self._names[finite.argmin()]} is not finite (NaN or infinite); "
                "nothing of this step was saved. Lower --learning_rate and resume with the same "
                "run_id, or check images and labels"
            )
        self._num_collapsed = self._num_collapsed + 1 if spread < COLLAPSE_DISTANCE else 0
        if self._num_collapsed == COLLAPSE_STEPS:
            _logger.warning(
                "The embeddings have collapsed: for %d steps, those of different images have been "
                "%.4f apart (the triplet loss then stays at ln 2 = 0.693). Known cures: a lower "
                "--learning_rate, larger batches, a start from weights trained with "
                "--loss_mode=cosine-softmax (--restore_path)",
                COLLAPSE_STEPS,
                spread,
            )
            self._num_collapsed = -math.inf
