"""The TensorFlow queue between the threads of a feed and the training step."""

import contextlib
import functools
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from deep_reid.engine.feeding import FeedThreads
from deep_reid.errors import RunError, UsageError
from deep_reid.images.faults import SkipBadImages, StopAtBadImages
from deep_reid.runtime.compat import tf
from deep_reid.runtime.sessions import IN_OWN_THREAD, leave_open

Batch: TypeAlias = Sequence[np.ndarray] | np.ndarray
"""One array for each placeholder. If there is one placeholder, also its array alone."""


class FeedQueue:
    """A queue that batches of any size are fed into, and batches of fixed sizes are taken out of.

    While all batches that are taken have one size, whole batches of that size wait in the queue:
    no row is copied. When a batch of another size is taken, the queue is replaced by one of single
    rows, and each batch takes the next rows.

    Parameters
    ----------
    enqueue_vars : sequence of tf.Tensor
        The tensors that go into the queue. The first dimension is the batch, all others are known.
    input_vars : sequence of tf.Tensor
        The placeholders that `enqueue_vars` are computed from.
    batch_size : int
        Rows in each of the batches that wait.
    capacity : int
        Rows that wait in the queue, rounded down to whole batches, but at least one batch.
    bad_images : object
        A policy of `deep_reid.images.faults`.
    """

    def __init__(
        self,
        enqueue_vars: Sequence[tf.Tensor],
        input_vars: Sequence[tf.Tensor],
        batch_size: int,
        capacity: int,
        bad_images: StopAtBadImages | SkipBadImages,
    ) -> None:
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

    def dequeue(self, batch_size: int) -> list[tf.Tensor]:
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
            # The caller's control dependencies may include a batch that was taken before.
            with tf.control_dependencies(None):
                self._hold_rows()
        if self._holds_rows:
            return tf.nest.flatten(self._queue.dequeue_many(batch_size))
        batch = tf.nest.flatten(self._queue.dequeue())
        self._taken.append([tf.identity(tensor) for tensor in batch])
        return self._taken[-1]

    def _hold_rows(self):
        """Replace the queue by one of single rows, also for batches that were taken before."""
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
            replace_sources(taken, tf.nest.flatten(self._queue.dequeue_many(self._batch_size)))

    def share_filled(self) -> tf.Tensor:
        """Return how full the queue is.

        Returns
        -------
        tf.Tensor of float32, shape ()
            In [0, 1]. Near 0, the data is the bottleneck; near 1, the training step is.
        """
        capacity = self._capacity * (self._batch_size if self._holds_rows else 1)
        return tf.cast(self._queue.size(), tf.float32) / capacity

    def start(
        self,
        session: tf.Session,
        batches: Iterable[Batch],
        num_threads: int,
        timeout_secs: float | None = None,
    ) -> FeedThreads:
        """Start threads that feed the queue of a session.

        Parameters
        ----------
        session : tf.Session
        batches : iterable
            Each batch is a sequence of one array per placeholder. If there is one placeholder, its
            array may also come alone.
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
                return  # the last rows, which do not fill a batch
            # These values replace the op's inputs, which are then not computed again.
            run(self._enqueue_op, dict(zip(self._enqueue_vars, rows, strict=True)))

        def close(cancel_pending):
            # Another thread may have closed the queue or the session.
            with contextlib.suppress(tf.errors.CancelledError, RuntimeError):
                run(self._close_ops[cancel_pending])

        self._is_fed = True
        batches = self._check_batches(batches)
        return FeedThreads(
            batches if self._holds_rows else _in_batches_of(self._batch_size, batches),
            prepare,
            enqueue,
            close,
            num_threads,
            timeout_secs=timeout_secs,
            on_stuck=functools.partial(leave_open, session),
        )

    def _check_batches(self, batches):
        for batch in batches:
            arrays = _as_arrays(batch, len(self._input_vars))
            sizes = [_count_rows(rows) for rows in arrays]
            if len(set(sizes)) > 1:
                raise RunError(
                    f"the feed gave arrays of {' and '.join(map(str, sizes))} rows in one batch: "
                    "yield the same number of rows for each placeholder"
                )
            yield arrays


def replace_sources(tensors: Sequence[tf.Tensor], sources: Sequence[tf.Tensor]) -> None:
    """Change the inputs of tensors that were made with ``tf.identity``.

    Ops that use these tensors stay as they are. Choosing between two sources while the graph runs,
    with ``tf.cond``, would make the feed 6 % slower.

    Parameters
    ----------
    tensors : sequence of tf.Tensor
    sources : sequence of tf.Tensor
        The new input of each.
    """
    for tensor, source in zip(tensors, sources, strict=True):
        tensor.op._update_input(0, source)  # TensorFlow has no public name for this


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
    """Cut and join batches so that all but the last have the same size."""
    waiting = [()]
    for batch in batches:
        if len(waiting[0]):
            waiting = [np.concatenate(rows) for rows in zip(waiting, batch, strict=True)]
        else:
            waiting = batch
        while len(waiting[0]) >= size:
            yield [rows[:size] for rows in waiting]
            waiting = [rows[size:] for rows in waiting]
    if len(waiting[0]):
        yield waiting
