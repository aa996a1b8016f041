"""Evaluation beside training: CMC scores of each new checkpoint, on seeded gallery draws."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from deep_reid import metrics
from deep_reid.config import ComputeSettings
from deep_reid.config.run import check_positive_integer
from deep_reid.distances import measure_of_loss_mode
from deep_reid.engine.checkpoint_evaluation import CheckpointEvaluation
from deep_reid.engine.image_trainer import create_image_trainer
from deep_reid.errors import DataError
from deep_reid.evaluation import reporting
from deep_reid.evaluation.best import keeping_best
from deep_reid.evaluation.reporting import ProjectorFiles
from deep_reid.evaluation.score_log import ScoreLog
from deep_reid.export.encoding import encode
from deep_reid.images.source import as_image_source, check_image_shape
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.nets.building import allow_reuse, build_network
from deep_reid.runs import saving, stopping, watching
from deep_reid.runtime import precision
from deep_reid.runtime.compat import tf
from deep_reid.samplers.galleries import count_comparable, create_cmc_probe_and_gallery
from deep_reid.scoring.names import BY_LABEL, Names
from deep_reid.scoring.protocols import RANKS
from deep_reid.system import locks
from deep_reid.system.files import Path

PrepareCheckpoint: TypeAlias = Callable[[str], contextlib.AbstractContextManager[str]]

MAX_IMAGES_AT_ONCE = 256
"""Images that a network computes at a time in evaluation: more need no more memory."""


def eval_loop(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    data_x: Sequence[Path] | np.ndarray,
    data_y: ArrayLike,
    camera_indices: ArrayLike | None,
    log_dir: Path,
    eval_log_dir: Path,
    image_shape: Sequence[int] | None = None,
    run_id: str | None = None,
    loss_mode: str = "cosine-softmax",
    num_galleries: int = 10,
    random_seed: int | None = 4321,
    *,
    eval_interval_secs: float = 60,
    max_num_evaluations: int | None = None,
    timeout_secs: float | None = None,
    eval_once: bool = False,
    until_trained: bool = False,
    projector: bool = False,
    keep_best: bool = False,
    patience: int | None = None,
    compute: ComputeSettings = ComputeSettings(),
    feed_timeout_secs: float | None = 600,
    names: Names = BY_LABEL,
    prepare: PrepareCheckpoint = contextlib.nullcontext,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, float] | None:
    """Evaluate each new checkpoint of a run: CMC rank-1, 5, 10 and 20.

    For each gallery, two images of every identity are drawn, if possible from different cameras:
    one is the probe, the other belongs to the gallery. The scores are averages over all probes of
    all galleries, called ``Precision@k`` as in the original. They are logged, written as events
    at the checkpoint's step, and appended to ``metrics.jsonl`` in the evaluation directory. The
    events also show the rankings of a few probes, the same at each step, as pictures.

    Checkpoints whose scores are in ``metrics.jsonl`` are not evaluated again: an evaluation may be
    stopped and started at any time. To evaluate them again, delete the file.

    Parameters
    ----------
    preprocess_fn : callable
        See `deep_reid.images.pipeline.create_image_input`.
    network_factory : callable
        ``network_factory(images) -> (features, logits)``, in inference mode; logits are not used.
    data_x : sequence of str or Path, or uint8 array (N, H, W, C) or, gray, (N, H, W)
        Image files, or images.
    data_y : array_like of int, shape (N,)
        Identities; any numbers.
    camera_indices : array_like of int, shape (N,), or None
        None: probe and gallery image are drawn without regard to cameras.
    log_dir, eval_log_dir : str or Path
        The directories where training writes its runs, and where evaluation writes. Each has a
        folder for the run.
    image_shape : tuple of int, optional
        (height, width, channels), or (height, width) for gray images. Needed with files; default
        with arrays: their own shape.
    run_id : str, optional
        Name of the run. Default: both directories are those of the run itself.
    loss_mode : {"cosine-softmax", "magnet", "triplet"} or "MODULE:NAME"
        Features are ranked by cosine distance for the first, by squared Euclidean distance for the
        second and third, and by its `measure` for a loss of yours.
    num_galleries : int
    random_seed : int or None
        Gallery number i is drawn with the seed ``random_seed + i``. None: galleries differ from one
        call to the next.
    eval_interval_secs : float
        Seconds between two looks for new checkpoints; each look finds all of them.
    max_num_evaluations : int, optional
        Ends after this number of evaluations. Of the checkpoints that are there at first, the
        newest are taken. Default: no limit.
    timeout_secs : float, optional
        Ends after this many seconds without a new checkpoint. Default: never.
    eval_once : bool
        Whether to evaluate the newest checkpoint and end; if there is none, wait for the first.
    until_trained : bool
        Whether to end when no process trains the run any more, and its checkpoints are evaluated.
    projector : bool
        Whether to write the validation features of the latest step for TensorBoard's embedding
        projector, with thumbnails, identities and cameras.
    keep_best : bool
        Whether to keep a copy of the checkpoint with the best Precision@1 so far, in the folder
        ``best`` of the run's directory. If scores are equal, the first one is kept.
    patience : int, optional
        After this number of evaluations without a better Precision@1, the training is asked to end,
        by a file ``STOP`` in the run's directory. Evaluation then ends with it. Default: never.
    compute : ComputeSettings
        Precision and threads.
    feed_timeout_secs : float, optional
        As in `deep_reid.queued_trainer.QueuedTrainer`.
    names : deep_reid.scoring.names.Names
        What the projector calls identities and image files.
    prepare : callable
        ``prepare(checkpoint_path)`` is a context manager that gives the checkpoint to evaluate in
        its place, as `deep_reid.export.PreciseBatchNorm.applied` does.
    facts : dict
        What ``metrics.jsonl`` tells about `prepare`: ``{"precise_batch_norm": num_batches}``. Only
        scores with the same facts count as those of an earlier evaluation.

    Returns
    -------
    dict of str to float, or None
        The scores that were recorded last, ``"Precision@1"`` and so on, by this call or an earlier
        one. None if no checkpoint was ever evaluated.

    Raises
    ------
    TypeError
        If `data_x` is neither file names nor uint8 images.
    UsageError
        If a setting breaks its rule.
    DataError
        If there is not one label for each image, no identity has two images, or an image cannot be
        read.
    RunError
        If another process writes to the same evaluation directory, or keeps the run's best
        checkpoint, the scores cannot be written (no space, for example), or reading the images
        takes too long.
    """
    if max_num_evaluations is not None:
        check_positive_integer("max_num_evaluations", max_num_evaluations)
    if patience is not None:
        check_positive_integer("patience", patience)
    run_dir = os.path.join(log_dir, run_id or "")
    with open_evaluation(
        preprocess_fn,
        network_factory,
        data_x,
        data_y,
        camera_indices,
        log_dir,
        eval_log_dir,
        image_shape=image_shape,
        run_id=run_id,
        loss_mode=loss_mode,
        num_galleries=num_galleries,
        random_seed=random_seed,
        projector=projector,
        keep_best=keep_best,
        patience=patience,
        compute=compute,
        feed_timeout_secs=feed_timeout_secs,
        names=names,
        prepare=prepare,
        facts=facts,
    ) as (evaluation, log):
        step = None
        if eval_once:
            step = evaluation.evaluate_newest(run_dir, timeout_secs)
        else:
            evaluation.watch(
                run_dir,
                eval_interval_secs,
                max_num_evaluations,
                timeout_secs,
                has_ended=lambda: (
                    (until_trained or stopping.is_requested(run_dir))
                    and watching.has_training_ended(run_dir)
                ),
            )
        return log.last_scores([f"Precision@{k}" for k in RANKS], step)


@contextlib.contextmanager
def open_evaluation(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    data_x: Sequence[Path] | np.ndarray,
    data_y: ArrayLike,
    camera_indices: ArrayLike | None,
    log_dir: Path,
    eval_log_dir: Path,
    *,
    image_shape: Sequence[int] | None = None,
    run_id: str | None = None,
    loss_mode: str = "cosine-softmax",
    num_galleries: int = 10,
    random_seed: int | None = 4321,
    projector: bool = False,
    keep_best: bool = False,
    patience: int | None = None,
    compute: ComputeSettings = ComputeSettings(),
    feed_timeout_secs: float | None = 600,
    names: Names = BY_LABEL,
    prepare: PrepareCheckpoint = contextlib.nullcontext,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[tuple[CheckpointEvaluation, ScoreLog]]:
    """Lock an evaluation directory, and prepare to evaluate checkpoints of a run, one by one.

    Parameters
    ----------
    preprocess_fn, network_factory, data_x, data_y, camera_indices, log_dir, eval_log_dir
        As in `eval_loop`.
    image_shape, run_id, loss_mode, num_galleries, random_seed, projector, keep_best, patience
        As in `eval_loop`.
    compute, feed_timeout_secs, names, prepare, facts
        As in `eval_loop`.

    Yields
    ------
    evaluation : deep_reid.engine.checkpoint_evaluation.CheckpointEvaluation
        Its methods may be called while another graph is the default one.
    log : deep_reid.evaluation.score_log.ScoreLog

    Raises
    ------
    TypeError, UsageError, DataError, RunError
        As in `eval_loop`.
    """
    images, read_from_file = as_image_source(data_x)
    image_shape = check_image_shape(images, read_from_file, image_shape)
    labels = _as_labels(data_y, images)
    galleries = _draw_galleries(labels, camera_indices, num_galleries, random_seed)
    # A batch per gallery: all probes, then all gallery images, in the same order of identities.
    rows = np.concatenate(galleries, axis=None)

    def encode_images(checkpoint_path, images):
        with prepare(checkpoint_path) as prepared:
            return encode(
                preprocess_fn,
                network_factory,
                prepared,
                images,
                image_shape=image_shape,
                compute=compute,
            )

    shown_images = reporting.to_rgb(images, preprocess_fn)
    run_dir, eval_dir = (os.path.join(path, run_id or "") for path in (log_dir, eval_log_dir))
    with (
        locks.holding(eval_dir, f"run {run_id}" if run_id else eval_dir, locks.EVALUATION),
        keeping_best(run_dir, reporting.BEST_BY) if keep_best else contextlib.nullcontext() as best,
        contextlib.ExitStack() as stack,
    ):
        for directory in (eval_dir, run_dir):
            saving.remove_leftovers_of_evaluation(directory)
        shown = (run_dir, eval_dir, images, shown_images, labels, camera_indices)
        report = reporting.Report(
            eval_dir,
            shown_images,
            labels,
            galleries[-1],
            best=best,
            projector=ProjectorFiles(*shown, encode_images, names) if projector else None,
            patience=patience,
            run_dir=run_dir,
            facts=facts,
        )
        with tf.Graph().as_default():
            trainer = _create_trainer(
                preprocess_fn, images, image_shape, compute, feed_timeout_secs
            )
            evaluation = trainer.open_evaluation(
                [_Gathered(images, rows), labels[rows]],
                eval_dir,
                **_create_metrics(trainer, network_factory, len(rows) // num_galleries, loss_mode),
                on_evaluation=report,
                is_evaluated=report.log.has,
                prepare=prepare,
            )
        yield stack.enter_context(evaluation), report.log


def _create_trainer(preprocess_fn, images, image_shape, compute, feed_timeout_secs):
    precision.set_precision(compute)
    read_from_file = images.dtype.kind == "O"
    return create_image_trainer(
        preprocess_fn,
        image_shape,
        read_from_file,
        array_shape=None if read_from_file else images.shape[1:],
        feed_timeout_secs=feed_timeout_secs,
        compute=compute,
    )


class _Gathered:
    """Rows of an array in another order, copied only when they are taken."""

    def __init__(self, array, rows):
        self._array = array
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, part):
        return self._array[self._rows[part]]


def _as_labels(data_y, images):
    labels = np.asarray(data_y, dtype=np.int64)
    if labels.shape != (len(images),):
        raise DataError(
            f"there are {len(images)} images, but labels of shape {labels.shape}: give one label "
            "for each image, as a vector"
        )
    return labels


def _draw_galleries(labels, camera_indices, num_galleries, random_seed):
    check_positive_integer("num_galleries", num_galleries)
    count_comparable(labels)
    return [
        create_cmc_probe_and_gallery(
            labels, camera_indices, seed=None if random_seed is None else random_seed + index
        )
        for index in range(num_galleries)
    ]


def _create_metrics(trainer, network_factory, batch_size, loss_mode):
    """Build the graph of an evaluation; return the ops for `QueuedTrainer.evaluate`."""
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
