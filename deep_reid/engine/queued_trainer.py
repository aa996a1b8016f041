"""Training and evaluation on data that goes through a queue.

A `QueuedTrainer` takes batches from a Python generator and feeds them into placeholders in several
threads. What the graph makes of them, such as decoded images, waits in a FIFO queue for the
training step.
"""

import contextlib
import functools
import itertools
import logging
import os

from deep_reid.config import ComputeSettings
from deep_reid.config.run import check_positive_integer
from deep_reid.engine import checkpoint_evaluation, trainer_checks
from deep_reid.engine.feed_queue import FeedQueue, replace_sources
from deep_reid.engine.staging import StagedFeed, StagingArea
from deep_reid.engine.train_step import TrainStep, take_step_settings
from deep_reid.errors import UsageError
from deep_reid.images.faults import StopAtBadImages
from deep_reid.runs import checkpoints, restoring, saving, watching
from deep_reid.runs.run import Run
from deep_reid.runtime.compat import slim, tf
from deep_reid.runtime.sessions import create_session_config

DEFAULT_LOG_DIR = "./output/train"
"""Where `QueuedTrainer.run` writes runs when no other directory is named."""

_logger = logging.getLogger(__name__)


class QueuedTrainer:
    """Runs a training or evaluation op on data from a queue.

    Parameters
    ----------
    enqueue_vars : sequence of tf.Tensor
        What goes into the queue, row by row, such as preprocessed images and labels. All dimensions
        but the first must be known.
    input_vars : sequence of tf.Tensor, optional
        The placeholders that `enqueue_vars` are made of. The generator gives one array for each of
        them; the first dimension is the batch. Default: `enqueue_vars` themselves.
    num_enqueue_threads : int
        Threads that feed side by side.
    queue_capacity : int
        Rows that wait in the queue; whole batches of them, and at least one batch.
    explain_error : callable, optional
        ``explain_error(batch)`` returns a better error, or None, when a ``tf.errors.OpError`` was
        raised over a batch.
    bad_images : object, optional
        A policy of `deep_reid.images.faults`; replaces `explain_error`.
    feed_timeout_secs : float, optional
        It is a RunError when the generator takes longer to give a batch, or the graph to prepare
        one, although the queue has room for it. None: no limit.
    compute : ComputeSettings
        For the sessions of `run` and `evaluate`.
    staging_device : str, optional
        Such as ``"/gpu:0"``: the next batch is copied to that device while the training step works
        on the current one. Default: batches come right out of the queue. So they do, too, where
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
        enqueue_vars,
        input_vars=None,
        num_enqueue_threads=4,
        queue_capacity=512,
        *,
        explain_error=lambda batch: None,
        bad_images=None,
        feed_timeout_secs=600,
        compute=ComputeSettings(),
        staging_device=None,
    ):
        trainer_checks.check_feed(num_enqueue_threads, queue_capacity, feed_timeout_secs)
        self._enqueue_vars = trainer_checks.check_tensors("enqueue_vars", enqueue_vars)
        self._input_vars = (
            self._enqueue_vars
            if input_vars is None
            else trainer_checks.check_tensors("input_vars", input_vars)
        )
        trainer_checks.check_shapes(self._enqueue_vars)
        trainer_checks.check_placeholders(self._enqueue_vars, self._input_vars)
        self._num_enqueue_threads = num_enqueue_threads
        self._queue_capacity = queue_capacity
        self._feed_timeout_secs = feed_timeout_secs
        self._compute = compute
        self._staging_device = staging_device
        self._bad_images = StopAtBadImages(explain_error) if bad_images is None else bad_images
        self._batch_size = None
        # Made with the first batch that is taken: then its size is known.
        self._queue = None
        self._staging = None

    def get_input_vars(self, batch_size):
        """Take a batch out of the queue.

        May be called more than once, also with different sizes: each batch takes the next rows. The
        size of the last call is that of the batches of `evaluate`. With one size for all calls,
        whole batches wait in the queue and no row is copied.

        Parameters
        ----------
        batch_size : int

        Returns
        -------
        list of tf.Tensor, shapes (batch_size, ...)
            One for each of the constructor's `enqueue_vars`. Running them waits until there are
            enough rows; ``tf.errors.OutOfRangeError`` says that there will not be.

        Raises
        ------
        UsageError
            If `batch_size` is less than 1, or is the first of another size and comes after the feed
            was started.
        """
        check_positive_integer("batch_size", batch_size)
        self._batch_size = batch_size
        with _on_cpu():
            if self._queue is not None:
                self._end_staging()
                return self._queue.dequeue(batch_size)
            self._queue = FeedQueue(
                self._enqueue_vars,
                self._input_vars,
                batch_size,
                self._queue_capacity,
                self._bad_images,
            )
            batch = self._queue.dequeue(batch_size)
        if self._staging_device is None:
            return batch
        self._staging = StagingArea(batch, self._staging_device)
        return self._staging.staged

    def _end_staging(self):
        """Let the staged batch come right out of the queue: others take batches, too."""
        if self._staging is not None:
            replace_sources(self._staging.staged, self._staging.tensors)
            self._staging = None

    def start_feed(self, session, batches):
        """Start to feed the queue; `run` and `evaluate` do so themselves.

        Parameters
        ----------
        session : tf.Session
        batches : iterable
            Each batch is a list of one array per placeholder. Where there is one placeholder, its
            array may also come alone.

        Returns
        -------
        deep_reid.engine.feeding.FeedThreads or deep_reid.engine.staging.StagedFeed
            Call `wait_for_batch` before each batch is taken, and `stop` before the session is
            closed.

        Raises
        ------
        UsageError
            If nothing takes batches out of the queue.
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
        feed_generator,
        train_op,
        log_dir=DEFAULT_LOG_DIR,
        restore_path=None,
        variables_to_restore=None,
        run_id=None,
        max_checkpoints_to_keep=5,
        *,
        run=None,
        should_stop=None,
        **slim_train_kwargs,
    ):
        """Train until a number of steps is reached or the feed ends.

        The run's directory ``log_dir/run_id`` receives checkpoints and events. When it already has
        a checkpoint, training goes on from there, with the optimizer's state.

        Parameters
        ----------
        feed_generator : iterator
            Yields batches: a list of one array for each of the constructor's `input_vars`. Where
            there is one, its array may also come alone.
        train_op : tf.Tensor
            From ``slim.learning.create_train_op``.
        log_dir : str or Path
        restore_path : str or Path, optional
            Checkpoint from which a new run takes its variables, in any form that
            `deep_reid.runs.checkpoints.resolve_checkpoint` takes. A run that has a checkpoint of
            its own goes on from that.
        variables_to_restore : sequence of tf.Variable, optional
            Those to take from `restore_path`. Default: the model variables (weights and batch norm
            statistics); step and optimizer start afresh.
        run_id : str, optional
            Default: a new one.
        max_checkpoints_to_keep : int
            0 keeps all.
        run : deep_reid.runs.run.Run, optional
            An open run that has begun; `log_dir` and `run_id` are not used then. Default: one is
            opened.
        should_stop : callable, optional
            Called after each step. Training saves and ends, without an error, when it returns
            something other than None.
        **slim_train_kwargs
            Handed to ``slim.learning.train``. These are understood here: ``number_of_steps``,
            ``log_every_n_steps`` (10), ``save_summaries_secs`` (60), ``save_interval_secs`` (300)
            and ``summary_op`` (all summaries); 0 turns lines, summaries or checkpoints off, but for
            the last.

        Returns
        -------
        float or None
            The last loss. None where the run had made all its steps before, or where the feed had
            not even one batch.

        Raises
        ------
        Exception
            Whatever the generator or a feed thread raised, with its trace.
        DataError
            If the checkpoint to start from is damaged or of another network.
        RunError
            If the run is being trained by another process, or a checkpoint cannot be written.
        """
        is_chief = slim_train_kwargs.get("is_chief", True)
        trainer_checks.check_slim_kwargs(slim_train_kwargs, run_id, is_chief)
        if max_checkpoints_to_keep != 0:
            check_positive_integer("max_checkpoints_to_keep", max_checkpoints_to_keep)
        self._check_has_taker()
        with train_op.graph.as_default(), contextlib.ExitStack() as stack:
            if run is None:
                run = _open_run(stack, log_dir, run_id, restore_path, is_chief)
            _logger.info("Run directory: %s", run.run_dir)
            with _on_cpu():
                tf.summary.scalar("queue/share_filled", self._queue.share_filled())
            saver = saving.Saver(max_to_keep=max_checkpoints_to_keep, save_relative_paths=True)
            save = functools.partial(saver.save, save_path=os.path.join(run.run_dir, "model.ckpt"))
            step = TrainStep(
                train_op,
                batch_size=self._batch_size,
                start_feed=functools.partial(self.start_feed, batches=iter(feed_generator)),
                save=save if is_chief else None,
                save_at_start=run.checkpoint is None,
                should_stop=should_stop,
                **take_step_settings(slim_train_kwargs),
            )
            settings = {
                "init_fn": restoring.plan_start(run.checkpoint, restore_path, variables_to_restore),
                "session_config": create_session_config(self._compute),
                **slim_train_kwargs,
                # What the step does itself, TF-Slim's threads must not do beside it.
                "train_step_fn": step,
                "train_step_kwargs": {},
                "saver": saver,
                "summary_op": None,
                "save_interval_secs": 0,
            }
            try:
                loss = slim.learning.train(train_op, run.run_dir, **settings)
            finally:
                step.stop_feed()
        step.raise_feed_error()
        return loss

    def evaluate(
        self,
        dataset,
        checkpoint_dir,
        log_dir,
        run_id=None,
        init_op=None,
        eval_op=None,
        final_op=None,
        summary_op=None,
        variables_to_restore=None,
        eval_interval_secs=60,
        max_num_evaluations=None,
        *,
        timeout_secs=None,
        on_evaluation=None,
        is_evaluated=None,
    ):
        """Evaluate each checkpoint of a directory, waiting for new ones.

        Parameters
        ----------
        dataset : list or tuple
            The data of one evaluation in columns: ``dataset[i]`` has all rows of the constructor's
            ``input_vars[i]``, as an array, a list, or what else has a length and can be sliced.
            All columns have the same length, a multiple of the batch size of `get_input_vars`.
        checkpoint_dir, log_dir : str or Path
            Where checkpoints are looked for and events are written. With `run_id`, the folder of
            that name in each.
        run_id : str, optional
        init_op : tf.Operation, optional
            Run before each evaluation, after the local variables are set back.
        eval_op : tf.Tensor or tf.Operation
            Run once for each batch, usually the update of streaming metrics.
        final_op : any structure of tf.Tensor, optional
            Run once at the end of each evaluation.
        summary_op : tf.Tensor of string, optional
            Run after the last batch, and written at the checkpoint's step. Default: all summaries
            of the graph but those that would need one more batch.
        variables_to_restore : sequence of tf.Variable, optional
            Default: the model variables; all but the step where trainable ones are not among them.
        eval_interval_secs : float
            Seconds between two looks at the directory; each look takes in all that is new.
        max_num_evaluations : int, optional
            Default: no end.
        timeout_secs : float, optional
            Ends after this many seconds without a new checkpoint. Default: never.
        on_evaluation : callable, optional
            ``on_evaluation(checkpoint_path, step, value)`` with the value of `final_op`. May return
            a ``tf.Summary``, to be written at the checkpoint's step.
        is_evaluated : callable, optional
            ``is_evaluated(checkpoint_path, step)`` tells which checkpoints to leave out, because
            an earlier process evaluated them.

        Returns
        -------
        The last value of `final_op`; None without an evaluation.

        Raises
        ------
        UsageError
            If `max_num_evaluations` is less than 1, or `dataset` is not in columns.
        Exception
            Whatever a feed thread raised, with its trace. That checkpoint then does not count as
            evaluated.
        RunError
            If the rows fill no batch, or not the last one, or `eval_op` takes more than one batch.
        DataError
            If a checkpoint is of another network. One that is damaged or deleted is passed over,
            with a warning.
        """
        if max_num_evaluations is not None:
            check_positive_integer("max_num_evaluations", max_num_evaluations)
        self._check_has_taker()
        trainer_checks.check_columns(dataset, self._input_vars, self._batch_size)
        if run_id is not None:
            checkpoint_dir = os.path.join(checkpoint_dir, run_id)
            log_dir = os.path.join(log_dir, run_id)
        evaluation = checkpoint_evaluation.CheckpointEvaluation(
            dataset,
            self._batch_size,
            self.start_feed,
            ops=checkpoint_evaluation.EvaluationOps(init_op, eval_op, final_op, summary_op),
            variables_to_restore=variables_to_restore,
            session_config=create_session_config(self._compute),
        )
        _logger.info("Waiting for checkpoints in %s", checkpoint_dir)
        paths = watching.wait_for_checkpoints(checkpoint_dir, eval_interval_secs, timeout_secs)
        results = evaluation.of_each(paths, is_evaluated or (lambda path, step: False))
        return checkpoint_evaluation.write_events(
            itertools.islice(results, max_num_evaluations), log_dir, on_evaluation
        )


def _open_run(stack, log_dir, run_id, restore_path, is_chief):
    """Open a run until the stack is closed; a wrong `restore_path` leaves nothing of it."""
    if not is_chief:
        return Run.join(log_dir, run_id)
    run = stack.enter_context(Run.open(log_dir, run_id))
    if restore_path is not None and run.checkpoint is None:
        checkpoints.resolve_checkpoint(restore_path)
    run.record_as_latest()
    return run


def _on_cpu():
    # A GPU has nothing to do but the network.
    return tf.device("/cpu:0")
