"""Frozen graphs of TensorFlow, as Deep SORT reads them, and checkpoints, computed as such."""

import pathlib
from collections.abc import Sequence

from deep_reid import nets
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.run import NETWORKS
from deep_reid.errors import DataError
from deep_reid.export.formats.model import Graph, Model, closed_error, damaged, enter_process
from deep_reid.export.frozen_graph import (
    create_frozen_graph,
    describe_input,
    find_run_config,
    read_frozen_graph,
)
from deep_reid.export.model_input import ModelInput, write_facts
from deep_reid.runs import checkpoints
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import create_session_config

RUNTIME = f"TensorFlow {tf.VERSION}"

_TENSORFLOW = "TensorFlow"
_DEFAULT_IMAGE_SHAPE = (128, 64, 3)
# Some attributes of nodes are checked when they are computed, and the shape when images are fed.
_ERRORS_OF_GRAPHS = (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError, ValueError)


def write(graph: Graph, path: str, quantization: str) -> None:
    """Write a frozen graph.

    Parameters
    ----------
    graph : Graph
    path : str
    quantization : {"none"}
    """
    del quantization
    graph_def = tf.GraphDef()
    graph_def.CopyFrom(graph.graph_def)
    describe_input(graph_def, write_facts(graph.model_input, graph.feature_size, graph.facts))
    pathlib.Path(path).write_bytes(graph_def.SerializeToString())


def load(path: str, compute: ComputeSettings, trust: bool) -> Model:
    """Load a frozen graph.

    Parameters
    ----------
    path : str
    compute : ComputeSettings
    trust : bool
        Whether it may have any ops.

    Returns
    -------
    Model

    Raises
    ------
    MissingPathError, DataError
        If it is missing, or cannot be used.
    UsageError
        If it would run in another precision than float32.
    """
    graph_def, model_input, feature_size = read_frozen_graph(path, compute, trust=trust)
    return create_model(path, graph_def, model_input, feature_size, compute)


def load_checkpoint(
    checkpoint_path: str,
    network: str | None,
    image_shape: Sequence[int] | None,
    compute: ComputeSettings,
) -> Model:
    """Load a checkpoint as a frozen graph.

    Parameters
    ----------
    checkpoint_path : str
        The checkpoint's prefix.
    network, image_shape, compute
        As in `deep_reid.Encoder`.

    Returns
    -------
    Model

    Raises
    ------
    DataError
        If it is damaged, or is not of the network.
    UsageError
        If a setting breaks its rule.
    """
    enter_process(_TENSORFLOW)
    network, image_shape = _settle(checkpoint_path, network, image_shape)
    module = nets.load_network(network)
    if not nets.may_fit(module, checkpoints.variable_shapes(checkpoint_path)):
        others = ", ".join(name for name in NETWORKS if name != network)
        raise DataError(
            f"checkpoint {checkpoint_path} is not of the network {network}: use network={others}"
        )
    model_input = ModelInput(image_shape)
    graph_def, feature_size = create_frozen_graph(
        module.preprocess,
        nets.create_inference_network(module),
        checkpoint_path,
        model_input,
        without_loop=True,  # as in files of --mode=freeze, so that both give the same features
        compute=compute,
    )
    return create_model(checkpoint_path, graph_def, model_input, feature_size, compute)


def create_model(
    path: str,
    graph_def: tf.GraphDef,
    model_input: ModelInput,
    feature_size: int,
    compute: ComputeSettings,
    names: Sequence[str] = ("images:0", "features:0"),
) -> Model:
    """Create a model of a graph.

    Parameters
    ----------
    path : str
    graph_def : tf.GraphDef
    model_input : ModelInput
    feature_size : int
    compute : ComputeSettings
    names : pair of str
        Of the tensors of images and features.

    Returns
    -------
    Model
        TensorFlow starts in the process that starts the model. It raises a `ForkedError` if it was
        forked from one that had computed already, and has none of TensorFlow's threads.
    """
    return Model(
        path=path,
        runtime=RUNTIME,
        model_input=model_input,
        feature_size=feature_size,
        start=lambda: _start(path, graph_def, compute, *names),
    )


def _start(path, graph_def, compute, image_name, feature_name):
    enter_process(_TENSORFLOW)
    config = create_session_config(compute)
    if compute.inter_op_threads is None:
        # The network is a chain of ops, and each op uses all cores. With several threads for ops,
        # passing them on takes some per cent of the time of a crop.
        config.use_per_session_threads = True
        config.inter_op_parallelism_threads = 1
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    session = tf.Session(graph=graph, config=config)
    # Looks up the nodes once.
    run = session.make_callable(graph.get_tensor_by_name(feature_name), [image_name])

    def encode(batch):
        enter_process(_TENSORFLOW)
        try:
            return run(batch)
        except tf.errors.CancelledError as error:
            raise closed_error() from error
        except _ERRORS_OF_GRAPHS as error:
            raise damaged(path, error) from error

    return encode, session.close


def _settle(checkpoint_path, network, image_shape):
    """Return network and image shape of a checkpoint: arguments, then record, then default."""
    recorded = find_run_config(checkpoint_path) or RunConfig(image_shape=_DEFAULT_IMAGE_SHAPE)
    network = network or recorded.network or NETWORKS[0]
    config = RunConfig(image_shape=image_shape or recorded.image_shape, network=network)
    return config.network, config.image_shape
