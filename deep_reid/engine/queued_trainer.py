"""Training and evaluation on data that goes through a queue.

A `QueuedTrainer` feeds the batches of a Python generator into placeholders, in several threads. The
tensors computed from them, such as decoded images, wait in a FIFO queue for the training step.
"""

import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from deep_reid.config import ComputeSettings
from deep_reid.config.run import check_positive_integer
from deep_reid.engine import trainer_checks
from deep_reid.engine.callbacks import Callbacks
from deep_reid.engine.checkpoint_evaluation import CheckpointEvaluation
from deep_reid.engine.feed_queue import Batch, FeedQueue, replace_sources
from deep_reid.engine.feeding import FeedThreads
from deep_reid.engine.staging import StagedFeed, StagingArea
from deep_reid.engine.train_step import TrainStep, naming_large_files
from deep_reid.errors import UsageError
from deep_reid.images.faults import SkipBadImages, StopAtBadImages
from deep_reid.runs import restoring, saving
from deep_reid.runs.run import Run
from deep_reid.runtime.cluster import ALONE, Cluster
from deep_reid.runtime.compat import slim, tf
from deep_reid.runtime.sessions import create_session_config
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)
DEFAULT_LOG_DIR = "./output/train"
"""The directory where `QueuedTrainer.run` writes runs by default."""


class QueuedTrainer:
    """Runs a training or evaluation op on data from a queue.

    Parameters
    ----------
    enqueue_vars : sequence of tf.Tensor
        The tensors that go into the queue, such as preprocessed images and labels: one row for each
        image. All dimensions but the first must be known.
    input_vars : sequence of tf.Tensor, optional
        The placeholders that `enqueue_vars` are computed from. The generator gives one array for
        each of them; the first dimension is the batch. Default: `enqueue_vars` themselves.
    num_enqueue_threads : int
        Threads that feed in parallel.
    queue_capacity : int
        Rows that wait in the queue, rounded down to whole batches, but at least one batch.
    explain_error : callable, optional
        ``explain_error(batch)`` is called when a batch causes a ``tf.errors.OpError``. It returns a
        better error, or None.
    bad_images : object, optional
        A policy of `deep_reid.images.faults`; replaces `explain_error`.
    feed_timeout_secs : float, optional
        A RunError is raised when the generator takes longer to give a batch, or the graph to
        prepare one, although the queue has room for it. None: no limit.
    compute : ComputeSettings
        For the sessions of `run` and `evaluate`.
    staging_device : str, optional
        Such as ``"/gpu:0"``: the next batch is copied to that device while the training step works
        on the current one. Default: the step takes batches directly from the queue. It also does if
        `get_input_vars` is called more than once.

    Raises
    ------
    UsageError
        If a count or a time breaks its rule, an input is no placeholder, or `enqueue_vars` need a
        placeholder that is not among `input_vars`.
    ValueError
        If a dimension of `enqueue_vars` is not known.
    """

    def __init__(
        self,
        enqueue_vars: Sequence[tf.Tensor],
        input_vars: Sequence[tf.Tensor] | None = None,
        num_enqueue_threads: int = 4,
        queue_capacity: int = 512,
        *,
        explain_error: Callable[[Sequence[np.ndarray]], Exception | None] = lambda batch: None,
        bad_images: StopAtBadImages | SkipBadImages | None = None,
        feed_timeout_secs: float | None = 600,
        compute: ComputeSettings = ComputeSettings(),
        staging_device: str | None = None,
    ) -> None:
        trainer_checks.check_feed(num_enqueue_threads, queue_capacity, feed_timeout_secs)
        enqueue_vars = trainer_checks.check_tensors("enqueue_vars", enqueue_vars)
        inputs = enqueue_vars if input_vars is None else input_vars
        self._input_vars = trainer_checks.check_tensors("input_vars", inputs)
        trainer_checks.check_shapes(enqueue_vars)
        trainer_checks.check_placeholders(enqueue_vars, self._input_vars)
        self._num_enqueue_threads = num_enqueue_threads
        self._feed_timeout_secs = feed_timeout_secs
        self._compute = compute
        self._staging_device = staging_device
        # Called when the first batch is taken: then its size is known.
        self._create_queue = functools.partial(
            FeedQueue,
            enqueue_vars,
            self._input_vars,
            capacity=queue_capacity,
            bad_images=bad_images or StopAtBadImages(explain_error),
        )
        self._batch_size = self._queue = self._staging = None

    def get_input_vars(self, batch_size: int) -> list[tf.Tensor]:
        """Take a batch out of the queue.

        May be called more than once, also with different sizes: each batch takes the next rows.
        `evaluate` uses the size of the last call. If all sizes are equal, whole batches wait in the
        queue and no row is copied.

        Parameters
        ----------
        batch_size : int

        Returns
        -------
        list of tf.Tensor, shapes (batch_size, ...)
            One for each of the constructor's `enqueue_vars`. Running them waits until there are
            enough rows, and raises ``tf.errors.OutOfRangeError`` when the feed has ended before.

        Raises
        ------
        UsageError
            If `batch_size` is less than 1, or if it differs from those before and the feed was
            started already.
        """
        check_positive_integer("batch_size", batch_size)
        self._batch_size = batch_size
        with _on_cpu():
            if self._queue is not None:
                if self._staging is not None:
                    # Others take batches, too: none may wait in the staging area of the first.
                    replace_sources(self._staging.staged, self._staging.tensors)
                    self._staging = None
                return self._queue.dequeue(batch_size)
            self._queue = self._create_queue(batch_size)
            batch = self._queue.dequeue(batch_size)
        if self._staging_device is None:
            return batch
        self._staging = StagingArea(batch, self._staging_device)
        return self._staging.staged

    def start_feed(self, session: tf.Session, batches: Iterable[Batch]) -> FeedThreads | StagedFeed:
        """Start to feed the queue; `run` and `evaluate` do so themselves.

        Parameters
        ----------
        session : tf.Session
        batches : iterable
            As the `feed_generator` of `run`.

        Returns
        -------
        deep_reid.engine.feeding.FeedThreads or deep_reid.engine.staging.StagedFeed
            Call `wait_for_batch` before each batch is taken, and `stop` before the session is
            closed.

        Raises
        ------
        UsageError
            If `get_input_vars` was not called before.
        """
        self._check_has_taker()
        feed = self._queue.start(
            session, batches, self._num_enqueue_threads, self._feed_timeout_secs
        )
        if self._staging is None:
            return feed
        return StagedFeed(feed, lambda: session.run(self._staging.put))

    def _check_has_taker(self):
        if self._queue is None:
            raise UsageError("nothing takes batches from this trainer: call get_input_vars before")

    def run(
        self,
        feed_generator: Iterable[Batch],
        train_op: tf.Tensor,
        log_dir: Path = DEFAULT_LOG_DIR,
        restore_path: Path | None = None,
        variables_to_restore: Sequence[tf.Variable] | None = None,
        run_id: str | None = None,
        max_checkpoints_to_keep: int = 5,
        *,
        run: Run | None = None,
        cluster: Cluster = ALONE,
        callbacks: Callbacks = Callbacks(),
        images_per_epoch: int | None = None,
        **slim_train_kwargs: Any,
    ) -> float | None:
        """Train until a number of steps is reached or the feed ends.

        The run's directory ``log_dir/run_id`` receives checkpoints and events. If it already has a
        checkpoint, training continues from there, with the optimizer's state.

        Parameters
        ----------
        feed_generator : iterable
            Yields batches: a list of one array for each of the constructor's `input_vars`. If there
            is only one, its array may also come alone.
        train_op : tf.Tensor
            From ``slim.learning.create_train_op``.
        log_dir : str or Path
        restore_path : str or Path, optional
            Checkpoint from which a new run takes its variables, in any form that
            `deep_reid.runs.records.resolve_checkpoint` takes. Not used by a run that already
            has a checkpoint.
        variables_to_restore : sequence of tf.Variable, optional
            The variables to take from `restore_path`. Default: the model variables (weights and
            batch norm statistics), but not the step and the optimizer's state.
        run_id : str, optional
            Default: a new name, from date and time.
        max_checkpoints_to_keep : int
            0 keeps all.
        run : deep_reid.runs.run.Run, optional
            An open run that has begun. Default: the run of `log_dir` and `run_id` is opened.
        cluster : deep_reid.runtime.cluster.Cluster
        callbacks : deep_reid.engine.callbacks.Callbacks
        images_per_epoch : int, optional
            For log lines; default: they show no epochs.
        **slim_train_kwargs
            Handed to ``slim.learning.train``, except for these: ``number_of_steps`` (default: no
            limit), ``log_every_n_steps`` (a line every 10 seconds), ``save_summaries_secs`` (60),
            ``save_interval_secs`` (300) and ``summary_op`` (all summaries). 0 turns log lines,
            summaries or checkpoints off, except for the last line and the last checkpoint.

        Returns
        -------
        float or None
            The last loss; None if the run had all its steps, or the feed less than one batch.

        Raises
        ------
        UsageError
            If a setting breaks its rule, or `get_input_vars` was not called before.
        Exception
            Whatever the generator or a feed thread raised, with its traceback.
        DataError
            If the checkpoint to start from is damaged or of another network.
        RunError
            If another process trains the run, or a checkpoint cannot be written.
        """
        slim_train_kwargs = {**cluster.session_settings(self._compute), **slim_train_kwargs}
        is_chief = slim_train_kwargs.get("is_chief", True)
        trainer_checks.check_slim_kwargs(slim_train_kwargs, run or run_id, is_chief)
        if max_checkpoints_to_keep != 0:
            check_positive_integer("max_checkpoints_to_keep", max_checkpoints_to_keep)
        self._check_has_taker()
        with train_op.graph.as_default(), contextlib.ExitStack() as stack:
            if run is None:
                run = stack.enter_context(Run.taking_part(log_dir, run_id, restore_path, is_chief))
            _logger.info("Run directory: %s", run.run_dir)
            with _on_cpu():
                tf.summary.scalar("queue/share_filled", self._queue.share_filled())
            saver = saving.Saver(max_to_keep=max_checkpoints_to_keep, save_relative_paths=True)
            saver.guard = cluster.naming_lost_servers
            save = functools.partial(saver.save, save_path=os.path.join(run.run_dir, "model.ckpt"))
            fields = {field.name for field in dataclasses.fields(TrainStep)}
            step = TrainStep(
                train_op,
                batch_size=self._batch_size,
                start_feed=functools.partial(self.start_feed, batches=iter(feed_generator)),
                save=save if is_chief else None,
                save_at_start=run.checkpoint is None,
                cluster=cluster,
                callbacks=callbacks,
                images_per_epoch=images_per_epoch,
                **{name: slim_train_kwargs.pop(name) for name in fields & slim_train_kwargs.keys()},
            )
            settings = {
                "init_fn": restoring.plan_start(run.checkpoint, restore_path, variables_to_restore),
                **slim_train_kwargs,
                # The step itself writes summaries and saves: TF-Slim's threads must not.
                "train_step_fn": step,
                "train_step_kwargs": {},
                "saver": saver,
                "summary_op": None,
                "save_interval_secs": 0,
            }
            stack.callback(step.stop_feed)
            with naming_large_files(run.run_dir), cluster.naming_lost_servers():
                loss = slim.learning.train(train_op, run.run_dir, **settings)
        step.raise_feed_error()
        return loss

    def evaluate(
        self,
        dataset: Sequence[Any] | np.ndarray,
        checkpoint_dir: Path,
        log_dir: Path,
        run_id: str | None = None,
        init_op: Any = None,
        eval_op: Any = None,
        final_op: Any = None,
        summary_op: tf.Tensor | None = None,
        variables_to_restore: Sequence[tf.Variable] | None = None,
        eval_interval_secs: float = 60,
        max_num_evaluations: int | None = None,
        *,
        timeout_secs: float | None = None,
        on_evaluation: Callable[[str, int, Any], tf.Summary | None] | None = None,
        is_evaluated: Callable[[str, int], bool] | None = None,
    ) -> Any:
        """Evaluate each checkpoint of a directory, and wait for new ones.

        Parameters
        ----------
        dataset : list, tuple or array
            The data of one evaluation in columns: ``dataset[i]`` has all rows of the constructor's
            ``input_vars[i]``, as an array, a list, or any object with a length that can be sliced.
            All columns have the same length, a multiple of the batch size of `get_input_vars`.
        checkpoint_dir, log_dir : str or Path
            Where to look for checkpoints, and where to write events. With `run_id`, the folder of
            that name in each.
        run_id : str, optional
        init_op, eval_op, final_op : any structure of tf.Tensor and tf.Operation, optional
            Run before each evaluation, after the local variables are initialized; once for each
            batch, usually the update of streaming metrics; and once at the end.
        summary_op : tf.Tensor of string, optional
            Run after the last batch, and written at the checkpoint's step. Default: all summaries
            of the graph, except those that would need one more batch.
        variables_to_restore : sequence of tf.Variable, optional
            Default: the model variables; if not all trainable variables are among them, all
            variables but the step.
        eval_interval_secs : float
            Seconds between two looks at the directory; each look finds all new checkpoints.
        max_num_evaluations : int, optional
            Ends after this number of evaluations. Of the checkpoints that are there at first, the
            newest are taken. Default: no limit.
        timeout_secs : float, optional
            Ends after this many seconds without a new checkpoint. Default: never.
        on_evaluation : callable, optional
            ``on_evaluation(checkpoint_path, step, value)`` is called with the value of `final_op`.
            It may return a ``tf.Summary``, which is written at the checkpoint's step.
        is_evaluated : callable, optional
            ``is_evaluated(checkpoint_path, step)`` returns whether to leave a checkpoint out,
            because an earlier process evaluated it. Default: none is left out.

        Returns
        -------
        The last value of `final_op`; None without an evaluation.

        Raises
        ------
        UsageError
            If `max_num_evaluations` is less than 1, `dataset` is not in columns, or
            `get_input_vars` was not called before.
        Exception
            Whatever a feed thread raised, with its traceback. That checkpoint then does not count
            as evaluated.
        RunError
            If the number of rows is not a multiple of the batch size, or `eval_op` takes more than
            one batch.
        DataError
            If a checkpoint is of another network. One that is damaged or deleted is skipped, with a
            warning.
        """
        if max_num_evaluations is not None:
            check_positive_integer("max_num_evaluations", max_num_evaluations)
        if run_id is not None:
            checkpoint_dir = os.path.join(checkpoint_dir, run_id)
            log_dir = os.path.join(log_dir, run_id)
        with self.open_evaluation(
            dataset,
            log_dir,
            init_op=init_op,
            eval_op=eval_op,
            final_op=final_op,
            summary_op=summary_op,
            variables_to_restore=variables_to_restore,
            on_evaluation=on_evaluation,
            is_evaluated=is_evaluated,
        ) as evaluation:
            return evaluation.watch(
                checkpoint_dir, eval_interval_secs, max_num_evaluations, timeout_secs
            )

    def open_evaluation(
        self, dataset: Sequence[Any] | np.ndarray, log_dir: Path, **ops: Any
    ) -> CheckpointEvaluation:
        """Prepare to evaluate checkpoints one by one; arguments as in `evaluate`."""
        self._check_has_taker()
        trainer_checks.check_columns(dataset, self._input_vars, self._batch_size)
        config = create_session_config(self._compute)
        return CheckpointEvaluation(
            dataset, log_dir, self._batch_size, self.start_feed, session_config=config, **ops
        )


def _on_cpu():
    # A GPU should compute nothing but the network.
    return tf.device("/cpu:0")
