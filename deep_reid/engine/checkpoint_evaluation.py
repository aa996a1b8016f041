"""Evaluation of checkpoints, one by one: each is restored and run over all batches of the data."""

import contextlib
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from deep_reid.engine import trainer_checks
from deep_reid.engine.custom_scalars import Charts
from deep_reid.engine.feeding import FeedThreads
from deep_reid.engine.staging import StagedFeed
from deep_reid.errors import DataError, RunError
from deep_reid.runs import checkpoints, records, restoring, watching
from deep_reid.runtime.compat import slim, tf
from deep_reid.system.files import Path

_logger = logging.getLogger(__name__)


class CheckpointEvaluation:
    """Evaluates checkpoints, one by one, and writes summaries as events.

    A context manager: at its end the file of events is closed.

    Parameters
    ----------
    dataset, log_dir, init_op, eval_op, final_op, summary_op, variables_to_restore, on_evaluation
        As in `deep_reid.queued_trainer.QueuedTrainer.evaluate`. `log_dir` is made with the first
        evaluation: without one, it is not made.
    is_evaluated
        As there, too.
    batch_size : int
    start_feed : callable
        ``start_feed(session, batches)``, as that of the trainer.
    prepare : callable, optional
        ``prepare(checkpoint_path)`` is a context manager that gives the checkpoint to restore in
        its place. Default: the checkpoint itself.
    session_config : tf.ConfigProto

    Attributes
    ----------
    value
        Of the final op, in the last evaluation; None before.
    """

    def __init__(
        self,
        dataset: Sequence[Any] | np.ndarray,
        log_dir: Path,
        batch_size: int,
        start_feed: Callable[[tf.Session, Iterable[Any]], FeedThreads | StagedFeed],
        *,
        init_op: Any = None,
        eval_op: Any = None,
        final_op: Any = None,
        summary_op: tf.Tensor | None = None,
        variables_to_restore: Sequence[tf.Variable] | None = None,
        on_evaluation: Callable[[str, int, Any], tf.Summary | None] | None = None,
        is_evaluated: Callable[[str, int], bool] | None = None,
        prepare: Callable[[str], contextlib.AbstractContextManager[str]] | None = None,
        session_config: tf.ConfigProto,
    ) -> None:
        self.value: Any = None
        self._dataset = dataset
        self._log_dir = log_dir
        self._batch_size = batch_size
        self._start_feed = start_feed
        self._init_local, no_op = tf.local_variables_initializer(), tf.no_op()
        self._init_op, self._eval_op, self._final_op = (
            no_op if op is None else op for op in (init_op, eval_op, final_op)
        )
        self._summary_op = _merge_summaries() if summary_op is None else summary_op
        self._restorer = restoring.Restorer(variables_to_restore or _list_model_variables())
        self._on_evaluation = on_evaluation or (lambda path, step, value: None)
        self._is_evaluated = is_evaluated or (lambda path, step: False)
        self._prepare = prepare or contextlib.nullcontext
        self._session_config = session_config
        self._graph = tf.get_default_graph()
        self._writer: Any = None
        self._charts = Charts()

    def __enter__(self) -> "CheckpointEvaluation":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def evaluate(self, path: str) -> bool:
        """Evaluate a checkpoint, unless it is damaged or deleted by now, or was evaluated before.

        Parameters
        ----------
        path : str

        Returns
        -------
        bool
            Whether it was evaluated now.

        Raises
        ------
        Exception
            Whatever a feed thread raised, with its traceback.
        RunError
            If `eval_op` takes more than one batch.
        DataError
            If the checkpoint is of another network.
        """
        with self._graph.as_default(), tf.Session(config=self._session_config) as session:
            try:
                step = checkpoints.step_of(path)
                if self._is_evaluated(path, step):
                    return False
                with self._prepare(path) as prepared:
                    self._restorer.restore(session, prepared)
            except DataError:
                if checkpoints.is_readable(path):
                    raise  # it is of another network
                happened = "damaged" if records.exists(path) else "deleted"
                _logger.warning("Checkpoint %s was %s before it was evaluated", path, happened)
                return False
            session.run(self._init_local)
            session.run(self._init_op)
            self._run_for_each_batch(session)
            self.value, summary = session.run([self._final_op, self._summary_op])
        self._write(path, step, summary)
        return True

    def watch(
        self,
        checkpoint_dir: Path,
        eval_interval_secs: float = 60,
        max_num_evaluations: int | None = None,
        timeout_secs: float | None = None,
        has_ended: Callable[[], bool] = lambda: False,
    ) -> Any:
        """Evaluate the checkpoints of a directory, and wait for new ones.

        Parameters
        ----------
        checkpoint_dir, eval_interval_secs, max_num_evaluations, timeout_secs
            As in `deep_reid.queued_trainer.QueuedTrainer.evaluate`.
        has_ended : callable
            As in `deep_reid.runs.watching.wait_for_checkpoints`.

        Returns
        -------
        The last value of the final op; None without an evaluation.
        """
        _logger.info("Waiting for checkpoints in %s", checkpoint_dir)
        paths = watching.wait_for_checkpoints(
            checkpoint_dir,
            eval_interval_secs,
            timeout_secs,
            max_old=max_num_evaluations,
            is_known=self._is_known,
            has_ended=has_ended,
        )
        for _ in itertools.islice(filter(self.evaluate, paths), max_num_evaluations):
            pass
        return self.value

    def evaluate_newest(
        self, checkpoint_dir: Path, timeout_secs: float | None = None
    ) -> int | None:
        """Evaluate the newest checkpoint of a directory, or, if there is none, wait for the first.

        Parameters
        ----------
        checkpoint_dir : str or Path
        timeout_secs : float, optional
            Ends after this many seconds without a checkpoint. Default: never.

        Returns
        -------
        int or None
            Its step.
        """
        step = None
        paths = watching.wait_for_checkpoints(checkpoint_dir, timeout_secs=timeout_secs, max_old=1)
        for path in itertools.islice(paths, 1):
            if not self.evaluate(path):
                _logger.info("%s, the newest checkpoint, was evaluated before", path)
            with contextlib.suppress(DataError):  # it was deleted just now
                step = checkpoints.step_of(path)
        return step

    def _is_known(self, path):
        with contextlib.suppress(DataError):  # it was deleted just now
            return self._is_evaluated(path, checkpoints.step_of(path))
        return False

    def _run_for_each_batch(self, session):
        size, dataset = self._batch_size, self._dataset
        starts = range(0, len(dataset[0]), size)
        feed = self._start_feed(session, ([rows[i : i + size] for rows in dataset] for i in starts))
        try:
            for _ in starts:
                feed.wait_for_batch()
                session.run(self._eval_op)
        except tf.errors.OutOfRangeError as error:
            feed.raise_error()
            raise RunError(
                f"eval_op takes more than the {size} rows of a batch: use only the tensors of the "
                "last call of get_input_vars"
            ) from error
        finally:
            feed.stop()

    def _write(self, path, step, summary):
        if self._writer is None:
            self._writer = tf.summary.FileWriter(os.fspath(self._log_dir))
        if summary is not None:
            self._writer.add_summary(self._charts.add_to(summary), step)
        pictures = self._on_evaluation(path, step, self.value)
        if pictures is not None:
            self._writer.add_summary(pictures, step)
        self._writer.flush()


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
