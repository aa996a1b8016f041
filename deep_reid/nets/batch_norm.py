"""Finds batch norm in a graph: by the ops that use or gather its averages, not by names.

A layer of any kind is found: TF-Slim's, that of ``tf.layers`` or Keras, or one written with
``tf.nn.fused_batch_norm`` or ``tf.nn.batch_normalization``.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from deep_reid.runtime.compat import tf

_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")
_READS = ("Identity", "ReadVariableOp")
# Ops between a variable and the op that computes with it.
_PASSED = (*_READS, "Cast", "Reshape", "ExpandDims", "Squeeze", "Neg")
_ASSIGNMENTS = ("Assign", "AssignSub", "AssignVariableOp", "AssignSubVariableOp")
_CONSTANT = ("Cast", "Identity", "Sub")
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_FUSED_MEAN, _FUSED_VARIANCE = 3, 4  # inputs


@dataclasses.dataclass(frozen=True, eq=False)
class _Read:
    """Where an average enters a computation: input number `index` of `op` is its variable."""

    variable: str
    op: tf.Operation
    index: int

    @property
    def tensor(self) -> tf.Tensor:
        return self.op.inputs[self.index]


@dataclasses.dataclass(frozen=True, eq=False)
class BatchNorm:
    """A use of a batch norm layer in inference mode: a layer may be used more than once.

    Parameters
    ----------
    inputs : tf.Tensor of float, shape (N, ...)
        What is normalized.
    axes : list of int
        Dimensions of `inputs` that statistics are taken over: all but the channels.
    mean, variance
        Where the averages enter.
    """

    inputs: tf.Tensor
    axes: list[int]
    mean: _Read
    variance: _Read

    @property
    def names(self) -> tuple[str, str]:
        """Names of the variables with the averages of mean and variance."""
        return self.mean.variable, self.variance.variable

    def use_batch(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Let the layer normalize with the statistics of the batch in place of its averages.

        Returns
        -------
        mean, variance : tf.Tensor of float32, each of the shape of its variable
            The statistics of the batch; the variance is that of the batch itself, not an estimate.
        """
        statistics = tf.nn.moments(tf.cast(self.inputs, tf.float32), self.axes)
        shaped = []
        for read, statistic in zip((self.mean, self.variance), statistics, strict=True):
            average = read.tensor
            shaped.append(tf.reshape(statistic, average.get_shape()))
            # TensorFlow has no public name for this.
            read.op._update_input(read.index, tf.cast(shaped[-1], average.dtype.base_dtype))
        return shaped[0], shaped[1]


def list_batch_norms(graph: tf.Graph) -> list[BatchNorm]:
    """List the batch norm of a graph in inference mode.

    Parameters
    ----------
    graph : tf.Graph

    Returns
    -------
    list of BatchNorm
        In the order in which the graph was built.
    """
    found = []
    for op in graph.get_operations():
        if op.type in _FUSED and not op.get_attr("is_training"):
            found.append(_read_fused(op))
        elif op.type == "Rsqrt" and op.inputs[0].op.type in ("Add", "AddV2"):
            found.append(_read_plain(op))
    return [batch_norm for batch_norm in found if batch_norm is not None]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """An average that training gathers.

    Parameters
    ----------
    decay : float or None
        The share of the old value in the new one, at each step. None: it is unknown.
    start : float or None
        The value that it starts with. None: it is unknown.
    """

    decay: float | None
    start: float | None


def list_gathered(graph: tf.Graph) -> dict[str, Gathered]:
    """List the variables that a graph in training mode assigns: the averages of batch norm.

    Parameters
    ----------
    graph : tf.Graph
        Without an optimizer.

    Returns
    -------
    dict of str -> Gathered
        By the name of each.
    """
    with graph.as_default():
        variables = tf.global_variables()
    initializers = {variable.initializer for variable in variables}
    ops = [op for op in graph.get_operations() if op.type in _ASSIGNMENTS]
    starts = {_name_of_variable(op.inputs[0]): _find_start(op) for op in ops if op in initializers}
    gathered: dict[str, Gathered] = {}
    for op in ops:
        name = _name_of_variable(op.inputs[0])
        if op not in initializers and name is not None:
            gathered[name] = Gathered(_find_decay(op), starts.get(name))
    return gathered


def _read_fused(op):
    averages = [_trace(op, index) for index in (_FUSED_MEAN, _FUSED_VARIANCE)]
    if None in averages:
        return None
    rank = op.inputs[0].get_shape().ndims
    channels = 1 if op.get_attr("data_format").startswith(b"NC") else rank - 1
    axes = [axis for axis in range(rank) if axis != channels]
    return BatchNorm(op.inputs[0], axes, *averages)


def _read_plain(rsqrt):
    """Read ``x * inv + (offset - mean * inv)``, with ``inv = rsqrt(variance + e) * scale``."""
    total = rsqrt.inputs[0].op
    variances = [read for read in (_trace(total, index) for index in (0, 1)) if read is not None]
    if len(variances) != 1:
        return None
    inputs, means = None, []
    for product, index in _list_products(rsqrt.outputs[0]):
        read = _trace(product, index)
        if read is None:
            inputs = product.inputs[index]
        else:
            means.append((read, product.inputs[index]))
    if inputs is None or inputs.get_shape().ndims is None or len(means) != 1:
        return None
    mean, as_used = means[0]
    rank, shape = inputs.get_shape().ndims, as_used.get_shape().as_list()
    sizes = [1] * (rank - len(shape)) + shape
    axes = [axis for axis in range(rank) if axis == 0 or sizes[axis] == 1]
    return BatchNorm(inputs, axes, mean, variances[0])


def _list_products(tensor) -> Iterator[tuple[tf.Operation, int]]:
    """List the products with a tensor, and which factor is the other one; skip a scale."""
    for op in tensor.consumers():
        if op.type == "Cast":
            yield from _list_products(op.outputs[0])
        elif op.type == "Mul":
            other = 1 if op.inputs[0] is tensor else 0
            is_scale = _trace(op, other) is not None and any(
                user.type in ("Mul", "Cast") for user in op.outputs[0].consumers()
            )
            if is_scale:
                yield from _list_products(op.outputs[0])
            else:
                yield op, other


def _trace(op, index):
    """Follow an input back to a variable; None if it is computed in another way."""
    while True:
        source = op.inputs[index].op
        name = _name_of_variable(op.inputs[index])
        if name is None and source.type in _READS and len(source.inputs) == 1:
            name = _name_of_variable(source.inputs[0])
        if name is not None:
            return _Read(name, op, index)
        if source.type not in _PASSED:
            return None
        op, index = source, 0


def _name_of_variable(tensor):
    return tensor.op.name if tensor.op.type in _VARIABLES else None


def _find_decay(assignment):
    """Find the rate in ``average -= (average - value) * rate``, and return 1 - rate."""
    if "Sub" not in assignment.type:
        return None
    op = assignment.inputs[1].op
    for factor in op.inputs if op.type == "Mul" else ():
        rate = _compute_constant(factor)
        if rate is not None and np.shape(rate) == () and 0 < rate < 1:
            return 1.0 - float(rate)
    return None


def _find_start(initializer):
    value = _compute_constant(initializer.inputs[1])
    is_number = value is not None and value.dtype.kind == "f" and value.size
    return float(value.flat[0]) if is_number and (value == value.flat[0]).all() else None


def _compute_constant(tensor):
    """Return the value of a constant, or of a difference of two, such as ``1 - decay``."""
    value = tf.get_static_value(tensor)
    if value is not None:
        return value
    parts = [_compute_constant(part) for part in tensor.op.inputs if tensor.op.type in _CONSTANT]
    if not parts or any(part is None for part in parts):
        return None
    return parts[0] if len(parts) == 1 else parts[0] - parts[1]


def list_unused(names: Iterable[str], batch_norms: Iterable[BatchNorm]) -> list[str]:
    """List the averages that no layer found uses."""
    used = {name for batch_norm in batch_norms for name in batch_norm.names}
    return sorted(set(names) - used)
