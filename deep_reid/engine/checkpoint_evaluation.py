"""Evaluation of checkpoints, one by one: each is restored and run over all batches of the data."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from deep_reid.engine import trainer_checks
from deep_reid.engine.charts import Charts
from deep_reid.engine.feeding import FeedThreads
from deep_reid.engine.staging import StagedFeed
from deep_reid.errors import DataError, RunError
from deep_reid.runs import checkpoints, saving
from deep_reid.runtime.compat import slim, tf
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)


def evaluate_each(
    paths: Iterable[str],
    dataset: Sequence[Any] | np.ndarray,
    batch_size: int,
    start_feed: Callable[[tf.Session, Iterable[Any]], FeedThreads | StagedFeed],
    *,
    init_op: Any,
    eval_op: Any,
    final_op: Any,
    summary_op: tf.Tensor | None,
    variables_to_restore: Sequence[tf.Variable] | None,
    is_evaluated: Callable[[str, int], bool],
    session_config: tf.ConfigProto,
) -> Iterator[tuple[str, int, Any, bytes | None]]:
    """Evaluate checkpoints, except those that are damaged or deleted before their turn.

    Parameters
    ----------
    paths : iterable of str
    dataset, init_op, eval_op, final_op, summary_op, variables_to_restore, is_evaluated
        As in `deep_reid.queued_trainer.QueuedTrainer.evaluate`.
    batch_size : int
    start_feed : callable
        ``start_feed(session, batches)``, as that of the trainer.
    session_config : tf.ConfigProto

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
        Whatever a feed thread raised, with its traceback.
    RunError
        If `eval_op` takes more than one batch.
    DataError
        If a checkpoint is of another network.
    """
    init_local, no_op = tf.local_variables_initializer(), tf.no_op()
    init_op, eval_op, final_op = (
        no_op if op is None else op for op in (init_op, eval_op, final_op)
    )
    summary_op = _merge_summaries() if summary_op is None else summary_op
    saver = saving.Saver(variables_to_restore or _list_model_variables())
    for path in paths:
        with tf.Session(config=session_config) as session:
            try:
                step = checkpoints.step_of(path)
                if is_evaluated(path, step):
                    continue
                saver.restore(session, path)
            except DataError:
                if checkpoints.is_readable(path):
                    raise  # it is of another network
                happened = "damaged" if checkpoints.exists(path) else "deleted"
                _logger.warning("Checkpoint %s was %s before it was evaluated", path, happened)
                continue
            session.run(init_local)
            session.run(init_op)
            _run_for_each_batch(session, eval_op, dataset, batch_size, start_feed)
            value, summary = session.run([final_op, summary_op])
        yield path, step, value, summary


def _run_for_each_batch(session, op, dataset, batch_size, start_feed):
    starts = range(0, len(dataset[0]), batch_size)
    feed = start_feed(session, ([rows[i : i + batch_size] for rows in dataset] for i in starts))
    try:
        for _ in starts:
            feed.wait_for_batch()
            session.run(op)
    except tf.errors.OutOfRangeError as error:
        feed.raise_error()
        raise RunError(
            f"eval_op takes more than the {batch_size} rows of a batch: use only the tensors of "
            "the last call of get_input_vars"
        ) from error
    finally:
        feed.stop()


def write_events(
    results: Iterable[tuple[str, int, Any, bytes | None]],
    log_dir: Path,
    on_evaluation: Callable[[str, int, Any], tf.Summary | None] | None = None,
) -> Any:
    """Write the summaries of evaluations as events.

    Parameters
    ----------
    results : iterable
        From `evaluate_each`.
    log_dir : str or Path
        Made with the first evaluation: without one, it is not made.
    on_evaluation : callable, optional
        As in `deep_reid.queued_trainer.QueuedTrainer.evaluate`.

    Returns
    -------
    The last value of the final op; None without an evaluation.
    """
    value = None
    with contextlib.ExitStack() as stack:
        writer, charts = None, Charts()
        for path, step, value, summary in results:
            if writer is None:
                writer = stack.enter_context(tf.summary.FileWriter(os.fspath(log_dir)))
            if summary is not None:
                writer.add_summary(charts.add_to(summary), step)
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
    takers = ("QueueDequeue", "Unstage")
    kept, taking = [], []
    for summary in tf.get_collection(tf.GraphKeys.SUMMARIES):
        ancestors = trainer_checks.list_ancestors(summary.op)
        is_taking = any(op.type.startswith(takers) for op in ancestors)
        (taking if is_taking else kept).append(summary)
    if taking:
        _logger.warning(
            "These summaries are not written, as they would need one more batch: %s",
            ", ".join(summary.op.name for summary in taking),
        )
    return tf.summary.merge(kept) if kept else tf.no_op()
