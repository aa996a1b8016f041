"""Measures what limits a training: how fast images are read, and how fast steps are, each alone.

It makes no run and writes no files.
"""

import contextlib
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deep_reid.config import RunConfig
from deep_reid.config.kinds import POSITIVE
from deep_reid.engine.health import Health
from deep_reid.images.source import as_image_source
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import create_session_config
from deep_reid.system.files import Path
from deep_reid.training import graph, loop

_NUM_WARM_UP_STEPS = 3


def measure_input(
    preprocess_fn: Preprocess,
    train_x: Sequence[Path] | np.ndarray,
    train_y: npt.ArrayLike,
    config: RunConfig,
    secs: float = 10.0,
) -> float:
    """Measure how many images per second a run's queue gives if there are no training steps.

    Parameters
    ----------
    preprocess_fn, train_x, train_y
        As in `deep_reid.training.train_loop`.
    config : RunConfig
    secs : float
        Shortest time to measure. Before it, the queue is emptied once, because the images in it
        were read earlier.

    Returns
    -------
    float
        Images per second.

    Raises
    ------
    UsageError, DataError
        As in `deep_reid.training.train`.
    """
    POSITIVE.check("secs", secs)
    num_before = config.queue_capacity // config.batch_size + config.num_enqueue_threads + 1
    with _feeding(preprocess_fn, train_x, train_y, config) as (take, batch):
        ops = [tensor.op for tensor in batch]
        return config.batch_size / _mean_secs(lambda: take(ops), num_before, secs)


def measure_model(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    train_x: Sequence[Path] | np.ndarray,
    train_y: npt.ArrayLike,
    config: RunConfig,
    secs: float = 10.0,
) -> float:
    """Measure how many images per second a run's training step processes, on a constant batch.

    Parameters
    ----------
    preprocess_fn, network_factory, train_x, train_y
        As in `deep_reid.training.train_loop`.
    config : RunConfig
    secs : float
        Shortest time to measure. Some steps before it do not count.

    Returns
    -------
    float
        Images per second.

    Raises
    ------
    UsageError, DataError
        As in `deep_reid.training.train`.
    """
    POSITIVE.check("secs", secs)
    with _feeding(preprocess_fn, train_x, train_y, config) as (take, batch):
        first_batch = take(batch)
    with tf.Graph().as_default():
        graph.prepare_graph(config)
        # TensorFlow places variables on the GPU if there is one; it would fold constants.
        images, labels = (
            tf.Variable(array, trainable=False, collections=[tf.GraphKeys.LOCAL_VARIABLES])
            for array in first_batch
        )
        step = graph.create_step(network_factory, images, labels, config.learning_rate, config)
        loop.check_labels(
            np.asarray(train_y, dtype=np.int64), step.num_classes, config.classes_per_identity
        )
        fetches = [step.train_op, Health(tf.get_default_graph()).tensors]
        with tf.Session(config=create_session_config(config)) as session:
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            secs = _mean_secs(lambda: session.run(fetches), _NUM_WARM_UP_STEPS, secs)
            return config.batch_size / secs


@contextlib.contextmanager
def _feeding(preprocess_fn, train_x, train_y, config):
    """Feed a run's batches; yield a function that takes one, and its tensors."""
    images, _ = as_image_source(train_x)
    labels = np.asarray(train_y, dtype=np.int64)
    with tf.Graph().as_default():
        trainer = loop.create_run_trainer(preprocess_fn, images, config)
        batch = trainer.get_input_vars(config.batch_size)
        with tf.Session(config=create_session_config(config)) as session:
            feed = trainer.start_feed(session, loop.create_batches(images, labels, config))

            def take(fetches):
                feed.wait_for_batch()
                return session.run(fetches)

            try:
                yield take, batch
            except tf.errors.OutOfRangeError:
                feed.raise_error()
                raise
            finally:
                feed.stop()


def _mean_secs(function, num_before, secs):
    """Call a function for some seconds; return the mean seconds of a call."""
    for _ in range(num_before):
        function()
    start = now = time.perf_counter()
    num_calls = 0
    while now - start < secs:
        function()
        num_calls += 1
        now = time.perf_counter()
    return (now - start) / num_calls
