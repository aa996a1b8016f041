"""Keeps a part of a graph exact, while the rest is computed in a narrower type.

Grappler rewrites a graph of float32 to bfloat16 or float16 by the kinds of its ops: each product of
matrices, and most ops between two of them; also normalization, logits and losses, which depend on
small differences and lose them. It cannot leave out single ops on request, but it changes float32
only: ops that must stay exact are computed in float64. Next to the convolutions, their cost is too
small to measure.
"""

from deep_reid.config import ComputeSettings
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import check_precision, find_gpu, start_runtime

# Collections whose names start with two underscores are not exported with a checkpoint.
_IS_NARROWED = "__deep_reid_is_narrowed"


def set_precision(compute: ComputeSettings) -> None:
    """Set the precision of the default graph; call this before its first op is added.

    Parameters
    ----------
    compute : ComputeSettings

    Raises
    ------
    UsageError
        If this machine does not support the precision.
    """
    check_precision(compute)
    start_runtime(compute)
    if compute.precision != "float32":
        tf.add_to_collection(_IS_NARROWED, True)


def keep_exact(tensor: tf.Tensor) -> tf.Tensor:
    """Keep all ops exact that use a tensor, up to `release`.

    Parameters
    ----------
    tensor : tf.Tensor of float32

    Returns
    -------
    tf.Tensor of float64; the same tensor if the graph runs in float32
    """
    return tf.cast(tensor, tf.float64) if tf.get_collection(_IS_NARROWED) else tensor


def release(tensor: tf.Tensor) -> tf.Tensor:
    """End the exact part that `keep_exact` began.

    Parameters
    ----------
    tensor : tf.Tensor

    Returns
    -------
    tf.Tensor of float32; the same tensor if it has that type
    """
    return tf.cast(tensor, tf.float32)


def elu(inputs: tf.Tensor) -> tf.Tensor:
    """Compute the exponential linear unit: ``x`` if positive, else ``exp(x) - 1``.

    On CPUs, TensorFlow takes three times as long for it in bfloat16 as in float32, which is longer
    than float32 with casts around it. There it stays float32 in a narrowed graph; its gradient,
    which is fast, does not.

    Parameters
    ----------
    inputs : tf.Tensor of float32

    Returns
    -------
    tf.Tensor of float32, shape of `inputs`
    """
    if not tf.get_collection(_IS_NARROWED) or find_gpu():
        return tf.nn.elu(inputs)
    return _elu_in_float32(inputs)


@tf.custom_gradient
def _elu_in_float32(inputs):
    # Grappler does not rewrite functions.
    compute = tf.function(tf.nn.elu, autograph=False, experimental_attributes={"_noinline": True})
    outputs = compute(inputs)
    return outputs, lambda gradients: tf.raw_ops.EluGrad(gradients=gradients, outputs=outputs)
