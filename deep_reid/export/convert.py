"""From a checkpoint to files of other runtimes, each compared with the checkpoint."""

import contextlib
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.errors import UsageError
from deep_reid.export import formats, parity
from deep_reid.export.encoding import encode
from deep_reid.export.formats.model import Graph, Model
from deep_reid.export.frozen_graph import create_frozen_graph
from deep_reid.export.model_input import ModelInput
from deep_reid.images import pipeline
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.runs import records
from deep_reid.samplers.batches import run_in_batches
from deep_reid.system import files

_logger = logging.getLogger(__name__)
_BATCH_SIZE = 32


def convert(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    checkpoint_path: str | os.PathLike[str],
    model_input: ModelInput,
    outputs: Mapping[str, str | os.PathLike[str]],
    samples: parity.Samples,
    *,
    quantization: str = "none",
    calibration_images: np.ndarray | None = None,
    facts: Mapping[str, Any] | None = None,
    on_written: Callable[[str, Model, parity.Parity], object] | None = None,
) -> dict[str, parity.Parity]:
    """Write a network for other runtimes.

    Each file is computed by its own runtime, and its features are compared with the checkpoint's,
    before it gets its name.

    Parameters
    ----------
    preprocess_fn, network_factory, checkpoint_path
        As in `deep_reid.export.encode`.
    model_input : ModelInput
        What the files take.
    outputs : dict of str -> str or Path
        From the name of each format (`deep_reid.export.formats.FORMATS`) to the file or folder to
        write. What is there is replaced; a folder only if it is a model, or empty.
    samples : deep_reid.export.parity.Samples
        Images to compare with.
    quantization : {"none", "int8", "bfloat16"}
    calibration_images : np.ndarray of uint8, shape (N, H, W, C), optional
        BGR images that int8's ranges are found by, best of the training set.
    facts : dict, optional
        What the files tell about themselves, beside their input, such as run and step.
    on_written : callable, optional
        Called with the name of a format, its network as its runtime reads it, and how far its
        features are off, as soon as its file has its own name: a later format may fail.

    Returns
    -------
    dict of str -> Parity
        How far the features of each file are from the checkpoint's.

    Raises
    ------
    UsageError
        If a format cannot have the quantization, its packages are missing, or int8 has no images.
    DataError
        If the features of a file are too far from the checkpoint's. It is not kept, but the files
        before it are.
    """
    formats.check_quantization(outputs, quantization)
    for name, path in outputs.items():
        formats.FORMATS[name].check_packages(quantization)
        formats.FORMATS[name].check_output(path)
    if quantization == formats.INT8 and (calibration_images is None or not len(calibration_images)):
        raise UsageError("int8 needs images to find the ranges of activations: name the data set")
    checkpoint_path = records.resolve_checkpoint(checkpoint_path)
    graph_def, feature_size = create_frozen_graph(
        preprocess_fn,
        network_factory,
        checkpoint_path,
        model_input,
        without_loop=True,
        compute=ComputeSettings(),
    )
    calibration = None if calibration_images is None else model_input.convert(calibration_images)
    expected = _encode_samples(preprocess_fn, network_factory, checkpoint_path, samples)
    facts = {"quantization": quantization, "scores": samples.score(expected), **(facts or {})}
    graph = Graph(graph_def, model_input, feature_size, facts, calibration)
    compared = {}
    for name, path in outputs.items():
        known = formats.FORMATS[name]
        with _writing(known, path) as temporary:
            known.module.write(graph, temporary, quantization)
            model = known.load(temporary, ComputeSettings(), False)
            features = _compute(model, samples.images)
            figures = parity.compare(expected, features, samples, quantization)
            figures.check(f"{known.title} {os.fspath(path)}")
        compared[name] = figures
        _logger.info("Wrote %s for %s: %s", os.fspath(path), model.runtime, model_input.describe())
        if on_written is not None:
            on_written(name, model, figures)
    return compared


def _compute(model, images):
    """Compute the features of images of the network's size."""
    features = np.empty((len(images), model.feature_size), np.float32)
    with model.running() as encode_batch:
        run_in_batches(
            lambda batch: encode_batch(batch["images"]), {"images": images}, features, _BATCH_SIZE
        )
    return features


def _encode_samples(preprocess_fn, network_factory, checkpoint_path, samples):
    images = samples.images
    if not pipeline.expects_bgr(preprocess_fn, samples.images.shape[1:]):
        images = images[..., ::-1]
    return encode(preprocess_fn, network_factory, checkpoint_path, np.ascontiguousarray(images))


@contextlib.contextmanager
def _writing(known, path) -> Iterator[str]:
    """Write a file or a folder under a temporary name, and give it its own when the block ends."""
    if not known.is_folder:
        with files.writing(path) as temporary:
            yield temporary
        return
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        temporary = os.path.join(folder, path.name)
        os.mkdir(temporary)
        yield temporary
        if path.exists():
            os.rename(path, os.path.join(folder, "earlier"))
        os.rename(temporary, path)
        files.flush_to_disk(path.parent)
