"""Features, model checkpoints and frozen graphs from a trained checkpoint."""

import contextlib
import logging
import os
import pathlib

import numpy as np
from google.protobuf.message import DecodeError

from deep_reid import checkpoints, files, graph_folding, input_pipeline, restoring, saving
from deep_reid.compat import slim, tf
from deep_reid.config import ComputeSettings, as_image_shape
from deep_reid.errors import DataError, MissingPathError, UsageError
from deep_reid.precision import set_precision
from deep_reid.samplers import run_in_batches
from deep_reid.sessions import create_session_config

_logger = logging.getLogger(__name__)


def encode(
    preprocess_fn,
    network_factory,
    checkpoint_path,
    images_or_filenames,
    batch_size=32,
    session=None,
    image_shape=None,
    *,
    progress=None,
    compute=ComputeSettings(),
):
    """Compute the features of images, the same as the frozen graph's.

    Files are decoded as OpenCV does, whose images the frozen graph takes.

    Parameters
    ----------
    preprocess_fn : callable
        See `deep_reid.input_pipeline.create_image_input`.
    network_factory : callable
        ``network_factory(images) -> (features, logits)``, in inference mode.
    checkpoint_path : str or Path
        In any form that `deep_reid.checkpoints.resolve_checkpoint` takes.
    images_or_filenames : sequence of str or Path, or uint8 array (N, H, W, C)
    batch_size : int
        Images that go through the network at once.
    session : tf.Session, optional
        Session whose graph the network is added to, or shared with. Default: a new one.
    image_shape : tuple of int, optional
        (height, width, channels). Needed with files; default with arrays: their own shape.
    progress : callable, optional
        ``progress(num_images)`` after each batch, such as the ``update`` of a progress bar.
    compute : ComputeSettings
        Precision and threads; of a `session` that is given, only the precision counts, and it must
        be of the same.

    Returns
    -------
    np.ndarray of float32, shape (N, D)

    Raises
    ------
    TypeError
        If `images_or_filenames` is neither file names nor uint8 images.
    MissingPathError, DataError
        If the checkpoint or an image is missing or cannot be used.
    UsageError
        If a setting breaks its rule, or the machine does not support it.
    """
    images, read_from_file = input_pipeline.as_image_source(images_or_filenames)
    image_shape = input_pipeline.check_image_shape(images, read_from_file, image_shape)
    if batch_size < 1:
        raise UsageError(f"batch_size ({batch_size}) must be at least 1")
    checkpoint_path = checkpoints.resolve_checkpoint(checkpoint_path)
    explain_error = input_pipeline.create_error_explainer(read_from_file, image_shape)
    with contextlib.ExitStack() as stack:
        if session is None:
            session = stack.enter_context(_new_session(compute))
        with session.graph.as_default():
            set_precision(compute)
            image_var, input_var = input_pipeline.create_image_input(
                preprocess_fn, image_shape, read_from_file, jpeg_dct=input_pipeline.OPENCV_DCT
            )
            features, _ = network_factory(input_var)
        restoring.restore_model(session, checkpoint_path)

        return _encode_in_batches(
            session, image_var, features, images, batch_size, explain_error, progress
        )


def encode_with_frozen_graph(
    frozen_graph_path, filenames, batch_size=32, *, progress=None, compute=ComputeSettings()
):
    """Compute the features of image files with a frozen graph, by the names of its nodes.

    Parameters
    ----------
    frozen_graph_path : str or Path
        A graph that `freeze` wrote, or another with the nodes ``images`` and ``features``.
    filenames : sequence of str or Path
        Images of any size: they are resized as `encode` does, and rounded to uint8.
    batch_size : int
    progress, compute
        As in `encode`.

    Returns
    -------
    np.ndarray of float32, shape (N, D)

    Raises
    ------
    TypeError
        If `filenames` are something else, such as images.
    MissingPathError, DataError
        If the graph or an image is missing or cannot be used.
    UsageError
        If a setting breaks its rule; the precision must be float32.
    """
    images, read_from_file = input_pipeline.as_image_source(filenames)
    if not read_from_file:
        raise TypeError("these are images, not names of files: use deep_reid.Encoder, or encode")
    graph_def, image_shape = read_frozen_graph(frozen_graph_path, compute)
    with _new_session(compute) as session:
        with session.graph.as_default():
            image_var, rgb_images = input_pipeline.create_image_input(
                _round_to_uint8, image_shape, True, jpeg_dct=input_pipeline.OPENCV_DCT
            )
            bgr_images = tf.reverse(rgb_images, axis=[-1])
            (features,) = tf.import_graph_def(
                graph_def, {"images:0": bgr_images}, ["features:0"], name="frozen"
            )
        explain_error = input_pipeline.create_error_explainer(True, image_shape)
        return _encode_in_batches(
            session, image_var, features, images, batch_size, explain_error, progress
        )


def finalize(preprocess_fn, network_factory, checkpoint_path, image_shape, output_filename):
    """Save the model variables of a checkpoint alone: without optimizer state and step.

    Parameters
    ----------
    preprocess_fn, network_factory, checkpoint_path
        As in `encode`.
    image_shape : tuple of int
        (height, width, channels).
    output_filename : str or Path
        Prefix of the new checkpoint; written whole or not at all.

    Raises
    ------
    MissingPathError, DataError
        If the checkpoint is missing or does not fit the network.
    UsageError
        If the output would overwrite the checkpoint, or is the name of a folder.
    RunError
        If the output cannot be written, say for want of space.
    """
    checkpoint_path = checkpoints.resolve_checkpoint(checkpoint_path)
    if not os.path.basename(output_filename):
        raise UsageError(f"{output_filename} is a folder: add the name of the checkpoint in it")
    if os.path.abspath(output_filename) == os.path.abspath(checkpoint_path):
        raise UsageError(f"{output_filename} is the checkpoint itself: name another output file")
    with _new_session() as session:
        with session.graph.as_default():
            _, input_var = input_pipeline.create_image_input(preprocess_fn, image_shape, False)
            network_factory(input_var)
            saver = saving.Saver(slim.get_model_variables())
        restoring.restore_model(session, checkpoint_path)
        pathlib.Path(output_filename).parent.mkdir(parents=True, exist_ok=True)
        saver.save(session, os.fspath(output_filename), write_meta_graph=False, write_state=False)
    _logger.info("Wrote the model variables of %s to %s", checkpoint_path, output_filename)


def freeze(
    preprocess_fn,
    network_factory,
    checkpoint_path,
    image_shape,
    output_filename,
    input_name="images",
    feature_name="features",
    *,
    with_preprocessing=True,
):
    """Export the network with its weights as a frozen graph, as Deep SORT reads it.

    The graph takes BGR (or gray) images, which is what ``cv2.imread`` and Deep SORT give, of uint8
    and shape (N, H, W, C), and returns features of float32 and shape (N, D), of unit length. What
    only training needs is folded away (see `deep_reid.graph_folding`): features differ from those
    of `encode` by rounding.

    Parameters
    ----------
    preprocess_fn : callable
        Takes RGB images; the graph swaps the channels before it. One made with
        ``functools.partial(preprocess, input_is_bgr=True)`` swaps them itself, and is left to.
    network_factory, checkpoint_path
        As in `encode`.
    image_shape : tuple of int
        (height, width, channels).
    output_filename : str or Path
        Written whole or not at all.
    input_name, feature_name : str
        Names of the graph's two nodes.
    with_preprocessing : bool
        Without, the graph takes what the network takes, as `preprocess_fn` returns it: float32, RGB
        (or gray); those of `deep_reid.nets.deep_sort` in [0, 1].

    Raises
    ------
    MissingPathError, DataError
        If the checkpoint is missing or does not fit the network.
    UsageError
        If a setting breaks its rule, or the network has a scope of a node's name.
    """
    checkpoint_path = checkpoints.resolve_checkpoint(checkpoint_path)
    graph_def, feature_size = create_frozen_graph(
        preprocess_fn,
        network_factory,
        checkpoint_path,
        image_shape,
        input_name,
        feature_name,
        with_preprocessing=with_preprocessing,
        compute=ComputeSettings(),
    )
    with files.replacing(output_filename) as temporary:
        pathlib.Path(temporary).write_bytes(graph_def.SerializeToString())
    _logger.info("Wrote the frozen graph of %s to %s", checkpoint_path, output_filename)
    _logger.info(
        "Node %s: %s, (N, %d, %d, %d), %s; node %s: float32, (N, %d)",
        input_name,
        "uint8" if with_preprocessing else "float32, preprocessed",
        *image_shape,
        "gray" if image_shape[2] == 1 else "BGR" if with_preprocessing else "RGB",
        feature_name,
        feature_size,
    )


def create_frozen_graph(
    preprocess_fn,
    network_factory,
    checkpoint_path,
    image_shape,
    input_name="images",
    feature_name="features",
    *,
    with_preprocessing=True,
    compute,
):
    """Create the frozen graph that `freeze` writes.

    Parameters
    ----------
    preprocess_fn, network_factory, checkpoint_path, image_shape, input_name, feature_name
        As in `freeze`.
    with_preprocessing : bool
        As in `freeze`.
    compute : ComputeSettings
        How the graph is going to be run: what must stay exact in a narrower precision is marked.

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
    image_shape = as_image_shape(image_shape)
    with _new_session(compute) as session:
        with session.graph.as_default():
            set_precision(compute)
            images, network_input = _create_frozen_input(
                preprocess_fn, image_shape, input_name, with_preprocessing
            )
            features, _ = network_factory(network_input)
            output = tf.identity(features, name=feature_name)
            _check_names(images, input_name, output, feature_name)
        restoring.restore_model(session, checkpoint_path)
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, session.graph.as_graph_def(), [feature_name]
        )
    return graph_folding.fold(graph_def, feature_name), output.get_shape().as_list()[1]


def read_frozen_graph(path, compute):
    """Read a frozen graph that takes images, and find their shape.

    Parameters
    ----------
    path : str or Path
        A graph that `freeze` wrote, or another with the nodes ``images`` and ``features``.
    compute : ComputeSettings
        How it is going to be run.

    Returns
    -------
    graph_def : tf.GraphDef
    image_shape : tuple of int
        (height, width, channels).

    Raises
    ------
    MissingPathError, DataError
        If the graph is missing or cannot be used.
    UsageError
        If it is to be run in another precision than float32.
    """
    if compute.precision != "float32":
        # Its normalization, which must stay exact, cannot be told from its layers any more.
        raise UsageError(
            f"{path} is a frozen graph, which is computed in float32, not {compute.precision}: "
            "name the checkpoint instead"
        )
    graph_def = _read_graph_def(path)
    nodes = {node.name: node for node in graph_def.node}
    if "images" not in nodes or "features" not in nodes:
        raise DataError(
            f"{path} has no nodes 'images' and 'features': name a file of --mode=freeze"
        )
    images = nodes["images"]
    if images.attr["dtype"].type != tf.uint8.as_datatype_enum:
        raise DataError(
            f"{path} takes preprocessed images, not those of files: name a file of --mode=freeze "
            "without --no_preprocess"
        )
    image_shape = tuple(dimension.size for dimension in images.attr["shape"].shape.dim[1:])
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise DataError(
            f"{path} does not tell the size of its images: freeze it with a placeholder of shape "
            "(None, height, width, channels)"
        )
    return graph_def, image_shape


def _encode_in_batches(session, image_var, features, images, batch_size, explain_error, progress):
    def encode_batch(feed_dict):
        try:
            result = session.run(features, feed_dict)
        except tf.errors.OpError as error:
            better_error = explain_error([feed_dict[image_var]])
            if better_error is None:
                raise
            raise better_error from error
        if progress is not None:
            progress(len(result))
        return result

    out = np.zeros((len(images), features.get_shape().as_list()[1]), np.float32)
    run_in_batches(encode_batch, {image_var: images}, out, batch_size)
    return out


def _round_to_uint8(images, is_training):
    del is_training
    return tf.cast(tf.round(images), tf.uint8)


_round_to_uint8.takes_batches = True


def _read_graph_def(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingPathError(f"frozen graph {path} does not exist: --mode=freeze writes it")
    try:
        return tf.GraphDef.FromString(path.read_bytes())
    except DecodeError as error:
        raise DataError(f"{path} is no frozen graph: name a file of --mode=freeze") from error


def _create_frozen_input(preprocess_fn, image_shape, input_name, with_preprocessing):
    """Add the frozen graph's placeholder, and what comes between it and the network."""
    if not with_preprocessing:
        images = tf.placeholder(tf.float32, (None, *image_shape), name=input_name)
        return images, images
    images = tf.placeholder(tf.uint8, (None, *image_shape), name=input_name)
    # A preprocessing function that expects BGR swaps the channels itself.
    is_in_order = input_pipeline.expects_bgr(preprocess_fn) or image_shape[2] == 1
    ordered_images = images if is_in_order else tf.reverse(images, axis=[-1])
    return images, input_pipeline.apply_preprocessing(preprocess_fn, ordered_images)


def _check_names(images, input_name, features, feature_name):
    for tensor, name in ((images, input_name), (features, feature_name)):
        if tensor.op.name != name:
            raise UsageError(
                f"the network has a scope {name!r}, which is the name of a node of the frozen "
                "graph: rename the scope"
            )


@contextlib.contextmanager
def _new_session(compute=ComputeSettings()):
    with tf.Session(graph=tf.Graph(), config=create_session_config(compute)) as session:
        yield session
