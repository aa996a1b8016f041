"""TensorFlow Lite, computed by LiteRT with XNNPACK; loading is free of TensorFlow."""

import io
import zipfile

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.export.formats.model import Graph, Model, count_threads, damaged, describe
from deep_reid.export.model_input import read_facts, write_facts

# LiteRT's models may end with a zip archive of further files. Runtimes do not read it.
_METADATA = "metadata.json"


def write(graph: Graph, path: str, quantization: str) -> None:
    """Write a network for TensorFlow Lite.

    Parameters
    ----------
    graph : Graph
    path : str
    quantization : {"none", "int8"}
        int8: weights per channel, activations by the calibration images; input and features stay
        as they are.
    """
    from deep_reid.runtime.compat import tf

    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph.graph_def, name="")
        images, features = (
            session.graph.get_tensor_by_name(f"{name}:0") for name in ("images", "features")
        )
        converter = tf.lite.TFLiteConverter.from_session(session, [images], [features])
        if quantization == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([i[None]] for i in graph.calibration)
            converter.inference_input_type = images.dtype
        content = converter.convert()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(_METADATA, write_facts(graph.model_input, graph.feature_size, graph.facts))
    with open(path, "wb") as file:
        file.write(content + archive.getvalue())


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
