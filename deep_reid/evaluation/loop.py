"""Evaluation beside training: CMC scores of each new checkpoint, on seeded gallery draws."""

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deep_reid.config import ComputeSettings
from deep_reid.config.run import check_positive_integer
from deep_reid.evaluation.setup import (
    EvaluationSettings,
    PrepareCheckpoint,
    ValidationImages,
    open_evaluation,
)
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.runs import stopping, watching
from deep_reid.scoring.names import BY_LABEL, Names
from deep_reid.scoring.protocols import RANKS
from deep_reid.system.files import Path


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
    last_step: int | None = None,
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
    last_step : int, optional
        With `until_trained`: a training that ends before this step is waited for, as a cluster
        starts its chief again. Default: it is not.
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
    validation = ValidationImages(data_x, data_y, camera_indices, image_shape)
    settings = EvaluationSettings(
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
    )
    run_dir = os.path.join(log_dir, run_id or "")
    subject = (preprocess_fn, network_factory, validation, log_dir, eval_log_dir, run_id)
    looks = (eval_interval_secs, max_num_evaluations, timeout_secs)
    with open_evaluation(*subject, settings) as (evaluation, log):
        step = None
        if eval_once:
            step = evaluation.evaluate_newest(run_dir, timeout_secs)
        else:
            has_ended = functools.partial(_has_ended, run_dir, until_trained, last_step)
            evaluation.watch(run_dir, *looks, has_ended=has_ended)
        return log.last_scores([f"Precision@{k}" for k in RANKS], step)


def _has_ended(run_dir, until_trained, last_step):
    """Return whether no more checkpoints are to come."""
    if stopping.is_requested(run_dir):
        return watching.has_training_ended(run_dir)
    return until_trained and watching.has_training_ended(run_dir, last_step)
