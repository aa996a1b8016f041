"""Copies of batches that wait on the computing device: copying overlaps with a training step."""

import threading
from collections.abc import Callable, Sequence

from deep_reid.engine.feeding import FeedThreads
from deep_reid.runtime.compat import tf

# One batch that the next step takes, and one that is being copied. `StagedFeed` puts and takes them
# in turn, so no op ever waits for the other: on some devices, such an op could not be cancelled.
_CAPACITY = 2


class StagingArea:
    """Ops that copy batches to a device, and take them there.

    Parameters
    ----------
    tensors : sequence of tf.Tensor
        A batch from a queue.
    device : str
        Such as ``"/gpu:0"``.

    Attributes
    ----------
    tensors : sequence of tf.Tensor
        As in the parameters.
    put : tf.Operation
        Copies the next batch to the device.
    staged : list of tf.Tensor
        Takes the oldest of the batches that wait on the device.
    """

    def __init__(self, tensors: Sequence[tf.Tensor], device: str) -> None:
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
    """Puts each batch into a staging area while the batch before it is used.

    Parameters
    ----------
    feed : deep_reid.engine.feeding.FeedThreads
        Fills the queue that the batches come from.
    put : callable
        ``put()`` puts a batch; it raises ``tf.errors.OutOfRangeError`` when there are no more.
    """

    def __init__(self, feed: FeedThreads, put: Callable[[], object]) -> None:
        self._feed = feed
        self._put = put
        self._has_room = threading.Semaphore(1)
        self._has_batch = threading.Semaphore(0)
        self._is_stopped = False
        self._error = None
        self._thread = threading.Thread(target=self._run, name="feed-staging", daemon=True)
        self._thread.start()

    def wait_for_batch(self) -> None:
        """Wait until a batch is on the device; call this before each batch is taken.

        Raises
        ------
        tf.errors.OutOfRangeError
            If there are no more batches.
        Exception
            Any other error of `put`.
        """
        self._has_batch.acquire()
        if self._error is not None:
            self._has_batch.release()  # so that the next call raises it, too
            raise self._error
        # The caller takes this batch now: the next one is copied in the meantime.
        self._has_room.release()

    def raise_error(self) -> None:
        """Raise the first error of the feed, if there was one."""
        self._feed.raise_error()

    def stop(self) -> None:
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
        except Exception as error:  # noqa: BLE001 - wait_for_batch raises it
            self._error = error
            self._has_batch.release()
