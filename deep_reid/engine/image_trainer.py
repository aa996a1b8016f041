"""A `QueuedTrainer` that is fed with images or image files, and their labels."""

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.config.kinds import add_channels
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.images import pipeline
from deep_reid.images.faults import create_policy
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import find_gpu


def create_image_trainer(
    preprocess_fn,
    image_shape,
    read_from_file,
    is_training=False,
    *,
    array_shape=None,
    num_enqueue_threads=4,
    queue_capacity=512,
    feed_timeout_secs=600,
    on_bad_image="stop",
    num_files=None,
    compute=ComputeSettings(),
):
    """Create a trainer that is fed with (images or file names, labels).

    Parameters
    ----------
    preprocess_fn, image_shape, read_from_file, is_training, array_shape
        As in `deep_reid.images.pipeline.create_image_input`.
    num_enqueue_threads, queue_capacity, feed_timeout_secs, compute
        As in `QueuedTrainer`.
    on_bad_image : {"stop", "skip"}
        An image that cannot be read is an error with its name, or is replaced by another image of
        its batch, as `deep_reid.images.faults` says. In training, their number is a summary.
    num_files : int, optional
        Number of distinct files; "skip" needs it.

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
    policy = create_policy(on_bad_image, read_from_file, add_channels(image_shape), num_files)
    # Decoding and the queue stay on the CPU: a GPU, where the next batch waits already, has nothing
    # to do but the network.
    with tf.device("/cpu:0"):
        image_var, images = pipeline.create_image_input(
            preprocess_fn, image_shape, read_from_file, is_training, array_shape=array_shape
        )
        label_var = tf.placeholder(tf.int64, (None,), name="labels")
        if is_training:  # with either policy, as each op changes what a seed draws
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
