"""Staging areas: a batch waits on the device before the step that takes it begins."""

import threading

import numpy as np
import pytest
from linear_model import LinearModel, feed_threads, ones, read_events, weight_in

from deep_reid.compat import tf
from deep_reid.engine.feed_queue import FeedQueue
from deep_reid.engine.staging import StagedFeed, StagingArea
from deep_reid.errors import RunError
from deep_reid.images.faults import StopAtBadImages
from deep_reid.queued_trainer import QueuedTrainer

pytestmark = pytest.mark.usefixtures("graph")
DEVICE = "/cpu:0"


def test_every_row_is_trained_on_once_and_in_order(tmp_path):
    model = LinearModel(staging_device=DEVICE)
    rows = np.arange(80, dtype=np.float32).reshape(20, 4)
    model.run(((row,) for row in rows), tmp_path, save_summaries_secs=1e-6)
    assert list(read_events(tmp_path / "run")["fed"].values()) == rows.mean(axis=1).tolist()
    assert weight_in(tf.train.latest_checkpoint(tmp_path / "run")) == rows.mean(axis=1).sum()
    assert not feed_threads()


def test_an_endless_feed_ends_with_the_last_step(tmp_path):
    model = LinearModel(staging_device=DEVICE)
    assert model.run(ones(1000), tmp_path, number_of_steps=3) == 1.0
    assert not feed_threads()


def test_an_error_of_the_feed_is_raised_in_the_step_that_lacks_a_batch(tmp_path, caplog):
    def feed():
        yield from ones(3)
        raise RunError("the data are gone")

    model = LinearModel(staging_device=DEVICE)
    with pytest.raises(RunError, match="the data are gone"):
        model.run(feed(), tmp_path)
    assert not feed_threads()


def test_the_next_batch_is_there_before_the_step_that_takes_it():
    placeholders = [tf.placeholder(tf.int64, (None,))]
    queue = FeedQueue(
        placeholders, placeholders, 2, 4, StopAtBadImages(lambda batch: None, are_files=False)
    )
    staging = StagingArea(queue.dequeue(2), DEVICE)
    (values,) = staging.staged
    assert values.get_shape().as_list() == [2]
    num_put = threading.Semaphore(0)
    with tf.Session() as session:
        feed = queue.start(session, [(np.full(2, i),) for i in range(3)], 1)

        def put():
            session.run(staging.put)
            num_put.release()

        staged = StagedFeed(feed, put)
        assert num_put.acquire(timeout=30)
        for index in range(3):
            staged.wait_for_batch()
            if index < 2:  # while the step, which has not begun, works on its own
                assert num_put.acquire(timeout=30)
            assert session.run(values).tolist() == [index, index]
        for _ in range(2):
            with pytest.raises(tf.errors.OutOfRangeError):
                staged.wait_for_batch()
        staged.stop()
        assert not num_put.acquire(blocking=False)
    assert not feed_threads()


def test_no_more_than_one_batch_waits_for_the_step():
    trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))], staging_device=DEVICE)
    trainer.get_input_vars(2)
    (put,) = [op for op in tf.get_default_graph().get_operations() if op.type == "Stage"]
    size = tf.raw_ops.StageSize(
        dtypes=[tf.int64], capacity=2, shared_name=put.get_attr("shared_name").decode()
    )
    with tf.Session() as session:
        feed = trainer.start_feed(session, ((np.arange(2),) for _ in range(100)))
        feed.wait_for_batch()
        threading.Event().wait(0.2)
        assert session.run(size) == 2
        feed.stop()
        feed.stop()
    assert not feed_threads()


def test_any_error_over_a_batch_is_raised_where_it_is_waited_for():
    trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))])
    trainer.get_input_vars(2)

    def put():
        raise MemoryError("the device is full")

    with tf.Session() as session:
        staged = StagedFeed(trainer.start_feed(session, []), put)
        with pytest.raises(MemoryError, match="the device is full"):
            staged.wait_for_batch()
        staged.stop()


def test_where_two_take_batches_each_gets_the_next():
    """A batch that waits for one of them would be lost to the other."""
    trainer = QueuedTrainer([tf.placeholder(tf.int64, (None,))], staging_device=DEVICE)
    first, second = (trainer.get_input_vars(2) for _ in range(2))
    with tf.Session() as session:
        feed = trainer.start_feed(session, [[np.arange(8)]])
        seen = []
        for values in (first, second, second, first):
            feed.wait_for_batch()
            seen.append(session.run(values)[0].tolist())
        feed.stop()
    assert seen == [[0, 1], [2, 3], [4, 5], [6, 7]]
