"""The feed: batches of a generator, through threads, into a queue."""

import itertools
import queue
import threading
import time

import pytest

from deep_reid.compat import tf
from deep_reid.engine import feeding
from deep_reid.engine.feeding import FeedThreads
from deep_reid.errors import RunError


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


def start(batches, fake_queue, num_threads=4, prepare=lambda batch: batch, **kwargs):
    kwargs = {"timeout_secs": 60, **kwargs}
    return FeedThreads(
        iter(batches), prepare, fake_queue.enqueue, fake_queue.close, num_threads, **kwargs
    )


def numbers(count):
    return (([index],) for index in range(count))


def feed_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed-")]


def wait_until_gone():
    wait_until(lambda: not feed_threads())


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_all_batches_of_a_finite_feed_arrive_in_order_and_the_last_thread_closes(num_threads):
    fake_queue = FakeQueue()
    threads = start(numbers(50), fake_queue, num_threads)
    assert fake_queue.drain() == [([index],) for index in range(50)]
    threads.raise_error()
    wait_until_gone()  # of themselves
    threads.stop()
    assert threads.num_rows == 50


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
    wait_until_gone()
    with pytest.raises(GeneratorError):
        threads.raise_error()


def test_an_error_in_one_thread_of_four_is_reported_while_one_enqueues_and_two_wait():
    fake_queue = FakeQueue(capacity=1)
    prepared = []

    def prepare(batch):
        if batch[0][0] == 1:
            # Now 0 is in the queue, and 2, 3 and 4 wait for the turn of 1.
            wait_until(lambda: len(prepared) == 4)
            raise ZeroDivisionError("in batch 1")
        prepared.append(batch)
        return batch

    threads = start(numbers(100), fake_queue, prepare=prepare)
    wait_until_gone()
    with pytest.raises(ZeroDivisionError, match="in batch 1") as caught:
        threads.raise_error()
    assert "prepare" in [entry.name for entry in caught.traceback]


def test_an_error_in_one_thread_of_four_is_reported_while_another_is_blocked_in_enqueue():
    fake_queue = FakeQueue(capacity=1)

    def prepare(batch):
        if batch[0][0] == 3:
            wait_until(fake_queue.items.full)
            time.sleep(0.05)  # batch 1 waits for room, batch 2 for its turn
            raise ZeroDivisionError("in batch 3")
        return batch

    threads = start(numbers(100), fake_queue, prepare=prepare)
    wait_until_gone()
    with pytest.raises(ZeroDivisionError, match="in batch 3"):
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
    monkeypatch.setattr(feeding, "JOIN_TIMEOUT_SECS", 0.2)
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


class TestStall:
    """A feed that hangs is an error; one that has to wait for its consumer is none."""

    @pytest.fixture(autouse=True)
    def set_join_timeout(self, monkeypatch):
        monkeypatch.setattr(feeding, "JOIN_TIMEOUT_SECS", 0.3)

    @pytest.fixture
    def release(self):
        event = threading.Event()
        yield event
        event.set()
        wait_until_gone()

    def check(self, threads, match):
        wait_until(lambda: len(feed_threads()) == 1)  # the one that is truly stuck
        with pytest.raises(RunError, match=match) as caught:
            threads.raise_error()
        assert "\n" not in str(caught.value)
        started_at = time.monotonic()
        threads.stop()
        assert time.monotonic() - started_at < 1.0

    @pytest.mark.parametrize("num_good", [0, 3])
    def test_a_generator_that_hangs_is_named(self, release, num_good):
        def generator():
            yield from numbers(num_good)
            release.wait()

        fake_queue = FakeQueue()
        threads = start(generator(), fake_queue, timeout_secs=0.2)
        assert len(fake_queue.drain()) == num_good
        self.check(threads, r"^the data source gave no batch for 0.2 s: .*--feed_timeout_secs")

    def test_a_batch_that_hangs_is_named_by_its_first_file(self, release):
        def prepare(batch):
            if batch[0][0] == "3.jpg":
                release.wait()
            return batch

        batches = ([f"{index}.jpg", "x.jpg", "y.jpg"] for index in range(100))
        stuck = []
        fake_queue = FakeQueue()
        threads = start(
            ((names, [1, 1, 1]) for names in batches),
            fake_queue,
            prepare=prepare,
            timeout_secs=0.2,
            on_stuck=lambda: stuck.append(True),
        )
        assert len(fake_queue.drain()) == 3
        self.check(threads, r"^preparing a batch took more than 0.2 s \(3.jpg and 2 more files\)")
        assert stuck == [True]

    def test_a_batch_of_arrays_is_told_by_its_rows(self, release):
        threads = start(
            numbers(1), FakeQueue(), 1, prepare=lambda batch: release.wait(), timeout_secs=0.2
        )
        self.check(threads, r"^preparing a batch took more than 0.2 s \(of 1 rows\)")

    @pytest.mark.parametrize("num_threads", [1, 4])
    def test_a_full_queue_is_no_stall(self, num_threads):
        fake_queue = FakeQueue(capacity=1)
        threads = start(itertools.repeat(([0],)), fake_queue, num_threads, timeout_secs=0.1)
        time.sleep(0.5)  # the consumer is paused
        for _ in range(4):
            fake_queue.items.get(timeout=1)
            time.sleep(0.2)  # and then slow
        threads.raise_error()
        threads.stop()
        assert not feed_threads()

    def test_a_source_that_hangs_while_the_queue_is_full_may_do_so(self, release):
        def generator():
            yield from numbers(2)
            release.wait()
            yield from numbers(1)

        fake_queue = FakeQueue(capacity=1)
        threads = start(generator(), fake_queue, timeout_secs=0.1)
        time.sleep(0.4)
        threads.raise_error()
        release.set()
        assert len(fake_queue.drain()) == 3
        threads.raise_error()
        threads.stop()

    def test_a_slow_feed_is_no_stall_as_long_as_it_gives_batches(self):
        def slow(batch):
            time.sleep(0.2)
            return batch

        fake_queue = FakeQueue()
        threads = start(numbers(6), fake_queue, 1, prepare=slow, timeout_secs=0.4)
        assert len(fake_queue.drain()) == 6  # which takes more than the time limit
        threads.raise_error()
        threads.stop()

    def test_a_finite_feed_with_one_hanging_batch_does_not_end_as_if_it_were_complete(
        self, release
    ):
        def prepare(batch):
            if batch[0][0] == 4:
                release.wait()
            return batch

        fake_queue = FakeQueue()
        threads = start(numbers(5), fake_queue, prepare=prepare, timeout_secs=0.2)
        assert len(fake_queue.drain()) == 4
        self.check(threads, "preparing a batch took more")

    def test_without_a_time_limit_nobody_watches(self):
        fake_queue = FakeQueue(capacity=1)
        threads = start(itertools.repeat(([0],)), fake_queue, timeout_secs=None)
        assert len(feed_threads()) == 4
        threads.stop()

    @pytest.mark.parametrize("timeout_secs", [1e308, float("inf")])
    def test_a_time_limit_may_be_as_large_as_it_likes(self, timeout_secs):
        fake_queue = FakeQueue()
        threads = start(numbers(3), fake_queue, timeout_secs=timeout_secs)
        assert len(fake_queue.drain()) == 3
        threads.raise_error()
        threads.stop()
        assert not feed_threads()
