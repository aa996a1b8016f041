"""Counts the floating point operations of matrix products and convolutions in a graph."""

import math


def count(ops):
    """Count the operations of matrix products and convolutions.

    A multiplication and an addition are two operations. Products with the zeros of a padding count,
    because each library computes them. Operations element by element do not count: they are one
    reason why a network does not reach the speed of a matrix product.

    Parameters
    ----------
    ops : sequence of tf.Operation
        The operations whose results they need count, too. All shapes must be known.

    Returns
    -------
    int
    """
    found, waiting = {}, list(ops)
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    wanted = {op.name for op in ops}
    return sum(_count(op) for op in found.values() if op.name in wanted or _is_used(op, found))


def _is_used(op, found):
    """Tell whether an op takes a result of another; TensorFlow leaves out what is only waited for.

    Of such a kind is the gradient of the images: the optimizer computes it with that of the filter,
    and lets both wait for each other.
    """
    return any(consumer.name in found for tensor in op.outputs for consumer in tensor.consumers())


def _count(op):
    # Only the shapes of operations that count must be known.
    if op.type == "MatMul":
        num_summed = _shape(op.inputs[0])[0 if op.get_attr("transpose_a") else 1]
        return 2 * num_summed * math.prod(_shape(op.outputs[0]))
    if op.type == "Conv2D":
        weights, feature_map = op.inputs[1], op.outputs[0]
    elif op.type == "Conv2DBackpropInput":
        weights, feature_map = op.inputs[1:]
    elif op.type == "Conv2DBackpropFilter":
        weights, feature_map = op.outputs[0], op.inputs[2]
    else:
        return 0
    return 2 * math.prod(_shape(weights)[:3]) * math.prod(_shape(feature_map))


def _shape(tensor):
    return tensor.get_shape().as_list()
