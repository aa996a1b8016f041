"""Evaluation beside training: CMC scores of each new checkpoint, on seeded gallery draws."""

import datetime
import functools
import json
import logging
import os

import numpy as np

from deep_reid import input_pipeline, metrics
from deep_reid.compat import tf
from deep_reid.distances import measure_of_loss_mode
from deep_reid.errors import DataError
from deep_reid.galleries import create_cmc_probe_and_gallery
from deep_reid.queued_trainer import create_image_trainer

RANKS = (1, 5, 10, 20)
METRICS_FILENAME = "metrics.jsonl"

_logger = logging.getLogger(__name__)
_MAX_IMAGES_AT_ONCE = 256


def eval_loop(
    preprocess_fn,
    network_factory,
    data_x,
    data_y,
    camera_indices,
    log_dir,
    eval_log_dir,
    image_shape=None,
    run_id=None,
    loss_mode="cosine-softmax",
    num_galleries=10,
    random_seed=4321,
    *,
    eval_interval_secs=60,
    max_num_evaluations=None,
    timeout_secs=None,
):
    """Evaluate each checkpoint of a run as it comes: CMC rank-1, 5, 10 and 20.

    For each gallery, two images of every identity are drawn, where possible from different cameras:
    one is the probe, the other goes into the gallery. The scores are averages over all probes of
    all galleries, called ``Precision@k`` as in the original. They are logged, written as events
    at the checkpoint's step, and appended to ``metrics.jsonl`` in the evaluation directory.

    Parameters
    ----------
    preprocess_fn : callable
        See `deep_reid.input_pipeline.create_image_input`.
    network_factory : callable
        ``network_factory(images) -> (features, logits)``, in inference mode; logits are not used.
    data_x : sequence of str or Path, or uint8 array (N, H, W, C)
        Image files, or images.
    data_y : array_like of int, shape (N,)
        Identities; any numbers.
    camera_indices : array_like of int, shape (N,), or None
        None: probe and gallery image are drawn without regard to cameras.
    log_dir, eval_log_dir : str or Path
        Where training writes its runs, and where evaluation writes; the run's folder in each.
    image_shape : tuple of int, optional
        (height, width, channels). Needed with files; default with arrays: their own shape.
    run_id : str, optional
        Name of the run. Default: both directories are taken as they are.
    loss_mode : {"cosine-softmax", "magnet", "triplet"}
        Features are ranked by cosine distance for the first, else by squared Euclidean distance.
    num_galleries : int
    random_seed : int
        Gallery number i is drawn with the seed ``random_seed + i``.
    eval_interval_secs : float
        Seconds between two looks for new checkpoints; each look takes in all of them.
    max_num_evaluations : int, optional
        Default: no end.
    timeout_secs : float, optional
        Ends after so many seconds without a new checkpoint. Default: never.

    Returns
    -------
    dict of str to float, or None
        The last scores, ``"Precision@1"`` and so on; None if nothing was evaluated.

    Raises
    ------
    TypeError
        If `data_x` is neither file names nor uint8 images.
    DataError
        If no identity has two images, or an image cannot be read.
    """
    images, read_from_file = input_pipeline.as_image_source(data_x)
    image_shape = input_pipeline.check_image_shape(images, read_from_file, image_shape)
    galleries = _draw_galleries(data_y, camera_indices, num_galleries, random_seed)
    labels = np.asarray(data_y, dtype=np.int64)
    batches = _GalleryBatches(images, labels, galleries)
    run_eval_dir = os.path.join(eval_log_dir, run_id or "")
    with tf.Graph().as_default():
        trainer = create_image_trainer(preprocess_fn, image_shape, read_from_file)
        values, updates, summary_op = _create_metrics(
            trainer, network_factory, batches.batch_size, measure_of_loss_mode(loss_mode)
        )
        return trainer.evaluate(
            batches,
            log_dir,
            eval_log_dir,
            run_id=run_id,
            eval_op=updates,
            final_op=values,
            summary_op=summary_op,
            eval_interval_secs=eval_interval_secs,
            max_num_evaluations=max_num_evaluations,
            timeout_secs=timeout_secs,
            on_evaluation=functools.partial(_report, run_eval_dir),
        )


class _GalleryBatches:
    """A batch per gallery: all probes, then all gallery images, in the same order of identities."""

    def __init__(self, images, labels, galleries):
        self._images = images
        self._labels = labels
        self._indices = [np.concatenate(gallery) for gallery in galleries]
        self.batch_size = len(self._indices[0])

    def __iter__(self):
        for indices in self._indices:
            yield self._images[indices], self._labels[indices]


def _draw_galleries(labels, camera_indices, num_galleries, random_seed):
    galleries = [
        create_cmc_probe_and_gallery(labels, camera_indices, seed=random_seed + index)
        for index in range(num_galleries)
    ]
    if not len(galleries[0][0]):
        raise DataError(
            f"none of the {len(np.unique(labels))} validation identities has two images to "
            "compare: use a data set with more identities, or with more images of each"
        )
    return galleries


def _create_metrics(trainer, network_factory, batch_size, measure):
    images, labels = trainer.get_input_vars(batch_size)
    features = _encode_in_parts(network_factory, images, batch_size)
    probe_x, gallery_x = tf.split(features, 2)
    probe_y, gallery_y = tf.split(labels, 2)
    values, updates, summaries = {}, [], []
    for k in RANKS:
        name = f"Precision@{k}"
        values[name], update = metrics.streaming_mean_cmc_at_k(
            probe_x, probe_y, gallery_x, gallery_y, k, measure
        )
        updates.append(update)
        summaries.append(tf.summary.scalar(name, values[name]))
    return values, updates, tf.summary.merge(summaries)


def _encode_in_parts(network_factory, images, num_images):
    """Run the network on a limited number of images at once, however many identities there are."""
    num_parts = -(-num_images // _MAX_IMAGES_AT_ONCE)
    if num_parts == 1:
        return network_factory(images)[0]
    part_size = -(-num_images // num_parts)
    num_missing = num_parts * part_size - num_images
    shape = images.get_shape().as_list()[1:]
    padded = tf.concat([images, tf.zeros([num_missing, *shape])], axis=0)
    parts = tf.reshape(padded, [num_parts, part_size, *shape])
    features = tf.map_fn(lambda part: network_factory(part)[0], parts, parallel_iterations=1)
    return tf.reshape(features, [num_parts * part_size, -1])[:num_images]


def _report(eval_dir, checkpoint_path, step, values):
    scores = {name: float(value) for name, value in values.items()}
    _logger.info(
        "step %d: %s", step, ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
    )
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    line = {"step": step, **scores, "checkpoint": os.fspath(checkpoint_path), "time": now}
    with open(os.path.join(eval_dir, METRICS_FILENAME), "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
