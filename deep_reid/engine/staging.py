"""Batches that wait on the device that computes: the copy of the next overlaps a training step."""

import threading

from deep_reid.runtime.compat import tf

# One that the next step takes, and one on its way. Put and taken in turn (see `StagedFeed`), no op
# ever waits for the other: on some devices, that could not be cancelled.
_CAPACITY = 2


class StagingArea:
    """Ops that bring batches to a device, and hand them out there.

    Parameters
    ----------
    tensors : list of tf.Tensor
        A batch from a queue.
    device : str
        Such as ``"/gpu:0"``.

    Attributes
    ----------
    tensors : list of tf.Tensor
        The batch that was given.
    put : tf.Operation
        Brings the next batch to the device.
    staged : list of tf.Tensor
        The batch that was put first of those that wait.
    """

    def __init__(self, tensors, device):
        self.tensors = tensors
        name = tf.get_default_graph().unique_name("staging")
        with tf.device(device):
            self.put = tf.raw_ops.Stage(values=tensors, capacity=_CAPACITY, shared_name=name)
            staged = tf.raw_ops.Unstage(
                dtypes=[tensor.dtype for tensor in tensors], capacity=_CAPACITY, shared_name=name
            )
            for tensor, source in zip(staged, tensors, strict=True):
                tensor.set_shape(source.get_shape())
            self.staged = [tf.identity(tensor) for tensor in staged]


class StagedFeed:
    """Puts batches into a staging area, one ahead of what takes them.

    Parameters
    ----------
    feed : deep_reid.engine.feeding.FeedThreads
        Fills the queue that the batches come from.
    put : callable
        Puts a batch; raises ``tf.errors.OutOfRangeError`` when there are no more.
    """

    def __init__(self, feed, put):
        self._feed = feed
        self._put = put
        self._has_room = threading.Semaphore(1)
        self._has_batch = threading.Semaphore(0)
        self._is_stopped = False
        self._error = None
        self._thread = threading.Thread(target=self._run, name="feed-staging", daemon=True)
        self._thread.start()

    @property
    def num_rows(self):
        """Rows that the feed has taken from its generator so far."""
        return self._feed.num_rows

    def wait_for_batch(self):
        """Wait until a batch is on the device; call it before each is taken.

        Raises
        ------
        tf.errors.OutOfRangeError
            If there are no more.
        Exception
            Whatever else was raised over it.
        """
        self._has_batch.acquire()
        if self._error is not None:
            self._has_batch.release()  # so that the next call raises it, too
            raise self._error
        # The one that waits is taken now: the next is copied in the meantime.
        self._has_room.release()

    def raise_error(self):
        """Raise the first error of the feed, if there was one."""
        self._feed.raise_error()

    def stop(self):
        """End all threads; may be called more than once."""
        self._is_stopped = True
        self._feed.stop()  # cancels a put that waits for the queue
        self._has_room.release()
        self._thread.join()

    def _run(self):
        try:
            while self._has_room.acquire() and not self._is_stopped:
                self._put()
                self._has_batch.release()
        except Exception as error:  # noqa: BLE001 - raised where the batch is waited for
            self._error = error
            self._has_batch.release()
