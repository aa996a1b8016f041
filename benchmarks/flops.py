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
        The operations that they depend on count, too. All shapes must be known.

    Returns
    -------
    int
    """
    found, waiting = {}, list(ops)
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = _count(op)
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return sum(found.values())


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
