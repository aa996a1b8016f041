"""TensorFlow's SavedModel, for TensorFlow Serving."""

import os
import pathlib

from google.protobuf.message import DecodeError

from deep_reid.config import ComputeSettings
from deep_reid.errors import UsageError
from deep_reid.export.formats.model import Graph, Model, check_feature_shape, damaged, find_input
from deep_reid.export.formats.pb import create_model
from deep_reid.export.frozen_graph import import_tensors
from deep_reid.export.model_input import read_facts, write_facts
from deep_reid.export.trust import check_ops
from deep_reid.runtime.compat import SavedModel, tf

_FILENAME = "saved_model.pb"
# Files beside a SavedModel that its loaders pass over are in this folder, by TensorFlow's rule.
_METADATA = os.path.join("assets.extra", "deep_reid.json")


def write(graph: Graph, path: str, quantization: str) -> None:
    """Write a SavedModel with the signature ``serving_default``: ``images`` to ``features``.

    Parameters
    ----------
    graph : Graph
    path : str
        A folder that exists, and is empty.
    quantization : {"none"}
    """
    del quantization
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph.graph_def, name="")
        images, features = (
            session.graph.get_tensor_by_name(f"{name}:0") for name in ("images", "features")
        )
        os.rmdir(path)  # the builder makes it
        builder = tf.saved_model.Builder(path)
        signature = tf.saved_model.predict_signature_def({"images": images}, {"features": features})
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.tag_constants.SERVING],
            {tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: signature},
        )
        builder.save()
    metadata = pathlib.Path(path, _METADATA)
    metadata.parent.mkdir()
    metadata.write_text(write_facts(graph.model_input, graph.feature_size, graph.facts))


def load(path: str, compute: ComputeSettings, trust: bool) -> Model:
    """Load a SavedModel without variables, as `write` makes it.

    Parameters
    ----------
    path : str
        Its folder.
    compute : ComputeSettings
    trust : bool
        Whether it may have any ops.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If it cannot be used.
    UsageError
        If it would run in another precision than float32.
    """
    if compute.precision != "float32":
        raise UsageError(
            f"{path} is computed in float32, not {compute.precision}: name the checkpoint instead"
        )
    key = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    try:
        # Not TensorFlow's loader, which runs ops of the file.
        saved = SavedModel.FromString(pathlib.Path(path, _FILENAME).read_bytes())
        graphs = [
            graph
            for graph in saved.meta_graphs
            if tf.saved_model.tag_constants.SERVING in graph.meta_info_def.tags
        ]
        graph_def, signature = graphs[0].graph_def, graphs[0].signature_def[key]
        (images,), (features,) = signature.inputs.values(), signature.outputs.values()
    except (DecodeError, IndexError, ValueError) as error:
        raise damaged(path, "it has no signature serving_default of images to features") from error
    if not trust:
        check_ops(graph_def, path)
    try:
        tensors = import_tensors(graph_def, [images.name, features.name])
    except Exception as error:
        raise damaged(path, error) from error
    shapes = [tuple(tensor.get_shape().as_list()) for tensor in tensors]
    types = [tensor.dtype.as_numpy_dtype().dtype.name for tensor in tensors]
    return create_model(
        path,
        graph_def,
        find_input(path, _read_metadata(path), shapes[0], types[0]),
        check_feature_shape(path, shapes[1], types[1]),
        compute,
        [tensor.name for tensor in tensors],
    )


def _read_metadata(path):
    try:
        return read_facts(pathlib.Path(path, _METADATA).read_bytes())
    except OSError:
        return None
