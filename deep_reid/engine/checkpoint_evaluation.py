"""Evaluation of checkpoints, one by one: each is restored and run over all batches of the data."""

import contextlib
import logging
import os

from deep_reid.engine import trainer_checks
from deep_reid.errors import DataError, RunError
from deep_reid.runs import checkpoints, saving
from deep_reid.runtime.compat import slim, tf

_logger = logging.getLogger(__name__)


class EvaluationOps:
    """The ops of an evaluation in the default graph; None stands for those that do nothing.

    Parameters
    ----------
    init_op, eval_op, final_op, summary_op
        As in `deep_reid.queued_trainer.QueuedTrainer.evaluate`.
    """

    def __init__(self, init_op, eval_op, final_op, summary_op):
        no_op = tf.no_op()
        self.init_local = tf.local_variables_initializer()
        self.init = no_op if init_op is None else init_op
        self.update = no_op if eval_op is None else eval_op
        self.final = no_op if final_op is None else final_op
        self.summary = _merge_summaries() if summary_op is None else summary_op


class CheckpointEvaluation:
    """Evaluates checkpoints on the same data.

    Parameters
    ----------
    dataset : list or tuple
        Columns, as in `deep_reid.queued_trainer.QueuedTrainer.evaluate`.
    batch_size : int
    start_feed : callable
        ``start_feed(session, batches)``, as that of the trainer.
    ops : EvaluationOps
    variables_to_restore : sequence of tf.Variable, optional
        Default: the model variables; all but the step where trainable ones are not among them.
    session_config : tf.ConfigProto
    """

    def __init__(
        self, dataset, batch_size, start_feed, *, ops, variables_to_restore, session_config
    ):
        self._dataset = dataset
        self._batch_size = batch_size
        self._start_feed = start_feed
        self._ops = ops
        self._saver = saving.Saver(variables_to_restore or _list_model_variables())
        self._session_config = session_config

    def of_each(self, paths, is_evaluated):
        """Evaluate checkpoints, but those that are damaged or deleted in the meantime.

        Parameters
        ----------
        paths : iterable of str
        is_evaluated : callable
            ``is_evaluated(path, step)`` tells which ones to leave out.

        Yields
        ------
        path : str
        step : int
        value
            Of the final op.
        summary : bytes or None

        Raises
        ------
        Exception
            Whatever a feed thread raised, with its trace.
        RunError
            If the update op takes more than one batch.
        DataError
            If a checkpoint is of another network.
        """
        for path in paths:
            with tf.Session(config=self._session_config) as session:
                try:
                    step = checkpoints.step_of(path)
                    if is_evaluated(path, step):
                        continue
                    self._saver.restore(session, path)
                except DataError:
                    # Readable, and yet not restored: it is of another network.
                    if checkpoints.is_readable(path):
                        raise
                    happened = "damaged" if checkpoints.exists(path) else "deleted"
                    _logger.warning("Checkpoint %s was %s before it was evaluated", path, happened)
                    continue
                session.run(self._ops.init_local)
                session.run(self._ops.init)
                self._update(session)
                value, summary = session.run([self._ops.final, self._ops.summary])
            yield path, step, value, summary

    def _update(self, session):
        """Run the update op once for each batch."""
        starts = range(0, len(self._dataset[0]), self._batch_size)
        batches = ([rows[i : i + self._batch_size] for rows in self._dataset] for i in starts)
        feed = self._start_feed(session, batches)
        try:
            for _ in starts:
                feed.wait_for_batch()
                session.run(self._ops.update)
        except tf.errors.OutOfRangeError as error:
            feed.raise_error()
            raise RunError(
                f"eval_op takes more than the {self._batch_size} rows of a batch: take them with "
                "the last call of get_input_vars alone"
            ) from error
        finally:
            feed.stop()


def write_events(results, log_dir, on_evaluation=None):
    """Write the summaries of evaluations as events.

    Parameters
    ----------
    results : iterable
        From `CheckpointEvaluation.of_each`.
    log_dir : str or Path
        Made with the first evaluation: without one, nothing is left behind.
    on_evaluation : callable, optional
        As in `deep_reid.queued_trainer.QueuedTrainer.evaluate`.

    Returns
    -------
    The last value of the final op; None without an evaluation.
    """
    value = None
    with contextlib.ExitStack() as stack:
        writer = None
        for path, step, value, summary in results:
            if writer is None:
                writer = stack.enter_context(tf.summary.FileWriter(os.fspath(log_dir)))
            if summary is not None:
                writer.add_summary(summary, step)
            pictures = on_evaluation(path, step, value) if on_evaluation else None
            if pictures is not None:
                writer.add_summary(pictures, step)
            writer.flush()
    return value


def _list_model_variables():
    variables = slim.get_model_variables()
    if set(tf.trainable_variables()) <= set(variables):
        return variables
    step = tf.train.get_global_step()
    return [variable for variable in tf.global_variables() if variable is not step]


def _merge_summaries():
    """Merge the summaries of the graph, without those that would take one more batch."""
    summaries = tf.get_collection(tf.GraphKeys.SUMMARIES)
    takers = ("QueueDequeue", "Unstage")
    taking = [
        summary
        for summary in summaries
        if any(op.type.startswith(takers) for op in trainer_checks.list_ancestors(summary.op))
    ]
    if taking:
        _logger.warning(
            "These summaries are not written, as they would need one more batch: %s",
            ", ".join(summary.op.name for summary in taking),
        )
    kept = [summary for summary in summaries if summary not in taking]
    return tf.summary.merge(kept) if kept else tf.no_op()
