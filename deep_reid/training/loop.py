"""Training: the loop around the training step, with the settings of a run."""

import dataclasses
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deep_reid import samplers
from deep_reid.config import ComputeSettings, RunConfig
from deep_reid.config.setting import takes_settings
from deep_reid.engine.callbacks import Callbacks
from deep_reid.engine.image_trainer import create_image_trainer
from deep_reid.engine.queued_trainer import QueuedTrainer
from deep_reid.errors import DataError
from deep_reid.images.source import as_image_source, check_image_shape
from deep_reid.interfaces import NetworkFactory, Preprocess
from deep_reid.runs import records, stopping
from deep_reid.runs.run import Run
from deep_reid.runtime.cluster import ALONE, Cluster
from deep_reid.runtime.compat import slim, tf
from deep_reid.samplers.seeds import seed_of_member
from deep_reid.system.files import Path
from deep_reid.training.graph import create_step, create_trainer, prepare_graph, scope_pattern
from deep_reid.training.optimizers import create_learning_rate

__all__ = [
    "check_labels",
    "create_batches",
    "create_run_trainer",
    "create_trainer",
    "train",
    "train_loop",
]

_logger = logging.getLogger(__name__)


@takes_settings(RunConfig, base=ComputeSettings)
def train_loop(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    train_x: Sequence[Path] | np.ndarray,
    train_y: npt.ArrayLike,
    num_images_per_id: int,
    batch_size: int,
    log_dir: Path,
    image_shape: Sequence[int] | None = None,
    restore_path: Path | None = None,
    exclude_from_restore: Sequence[str] | None = None,
    run_id: str | None = None,
    number_of_steps: int | None = None,
    loss_mode: str = "cosine-softmax",
    learning_rate: float = 1e-3,
    trainable_scopes: Sequence[str] | None = None,
    save_summaries_secs: float = 60,
    save_interval_secs: float = 300,
    *,
    compute: ComputeSettings = ComputeSettings(),
    **settings: Any,
) -> float | None:
    """Train a network on batches of P identities with K images each.

    Parameters
    ----------
    preprocess_fn, network_factory
        As in `create_trainer`.
    train_x : sequence of str or Path, or uint8 array (N, H, W, C) or, gray, (N, H, W)
        Image files, or images.
    train_y : array_like of int, shape (N,)
        Labels in [0, num_classes).
    num_images_per_id : int
        K; ``batch_size / K`` identities make a batch.
    batch_size : int
    log_dir : str or Path
        The run's directory is ``log_dir/run_id``.
    image_shape : tuple of int, optional
        (height, width, channels), or (height, width) for gray images. Files need it; the default
        for arrays is their own shape.
    restore_path, exclude_from_restore, number_of_steps, loss_mode, learning_rate
        As in `deep_reid.config.RunConfig`.
    trainable_scopes, save_summaries_secs, save_interval_secs
        As in `deep_reid.config.RunConfig`.
    run_id : str, optional
        The name of an earlier run resumes it. Default: a new one.
    compute : ComputeSettings
        Precision and threads.
    **settings
        Other settings of `deep_reid.config.RunConfig`.

    Returns
    -------
    float or None
        The last loss. None if the run had made all its steps before.

    Raises
    ------
    TypeError
        If `train_x` is neither file names nor uint8 images, or `compute` is no `ComputeSettings`.
    UsageError
        If a setting breaks its rule.
    ValueError
        If there is not one label for each image.
    DataError
        If there are fewer identities than in a batch, a label is out of range, or an image cannot
        be read.
    RunError
        If another process trains the run, a number is not finite, reading the images takes too
        long, or a checkpoint cannot be written.
    """
    images, read_from_file = as_image_source(train_x)
    config = RunConfig(
        image_shape=check_image_shape(images, read_from_file, image_shape),
        num_images_per_id=num_images_per_id,
        batch_size=batch_size,
        loss_mode=loss_mode,
        learning_rate=learning_rate,
        number_of_steps=number_of_steps,
        restore_path=restore_path,
        exclude_from_restore=exclude_from_restore,
        trainable_scopes=trainable_scopes,
        save_summaries_secs=save_summaries_secs,
        save_interval_secs=save_interval_secs,
        **dataclasses.asdict(ComputeSettings.of(compute)),
        **settings,
    )
    with Run.open(log_dir, run_id) as run:
        return train(preprocess_fn, network_factory, images, train_y, config, run)


def train(
    preprocess_fn: Preprocess,
    network_factory: NetworkFactory,
    train_x: Sequence[Path] | np.ndarray,
    train_y: npt.ArrayLike,
    config: RunConfig,
    run: Run,
    class_names: Sequence[str] | None = None,
    *,
    cluster: Cluster = ALONE,
    callbacks: Callbacks = Callbacks(),
) -> float | None:
    """Train a network in an open run; like `train_loop`, with one object for all settings.

    Parameters
    ----------
    preprocess_fn, network_factory, train_x, train_y
        As in `train_loop`.
    config : RunConfig
    run : deep_reid.runs.run.Run
        Begins here, after the checks of data and settings.
    class_names : sequence of str, optional
        The identity of each label; saved in the run's folder.
    cluster : deep_reid.runtime.cluster.Cluster
        The processes that train together.
    callbacks : deep_reid.engine.callbacks.Callbacks

    Returns
    -------
    float or None
        The last loss.

    Raises
    ------
    TypeError, UsageError, ValueError, DataError, RunError
        As in `train_loop`.
    """
    images, read_from_file = as_image_source(train_x)
    labels = np.asarray(train_y, dtype=np.int64)
    if config.restore_path is not None and run.checkpoint is None:
        restore_path = records.resolve_checkpoint(config.restore_path)
        config = dataclasses.replace(config, restore_path=os.path.abspath(restore_path))
    _logger.info("Building the network and its training step")
    with tf.Graph().as_default(), cluster.placing():
        own = dataclasses.replace(config, seed=seed_of_member(config.seed, cluster.number))
        batches = create_batches(images, labels, own, run.first_step)
        trainer = create_run_trainer(preprocess_fn, images, own)
        step = create_step(
            network_factory,
            *trainer.get_input_vars(config.batch_size),
            create_learning_rate(config),
            config,
            cluster,
        )
        check_labels(labels, step.num_classes, config.classes_per_identity)
        to_restore = _select_restored(config.exclude_from_restore)
        config = dataclasses.replace(
            config,
            num_classes=step.num_classes,
            image_source="files" if read_from_file else "arrays",
        )
        run.begin(config, class_names)
        if cluster.is_chief:
            callbacks = _stopping_on_request(callbacks, run.run_dir)
        loss = trainer.run(
            batches,
            step.train_op,
            run=run,
            cluster=cluster,
            restore_path=config.restore_path,
            variables_to_restore=to_restore,
            max_checkpoints_to_keep=config.max_checkpoints_to_keep,
            # Workers end with the chief, which may go back to a checkpoint.
            number_of_steps=config.number_of_steps if cluster.is_chief else None,
            log_every_n_steps=config.log_every_n_steps,
            save_summaries_secs=config.save_summaries_secs,
            save_interval_secs=config.save_interval_secs,
            callbacks=callbacks,
            images_per_epoch=len(images),
        )
    if cluster.is_chief:
        _log_request(run.run_dir)
    _evaluate_last(callbacks, run.run_dir)
    return loss


def _select_restored(excluded_scopes):
    """Return the model's variables that a checkpoint of another run gives values to."""
    _warn_of_unknown_scopes(excluded_scopes)
    return slim.filter_variables(
        slim.get_model_variables(),
        exclude_patterns=[scope_pattern(scope) for scope in excluded_scopes],
    )


def _evaluate_last(callbacks, run_dir):
    if callbacks.eval_every is not None and callbacks.should_stop() is None:
        for newest in records.list_checkpoints(run_dir)[-1:]:
            callbacks.evaluate(newest)


def _stopping_on_request(callbacks, run_dir):
    def should_stop():
        reason = callbacks.should_stop()
        return reason if reason is not None else stopping.is_requested(run_dir) or None

    return dataclasses.replace(callbacks, should_stop=should_stop)


def _log_request(run_dir):
    if stopping.is_requested(run_dir):
        _logger.info(
            "Training ends by the file %s: %s",
            os.path.join(run_dir, stopping.FILENAME),
            stopping.read_reason(run_dir) or "it gives no reason",
        )


def create_batches(
    images: np.ndarray, labels: np.ndarray, config: RunConfig, first_batch: int = 0
) -> Iterator[list[np.ndarray]]:
    """Create the generator of a run's batches: P identities with K images each.

    Parameters
    ----------
    images : np.ndarray
        As `deep_reid.images.source.as_image_source` returns them.
    labels : np.ndarray of int64, shape (N,)
    config : RunConfig
    first_batch : int
        Index of the first batch. Batch i depends only on the run's seed and i.

    Returns
    -------
    iterator of [images, labels]

    Raises
    ------
    DataError
        If there are fewer identities than in a batch.
    """
    return samplers.random_sample_identities_forever(
        config.batch_size,
        config.num_images_per_id,
        images,
        labels,
        seed=config.seed,
        first_batch=first_batch,
    )


def create_run_trainer(
    preprocess_fn: Preprocess, images: np.ndarray, config: RunConfig
) -> QueuedTrainer:
    """Prepare the default graph for a run, and create the trainer that feeds it.

    Parameters
    ----------
    preprocess_fn : callable
        As in `create_trainer`.
    images : np.ndarray
        As `deep_reid.images.source.as_image_source` returns them.
    config : RunConfig

    Returns
    -------
    QueuedTrainer
        Feed it with the batches of `create_batches`.

    Raises
    ------
    UsageError
        If this machine cannot compute in the run's precision.
    """
    prepare_graph(config)
    read_from_file = images.dtype.kind == "O"
    return create_image_trainer(
        preprocess_fn,
        config.image_shape,
        read_from_file,
        is_training=True,
        array_shape=None if read_from_file else images.shape[1:],
        num_enqueue_threads=1 if config.deterministic else config.num_enqueue_threads,
        queue_capacity=config.queue_capacity,
        feed_timeout_secs=config.feed_timeout_secs,
        on_bad_image=config.on_bad_image,
        max_bad_percent=config.max_bad_percent,
        num_files=len(set(images)) if read_from_file else None,
        augment=config.augment,
        compute=config,
    )


def _warn_of_unknown_scopes(excluded_scopes):
    # No error: the user may exclude a classifier that the loss does not need.
    variables = [variable.op.name for variable in slim.get_model_variables()]
    for scope in excluded_scopes:
        if not any(re.match(scope_pattern(scope), name) for name in variables):
            names = sorted({name.split("/")[0] for name in variables})
            _logger.warning(
                "exclude_from_restore: scope %r has no variables here; there are %s",
                scope,
                ", ".join(names),
            )


def check_labels(
    labels: np.ndarray, num_classes: int | None, classes_per_identity: int = 1
) -> None:
    """Check that each label is a class of the network.

    Parameters
    ----------
    labels : np.ndarray of int64, shape (N,)
    num_classes : int or None
        None: the network has no classes.
    classes_per_identity : int
        See `deep_reid.config.step.StepSettings`.

    Raises
    ------
    DataError
        If one is out of range.
    """
    if num_classes is None or not len(labels):
        return
    for label in (int(labels.min()), int(labels.max())):
        most = num_classes // classes_per_identity - 1
        if not 0 <= label <= most:
            each = "" if classes_per_identity == 1 else f", {classes_per_identity} for each label"
            raise DataError(
                f"label {label} is out of range: the network has {num_classes} classes{each}; "
                f"labels must be 0 to {most}"
            )
