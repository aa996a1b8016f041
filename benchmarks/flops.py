"""Counts floating point operations in a graph: those of products of matrices and convolutions."""

import math


def count(ops):
    """Count the operations of products of matrices and convolutions.

    A multiplication and an addition are two operations. What multiplies the zeros of a padding is
    counted, as each library computes it; all that is done element by element is not: it belongs to
    what keeps a network from reaching the speed of a product of matrices.

    Parameters
    ----------
    ops : sequence of tf.Operation
        To be run; all that they need is counted, too. All shapes must be known.

    Returns
    -------
    int
    """
    return sum(_COUNT[op.type](op) for op in _with_all_inputs(ops) if op.type in _COUNT)


def _with_all_inputs(ops):
    found, waiting = {}, list(ops)
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return found.values()


def _count_matmul(op):
    first, _ = op.inputs
    num_summed = first.get_shape().as_list()[0 if op.get_attr("transpose_a") else 1]
    return 2 * num_summed * _num_elements(op.outputs[0])


def _count_convolution(op):
    images, weights = op.inputs
    del images
    return _count_products(weights.get_shape().as_list(), op.outputs[0])


def _count_gradient_of_images(op):
    _, weights, gradient = op.inputs
    return _count_products(weights.get_shape().as_list(), gradient)


def _count_gradient_of_weights(op):
    _, _, gradient = op.inputs
    return _count_products(op.outputs[0].get_shape().as_list(), gradient)


def _count_products(weights_shape, output):
    height, width, num_in, _ = weights_shape
    return 2 * height * width * num_in * _num_elements(output)


def _num_elements(tensor):
    return math.prod(tensor.get_shape().as_list())


_COUNT = {
    "MatMul": _count_matmul,
    "Conv2D": _count_convolution,
    "Conv2DBackpropInput": _count_gradient_of_images,
    "Conv2DBackpropFilter": _count_gradient_of_weights,
}
