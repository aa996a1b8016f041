"""The TensorFlow queue between the threads of a feed and the training step."""

import contextlib

import numpy as np

from deep_reid.engine.feeding import FeedThreads
from deep_reid.errors import RunError, UsageError
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import IN_OWN_THREAD


class FeedQueue:
    """A queue that batches of any size are fed into, and batches of fixed sizes are taken out of.

    While all batches that are taken have one size, whole batches of that size wait in the queue:
    no row is copied in or out. From the first batch of another size on, single rows wait instead,
    and each batch takes the next ones.

    Parameters
    ----------
    enqueue_vars : sequence of tf.Tensor
        What goes into the queue. The first dimension is the batch, all others are known.
    input_vars : sequence of tf.Tensor
        The placeholders that `enqueue_vars` are made of.
    batch_size : int
        Rows of the batches that wait.
    capacity : int
        Rows that wait: whole batches of them, and at least one batch.
    bad_images : object
        A policy of `deep_reid.images.faults`.
    """

    def __init__(self, enqueue_vars, input_vars, batch_size, capacity, bad_images):
        self._enqueue_vars = enqueue_vars
        self._input_vars = input_vars
        self._batch_size = batch_size
        self._bad_images = bad_images
        self._capacity = max(1, capacity // batch_size)
        self._dtypes = [variable.dtype for variable in enqueue_vars]
        self._row_shapes = [variable.get_shape()[1:] for variable in enqueue_vars]
        shapes = [[batch_size, *shape] for shape in self._row_shapes]
        self._holds_rows = False
        self._is_fed = False
        self._taken = []
        self._set_queue(tf.FIFOQueue(self._capacity, self._dtypes, shapes, name="inputs"))
        self._enqueue_op = self._queue.enqueue(enqueue_vars)

    def _set_queue(self, queue):
        self._queue = queue
        self._close_ops = {cancel: queue.close(cancel) for cancel in (False, True)}

    def dequeue(self, batch_size):
        """Take a batch out of the queue.

        Parameters
        ----------
        batch_size : int

        Returns
        -------
        list of tf.Tensor, shapes (batch_size, ...)
            One for each of `enqueue_vars`.

        Raises
        ------
        UsageError
            If it is the first batch of another size, and the queue is being fed already.
        """
        if batch_size != self._batch_size and not self._holds_rows:
            # Not under the caller's control dependencies, which may be on a batch from before.
            with tf.control_dependencies(None):
                self._hold_rows()
        if self._holds_rows:
            return _as_list(self._queue.dequeue_many(batch_size))
        self._taken.append([tf.identity(tensor) for tensor in _as_list(self._queue.dequeue())])
        return self._taken[-1]

    def _hold_rows(self):
        """Let single rows wait, also for the batches that were taken before."""
        if self._is_fed:
            raise UsageError(
                "batches of another size cannot be taken any more, as the queue is being fed: call "
                "get_input_vars for all sizes before"
            )
        self._holds_rows = True
        num_rows = self._capacity * self._batch_size
        self._set_queue(tf.FIFOQueue(num_rows, self._dtypes, self._row_shapes, name="input_rows"))
        self._enqueue_op = self._queue.enqueue_many(self._enqueue_vars)
        for taken in self._taken:
            replace_sources(taken, _as_list(self._queue.dequeue_many(self._batch_size)))

    def share_filled(self):
        """Return how full the queue is.

        Near empty, the data is the bottleneck; near full, the step is.

        Returns
        -------
        tf.Tensor of float32, shape ()
            In [0, 1].
        """
        capacity = self._capacity * (self._batch_size if self._holds_rows else 1)
        return tf.cast(self._queue.size(), tf.float32) / capacity

    def start(self, session, batches, num_threads, timeout_secs=None):
        """Start threads that feed the queue of a session.

        Parameters
        ----------
        session : tf.Session
        batches : iterable
            Each batch is a sequence of one array per placeholder. Where there is one placeholder,
            its array may also come alone.
        num_threads : int
        timeout_secs : float, optional
            As in `FeedThreads`.

        Returns
        -------
        FeedThreads
        """

        def run(fetches, feed_dict=None):
            return session.run(fetches, feed_dict, options=IN_OWN_THREAD)

        def prepare(batch):
            batch = self._bad_images.replace(batch)
            while True:
                try:
                    return run(self._enqueue_vars, dict(zip(self._input_vars, batch, strict=True)))
                except tf.errors.CancelledError:
                    raise
                except tf.errors.OpError as error:
                    batch = self._bad_images.handle(batch, error)

        def enqueue(rows):
            if not self._holds_rows and len(rows[0]) < self._batch_size:
                return  # the rest at the end, which fills no batch
            # Fed with its own inputs, the op does not compute them again.
            run(self._enqueue_op, dict(zip(self._enqueue_vars, rows, strict=True)))

        def close(cancel_pending):
            # Another thread may have closed the queue, or the session with it.
            with contextlib.suppress(tf.errors.CancelledError, RuntimeError):
                run(self._close_ops[cancel_pending])

        def leave_open():
            # Closing a session waits, without limit, for everything that runs in it.
            session.close = lambda: None

        self._is_fed = True
        batches = self._check_batches(batches)
        return FeedThreads(
            batches if self._holds_rows else _in_batches_of(self._batch_size, batches),
            prepare,
            enqueue,
            close,
            num_threads,
            timeout_secs=timeout_secs,
            on_stuck=leave_open,
        )

    def _check_batches(self, batches):
        for batch in batches:
            arrays = _as_arrays(batch, len(self._input_vars))
            sizes = [_count_rows(rows) for rows in arrays]
            if len(set(sizes)) > 1:
                raise RunError(
                    f"the feed gave arrays of {' and '.join(map(str, sizes))} rows in one batch: "
                    "yield as many rows for each placeholder"
                )
            yield arrays


def replace_sources(tensors, sources):
    """Let tensors that were made with ``tf.identity`` copy others instead.

    Whatever uses them stays as it is. To choose between two sources while the graph runs, with
    ``tf.cond``, makes the feed 6 % slower.

    Parameters
    ----------
    tensors, sources : list of tf.Tensor
    """
    for tensor, source in zip(tensors, sources, strict=True):
        tensor.op._update_input(0, source)  # TensorFlow has no public name for this


def _as_list(tensors):
    return [tensors] if isinstance(tensors, tf.Tensor) else list(tensors)


def _as_arrays(batch, num_placeholders):
    if isinstance(batch, np.ndarray) and num_placeholders == 1:
        return [batch]
    is_sequence = isinstance(batch, list | tuple | np.ndarray)
    if not is_sequence or len(batch) != num_placeholders:
        given = f"{len(batch)} arrays" if is_sequence else f"a {type(batch).__name__}"
        raise RunError(
            f"the feed gave {given}, but there are {num_placeholders} placeholders: yield a list "
            "with one array for each"
        )
    return list(batch)


def _count_rows(rows):
    try:
        return len(rows)
    except TypeError as error:
        raise RunError(
            f"the feed gave {rows!r} in a batch, which has no rows: yield arrays, with the batch "
            "as their first dimension"
        ) from error


def _in_batches_of(size, batches):
    """Cut and join batches: all but the last get the same size."""
    waiting = []
    for batch in batches:
        waiting = _join(waiting, batch)
        while waiting and len(waiting[0]) >= size:
            yield [rows[:size] for rows in waiting]
            waiting = [rows[size:] for rows in waiting]
    if waiting and len(waiting[0]):
        yield waiting


def _join(first, second):
    if not first or not len(first[0]):
        return second
    return [np.concatenate(rows) for rows in zip(first, second, strict=True)]
