"""Frozen graphs: the network with its weights in one file, as Deep SORT reads it."""

import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError

from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.kinds import add_channels
from deep_reid.errors import DataError, MissingPathError, UsageError, first_line
from deep_reid.export import folding
from deep_reid.export.model_input import (
    BGR_UINT8,
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STDDEV,
    ModelInput,
    read_facts,
)
from deep_reid.export.trust import check_ops
from deep_reid.images import pipeline
from deep_reid.images.channel_order import KEEP_ORDER_OF_ARRAYS, WatchedPreprocessing
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.nets.building import allow_reuse, build_network
from deep_reid.runs import restoring
from deep_reid.runtime.compat import tf
from deep_reid.runtime.precision import set_precision
from deep_reid.runtime.sessions import create_session_config

_logger = logging.getLogger(__name__)

INPUT_FACTS = "_deep_reid"
"""The attribute of the node ``images`` that tells which values it takes. TensorFlow ignores
attributes that begin with an underscore."""


def create_frozen_graph(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    checkpoint_path: str | os.PathLike[str],
    model_input: ModelInput,
    input_name: str = "images",
    feature_name: str = "features",
    *,
    with_preprocessing: bool = True,
    without_loop: bool = False,
    compute: ComputeSettings,
) -> tuple[tf.GraphDef, int]:
    """Create the frozen graph that `deep_reid.export.freeze` writes.

    Parameters
    ----------
    preprocess_fn, network_factory, checkpoint_path, input_name, feature_name
        As in `deep_reid.export.freeze`.
    model_input : ModelInput
        What the graph takes.
    with_preprocessing : bool
        As in `deep_reid.export.freeze`. Without it, only the shape of `model_input` matters.
    without_loop : bool
        Whether to try preprocessing in one call for a batch, also if `preprocess_fn` does not
        declare that it takes batches. It is used if it gives the same. Code written for the
        original relies on single images.
    compute : ComputeSettings
        The settings that the graph will run with. In a narrower precision, some ops must stay
        exact: they are computed in float64.

    Returns
    -------
    graph_def : tf.GraphDef
    feature_size : int

    Raises
    ------
    MissingPathError, DataError
        If the checkpoint is missing or does not fit the network.
    UsageError
        If a setting breaks its rule, or the network has a scope of a node's name.
    """
    config = create_session_config(compute)
    with tf.Session(graph=tf.Graph(), config=config) as session:
        with session.graph.as_default():
            set_precision(compute)
            if with_preprocessing:
                frozen_input = _FrozenInput(
                    preprocess_fn, model_input, checkpoint_path, without_loop
                )
                images, network_input = frozen_input.add(session, input_name)
            else:
                shape = (None, *add_channels(model_input.image_shape))
                images = network_input = tf.placeholder(tf.float32, shape, name=input_name)
            features, _ = build_network(allow_reuse(network_factory), network_input)
            output = tf.identity(features, name=feature_name)
            _check_names(images, input_name, output, feature_name)
        restoring.restore_model(session, checkpoint_path)
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), [feature_name]
        )
    return folding.fold(graph_def, feature_name), output.get_shape().as_list()[1]


def read_frozen_graph(
    path: str | os.PathLike[str], compute: ComputeSettings, *, trust: bool = False
) -> tuple[tf.GraphDef, ModelInput, int]:
    """Read a frozen graph that takes images, and find out what it takes.

    Parameters
    ----------
    path : str or Path
        A graph that `deep_reid.export.freeze` wrote, or another with the nodes ``images`` and
        ``features``.
    compute : ComputeSettings
        The settings that it will run with.
    trust : bool
        Whether the graph may have any ops, also those that read or write files.

    Returns
    -------
    graph_def : tf.GraphDef
    model_input : ModelInput
    feature_size : int

    Raises
    ------
    MissingPathError, DataError
        If the graph is missing or cannot be used.
    UsageError
        If it would run in another precision than float32.
    """
    if compute.precision != "float32":
        # Its normalization must stay exact, and cannot be separated from its layers any more.
        raise UsageError(
            f"{path} is a frozen graph, which is computed in float32, not {compute.precision}: "
            "name the checkpoint instead"
        )
    graph_def = _read_graph_def(path)
    if not trust:
        check_ops(graph_def, os.fspath(path))
    nodes = {node.name: node for node in graph_def.node}
    if "images" not in nodes or "features" not in nodes:
        raise DataError(
            f"{path} has no nodes 'images' and 'features': name a file of --mode=freeze"
        )
    return graph_def, _find_input(nodes["images"], path), _find_feature_size(graph_def, path)


def _find_input(images, path):
    """Tell what the node ``images`` takes."""
    shape = tuple(dimension.size for dimension in images.attr["shape"].shape.dim[1:])
    facts = read_facts(images.attr[INPUT_FACTS].s) if INPUT_FACTS in images.attr else None
    if facts is not None and facts.shape == shape:
        return facts
    if images.attr["dtype"].type != tf.uint8.as_datatype_enum:
        raise DataError(
            f"{path} takes preprocessed images, not those of files: name a file of --mode=freeze "
            "without --no_preprocess"
        )
    if len(shape) not in (2, 3) or not 1 <= min(shape) <= max(shape) < 2**15:
        raise DataError(
            f"{path} does not tell the size of its images: freeze it with a placeholder of shape "
            "(None, height, width, channels)"
        )
    return ModelInput(shape)


def describe_input(graph_def: tf.GraphDef, facts: str) -> None:
    """Write into a frozen graph what it takes, for `read_frozen_graph`.

    Parameters
    ----------
    graph_def : tf.GraphDef
        Changed in place.
    facts : str
        Of `deep_reid.export.model_input.write_facts`.
    """
    for node in graph_def.node:
        if node.name == "images":
            node.attr[INPUT_FACTS].s = facts.encode()


def import_tensors(graph_def: tf.GraphDef, names: Sequence[str]) -> list[tf.Tensor]:
    """Build somebody's graph, and find tensors in it.

    Parameters
    ----------
    graph_def : tf.GraphDef
    names : sequence of str

    Returns
    -------
    list of tf.Tensor

    Raises
    ------
    Exception
        If it is damaged: TensorFlow does not say what it raises then.
    """
    for node in graph_def.node:
        if node.op == "Const":
            _check_constant(node)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        return [graph.get_tensor_by_name(name) for name in names]


def _check_constant(node):
    """Check that a constant is what its node says; TensorFlow would abort the process."""
    tensor = node.attr["value"].tensor
    tf.make_ndarray(tensor)  # fails where the shape is not that of the values
    if tensor.dtype != node.attr["dtype"].type:
        raise ValueError(f"node {node.name} is not of the type of its value")


def _find_feature_size(graph_def, path):
    """Build a frozen graph, and return the length of its features."""
    way_out = "freeze the checkpoint again, or name a file of --mode=freeze"
    try:
        features, _ = import_tensors(graph_def, ["features:0", "images:0"])
    except Exception as error:
        reason = first_line(error) or type(error).__name__
        raise DataError(f"{path} is damaged ({reason}): {way_out}") from error
    shape = features.get_shape()
    is_vector = shape.ndims == 2 and shape.as_list()[1]
    if features.dtype != tf.float32 or not is_vector:
        raise DataError(
            f"the node 'features' of {path} is {features.dtype.name} of shape {shape}, but must be "
            f"float32 of shape (None, number): {way_out}"
        )
    return shape.as_list()[1]


def _read_graph_def(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingPathError(f"frozen graph {path} does not exist: --mode=freeze writes it")
    try:
        return tf.GraphDef.FromString(path.read_bytes())
    except DecodeError as error:
        raise DataError(f"{path} is not a frozen graph: name a file of --mode=freeze") from error


def find_run_config(checkpoint_path: str | os.PathLike[str]) -> RunConfig | None:
    """Read the settings of the run that saved a checkpoint.

    Parameters
    ----------
    checkpoint_path : str or Path

    Returns
    -------
    RunConfig or None
        None if there is no record beside the checkpoint, for example because it was finalized.
    """
    try:
        return RunConfig.load(os.path.dirname(checkpoint_path) or ".")
    except MissingPathError:
        return None


class _FrozenInput:
    """The input of a frozen graph: images, in the order of channels that preprocessing expects."""

    def __init__(self, preprocess_fn, model_input, checkpoint_path, without_loop):
        self._preprocess_fn = WatchedPreprocessing(preprocess_fn)
        self._model_input = model_input
        self._image_shape = add_channels(model_input.image_shape)
        config = find_run_config(checkpoint_path)
        # The run was trained from "files", "arrays", or None: unknown.
        self._image_source = None if config is None else config.image_source
        self._is_color = self._image_shape[2] == 3
        self._is_bgr = model_input.kind == BGR_UINT8
        takes_batches = self._preprocess_fn.takes_batches
        self._tries_batches = (
            without_loop and not takes_batches and len(model_input.image_shape) == 3
        )

    def add(self, session, input_name):
        """Add a placeholder for images, and the ops between it and the network."""
        placeholder = tf.placeholder(
            self._model_input.dtype, (None, *self._model_input.shape), name=input_name
        )
        images = self._to_range_of_files(placeholder)
        if self._image_source == "arrays" and KEEP_ORDER_OF_ARRAYS.get():
            return placeholder, self._preprocess(images, is_bgr_expected=self._is_bgr)
        was_expected = bool(self._preprocess_fn.is_bgr_expected)
        network_input = self._preprocess(images, was_expected)
        # The function may have called the package's own preprocessing, and shown its order so.
        is_bgr_expected = self._preprocess_fn.is_bgr_expected
        if is_bgr_expected is None and self._is_color:
            is_bgr_expected = self._infer(session, placeholder, network_input)
        if bool(is_bgr_expected) != was_expected:
            network_input = self._preprocess(images, is_bgr_expected)
        images = self._order(images, is_bgr_expected)
        return placeholder, self._without_loop(session, placeholder, images, network_input)

    def _to_range_of_files(self, images):
        """Convert to channels last, in [0, 255], as images of files are before preprocessing."""
        if self._model_input.layout == "nchw":
            images = tf.transpose(images, (0, 2, 3, 1))
        if self._model_input.kind == BGR_UINT8:
            return images
        if self._model_input.kind == IMAGENET:
            return 255.0 * (images * IMAGENET_STDDEV + IMAGENET_MEAN)
        return 255.0 * images

    def _preprocess(self, images, is_bgr_expected):
        images = self._order(images, is_bgr_expected)
        return pipeline.apply_preprocessing(self._preprocess_fn, images)

    def _order(self, images, is_bgr_expected):
        if self._is_color and bool(is_bgr_expected) != self._is_bgr:
            return tf.reverse(images, axis=[-1])
        return images

    def _without_loop(self, session, placeholder, images, network_input):
        """Preprocess a batch in one call, where the function gives the same for it.

        A function that does not declare that it takes batches is called for one image, in a loop.
        A loop is slow, and most other runtimes do not have it.
        """
        if not self._tries_batches:
            return network_input
        random = np.random.RandomState(0)
        values = random.randint(0, 256, (4, *self._image_shape)).astype(np.uint8)
        try:
            batched = self._preprocess_fn(images, is_training=False)
            session.run(tf.global_variables_initializer())
            expected, found = session.run(
                [network_input, batched], {placeholder: self._model_input.convert(values)}
            )
        except Exception as error:  # noqa: BLE001 a function of one image may fail in any way
            _logger.debug("Preprocessing stays in a loop: %s", first_line(error))
            return network_input
        is_same = np.shape(found) == expected.shape and np.allclose(found, expected, atol=1e-6)
        return batched if is_same else network_input

    def _infer(self, session, placeholder, network_input):
        """Tell whether a function expects BGR that does not declare its order.

        The network takes RGB. If the function moves channels, and the run was trained on arrays, it
        converts them to RGB: they were BGR. Images from files are RGB.
        """
        if not self._moves_channels(session, placeholder, network_input):
            return False
        if self._image_source is None:
            raise UsageError(
                "preprocess_fn moves the color channels itself, and it is unknown whether it "
                "expects RGB or OpenCV's BGR: set preprocess_fn.input_is_bgr = True (BGR, as the "
                "frozen graph's images are) or False (RGB, the graph swaps the channels before it)"
            )
        return self._image_source == "arrays"

    def _moves_channels(self, session, placeholder, network_input):
        if network_input.get_shape().as_list()[-1] != 3:
            return False
        values = np.full((4, *self._image_shape), 100, np.uint8)
        for channel in range(3):
            values[channel + 1, ..., channel] = 200
        session.run(tf.global_variables_initializer())
        values = self._model_input.convert(values)
        plain, *changed = session.run(network_input, {placeholder: values})
        changes = np.array([abs(image - plain).mean(axis=(0, 1)) for image in changed])
        # Row: the changed channel of a BGR image. Column: the RGB channel that changes with it.
        stayed = np.diag(changes[:, ::-1])
        return bool((changes.max(axis=1) > 1.01 * stayed).any())


def _check_names(images, input_name, features, feature_name):
    for tensor, name in ((images, input_name), (features, feature_name)):
        if tensor.op.name != name:
            raise UsageError(
                f"the network has a scope {name!r}, which is the name of a node of the frozen "
                "graph: rename the scope"
            )
