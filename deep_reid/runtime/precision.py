"""What stays exact where the rest of a graph is computed in a narrower type.

Grappler rewrites a graph of float32 to bfloat16 or float16 by the kinds of its ops: each product of
matrices, and most of what lies between two of them; also normalization, logits and losses, which
lose the small differences that they are about. It cannot leave single ops out on request, but it
touches nothing but float32: what must stay exact is computed in float64. Beside the convolutions,
that costs nothing that can be measured.
"""

from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import check_precision, find_gpu, start_runtime

# Collections of two underscores are not exported with a checkpoint.
_IS_NARROWED = "__deep_reid_is_narrowed"


def set_precision(compute):
    """Say how the default graph is going to be run; to be called before anything is built.

    Parameters
    ----------
    compute : ComputeSettings

    Raises
    ------
    UsageError
        If this machine does not compute in that precision.
    """
    check_precision(compute)
    start_runtime(compute)
    if compute.precision != "float32":
        tf.add_to_collection(_IS_NARROWED, True)


def keep_exact(tensor):
    """Let nothing that is computed of a tensor be narrowed, until `release` ends it.

    Parameters
    ----------
    tensor : tf.Tensor of float32

    Returns
    -------
    tf.Tensor of float64; the same tensor, where the graph is run in float32
    """
    return tf.cast(tensor, tf.float64) if tf.get_collection(_IS_NARROWED) else tensor


def release(tensor):
    """End what `keep_exact` began.

    Parameters
    ----------
    tensor : tf.Tensor

    Returns
    -------
    tf.Tensor of float32; the same tensor, where it has that type
    """
    return tf.cast(tensor, tf.float32)


def elu(inputs):
    """Exponential linear unit, ``x`` where that is positive, else ``exp(x) - 1``.

    On CPUs, TensorFlow takes three times as long for it in bfloat16 as in float32, and still longer
    than for float32 with casts around it; not so for its gradient. There, in a graph that is
    narrowed, it stays float32.

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
    # The rewriting leaves functions alone.
    compute = tf.function(tf.nn.elu, autograph=False, experimental_attributes={"_noinline": True})
    outputs = compute(inputs)
    return outputs, lambda gradients: tf.raw_ops.EluGrad(gradients=gradients, outputs=outputs)
