"""Frozen graphs made smaller: what a network needs for training only is folded away.

TensorFlow's own graph optimizer folds constants, and removes what does nothing. What it leaves, or
does only while a graph runs, is here: the batch norm behind a layer, and the swap of the image's
channels before one, become part of the layer's weights. (`fold_batch_norms` of TensorFlow's
``optimize_for_inference_lib`` takes no heed of batch norm in training mode, nor of layers whose
result is used elsewhere, too.)
"""

import collections

import numpy as np

from deep_reid.compat import tf, tf_optimizer

# Of TensorFlow's optimizer. The last one rearranges what is recognized here: it comes afterwards.
_BEFORE = ("pruning", "constfold", "dependency")
_AFTER = (*_BEFORE, "arithmetic")
_BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_LAYERS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def fold(graph_def, output_name):
    """Fold a frozen graph; its results stay the same but for rounding.

    What cannot be folded stays as it is: batch norm in training mode, or behind anything but a
    layer whose result nothing else uses. The ops that are written are ordinary ones.

    Parameters
    ----------
    graph_def : tf.GraphDef
        With constants in place of variables. Left as it is.
    output_name : str
        Node whose result is wanted. What it does not need is removed.

    Returns
    -------
    tf.GraphDef
        Its placeholders and the output have the names, types and static shapes that they had.
    """
    graph = _Graph(_optimize(graph_def, output_name, _BEFORE), output_name)
    for node in graph.list_nodes(*_BATCH_NORMS):
        _fold_batch_norm(graph, node)
    for node in graph.list_nodes("Conv2D"):
        _fold_channel_swap(graph, node)
    # Older releases do not know the newest attributes, even where these have their default values.
    return _optimize(graph.graph_def, output_name, _AFTER, strip_default_attributes=True)


def _optimize(graph_def, output_name, optimizers, strip_default_attributes=False):
    """Fold constants, and remove nodes that do nothing or are not needed."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        # There the optimizer looks for what is wanted.
        tf.add_to_collection(tf.GraphKeys.TRAIN_OP, graph.get_operation_by_name(output_name))
        meta_graph = tf.train.export_meta_graph()
    config = tf.ConfigProto()
    settings = config.graph_options.rewrite_options
    settings.optimizers.extend(optimizers)
    settings.min_graph_nodes = -1  # Small graphs, too.
    return tf_optimizer.OptimizeGraph(
        config, meta_graph, verbose=False, strip_default_attributes=strip_default_attributes
    )


class _Graph:
    """A GraphDef whose nodes are found by name, and changed in place."""

    def __init__(self, graph_def, output_name):
        self.graph_def = graph_def
        self._nodes = {node.name: node for node in graph_def.node}
        self._uses = collections.defaultdict(list)
        self._uses[output_name].append("the caller")
        for node in graph_def.node:
            for name in node.input:
                self._uses[name.strip("^").partition(":")[0]].append(name)

    def list_nodes(self, *ops):
        return [node for node in self.graph_def.node if node.op in ops]

    def input_of(self, node, position=0):
        """Return the node whose first result is an input; None where it is another result."""
        return self._nodes.get(node.input[position])

    def is_used_once(self, node):
        return len(self._uses[node.name]) == 1

    def only_user_of(self, node):
        """Return the node that takes a node's result, if nothing else does; None otherwise."""
        users = [user for user in self.graph_def.node if node.name in user.input]
        return users[0] if users and self.is_used_once(node) else None

    def has_one_result(self, node):
        """Tell whether none but the first result of a node is used."""
        return not any(":" in name for name in self._uses[node.name])

    def constant(self, node, position):
        """Return the value of an input; None where it is no constant."""
        source = self.input_of(node, position)
        if source is None or source.op != "Const":
            return None
        return tf.make_ndarray(source.attr["value"].tensor)

    def set_weights(self, layer, weights):
        # A constant of its own: others may use the old one.
        layer.input[1] = self._add_constant(f"{layer.name}/folded_weights", weights)

    def add_bias(self, layer, bias):
        """Add a bias behind a layer, and return its name."""
        node = self._add("BiasAdd", f"{layer.name}/BiasAdd", T=tf.float32)
        node.attr["data_format"].s = _data_format(layer)
        node.input.extend([layer.name, self._add_constant(f"{layer.name}/folded_bias", bias)])
        return node.name

    @staticmethod
    def skip(node):
        """Let a node hand on its first input as it is."""
        dtype = node.attr["T"].type
        node.op = "Identity"
        del node.input[1:]
        node.attr.clear()
        node.attr["T"].type = dtype

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
    """Make a batch norm part of the layer before it, where that can be done."""
    parameters = [graph.constant(batch_norm, position) for position in range(1, 5)]
    is_constant = not any(value is None for value in parameters)
    if batch_norm.attr["is_training"].b or not is_constant or not graph.has_one_result(batch_norm):
        return
    gamma, beta, mean, variance = (value.astype(np.float64) for value in parameters)
    scale = gamma / np.sqrt(variance + batch_norm.attr["epsilon"].f)
    bias = beta - mean * scale
    layer, between = _find_layer(graph, batch_norm)
    weights = _scale_weights(graph, layer, scale)
    if weights is None:
        return
    last = between[0] if between else batch_norm
    for node in between:
        if node.op == "BiasAdd":
            bias += graph.constant(node, 1) * scale
            graph.skip(node)
    graph.set_weights(layer, weights)
    last.input[0] = graph.add_bias(layer, bias)
    graph.skip(batch_norm)
    _skip_reshapes(graph, layer, between, batch_norm)


def _find_layer(graph, batch_norm):
    """Return the layer before a batch norm, or None, and the nodes between them in their order."""
    data_format, num_channels = _data_format(batch_norm), len(graph.constant(batch_norm, 1))
    between = []
    node = graph.input_of(batch_norm)
    while node is not None and graph.is_used_once(node):
        if node.op in _LAYERS:
            return (node if _data_format(node) == data_format else None), between
        value = graph.constant(node, 1) if node.op in {"BiasAdd", "Reshape"} else None
        if value is None:
            break
        if node.op == "BiasAdd":
            keeps_channels = _data_format(node) == data_format
        else:
            keeps_channels = data_format == b"NHWC" and value[-1] == num_channels
        if not keeps_channels:
            break
        between.insert(0, node)
        node = graph.input_of(node)
    return None, between


def _scale_weights(graph, layer, scale):
    """Return a layer's weights for an output that is scaled by channel; None if that is unknown."""
    weights = None if layer is None else graph.constant(layer, 1)
    if weights is None or weights.dtype != np.float32:
        return None
    if layer.op == "MatMul" and layer.attr["transpose_b"].b:
        return None
    num_dimensions = 2 if layer.op == "DepthwiseConv2dNative" else 1
    channels = weights.shape[-num_dimensions:]
    return weights * scale.reshape(channels) if np.prod(channels) == len(scale) else None


def _skip_reshapes(graph, layer, between, batch_norm):
    """Remove the reshapes around the batch norm of a vector, which takes images alone."""
    user = graph.only_user_of(batch_norm)
    if layer.op != "MatMul" or user is None or user.op != "Reshape":
        return
    num_channels = graph.constant(layer, 1).shape[-1]
    if np.array_equal(graph.constant(user, 1), [-1, num_channels]):
        for node in (*between, user):
            if node.op == "Reshape":
                graph.skip(node)


def _fold_channel_swap(graph, layer):
    """Let a layer take the image's channels in the order in which they come."""
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
        graph.skip(swap)


def _is_cast_or_scale(graph, node):
    if node.op == "Cast":
        return True
    factor = graph.constant(node, 1) if node.op in {"Mul", "RealDiv"} else None
    return factor is not None and factor.size == 1


def _data_format(node):
    return node.attr["data_format"].s if "data_format" in node.attr else b"NHWC"
