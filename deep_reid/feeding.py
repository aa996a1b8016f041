"""Threads that take batches from a Python generator, in its order, into a TensorFlow queue."""

import contextlib
import logging
import threading
import time

from deep_reid.compat import tf
from deep_reid.errors import RunError

_logger = logging.getLogger(__name__)
_JOIN_TIMEOUT_SECS = 10


class FeedThreads:
    """Feed a queue from a generator until it ends, fails, or is stopped.

    The threads draw from the generator one at a time, `prepare` their batches side by side, so that
    decoding uses several cores, and `enqueue` them in the order in which they were drawn. The last
    thread to end closes the queue; a consumer gets what is left in it, and then
    ``tf.errors.OutOfRangeError``. An error in a thread, also in the generator, closes the queue at
    once, and is raised again, with its type and trace, by `raise_error`.

    Parameters
    ----------
    batches : iterator
        Each item is a sequence of arrays.
    prepare : callable
        ``prepare(batch) -> rows``, the costly part.
    enqueue : callable
        ``enqueue(rows)``; may block while the queue is full.
    close : callable
        ``close(cancel_pending)`` closes the queue; a pending ``enqueue`` then raises
        ``tf.errors.CancelledError``.
    num_threads : int

    Attributes
    ----------
    num_rows : int
        Rows drawn from the generator so far.
    """

    def __init__(self, batches, prepare, enqueue, close, num_threads):
        self.num_rows = 0
        self._is_stopped = False
        self._batches = batches
        self._prepare = prepare
        self._enqueue = enqueue
        self._close = close
        # No exception counts as a clean end: the consumer decides what an end means.
        self._coordinator = tf.train.Coordinator(clean_stop_exception_types=())
        self._generator_lock = threading.Lock()
        self._turn = threading.Condition()
        self._num_drawn = 0
        self._num_enqueued = 0
        self._num_running = num_threads
        self._threads = [
            threading.Thread(target=self._run, name=f"feed-{index}", daemon=True)
            for index in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    def raise_error(self):
        """Raise the first error of a thread, if there was one."""
        self._coordinator.raise_requested_exception()

    def stop(self):
        """End all threads; may be called more than once."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._coordinator.request_stop()
        self._wake_up()
        self._close(cancel_pending=True)
        deadline = time.monotonic() + _JOIN_TIMEOUT_SECS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if stuck:
            _logger.warning("Threads %s still wait for the data source", ", ".join(stuck))

    def _run(self):
        with self._coordinator.stop_on_exception():
            while self._feed_batch():
                pass
        # The error is recorded by now: whoever finds the queue closed will also find the reason.
        with self._turn:
            self._num_running -= 1
            is_last = self._num_running == 0
        if self._coordinator.should_stop():
            self._wake_up()
            self._close(cancel_pending=True)
        elif is_last:
            self._close(cancel_pending=False)

    def _feed_batch(self):
        """Take one batch from the generator to the queue; False when there is none or no need."""
        with self._generator_lock:
            if self._coordinator.should_stop():
                return False
            try:
                batch = next(self._batches)
            except StopIteration:
                return False
            number = self._num_drawn
            self._num_drawn += 1
            self.num_rows += len(batch[0])
        rows = self._prepare(batch)
        with self._turn:
            self._turn.wait_for(
                lambda: self._num_enqueued == number or self._coordinator.should_stop()
            )
        if self._coordinator.should_stop():
            return False
        try:
            self._enqueue(rows)
        except tf.errors.CancelledError:
            if not self._coordinator.should_stop():
                raise
        with self._turn:
            self._num_enqueued += 1
        self._wake_up()
        return True

    def _wake_up(self):
        with self._turn:
            self._turn.notify_all()


class QueueFeed:
    """The queue's side of `FeedThreads`: ops to enqueue, to close, and to count what is in it.

    Parameters
    ----------
    enqueue_vars : sequence of tf.Tensor
        Placeholders with the batch as their first dimension.
    input_vars : sequence of tf.Tensor
        What is made of them and goes through the queue, row by row.
    capacity : int
        Rows that the queue holds.
    explain_error : callable
        ``explain_error(batch)`` returns a better error, or None, when a ``tf.errors.OpError`` was
        raised over a batch.

    Raises
    ------
    ValueError
        If a dimension of `input_vars` other than the first is not known.
    """

    def __init__(self, enqueue_vars, input_vars, capacity, explain_error):
        shapes = [variable.get_shape()[1:] for variable in input_vars]
        for variable, shape in zip(input_vars, shapes, strict=True):
            if not shape.is_fully_defined():
                raise ValueError(
                    f"input {variable.name} has shape {variable.get_shape()}, but all dimensions "
                    "behind the first must be known: set them with set_shape"
                )
        self._enqueue_vars = enqueue_vars
        self._input_vars = input_vars
        self._explain_error = explain_error
        self.queue = tf.FIFOQueue(capacity, [x.dtype for x in input_vars], shapes, name="inputs")
        self._enqueue_op = self.queue.enqueue_many(input_vars)
        self._close_ops = {cancel: self.queue.close(cancel) for cancel in (False, True)}

    def start(self, session, batches, num_threads):
        """Start threads that feed the queue of a session.

        Parameters
        ----------
        session : tf.Session
        batches : iterable
            Each batch is a sequence of one array per placeholder.
        num_threads : int

        Returns
        -------
        FeedThreads
        """

        def prepare(batch):
            feed_dict = self._create_feed_dict(batch)
            try:
                return session.run(self._input_vars, feed_dict)
            except tf.errors.CancelledError:
                raise
            except tf.errors.OpError as error:
                better_error = self._explain_error(batch)
                if better_error is None:
                    raise
                raise better_error from error

        def enqueue(rows):
            # Fed with its own inputs, the op does not compute them again.
            session.run(self._enqueue_op, dict(zip(self._input_vars, rows, strict=True)))

        def close(cancel_pending):
            # Another thread may have closed the queue, or the session with it.
            with contextlib.suppress(tf.errors.CancelledError, RuntimeError):
                session.run(self._close_ops[cancel_pending])

        return FeedThreads(iter(batches), prepare, enqueue, close, num_threads)

    def _create_feed_dict(self, batch):
        if len(batch) != len(self._enqueue_vars):
            raise RunError(
                f"the feed gave {len(batch)} arrays, but there are {len(self._enqueue_vars)} "
                "placeholders: yield one array for each"
            )
        return dict(zip(self._enqueue_vars, batch, strict=True))
