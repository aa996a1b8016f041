"""The feed: batches of a generator, through threads, into a queue."""

import itertools
import queue
import threading
import time

import pytest

from deep_reid import feeding
from deep_reid.compat import tf
from deep_reid.feeding import FeedThreads


class FakeQueue:
    """A bounded queue with the closing rules of a TensorFlow queue."""

    def __init__(self, capacity=2):
        self.items = queue.Queue(capacity)
        self.is_closed = threading.Event()
        self.is_cancelled = threading.Event()

    def enqueue(self, batch):
        while True:
            if self.is_cancelled.is_set():
                raise tf.errors.CancelledError(None, None, "enqueue was cancelled")
            try:
                self.items.put(batch, timeout=0.01)
                return
            except queue.Full:
                continue

    def close(self, cancel_pending):
        self.is_closed.set()
        if cancel_pending:
            self.is_cancelled.set()

    def drain(self):
        """Take all items until the queue is closed and empty."""
        taken = []
        while not (self.is_closed.is_set() and self.items.empty()):
            try:
                taken.append(self.items.get(timeout=0.01))
            except queue.Empty:
                continue
        return taken


def start(batches, fake_queue, num_threads=4, prepare=lambda batch: batch):
    return FeedThreads(iter(batches), prepare, fake_queue.enqueue, fake_queue.close, num_threads)


def numbers(count):
    return (([index],) for index in range(count))


def feed_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed-")]


@pytest.mark.parametrize("num_threads", [1, 4])
def test_all_batches_of_a_finite_feed_arrive_in_order_and_the_last_thread_closes(num_threads):
    fake_queue = FakeQueue()
    threads = start(numbers(50), fake_queue, num_threads)
    assert fake_queue.drain() == [([index],) for index in range(50)]
    threads.raise_error()
    threads.stop()
    assert threads.num_rows == 50
    assert not feed_threads()


def test_an_empty_feed_closes_the_queue():
    fake_queue = FakeQueue()
    threads = start([], fake_queue)
    assert fake_queue.drain() == []
    threads.stop()


class GeneratorError(Exception):
    pass


def failing_generator(num_good):
    yield from numbers(num_good)
    raise GeneratorError("frame 17 is gone")


def test_an_error_of_the_generator_keeps_type_message_and_trace():
    fake_queue = FakeQueue()
    threads = start(failing_generator(3), fake_queue)
    fake_queue.drain()
    with pytest.raises(GeneratorError, match="frame 17 is gone") as caught:
        threads.raise_error()
    assert "failing_generator" in [entry.name for entry in caught.traceback]
    threads.stop()
    assert not feed_threads()


def test_batches_are_prepared_side_by_side_and_still_keep_their_order():
    all_at_work = threading.Barrier(4)

    def prepare(batch):
        all_at_work.wait(timeout=10)  # breaks unless four threads prepare at the same time
        time.sleep(0.01 if batch[0][0] % 4 == 0 else 0.0)  # the first of four is the slowest
        return batch

    fake_queue = FakeQueue()
    threads = start(numbers(40), fake_queue, prepare=prepare)
    assert fake_queue.drain() == [([index],) for index in range(40)]
    threads.raise_error()
    threads.stop()


@pytest.mark.parametrize("step", ["prepare", "enqueue"])
def test_an_error_of_the_queue_reaches_the_caller(step):
    fake_queue = FakeQueue()

    def fail(batch):
        raise tf.errors.InvalidArgumentError(None, None, "bad image")

    steps = {"prepare": lambda batch: batch, "enqueue": fake_queue.enqueue, step: fail}
    threads = FeedThreads(numbers(9), close=fake_queue.close, num_threads=4, **steps)
    fake_queue.drain()
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad image"):
        threads.raise_error()
    threads.stop()
    assert not feed_threads()


def test_who_finds_the_queue_closed_also_finds_the_error():
    for _ in range(50):
        fake_queue = FakeQueue()
        threads = start(failing_generator(0), fake_queue)
        fake_queue.is_closed.wait()
        with pytest.raises(GeneratorError):
            threads.raise_error()
        threads.stop()


def test_one_failing_thread_stops_the_others_blocked_on_a_full_queue():
    fake_queue = FakeQueue(capacity=1)
    threads = start(failing_generator(3), fake_queue, num_threads=4)
    deadline = time.monotonic() + 10
    while feed_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not feed_threads()
    with pytest.raises(GeneratorError):
        threads.raise_error()


def test_stop_ends_threads_that_are_blocked_and_is_no_error():
    fake_queue = FakeQueue(capacity=1)
    threads = start(itertools.repeat(([0],)), fake_queue)
    while not fake_queue.items.full():
        time.sleep(0.01)
    threads.stop()
    threads.stop()
    threads.raise_error()
    assert not feed_threads()


def test_a_blocked_source_delays_the_end_by_one_time_limit_only(monkeypatch, caplog):
    monkeypatch.setattr(feeding, "_JOIN_TIMEOUT_SECS", 0.2)
    release = threading.Event()

    def generator():
        yield ([0],)
        release.wait()

    fake_queue = FakeQueue()
    threads = start(generator(), fake_queue)
    fake_queue.items.get()
    started_at = time.monotonic()
    threads.stop()
    threads.stop()
    assert time.monotonic() - started_at < 0.6
    assert "still wait for the data source" in caplog.text
    release.set()


def test_an_end_of_range_in_the_generator_is_an_error_too():
    def generator():
        yield ([0],)
        raise tf.errors.OutOfRangeError(None, None, "index past the end")

    fake_queue = FakeQueue()
    threads = start(generator(), fake_queue)
    fake_queue.drain()
    with pytest.raises(tf.errors.OutOfRangeError, match="index past the end"):
        threads.raise_error()
    threads.stop()
