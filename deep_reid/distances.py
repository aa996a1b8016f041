"""Distances between feature vectors, for losses and metrics."""

from collections.abc import Callable

from deep_reid.config.loss_modes import facts_of_loss
from deep_reid.runtime.compat import tf


def pdist(a: tf.Tensor, b: tf.Tensor | None = None) -> tf.Tensor:
    """Compute squared Euclidean distances between all pairs of rows.

    Parameters
    ----------
    a : tf.Tensor of float32 or float64, shape (N, D)
    b : tf.Tensor of the same type, shape (M, D), optional
        Default: `a`.

    Returns
    -------
    tf.Tensor of the same type, shape (N, M)
        Entry (i, j) is ``||a[i] - b[j]||^2``. It is computed from inner products: values close to
        zero may be slightly negative.
    """
    b = a if b is None else b
    a_squared = tf.reduce_sum(tf.square(a), axis=1)
    b_squared = tf.reduce_sum(tf.square(b), axis=1)
    products = tf.matmul(a, b, transpose_b=True)
    return a_squared[:, tf.newaxis] + b_squared[tf.newaxis, :] - 2.0 * products


def cosine_distance(a: tf.Tensor, b: tf.Tensor | None = None) -> tf.Tensor:
    """Compute cosine distances between all pairs of rows.

    Parameters
    ----------
    a : tf.Tensor of float32 or float64, shape (N, D)
        Rows of any length except zero: they are normalized here.
    b : tf.Tensor of the same type, shape (M, D), optional
        Default: `a`.

    Returns
    -------
    tf.Tensor of the same type, shape (N, M)
        Entry (i, j) is one minus the cosine of the angle between ``a[i]`` and ``b[j]``, in [0, 2].
    """
    a_normed = tf.nn.l2_normalize(a, axis=1)
    b_normed = a_normed if b is None else tf.nn.l2_normalize(b, axis=1)
    return 1.0 - tf.matmul(a_normed, b_normed, transpose_b=True)


def measure_of_loss_mode(
    loss_mode: str,
) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
    """Return the distance by which features trained with `loss_mode` are ranked.

    Parameters
    ----------
    loss_mode : str
        As in `deep_reid.config.RunConfig`.

    Returns
    -------
    callable
        `cosine_distance` for the cosine softmax loss, `pdist` for the package's others; a loss of
        the user may have an attribute ``measure``.
    """
    return {"cosine": cosine_distance, "euclidean": pdist}[facts_of_loss(loss_mode).measure]
