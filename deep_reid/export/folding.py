"""Makes frozen graphs faster: ops that only training needs are folded into other ops.

TensorFlow's own graph optimizer folds constants, and removes ops without an effect. This module
does more: batch norm and the swap of the image's channels become part of a convolution. (The
function `fold_batch_norms` of TensorFlow's ``optimize_for_inference_lib`` also folds batch norm in
training mode, and layers whose result is used by other ops, too, which is wrong.)

The batch norm of a fully connected layer stays on purpose. With a bias instead, oneDNN computes the
layer with weights in a layout that depends on the number of images, and rearranges all weights in
each run with another number of images than the first run.
"""

import collections

import numpy as np

from deep_reid.runtime.compat import tf, tf_optimizer

# Passes of TensorFlow's optimizer. "arithmetic" rearranges the patterns that this module looks for,
# and therefore runs afterwards.
_BEFORE = ("pruning", "constfold", "dependency")
_AFTER = (*_BEFORE, "arithmetic")
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
# TensorFlow computes these together with a convolution and its bias, in one op.
_ACTIVATIONS = ("Elu", "Relu", "Relu6")


def fold(graph_def: tf.GraphDef, output_name: str) -> tf.GraphDef:
    """Fold a frozen graph; its results change by rounding only.

    Unknown patterns stay as they are, for example batch norm in training mode. The new graph has
    common ops only.

    Parameters
    ----------
    graph_def : tf.GraphDef
        With constants instead of variables. It is not changed.
    output_name : str
        The node to compute. Nodes that it does not need are removed.

    Returns
    -------
    tf.GraphDef
        Placeholders and the output keep their names, types and static shapes.
    """
    # After this, no other node uses the output.
    graph = _Graph(_optimize(graph_def, output_name, _BEFORE))
    for node in graph.list_nodes(*_BATCH_NORMS):
        _fold_batch_norm(graph, node)
    for node in graph.list_nodes("Conv2D"):
        _fold_channel_swap(graph, node)
    # Older releases do not know the newest attributes, even with their default values.
    return _optimize(graph.graph_def, output_name, _AFTER, strip_default_attributes=True)


def _optimize(graph_def, output_name, optimizers, strip_default_attributes=False):
    """Fold constants, and remove nodes that have no effect or are not needed."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        # The optimizer keeps the nodes of this collection, and what they need.
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, graph.get_operation_by_name(output_name))
        meta_graph = tf.train.export_meta_graph()
    config = tf.ConfigProto()
    settings = config.graph_options.rewrite_options
    settings.optimizers.extend(optimizers)
    settings.min_graph_nodes = -1  # optimize small graphs, too
    return tf_optimizer.OptimizeGraph(
        config, meta_graph, verbose=False, strip_default_attributes=strip_default_attributes
    )


class _Graph:
    """A GraphDef whose nodes are found by name, and changed in place."""

    def __init__(self, graph_def):
        self.graph_def = graph_def
        self._nodes = {node.name: node for node in graph_def.node}
        self._uses = collections.defaultdict(list)
        for node in graph_def.node:
            for name in node.input:
                self._uses[name.strip("^").partition(":")[0]].append(name)

    def list_nodes(self, *ops):
        return [node for node in self.graph_def.node if node.op in ops]

    def input_of(self, node, position=0):
        """Return the node of an input; None if the input is not its first result."""
        return self._nodes.get(node.input[position])

    def is_used_once(self, node):
        return len(self._uses[node.name]) == 1

    def only_user_of(self, node):
        """Return the node that uses a node's result; None if it is not the only one."""
        users = [user for user in self.graph_def.node if node.name in user.input]
        return users[0] if users and self.is_used_once(node) else None

    def has_one_result(self, node):
        """Tell whether only the first result of a node is used."""
        return not any(":" in name for name in self._uses[node.name])

    def constant(self, node, position):
        """Return the value of an input; None if it is not a constant, or depends on a check."""
        source = self.input_of(node, position)
        if source is None or source.op != "Const" or source.input:
            return None
        return tf.make_ndarray(source.attr["value"].tensor)

    def set_weights(self, layer, weights):
        # A new constant: other nodes may use the old one.
        layer.input[1] = self._add_constant(f"{layer.name}/folded_weights", weights)

    def add_depthwise_convolution(self, node, weights):
        """Add a 1 x 1 convolution of each channel of a node's first input, and return its name."""
        layer = self._add("DepthwiseConv2dNative", f"{node.name}/scale", T=tf.float32)
        weights = weights.reshape(1, 1, -1, 1)
        layer.input.extend([node.input[0], self._add_constant(f"{layer.name}/weights", weights)])
        layer.attr["strides"].list.i.extend([1, 1, 1, 1])
        layer.attr["padding"].s = b"VALID"
        return layer.name

    def turn_into_bias(self, node, layer_name, bias):
        """Replace a node by one that adds a bias to a layer's result."""
        data_format = _data_format(node)
        bias_name = self._add_constant(f"{node.name}/folded_bias", bias)
        _replace_op(node, "BiasAdd", [layer_name, bias_name])
        node.attr["data_format"].s = data_format

    def _add_constant(self, name, value):
        node = self._add("Const", name, dtype=tf.float32)
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.float32))
        return node.name

    def _add(self, op, name, **dtypes):
        while name in self._nodes:
            name += "_"
        node = self.graph_def.node.add(op=op, name=name)
        for attribute, dtype in dtypes.items():
            node.attr[attribute].type = dtype.as_datatype_enum
        self._nodes[name] = node
        return node


def _fold_batch_norm(graph, batch_norm):
    """Convert a batch norm to a bias, and its scale to weights of a convolution before it."""
    parameters = [graph.constant(batch_norm, position) for position in range(1, 5)]
    is_constant = not any(value is None for value in parameters)
    if batch_norm.attr["is_training"].b or not is_constant or not graph.has_one_result(batch_norm):
        return
    gamma, beta, mean, variance = (value.astype(np.float64) for value in parameters)
    scale = gamma / np.sqrt(variance + batch_norm.attr["epsilon"].f)
    bias = beta - mean * scale
    layer = graph.input_of(batch_norm)
    user = graph.only_user_of(batch_norm)
    if _can_be_scaled(graph, layer, batch_norm):
        graph.set_weights(layer, graph.constant(layer, 1) * scale)
        graph.turn_into_bias(batch_norm, layer.name, bias)
    elif user is not None and user.op in _ACTIVATIONS and _is_plain(batch_norm):
        # Before a residual block, other nodes use the input, too. TensorFlow would multiply, add
        # and activate in three ops; it computes this in one.
        layer_name = graph.add_depthwise_convolution(batch_norm, scale)
        graph.turn_into_bias(batch_norm, layer_name, bias)


def _can_be_scaled(graph, layer, batch_norm):
    """Tell whether a batch norm's input comes from a convolution that nothing else uses."""
    if layer is None or layer.op != "Conv2D" or not graph.is_used_once(layer):
        return False
    weights = graph.constant(layer, 1)
    has_same_format = _data_format(layer) == _data_format(batch_norm)
    return has_same_format and weights is not None and weights.dtype == np.float32


def _is_plain(batch_norm):
    is_float = batch_norm.attr["T"].type == tf.float32.as_datatype_enum
    return is_float and _data_format(batch_norm) == b"NHWC"


def _fold_channel_swap(graph, layer):
    """Remove a swap of the image's channels, and swap those of the weights instead."""
    weights = graph.constant(layer, 1)
    swap = graph.input_of(layer)
    while swap is not None and _is_cast_or_scale(graph, swap) and graph.is_used_once(swap):
        swap = graph.input_of(swap)
    if swap is None or swap.op != "ReverseV2" or not graph.is_used_once(swap):
        return
    images, axes = graph.input_of(swap), graph.constant(swap, 1)
    is_known = weights is not None and weights.dtype == np.float32 and images is not None
    if not is_known or images.op != "Placeholder" or _data_format(layer) != b"NHWC":
        return
    num_channels = [size.size for size in images.attr["shape"].shape.dim][-1:]
    # Fewer in the weights: the layer has groups of channels.
    if num_channels == [weights.shape[2]] and axes is not None and axes.tolist() in ([-1], [3]):
        graph.set_weights(layer, weights[:, :, ::-1])
        _replace_op(swap, "Identity", swap.input[:1])


def _is_cast_or_scale(graph, node):
    if node.op == "Cast":
        return True
    factor = graph.constant(node, 1) if node.op in {"Mul", "RealDiv"} else None
    return factor is not None and factor.size == 1


def _replace_op(node, op, inputs):
    """Let a node compute another op of the same type; it still waits for the same nodes."""
    dtype = node.attr["T"].type
    node.op = op
    node.input[:] = [*inputs, *(name for name in node.input if name.startswith("^"))]
    node.attr.clear()
    node.attr["T"].type = dtype


def _data_format(node):
    return node.attr["data_format"].s if "data_format" in node.attr else b"NHWC"
