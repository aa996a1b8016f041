"""A function for each image of a batch, at little cost in the graph."""

from deep_reid.runtime.compat import tf


def map_images(function, batches, dtype, shape):
    """Call a function for each row of a batch, in one op.

    A loop of ``tf.map_fn`` takes 10 microseconds for each row, this 3. An image that goes through
    all of `function` before the next does so in the processor's cache, and its ops do not wake
    other threads for work that is too small to be shared. Where a session runs the op in threads
    of its own choice, it runs for several rows side by side; in the caller's thread, one by one.

    Parameters
    ----------
    function : callable
        ``function(*rows)`` with a row of each of `batches` returns a tensor. It becomes a function
        of the graph, which can use neither variables nor tensors of the graph around it.
    batches : list of tf.Tensor, shapes (N, ...)
    dtype : tf.DType
    shape : sequence of int
        Type and shape of what `function` returns.

    Returns
    -------
    tf.Tensor of `dtype`, shape (N,) + `shape`
    """
    specs = [tf.TensorSpec(batch.get_shape()[1:], batch.dtype) for batch in batches]
    (results,) = tf.raw_ops.MapDefun(
        arguments=batches,
        captured_inputs=[],
        output_types=[dtype],
        output_shapes=[shape],
        f=tf.function(function, autograph=False).get_concrete_function(*specs),
        max_intra_op_parallelism=1,
    )
    return results
