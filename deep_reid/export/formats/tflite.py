"""TensorFlow Lite, computed by LiteRT with XNNPACK; loading is free of TensorFlow."""

import io
import warnings
import zipfile

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.export.formats.model import Graph, Model, count_threads, damaged, describe
from deep_reid.export.model_input import read_facts, write_facts

# LiteRT's models may end with a zip archive of further files. Runtimes do not read it.
_METADATA = "metadata.json"
# With int8's steps of 1/128, features would be neither of unit length nor exact: fewer images would
# keep their nearest neighbors. It takes no time.
_IN_FLOAT = ["L2_NORMALIZATION"]


def write(graph: Graph, path: str, quantization: str) -> None:
    """Write a network for TensorFlow Lite.

    Parameters
    ----------
    graph : Graph
    path : str
    quantization : {"none", "int8"}
        int8: weights per channel, activations by the calibration images; input and features, and
        their normalization, stay as they are.
    """
    from deep_reid.runtime.compat import tf

    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(_check_sizes(tf, graph.graph_def), name="")
        images, features = (
            session.graph.get_tensor_by_name(f"{name}:0") for name in ("images", "features")
        )
        converter = tf.lite.TFLiteConverter.from_session(session, [images], [features])
        if quantization == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([i[None]] for i in graph.calibration)
            converter.inference_input_type = images.dtype
            content = _quantize(tf, converter)
        else:
            content = converter.convert()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(_METADATA, write_facts(graph.model_input, graph.feature_size, graph.facts))
    with open(path, "wb") as file:
        file.write(content + archive.getvalue())


def _quantize(tf, converter):
    """Convert to int8, but for `_IN_FLOAT`: TensorFlow has this choice in its debugger alone."""
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_IN_FLOAT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=options,
        )
        return debugger.get_nondebug_quantized_model()


def _check_sizes(tf, graph_def):
    """Let a network that flattens its layers fail for images of another size.

    A flattening to (-1, n) would give more rows for larger images, and LiteRT takes any size. It
    has no op that only checks a shape. A layer of the expected size, which is put behind those of
    the batch and taken away again, does.
    """
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    checked = tf.GraphDef()
    checked.CopyFrom(graph_def)
    for node in checked.node:
        if node.op != "Reshape":
            continue
        tensor = graph.get_operation_by_name(node.name).inputs[0]
        batch_size, *sizes = tensor.get_shape().as_list()
        if batch_size is not None or None in sizes or len(sizes) < 2 or set(sizes[:-1]) == {1}:
            continue
        with tf.Graph().as_default() as addition:
            values = tf.placeholder(tensor.dtype, tensor.get_shape(), name=f"{node.name}/values")
            one = tf.zeros((1, *sizes), tensor.dtype, name=f"{node.name}/one")
            checked_values = tf.concat([values, one], 0, name=f"{node.name}/check_size")[:-1]
        placeholder, *added = addition.as_graph_def().node
        for new in added:
            new.input[:] = [
                node.input[0] if name == placeholder.name else name for name in new.input
            ]
        checked.node.extend(added)
        node.input[0] = checked_values.op.name
    return checked


def load(path: str, compute: ComputeSettings, trust: bool) -> Model:
    """Load a network of TensorFlow Lite.

    Parameters
    ----------
    path : str
    compute : ComputeSettings
    trust : bool
        Not used: LiteRT's own ops do nothing but compute.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If it is damaged, or is not of such a network.
    """
    del trust
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    def create():
        try:
            return Interpreter(path, num_threads=count_threads(compute.intra_op_threads))
        except (ValueError, RuntimeError) as error:
            raise damaged(path, error) from error

    interpreter = create()
    return describe(
        path,
        f"LiteRT {ai_edge_litert.__version__}",
        _read_metadata(path),
        _list_tensors(interpreter.get_input_details()),
        _list_tensors(interpreter.get_output_details()),
        lambda: _start(path, create()),
        is_concurrent=False,
    )


def _list_tensors(details):
    return [
        (
            tuple(None if size < 0 else int(size) for size in tensor["shape_signature"]),
            np.dtype(tensor["dtype"]).name,
        )
        for tensor in details
    ]


def _start(path, interpreter):
    """Return a function that computes batches of any size: for each size, memory is laid out."""
    image_index = interpreter.get_input_details()[0]["index"]
    feature_index = interpreter.get_output_details()[0]["index"]
    batch_size = 0

    def compute(batch):
        nonlocal batch_size
        try:
            if len(batch) != batch_size:
                interpreter.resize_tensor_input(image_index, batch.shape)
                interpreter.allocate_tensors()
                batch_size = len(batch)
            interpreter.set_tensor(image_index, batch)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            batch_size = 0
            raise damaged(path, error) from error
        return interpreter.get_tensor(feature_index)

    return compute, lambda: None


def _read_metadata(path):
    try:
        with zipfile.ZipFile(path) as zipped:
            return read_facts(zipped.read(_METADATA))
    except (zipfile.BadZipFile, KeyError, OSError, NotImplementedError, RuntimeError):
        return None
