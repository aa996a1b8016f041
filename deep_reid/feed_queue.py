"""The TensorFlow queue between the threads of a feed and the training step."""

import contextlib

import numpy as np

from deep_reid.compat import tf
from deep_reid.errors import RunError
from deep_reid.feeding import FeedThreads
from deep_reid.sessions import IN_OWN_THREAD


class FeedQueue:
    """A queue that batches of any size are fed into, and batches of fixed sizes are taken out of.

    While all batches that are taken have one size, whole batches of that size wait in the queue:
    no row is copied in or out. Otherwise single rows wait in a second queue, and each batch takes
    the next rows. Which of the two it is, is known when the feed starts.

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
        A policy of `deep_reid.bad_images`.
    """

    def __init__(self, enqueue_vars, input_vars, batch_size, capacity, bad_images):
        self._enqueue_vars = enqueue_vars
        self._input_vars = input_vars
        self._batch_size = batch_size
        self._bad_images = bad_images
        self._is_by_row = SessionFlag("is_by_row")
        dtypes = [variable.dtype for variable in enqueue_vars]
        shapes = [variable.get_shape()[1:] for variable in enqueue_vars]
        self._capacity = max(1, capacity // batch_size)
        self._batches = tf.FIFOQueue(
            self._capacity, dtypes, [[batch_size, *shape] for shape in shapes], name="inputs"
        )
        self._rows = tf.FIFOQueue(self._capacity * batch_size, dtypes, shapes, name="input_rows")
        self._enqueue_batch = self._batches.enqueue(enqueue_vars)
        self._enqueue_rows = self._rows.enqueue_many(enqueue_vars)
        self._close_ops = {
            cancel: [queue.close(cancel) for queue in (self._batches, self._rows)]
            for cancel in (False, True)
        }
        self._sizes = set()

    def dequeue(self, batch_size):
        """Take a batch out of the queue.

        Parameters
        ----------
        batch_size : int

        Returns
        -------
        list of tf.Tensor, shapes (batch_size, ...)
            One for each of `enqueue_vars`.
        """
        self._sizes.add(batch_size)

        def take_rows():
            return _as_list(self._rows.dequeue_many(batch_size))

        if batch_size != self._batch_size:
            return take_rows()
        return tf.cond(
            self._is_by_row.value,
            take_rows,
            lambda: _as_list(self._batches.dequeue()),
            strict=True,
        )

    def share_filled(self):
        """Return how full the queue is.

        Near empty, the data is the bottleneck; near full, the step is.

        Returns
        -------
        tf.Tensor of float32, shape ()
            In [0, 1].
        """
        waiting = self._batch_size * self._batches.size() + self._rows.size()
        return tf.cast(waiting, tf.float32) / (self._batch_size * self._capacity)

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

        is_by_row = self._sizes != {self._batch_size}
        if is_by_row:
            run(self._is_by_row.set_op)

        def enqueue(rows):
            if not is_by_row and len(rows[0]) < self._batch_size:
                return  # the rest at the end, which fills no batch
            # Fed with its own inputs, the op does not compute them again.
            enqueue_op = self._enqueue_rows if is_by_row else self._enqueue_batch
            run(enqueue_op, dict(zip(self._enqueue_vars, rows, strict=True)))

        def close(cancel_pending):
            # Another thread may have closed the queue, or the session with it.
            with contextlib.suppress(tf.errors.CancelledError, RuntimeError):
                run(self._close_ops[cancel_pending])

        def leave_open():
            # Closing a session waits, without limit, for everything that runs in it.
            session.close = lambda: None

        batches = self._check_batches(batches)
        return FeedThreads(
            batches if is_by_row else _in_batches_of(self._batch_size, batches),
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


class SessionFlag:
    """A boolean of each session: False until it is set, then True.

    It is the state of a queue, open or closed. A variable would have to be initialized, and people
    who do not know of it would have to do that.

    Parameters
    ----------
    name : str

    Attributes
    ----------
    value : tf.Tensor of bool, shape ()
    set_op : tf.Operation
    """

    def __init__(self, name):
        queue = tf.FIFOQueue(1, tf.bool, name=name)
        self.value = queue.is_closed()
        self.set_op = queue.close()


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
