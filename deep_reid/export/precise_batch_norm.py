"""Precise batch norm: averages for inference that are set anew from training images.

Training gathers running averages, which lag behind the weights, and at first consist of their start
values. Statistics over some batches with the final weights do neither [1]_.

.. [1] Y. Wu, J. Johnson: Rethinking "Batch" in BatchNorm. arXiv:2105.07576, 2021.
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.config.run import CONFIG_FILENAME, MAX_BAD_PERCENT, check_positive_integer
from deep_reid.engine.trainer_checks import list_ancestors
from deep_reid.errors import DataError, UsageError
from deep_reid.images import decoding, pipeline
from deep_reid.images.faults import create_policy
from deep_reid.images.source import as_image_source, check_image_shape
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.nets import batch_norm
from deep_reid.nets.building import allow_reuse, build_network
from deep_reid.runs import checkpoints, records, restoring, saving
from deep_reid.runtime.compat import tf
from deep_reid.runtime.precision import set_precision
from deep_reid.runtime.sessions import create_session_config
from deep_reid.samplers import random_shuffle_forever
from deep_reid.system.files import Path
from deep_reid.system.tables import list_some

MAX_START_SHARE = 0.1
"""Up to this share of start values, averages of batch norm are good enough."""
MAX_STEPS_OF_START_VALUES = 100_000
"""After more steps, nothing is left of start values, even with a decay of 0.9999."""

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreciseBatchNorm:
    """Sets the averages of batch norm anew, from batches of training images; no weight changes.

    Batches are drawn from all images without regard to identities. The images are prepared as in
    inference, and dropout is off: the statistics are those of what the network computes when it is
    used. Each batch is normalized with its own statistics, as in training. The new averages are
    mean and variance over all batches, ``E[x]`` and ``E[x^2] - E[x]^2``, in float64.

    Parameters
    ----------
    preprocess_fn : callable
        See `deep_reid.images.pipeline.create_image_input`.
    network_factory : callable
        ``network_factory(images) -> (features, logits)``, in inference mode. Batch norm is found by
        its ops (`deep_reid.nets.batch_norm`), in any network.
    images : sequence of str or Path, or uint8 array (N, H, W, C) or, gray, (N, H, W)
        The images that the network was trained on.
    num_batches : int
    batch_size : int
        Best that of the training.
    image_shape : tuple of int, optional
        As in `deep_reid.export.encode`.
    training_factory : callable, optional
        The network in training mode: layers that gather no averages in it keep theirs, as their
        weights were trained with them. Default: all are set anew.
    seed : int
        Draws the batches: the same seed gives the same averages.
    on_bad_image, max_bad_percent
        As in `deep_reid.config.RunConfig`.
    compute : ComputeSettings
        Threads; the precision is always float32.
    show_progress : callable, optional
        ``show_progress(num_images)`` is a context manager that gives a function of the number of
        images that are done, such as the ``update`` of a progress bar.

    Raises
    ------
    TypeError
        If `images` are neither file names nor uint8 images.
    UsageError
        If a setting breaks its rule.

    Examples
    --------
    ::

        precise = PreciseBatchNorm(
            preprocess_fn=deep_sort.preprocess,
            network_factory=nets.create_inference_network(deep_sort),
            images=filenames,
            image_shape=(128, 64, 3),
            num_batches=100,
        )
        precise.write("log/run/model.ckpt-400", "precise.ckpt")
        with precise.applied("log/run/model.ckpt-400") as checkpoint_path:
            features = encode(..., checkpoint_path, ...)
    """

    preprocess_fn: Preprocess
    network_factory: NetworkFactory
    images: Sequence[Path] | np.ndarray
    num_batches: int
    batch_size: int = 32
    image_shape: Sequence[int] | None = None
    training_factory: NetworkFactory | None = None
    seed: int = 0
    on_bad_image: str = "stop"
    max_bad_percent: float = MAX_BAD_PERCENT
    compute: ComputeSettings = ComputeSettings()
    show_progress: Callable[[int], contextlib.AbstractContextManager] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("num_batches", "batch_size"):
            check_positive_integer(name, getattr(self, name))
        images, read_from_file = as_image_source(self.images)
        shape = check_image_shape(images, read_from_file, self.image_shape)
        compute = dataclasses.replace(ComputeSettings.of(self.compute), precision="float32")
        for name, value in (("images", images), ("image_shape", shape), ("compute", compute)):
            object.__setattr__(self, name, value)

    def write(self, checkpoint_path: Path, output_filename: Path) -> None:
        """Write a copy of a checkpoint with new averages.

        Parameters
        ----------
        checkpoint_path : str or Path
            In any form that `deep_reid.runs.records.resolve_checkpoint` takes.
        output_filename : str or Path
            Prefix of the new checkpoint; written whole or not at all.

        Raises
        ------
        MissingPathError, DataError
            If the checkpoint or an image is missing, or cannot be used.
        UsageError
            If the network has no batch norm, or the output would overwrite the checkpoint.
        RunError
            If the output cannot be written.
        """
        checkpoint_path = records.resolve_checkpoint(checkpoint_path)
        records.check_output(output_filename, checkpoint_path)
        averages = self.compute_averages(checkpoint_path)
        pathlib.Path(output_filename).parent.mkdir(parents=True, exist_ok=True)
        _write_changed(checkpoint_path, averages, os.fspath(output_filename))

    @contextlib.contextmanager
    def applied(self, checkpoint_path: Path) -> Iterator[str]:
        """Make a temporary copy of a checkpoint with new averages.

        Parameters
        ----------
        checkpoint_path : str or Path

        Yields
        ------
        str
            Its prefix; the settings of the run are beside it, too. It is removed at the end of the
            block, however this ends.

        Raises
        ------
        MissingPathError, DataError, UsageError, RunError
            As in `write`.
        """
        checkpoint_path = records.resolve_checkpoint(checkpoint_path)
        with tempfile.TemporaryDirectory(prefix="deep-reid-") as folder:
            settings = os.path.join(os.path.dirname(checkpoint_path), CONFIG_FILENAME)
            if os.path.exists(settings):
                shutil.copy(settings, folder)
            prefix = os.path.join(folder, os.path.basename(checkpoint_path))
            self.write(checkpoint_path, prefix)
            yield prefix

    def compute_averages(self, checkpoint_path: Path) -> dict[str, np.ndarray]:
        """Compute the new averages.

        Parameters
        ----------
        checkpoint_path : str or Path

        Returns
        -------
        dict of str -> np.ndarray of float64
            From the name of each variable.

        Raises
        ------
        MissingPathError, DataError, UsageError
            As in `write`.
        """
        graph = tf.Graph()
        with graph.as_default():
            set_precision(self.compute)
            image_var, layers = self._build()
            statistics = [(*layer.use_batch(), tf.size(layer.inputs)) for layer in layers]
        sums = _Sums([layer.names for layer in layers])
        with tf.Session(graph=graph, config=create_session_config(self.compute)) as session:
            restoring.restore_model(session, checkpoint_path)
            for values in self._run_batches(session, image_var, statistics):
                sums.add(values)
        averages = sums.averages()
        wrong = [name for name, values in averages.items() if not np.isfinite(values).all()]
        if wrong:
            raise DataError(
                f"batch norm of {checkpoint_path} cannot be set anew, as {list_some(wrong)} would "
                "not be finite: its weights are damaged, or training had failed"
            )
        return averages

    def _build(self):
        """Add the network to the default graph; return its input and its batch norm."""
        are_files = self.images.dtype.kind == "O"
        image_var, input_var = pipeline.create_image_input(
            self.preprocess_fn,
            self.image_shape,
            are_files,
            array_shape=None if are_files else self.images.shape[1:],
            jpeg_dct=decoding.OPENCV_DCT,
        )
        features, _ = build_network(allow_reuse(self.network_factory), input_var)
        layers = batch_norm.list_batch_norms(tf.get_default_graph())
        if self.training_factory is not None:
            gathered = set(
                find_gathered(self.preprocess_fn, self.training_factory, self.image_shape)
            )
            layers = [layer for layer in layers if gathered.issuperset(layer.names)]
            needed = {op.name for op in list_ancestors(features.op)}
            _warn_of_others(batch_norm.list_unused(gathered & needed, layers))
        if not layers:
            raise UsageError(
                "the network has no batch norm whose averages could be set anew: leave "
                "precise_batch_norm out"
            )
        return image_var, layers

    def _run_batches(self, session, image_var, fetches):
        are_files = self.images.dtype.kind == "O"
        policy = create_policy(
            self.on_bad_image,
            are_files,
            self.image_shape,
            len(set(self.images)) if are_files else None,
            self.max_bad_percent,
        )
        # Without labels: any other image replaces one that cannot be read.
        labels = np.zeros(self.batch_size, np.int64)
        batches = random_shuffle_forever(self.batch_size, self.images, seed=self.seed)
        num_images = self.num_batches * self.batch_size
        with contextlib.ExitStack() as stack:
            advance = None
            if self.show_progress is not None:
                advance = stack.enter_context(self.show_progress(num_images))
            for _ in range(self.num_batches):
                batch = policy.replace([next(batches), labels])
                while True:
                    try:
                        values = session.run(fetches, {image_var: batch[0]})
                        break
                    except tf.errors.OpError as error:
                        batch = policy.handle(batch, error)
                yield values
                if advance is not None:
                    advance(self.batch_size)


class _Sums:
    """Sums of each layer's inputs and of their squares, per channel, over all batches."""

    def __init__(self, names):
        self._names = names
        self._sums: dict[tuple[str, str], list] = {}

    def add(self, values):
        """Add the statistics of a batch; a layer that is used twice has two."""
        for names, (mean, variance, size) in zip(self._names, values, strict=True):
            count = size / mean.size
            first = mean.astype(np.float64)
            second = variance.astype(np.float64) + first**2
            sums = self._sums.setdefault(names, [0.0, 0.0, 0.0])
            for index, moment in enumerate((1.0, first, second)):
                sums[index] += count * moment

    def averages(self):
        """Return mean and variance of each layer by the names of their variables."""
        averages = {}
        for (mean_name, variance_name), (count, total, squares) in self._sums.items():
            mean = total / count
            averages[mean_name] = mean
            averages[variance_name] = np.maximum(squares / count - mean**2, 0.0)
        return averages


def find_gathered(
    preprocess_fn: Preprocess, training_factory: NetworkFactory, image_shape: Sequence[int]
) -> dict[str, batch_norm.Gathered]:
    """Find the averages that a network gathers in training.

    Parameters
    ----------
    preprocess_fn : callable
    training_factory : callable
        The network in training mode.
    image_shape : tuple of int

    Returns
    -------
    dict of str -> deep_reid.nets.batch_norm.Gathered
        By the names of their variables.
    """
    with tf.Graph().as_default() as graph:
        _, input_var = pipeline.create_image_input(preprocess_fn, image_shape, False, True)
        build_network(allow_reuse(training_factory), input_var)
        return batch_norm.list_gathered(graph)


def measure_start_share(
    checkpoint_path: Path, num_steps: int, gathered: Mapping[str, batch_norm.Gathered]
) -> float:
    """Measure how much of the averages is still the value that they started with.

    After t steps with the decay d, an average still has d^t of its start value: with 0.999, 67 % at
    step 400 and 5 % at step 3000. If an average is far below its start value, this rest may be
    nearly all of it.

    Parameters
    ----------
    checkpoint_path : str or Path
    num_steps : int
        Steps since the start values.
    gathered : dict
        As `find_gathered` returns it.

    Returns
    -------
    float
        ``d^t * max(1, start / average)``, but at most 1: for each average the median over its
        channels, of these the largest.
    """
    checkpoint_path = records.resolve_checkpoint(checkpoint_path)
    with checkpoints.naming_damaged(checkpoint_path):
        reader = tf.train.load_checkpoint(checkpoint_path)
        shares = [0.0]
        for name, average in gathered.items():
            if average.decay is not None and average.start is not None and reader.has_tensor(name):
                share, values = average.decay**num_steps, np.abs(reader.get_tensor(name))
                rest = share * abs(average.start)
                relative = np.median(rest / np.maximum(values, rest)) if rest else 0.0
                shares.append(max(share, float(relative)))
    return min(1.0, max(shares))


def _warn_of_others(names):
    if names:
        _logger.warning(
            "These values, which training gathers, stay as they are, as no batch norm was found "
            "that uses them: %s",
            list_some(names, ""),
        )


def _write_changed(checkpoint_path, changes, prefix):
    """Write a copy of a checkpoint with other values for some variables."""
    with checkpoints.naming_damaged(checkpoint_path):
        reader = tf.train.load_checkpoint(checkpoint_path)
        values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    dtypes = reader.get_variable_to_dtype_map()
    variables, start_values = {}, {}
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in {**values, **changes}.items():
            start = tf.placeholder(dtypes[name], np.shape(value))
            variables[name] = tf.Variable(start, trainable=False)
            start_values[start] = value
        saver = saving.Saver(variables)
        session.run([variable.initializer for variable in variables.values()], start_values)
        saver.save(session, prefix, write_meta_graph=False, write_state=False)
