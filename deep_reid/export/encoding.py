"""Features, model checkpoints and frozen graphs from a trained checkpoint."""

import contextlib
import logging
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.config.kinds import add_channels
from deep_reid.errors import UsageError
from deep_reid.export import formats
from deep_reid.export.encoder import check_features
from deep_reid.export.frozen_graph import create_frozen_graph
from deep_reid.export.model_input import ModelInput
from deep_reid.images import decoding, pipeline
from deep_reid.images.source import as_image_source, check_image_shape
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.nets.building import allow_reuse, build_network
from deep_reid.runs import records, restoring, saving
from deep_reid.runtime.compat import slim, tf
from deep_reid.runtime.precision import set_precision
from deep_reid.runtime.sessions import create_session_config
from deep_reid.samplers.batches import run_in_batches
from deep_reid.system import files

_logger = logging.getLogger(__name__)


def encode(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    checkpoint_path: str | os.PathLike[str],
    images_or_filenames: Sequence[str | os.PathLike[str]] | Sequence[np.ndarray] | np.ndarray,
    batch_size: int = 32,
    session: tf.Session | None = None,
    image_shape: Sequence[int] | None = None,
    *,
    progress: Callable[[int], object] | None = None,
    compute: ComputeSettings = ComputeSettings(),
) -> np.ndarray:
    """Compute the features of images, the same as the frozen graph's.

    Files are decoded as in OpenCV, because the frozen graph takes images of OpenCV.

    Parameters
    ----------
    preprocess_fn : callable
        See `deep_reid.images.pipeline.create_image_input`.
    network_factory : callable
        ``network_factory(images) -> (features, logits)``, in inference mode.
    checkpoint_path : str or Path
        In any form that `deep_reid.runs.records.resolve_checkpoint` takes.
    images_or_filenames : sequence of str or Path, or uint8 array (N, H, W, C) or, gray, (N, H, W)
    batch_size : int
        Number of images in a batch of the network.
    session : tf.Session, optional
        The network is added to its graph, or shares the variables that are there. Default: a new
        session with a new graph.
    image_shape : tuple of int, optional
        (height, width, channels), or (height, width) for gray images. Needed with files. Default
        with arrays: their shape.
    progress : callable, optional
        ``progress(num_images)`` after each batch, such as the ``update`` of a progress bar.
    compute : ComputeSettings
        Precision and threads. With `session`, only the precision is used: it must be that of the
        session.

    Returns
    -------
    np.ndarray of float32, shape (N, D)

    Raises
    ------
    TypeError
        If `images_or_filenames` is neither file names nor uint8 images.
    MissingPathError, DataError
        If the checkpoint or an image is missing, or cannot be used.
    UsageError
        If a setting breaks its rule, or the machine does not support it.
    """
    images, read_from_file = as_image_source(images_or_filenames)
    image_shape = check_image_shape(images, read_from_file, image_shape)
    if batch_size < 1:
        raise UsageError(f"batch_size ({batch_size}) must be at least 1")
    checkpoint_path = records.resolve_checkpoint(checkpoint_path)
    explain_error = pipeline.create_error_explainer(read_from_file, image_shape)
    with contextlib.ExitStack() as stack:
        if session is None:
            session = stack.enter_context(_new_session(compute))
            network_factory = allow_reuse(network_factory)
        with session.graph.as_default():
            set_precision(compute)
            image_var, input_var = pipeline.create_image_input(
                preprocess_fn,
                image_shape,
                read_from_file,
                array_shape=None if read_from_file else images.shape[1:],
                jpeg_dct=decoding.OPENCV_DCT,
            )
            features, _ = build_network(network_factory, input_var)
        restoring.restore_model(session, checkpoint_path)

        return _encode_in_batches(
            lambda feed_dict: session.run(features, feed_dict),
            image_var,
            features.get_shape().as_list()[1],
            images,
            batch_size,
            explain_error,
            progress,
        )


def encode_with_frozen_graph(
    frozen_graph_path: str | os.PathLike[str],
    filenames: Sequence[str | os.PathLike[str]],
    batch_size: int = 32,
    *,
    progress: Callable[[int], object] | None = None,
    compute: ComputeSettings = ComputeSettings(),
    trust: bool = False,
) -> np.ndarray:
    """Compute the features of image files with a frozen graph, or a network in another format.

    Parameters
    ----------
    frozen_graph_path : str or Path
        A graph that `freeze` wrote, or another with the nodes ``images`` and ``features``; or a
        file or folder in another format of `deep_reid.export.formats`.
    filenames : sequence of str or Path
        Images of any size: they are resized as in `encode`, and rounded to uint8.
    batch_size : int
    progress, compute
        As in `encode`.
    trust : bool
        Whether the graph may have any ops; see `deep_reid.Encoder`.

    Returns
    -------
    np.ndarray of float32, shape (N, D)

    Raises
    ------
    TypeError
        If `filenames` is something else, for example images.
    MissingPathError, DataError
        If the graph or an image is missing or cannot be used.
    UsageError
        If a setting breaks its rule; the precision must be float32.
    """
    images, read_from_file = as_image_source(filenames)
    if not read_from_file:
        raise TypeError("these are images, not names of files: use deep_reid.Encoder, or encode")
    path = os.fspath(frozen_graph_path)
    known = formats.find_format(path) or formats.FORMATS["pb"]  # a graph may have any name
    model = known.load(path, compute, trust)
    image_shape = add_channels(model.model_input.image_shape)
    with _new_session(compute) as session, model.running() as encode_batch:
        with session.graph.as_default():
            image_var, rgb_images = pipeline.create_image_input(
                _round_to_uint8, image_shape, True, jpeg_dct=decoding.OPENCV_DCT
            )
            bgr_images = tf.reverse(rgb_images, axis=[-1])
        encoded = _encode_in_batches(
            lambda feed_dict: encode_batch(session.run(bgr_images, feed_dict)),
            image_var,
            model.feature_size,
            images,
            batch_size,
            pipeline.create_error_explainer(True, image_shape),
            progress,
        )
    return check_features(encoded, path)


def finalize(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    checkpoint_path: str | os.PathLike[str],
    image_shape: Sequence[int],
    output_filename: str | os.PathLike[str],
) -> None:
    """Save only the model variables of a checkpoint, without optimizer state and step.

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
        If the output would overwrite the checkpoint, or is a folder, a device or a pipe.
    RunError
        If the output cannot be written, for example because the disk is full.
    """
    checkpoint_path = records.resolve_checkpoint(checkpoint_path)
    records.check_output(output_filename, checkpoint_path)
    with _new_session() as session:
        with session.graph.as_default():
            _, input_var = pipeline.create_image_input(preprocess_fn, image_shape, False)
            build_network(allow_reuse(network_factory), input_var)
            saver = saving.Saver(slim.get_model_variables())
        restoring.restore_model(session, checkpoint_path)
        pathlib.Path(output_filename).parent.mkdir(parents=True, exist_ok=True)
        saver.save(session, os.fspath(output_filename), write_meta_graph=False, write_state=False)
    _logger.info("Wrote the model variables to %s", output_filename)


def freeze(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    checkpoint_path: str | os.PathLike[str],
    image_shape: Sequence[int],
    output_filename: str | os.PathLike[str],
    input_name: str = "images",
    feature_name: str = "features",
    *,
    with_preprocessing: bool = True,
) -> None:
    """Export the network with its weights as a frozen graph, as Deep SORT reads it.

    The graph takes BGR (or gray) images, as ``cv2.imread`` and Deep SORT give them, of uint8 and
    shape (N, H, W, C), and returns features of float32 and shape (N, D), of unit length. Batch norm
    is folded into other layers (see `deep_reid.export.folding`): features differ from those of
    `encode` by rounding.

    Parameters
    ----------
    preprocess_fn : callable
        Takes RGB images: the graph swaps the channels for it. A function that expects BGR gets the
        images as they are: ``functools.partial(preprocess, input_is_bgr=True)``, a lambda that
        calls the package's `preprocess` in that way, or a function with the attribute
        ``input_is_bgr = True``.
    network_factory, checkpoint_path
        As in `encode`.
    image_shape : tuple of int
        (height, width, channels). With (height, width), the graph takes gray images without a
        channel axis, (N, H, W).
    output_filename : str or Path
        Written whole or not at all.
    input_name, feature_name : str
        Names of the graph's two nodes.
    with_preprocessing : bool
        Whether the graph has the preprocessing. Without it, the graph takes the results of
        `preprocess_fn`: float32, RGB (or gray); for `deep_reid.nets.deep_sort` in [0, 1].

    Raises
    ------
    MissingPathError, DataError
        If the checkpoint is missing or does not fit the network.
    UsageError
        If a setting breaks its rule, a scope of the network has the name of a node, or
        `preprocess_fn` moves color channels and does not declare the order that it expects.
    """
    checkpoint_path = records.resolve_checkpoint(checkpoint_path)
    graph_def, feature_size = create_frozen_graph(
        preprocess_fn,
        network_factory,
        checkpoint_path,
        ModelInput(tuple(image_shape)),
        input_name,
        feature_name,
        with_preprocessing=with_preprocessing,
        compute=ComputeSettings(),
    )
    files.write_output(output_filename, graph_def.SerializeToString())
    network_shape = add_channels(image_shape)
    _logger.info("Wrote the frozen graph to %s", output_filename)
    _logger.info(
        "Node %s: %s, (N, %s), %s; node %s: float32, (N, %d)",
        input_name,
        "uint8" if with_preprocessing else "float32, preprocessed",
        ", ".join(map(str, image_shape if with_preprocessing else network_shape)),
        "gray" if network_shape[2] == 1 else "BGR" if with_preprocessing else "RGB",
        feature_name,
        feature_size,
    )


def _encode_in_batches(
    encode, image_var, feature_size, images, batch_size, explain_error, progress
):
    def encode_batch(feed_dict):
        if image_var.dtype == tf.string:
            decoding.check_ends(feed_dict[image_var])
        try:
            result = encode(feed_dict)
        except tf.errors.OpError as error:
            better_error = explain_error([feed_dict[image_var]])
            if better_error is None:
                raise
            raise better_error from error
        if progress is not None:
            progress(len(result))
        return result

    out = np.zeros((len(images), feature_size), np.float32)
    run_in_batches(encode_batch, {image_var: images}, out, batch_size)
    return out


def _round_to_uint8(images, is_training):
    del is_training
    return tf.cast(tf.round(images), tf.uint8)


_round_to_uint8.takes_batches = True


def _new_session(compute=ComputeSettings()):
    return tf.Session(graph=tf.Graph(), config=create_session_config(compute))
