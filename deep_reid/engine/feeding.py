"""Threads that move batches from a Python generator, in its order, into a TensorFlow queue."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from deep_reid.errors import RunError
from deep_reid.runtime.compat import tf

_logger = logging.getLogger(__name__)
JOIN_TIMEOUT_SECS = 10
"""How long the end of a feed waits for a thread that hangs in a file."""
_MIN_CHECKS_PER_TIMEOUT = 20
_MAX_SECS_BETWEEN_CHECKS = 30.0


class FeedThreads:
    """Feed a queue from a generator until it ends, fails, hangs, or is stopped.

    The threads draw from the generator one at a time, `prepare` their batches in parallel, so that
    decoding uses several cores, and `enqueue` them in the order in which they were drawn. The last
    thread that ends closes the queue; a consumer gets the batches that are left in it, and then
    ``tf.errors.OutOfRangeError``. An error in a thread, also in the generator, closes the queue at
    once; `raise_error` raises it again, with its type and traceback.

    One more thread watches them. It is such an error, too, when the next batch is not drawn or not
    prepared in time, unless a batch before it waits for room in the queue.

    Parameters
    ----------
    batches : iterator
        Each item is a sequence of arrays.
    prepare : callable
        ``prepare(batch)`` returns the rows to enqueue. This takes most of the time.
    enqueue : callable
        ``enqueue(rows)``; may block while the queue is full.
    close : callable
        ``close(cancel_pending=...)`` closes the queue. With True, an ``enqueue`` that blocks raises
        ``tf.errors.CancelledError``.
    num_threads : int
    timeout_secs : float, optional
        Longest time to draw a batch, and to prepare it. Default: no limit.
    on_stuck : callable, optional
        Called without arguments when `stop` could not end a thread that prepares a batch.

    Attributes
    ----------
    num_rows : int
        Rows drawn from the generator so far.
    """

    def __init__(
        self,
        batches: Iterator[Sequence[np.ndarray]],
        prepare: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
        enqueue: Callable[[Sequence[np.ndarray]], None],
        close: Callable[..., None],
        num_threads: int,
        *,
        timeout_secs: float | None = None,
        on_stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self.num_rows = 0
        self._is_stopped = False
        self._batches = batches
        self._prepare = prepare
        self._enqueue = enqueue
        self._close = close
        self._timeout_secs = timeout_secs
        self._on_stuck = on_stuck
        # By default, the coordinator would not record an OutOfRangeError.
        self._coordinator = tf.train.Coordinator(clean_stop_exception_types=())
        self._changed = threading.Condition()  # guards what follows
        self._is_drawing = False
        self._is_exhausted = False
        self._num_drawn = 0
        self._in_preparation = {}  # batches, by their numbers
        self._num_enqueued = 0
        self._num_running = num_threads
        self._is_over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"feed-{index}", daemon=True)
            for index in range(num_threads)
        ]
        if timeout_secs is not None:
            watchdog = threading.Thread(target=self._watch, name="feed-watchdog", daemon=True)
            self._threads.append(watchdog)
        for thread in self._threads:
            thread.start()

    def wait_for_batch(self) -> None:
        """Return at once: taking a batch out of the queue waits until there is one."""

    def raise_error(self) -> None:
        """Raise the first error of a thread, if there was one."""
        self._coordinator.raise_requested_exception()

    def stop(self) -> None:
        """End all threads, but do not wait forever; may be called more than once."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._coordinator.request_stop()
        self._cancel()
        deadline = time.monotonic() + JOIN_TIMEOUT_SECS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if stuck:
            _logger.warning("Threads %s still wait for the data source or files", ", ".join(stuck))
        if self._in_preparation:
            self._on_stuck()

    def _run(self):
        with self._coordinator.stop_on_exception():
            while self._feed_batch():
                pass
        # The error is recorded by now: a consumer that finds the queue closed also finds the error.
        with self._changed:
            self._num_running -= 1
            is_last = self._num_running == 0
        if self._coordinator.should_stop():
            self._cancel()
        elif is_last:
            self._is_over.set()
            self._close(cancel_pending=False)

    def _feed_batch(self):
        """Move one batch from the generator to the queue; return False at the end."""
        drawn = self._draw()
        if drawn is None:
            return False
        number, batch = drawn
        try:
            rows = self._prepare(batch)
        finally:
            with self._changed:
                del self._in_preparation[number]
        with self._changed:
            self._changed.wait_for(
                lambda: self._num_enqueued == number or self._coordinator.should_stop()
            )
        if self._coordinator.should_stop():
            return False
        try:
            self._enqueue(rows)
        except tf.errors.CancelledError:
            if not self._coordinator.should_stop():
                raise
        with self._changed:
            self._num_enqueued += 1
            self._changed.notify_all()
        return True

    def _draw(self):
        """Return the next batch of the generator with its number; None at its end."""
        with self._changed:
            # If a lock were held while the generator hangs, no other thread could end.
            self._changed.wait_for(lambda: not self._is_drawing or self._coordinator.should_stop())
            if self._is_exhausted or self._coordinator.should_stop():
                return None
            self._is_drawing = True
        try:
            return self._number(next(self._batches))
        except StopIteration:
            self._is_exhausted = True
            return None
        finally:
            with self._changed:
                self._is_drawing = False
                self._changed.notify_all()

    def _number(self, batch):
        with self._changed:
            number = self._num_drawn
            self._num_drawn += 1
            self.num_rows += len(batch[0])
            self._in_preparation[number] = batch
        return number, batch

    def _cancel(self):
        self._is_over.set()
        with self._changed:
            self._changed.notify_all()
        self._close(cancel_pending=True)

    def _watch(self):
        with self._coordinator.stop_on_exception():
            self._raise_stall()
        if self._coordinator.should_stop():
            self._cancel()

    def _raise_stall(self):
        """Wait until the feed is over, or raise when it hangs."""
        # Checks are counted instead of clocks compared: a process halted by Ctrl-Z does not hang.
        interval = min(self._timeout_secs / _MIN_CHECKS_PER_TIMEOUT, _MAX_SECS_BETWEEN_CHECKS)
        seen, secs_unchanged = None, 0.0
        while not self._is_over.wait(interval):
            awaited = self._find_awaited()
            is_same = awaited is not None and awaited == seen
            secs_unchanged = secs_unchanged + interval if is_same else 0.0
            seen = awaited
            if secs_unchanged >= self._timeout_secs:
                raise RunError(self._describe_stall(awaited))

    def _find_awaited(self):
        """Return the batch that the queue waits for: its number, and whether it was drawn.

        None if it is prepared and waits for room in the queue. Later batches do not matter: the
        queue does not wait for them yet.
        """
        with self._changed:
            number = self._num_enqueued
            if number in self._in_preparation:
                return number, True
            is_next = number == self._num_drawn
            return (number, False) if is_next and self._is_drawing else None

    def _describe_stall(self, awaited):
        number, was_drawn = awaited
        way_out = "or set a larger --feed_timeout_secs"
        if not was_drawn:
            return (
                f"the data source gave no batch for {self._timeout_secs:g} s: check what it reads "
                f"from, {way_out}"
            )
        with self._changed:
            batch = self._in_preparation.get(number, ((),))
        return (
            f"preparing a batch took more than {self._timeout_secs:g} s ({_describe(batch)}): "
            f"check the drive that it is on, {way_out}"
        )


def _describe(batch):
    rows = batch[0]
    if not len(rows) or not isinstance(rows[0], str | bytes):
        return f"of {len(rows)} rows"
    others = f" and {len(rows) - 1} more files" if len(rows) > 1 else ""
    return f"{os.fsdecode(rows[0])}{others}"
