"""One step of training: the function that ``slim.learning.train`` calls for each step."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from deep_reid.engine.callbacks import Callbacks
from deep_reid.engine.custom_scalars import Charts
from deep_reid.engine.feeding import FeedThreads
from deep_reid.engine.health import Health
from deep_reid.engine.progress import Progress
from deep_reid.engine.staging import StagedFeed
from deep_reid.errors import RunError
from deep_reid.runtime.cluster import ALONE, Cluster
from deep_reid.runtime.compat import tf

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def naming_large_files(run_dir: str) -> Iterator[None]:
    """Raise a `RunError` if a block cannot write into a run, as a file would become too large.

    TensorFlow raises an OutOfRangeError then, which elsewhere means the end of the data: TF-Slim
    and its supervisor overlook it.
    """
    try:
        yield
    except (tf.errors.OutOfRangeError, RuntimeError) as error:
        # The RuntimeError comes from the supervisor, which has kept the other one to itself.
        if isinstance(error, RuntimeError) and str(error) != "generator didn't yield":
            raise
        raise RunError(
            f"{run_dir} cannot be written, because a file in it has reached the limit of its size: "
            "raise the limit (ulimit -f)"
        ) from error


@dataclasses.dataclass(eq=False)
class TrainStep:
    """Run the training op once per call; log, write summaries and save when that is due.

    A step is one ``session.run``: summaries are fetched together with the training op, so they are
    of the batch that is trained on. Checkpoints are saved between two steps: TF-Slim's own thread
    would save while an update changes the variables. The feed is started with the first step, and
    ended with the last one or with an error. Ctrl-C saves what was learned. A step with numbers
    that are not finite ends the training, and is not saved.

    Parameters
    ----------
    train_op : tf.Tensor
        Runs an update and gives the total loss.
    batch_size : int
    start_feed : callable
        ``start_feed(session)`` returns a `deep_reid.engine.feeding.FeedThreads`, or an object with
        its methods.
    save : callable, optional
        ``save(session, global_step=step)`` saves a checkpoint. None: no checkpoints.
    save_at_start : bool
        Whether to save before the first step. A run that is resumed has a checkpoint of that step.
    cluster : deep_reid.runtime.cluster.Cluster
        The processes that train together.
    callbacks : Callbacks
        Its `evaluate` is not called after the last step: TF-Slim saves that checkpoint later.
    number_of_steps : int, optional
        The step at which training ends. Default: it ends with the feed.
    log_every_n_steps, images_per_epoch
        As in `deep_reid.engine.progress.Progress`.
    summary_op : tf.Tensor of string, optional
        Default: all summaries of the default graph. None: no summaries.
    save_summaries_secs : float
        Seconds between two summaries. 0: no summaries.
    save_interval_secs : float
        Seconds between two checkpoints. 0: none between the first and the last.
    """

    train_op: tf.Tensor
    _: dataclasses.KW_ONLY
    batch_size: int
    start_feed: Callable[[tf.Session], FeedThreads | StagedFeed]
    save: Callable[..., str] | None
    save_at_start: bool
    cluster: Cluster = ALONE
    callbacks: Callbacks = Callbacks()
    number_of_steps: int | None = None
    log_every_n_steps: int | None = None
    images_per_epoch: int | None = None
    summary_op: tf.Tensor | None = dataclasses.field(default_factory=tf.summary.merge_all)
    save_summaries_secs: float = 60
    save_interval_secs: float = 300

    def __post_init__(self) -> None:
        self._health = Health(self.train_op.graph)
        self._no_summary = tf.no_op()
        if self.summary_op is None:
            self.summary_op = self._no_summary
        self._summary_timer = _Timer(
            self.save_summaries_secs, is_due_at_start=self.save_summaries_secs > 0
        )
        self._save_timer = _Timer(self.save_interval_secs)
        # If both were fetched side by side, the step might be read before or after the update.
        with tf.control_dependencies([self.train_op]):
            self._step_after = tf.train.get_or_create_global_step().read_value()
        self._feed = None
        self._session = None
        self._step = 0
        self._has_named_step = False
        self._progress = Progress(
            self.batch_size * self.cluster.batches_per_step,
            self.number_of_steps,
            self.log_every_n_steps,
            self.images_per_epoch,
        )
        self._charts = Charts()

    def __call__(
        self,
        session: tf.Session,
        train_op: tf.Tensor,
        global_step: tf.Variable,
        train_step_kwargs: dict[str, Any],
    ) -> tuple[float | None, bool]:
        """Train one step; the signature is that of TF-Slim's ``train_step_fn``.

        Parameters
        ----------
        session : tf.Session
        train_op : tf.Tensor
        global_step : tf.Variable
        train_step_kwargs : dict
            TF-Slim puts ``summary_writer`` into it.

        Returns
        -------
        loss : float or None
            None where there was nothing to train.
        should_stop : bool
        """
        with self.cluster.naming_lost_servers(session):
            return self._train(session, train_op, global_step, train_step_kwargs)

    def _train(self, session, train_op, global_step, train_step_kwargs):
        # After an AbortedError of a distributed runtime, TF-Slim calls this with a new session.
        if session is not self._session and not self._begin(session, global_step):
            return None, True
        should_stop = True
        try:
            loss, step = self._run(session, train_op, train_step_kwargs.get("summary_writer"))
            self.callbacks.on_step(step, loss)
            is_last = self.number_of_steps is not None and step >= self.number_of_steps
            is_over = is_last or self.callbacks.should_stop() is not None
            self._progress.report(step, loss, is_last=is_over)
            if not is_over:  # TF-Slim saves the last step
                is_over = self._save_if_due(session, step)
            should_stop = is_over
        except KeyboardInterrupt:
            self._save_now(session, int(session.run(global_step)))
            raise
        finally:
            # Also on an error or Ctrl-C: the threads must end before their session is closed.
            # Otherwise closing it waits for a thread that hangs in a file.
            if should_stop:
                self.stop_feed()
        return loss, should_stop

    def stop_feed(self) -> None:
        """End the threads of the feed, if it was started."""
        if self._feed is not None:
            self._feed.stop()

    def raise_feed_error(self) -> None:
        """Raise the error that ended the feed, if there was one."""
        if self._feed is None:
            return
        try:
            self._feed.raise_error()
        except Exception:
            if not self._has_named_step:
                self._has_named_step = True
                _logger.warning("The feed has failed in step %d", self._step + 1)
            raise

    def _begin(self, session, global_step):
        self.cluster.check_servers(session)
        step = int(session.run(global_step))
        if self.number_of_steps is not None and step >= self.number_of_steps:
            _logger.warning(
                "Nothing to train: this run is at step %d, and number_of_steps is %d",
                step,
                self.number_of_steps,
            )
            return False
        if self.callbacks.should_stop() is not None:
            return False
        _logger.info("Training from step %d", step)
        self._step = step
        if self.save_at_start:
            self._save_now(session, step)
        self.cluster.begin(session)
        self._feed = self.start_feed(session)
        self._session = session
        self._progress.start()
        return True

    def _run(self, session, train_op, summary_writer):
        self.raise_feed_error()
        is_due = summary_writer is not None and self._is_summary_due()
        summary_op = self.summary_op if is_due else self._no_summary
        try:
            self._feed.wait_for_batch()
            loss, step, summary, health = session.run(
                [train_op, self._step_after, summary_op, self._health.tensors]
            )
        except tf.errors.OutOfRangeError:
            # A feed that failed closes its queue, too. That must not look like the end of the data.
            self.raise_feed_error()
            _logger.info("%s has ended", "The feed" if self.cluster.is_chief else "The chief")
            raise
        self._health.check(int(step), health)
        if summary is not None:
            with naming_large_files(summary_writer.get_logdir()):
                summary_writer.add_summary(self._charts.add_to(summary), step)
        self._step = int(step)
        return float(loss), self._step

    def _is_summary_due(self):
        # Curves have the last step, also those of short trainings.
        is_last = self.number_of_steps is not None and self._step + 1 >= self.number_of_steps
        return self._summary_timer.is_due() or (is_last and self.save_summaries_secs > 0)

    def _save_now(self, session, step):
        return None if self.save is None else self.save(session, global_step=step)

    def _save_if_due(self, session, step):
        """Save, and evaluate what was saved; return whether training is to stop since then."""
        eval_every = self.callbacks.eval_every
        is_evaluated = eval_every is not None and step % eval_every == 0
        if not (self._save_timer.is_due() or is_evaluated):
            return False
        path = self._save_now(session, step)
        if not is_evaluated or path is None:
            return False
        with self._progress.paused():
            self.callbacks.evaluate(path)
        return self.callbacks.should_stop() is not None


class _Timer:
    """Due after each interval; never if the interval is 0."""

    def __init__(self, interval_secs, is_due_at_start=False):
        self._interval_secs = interval_secs or math.inf
        self._due_at = time.monotonic() + (0.0 if is_due_at_start else self._interval_secs)

    def is_due(self):
        now = time.monotonic()
        if now < self._due_at:
            return False
        self._due_at = now + self._interval_secs
        return True
