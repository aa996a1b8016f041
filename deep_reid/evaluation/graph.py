"""The graph of an evaluation: the network, and the streaming scores of its features."""

from typing import Any

from deep_reid import metrics
from deep_reid.distances import measure_of_loss_mode
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.interfaces import NetworkFactory
from deep_reid.nets.building import allow_reuse, build_network
from deep_reid.runtime import precision
from deep_reid.runtime.compat import tf
from deep_reid.scoring.protocols import RANKS

MAX_IMAGES_AT_ONCE = 256
"""Images that a network computes at a time in evaluation: more need no more memory."""


def create_metrics(
    trainer: QueuedTrainer, network_factory: NetworkFactory, batch_size: int, loss_mode: str
) -> dict[str, Any]:
    """Build the graph of an evaluation.

    Parameters
    ----------
    trainer : QueuedTrainer
        Feeds batches of probes, followed by as many gallery images, in the same order of labels.
    network_factory : callable
        As in `deep_reid.evaluation.loop.eval_loop`.
    batch_size : int
        Number of probes and gallery images together.
    loss_mode : str
        Names the distance to rank by.

    Returns
    -------
    dict of str -> object
        ``eval_op``, ``final_op`` and ``summary_op`` of `QueuedTrainer.evaluate`. The final value
        has ``"scores"`` by name, and the ``"distances"`` of the last batch.
    """
    measure = measure_of_loss_mode(loss_mode)
    network_factory = allow_reuse(network_factory)
    images, labels = trainer.get_input_vars(batch_size)
    # Distances of lower precision would change the ranking.
    features = precision.keep_exact(_encode_in_parts(network_factory, images, batch_size))
    probe_x, gallery_x = tf.split(features, 2)
    probe_y, gallery_y = tf.split(labels, 2)
    scores, updates, summaries = {}, [], []
    for k in RANKS:
        name = f"Precision@{k}"
        scores[name], update = metrics.streaming_mean_cmc_at_k(
            probe_x, probe_y, gallery_x, gallery_y, k, measure
        )
        updates.append(update)
        summaries.append(tf.summary.scalar(name, scores[name]))
    # The distances of the last gallery are kept for pictures.
    distances = tf.Variable(
        tf.zeros([batch_size // 2] * 2),
        trainable=False,
        collections=[tf.GraphKeys.LOCAL_VARIABLES],
        name="last_distances",
    )
    updates.append(distances.assign(precision.release(measure(probe_x, gallery_x))))
    return {
        "eval_op": updates,
        "final_op": {"scores": scores, "distances": distances},
        "summary_op": tf.summary.merge(summaries),
    }


def _encode_in_parts(network_factory, images, num_images):
    """Run the network on a limited number of images at a time, for any number of identities."""
    num_parts = -(-num_images // MAX_IMAGES_AT_ONCE)
    if num_parts == 1:
        return build_network(network_factory, images)[0]
    part_size = -(-num_images // num_parts)
    num_missing = num_parts * part_size - num_images
    shape = images.get_shape().as_list()[1:]
    padded = tf.concat([images, tf.zeros([num_missing, *shape])], axis=0)
    parts = tf.reshape(padded, [num_parts, part_size, *shape])
    features = tf.map_fn(
        lambda part: build_network(network_factory, part)[0], parts, parallel_iterations=1
    )
    return tf.reshape(features, [num_parts * part_size, -1])[:num_images]
