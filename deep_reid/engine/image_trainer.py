"""A `QueuedTrainer` that is fed with images or image files, and their labels."""

from collections.abc import Sequence

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.config.kinds import add_channels
from deep_reid.config.run import MAX_BAD_PERCENT
from deep_reid.config.step import DEFAULT_AUGMENTATIONS
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.images import pipeline
from deep_reid.images.faults import create_policy
from deep_reid.interfaces import Preprocess
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import find_gpu


def create_image_trainer(
    preprocess_fn: Preprocess,
    image_shape: Sequence[int],
    read_from_file: bool,
    is_training: bool = False,
    *,
    array_shape: Sequence[int] | None = None,
    num_enqueue_threads: int = 4,
    queue_capacity: int = 512,
    feed_timeout_secs: float | None = 600,
    on_bad_image: str = "stop",
    num_files: int | None = None,
    max_bad_percent: float = MAX_BAD_PERCENT,
    augment: Sequence[str] = DEFAULT_AUGMENTATIONS,
    compute: ComputeSettings = ComputeSettings(),
) -> QueuedTrainer:
    """Create a trainer that is fed with (images or file names, labels).

    Parameters
    ----------
    preprocess_fn, image_shape, read_from_file, is_training, array_shape, augment
        As in `deep_reid.images.pipeline.create_image_input`.
    num_enqueue_threads, queue_capacity, feed_timeout_secs, compute
        As in `QueuedTrainer`.
    on_bad_image : {"stop", "skip"}
        If an image cannot be read, "stop" raises an error with its name; "skip" replaces it by
        another image of its batch (see `deep_reid.images.faults`). In training, the number of such
        images is a summary.
    num_files : int, optional
        Number of distinct files. Needed for "skip".
    max_bad_percent : float
        How many of them "skip" replaces, in percent: more are an error.

    Returns
    -------
    QueuedTrainer
        Its queue holds the network's input, float32 of shape (N, H, W, C), and labels, int64 of
        shape (N,).

    Raises
    ------
    UsageError
        If a setting breaks its rule.
    """
    policy = create_policy(
        on_bad_image, read_from_file, add_channels(image_shape), num_files, max_bad_percent
    )
    # Decoding and the queue stay on the CPU: a GPU should compute nothing but the network. Only the
    # next batch waits there.
    with tf.device("/cpu:0"):
        image_var, images = pipeline.create_image_input(
            preprocess_fn,
            image_shape,
            read_from_file,
            is_training,
            array_shape=array_shape,
            augment=augment,
        )
        label_var = tf.placeholder(tf.int64, (None,), name="labels")
        if is_training:  # with both policies, as each op changes the numbers that a seed draws
            num_bad = tf.numpy_function(lambda: np.int64(policy.num_bad), [], tf.int64)
            tf.summary.scalar("feed/num_bad_images", tf.reshape(num_bad, ()))
        return QueuedTrainer(
            [images, label_var],
            [image_var, label_var],
            num_enqueue_threads,
            queue_capacity,
            bad_images=policy,
            feed_timeout_secs=feed_timeout_secs,
            compute=compute,
            staging_device=find_gpu(),
        )
