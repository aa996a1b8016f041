# vim: expandtab:ts=4:sw=4
"""Feeds placeholders from threads, through a FIFO queue, to a train op or an eval op."""
import os
import threading
import numpy as np
import tensorflow as tf
import tensorflow.contrib.slim as slim


def random_sample_identities_forever(batch_size, num_samples_per_id, data_x, data_y):
    """Endless batches of some identities with `num_samples_per_id` images of each."""
    data_y = np.asarray(data_y)
    rows_of = dict((y, np.where(data_y == y)[0]) for y in np.unique(data_y))
    identities = sorted(rows_of)
    assert len(identities) * num_samples_per_id >= batch_size
    while True:
        chosen = np.random.permutation(identities)[:batch_size // num_samples_per_id]
        rows = np.concatenate([
            np.random.choice(rows_of[y], num_samples_per_id, replace=False) for y in chosen])
        yield [np.asarray([data_x[i] for i in rows]), data_y[rows]]


def run_in_batches(f, data_dict, out, batch_size):
    """Fill `out` batch by batch; the last batch may be shorter."""
    for begin in range(0, len(out), batch_size):
        rows = slice(begin, begin + batch_size)
        out[rows] = f(dict((name, value[rows]) for name, value in data_dict.items()))


class ThreadSafeIterator(object):

    def __init__(self, iterator):
        self._iterator = iterator
        self._lock = threading.Lock()

    def __iter__(self):
        return self

    def __next__(self):
        with self._lock:
            return next(self._iterator)

    next = __next__


class QueuedTrainer(object):

    def __init__(self, enqueue_vars, input_vars=None, num_enqueue_threads=2, queue_capacity=64):
        self._input_vars = enqueue_vars if input_vars is None else input_vars
        self._num_threads = num_enqueue_threads
        self._batch_size = None
        self._threads = []
        self._queue = tf.FIFOQueue(
            queue_capacity, [var.dtype for var in enqueue_vars],
            [var.get_shape().as_list()[1:] for var in enqueue_vars])
        self._enqueue_op = self._queue.enqueue_many(list(enqueue_vars))
        self._close_op = self._queue.close(cancel_pending_enqueues=True)
        tf.summary.scalar("queue_size", self._queue.size())

    def get_input_vars(self, batch_size):
        self._batch_size = batch_size
        batch = self._queue.dequeue_many(batch_size)
        return batch if isinstance(batch, (list, tuple)) else [batch]

    def _feed(self, session, batches):
        try:
            for batch in batches:
                session.run(self._enqueue_op, feed_dict=dict(zip(self._input_vars, batch)))
        except tf.errors.CancelledError:
            pass  # the queue was closed: training is over

    def _start(self, session, batches):
        batches = ThreadSafeIterator(iter(batches))
        for _ in range(self._num_threads):
            thread = threading.Thread(target=self._feed, args=(session, batches))
            thread.daemon = True
            thread.start()
            self._threads.append(thread)

    def _stop(self, session):
        session.run(self._close_op)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def run(self, feed_generator, train_op, log_dir="./tmp/slim_trainer/", restore_path=None,
            variables_to_restore=None, run_id=None, max_checkpoints_to_keep=0, **kwargs):
        if run_id is not None:
            log_dir = os.path.join(log_dir, run_id)
        if restore_path is not None:
            kwargs["init_fn"] = slim.assign_from_checkpoint_fn(
                restore_path, variables_to_restore or slim.get_model_variables())

        def train_step_fn(session, train_op, global_step, train_step_kwargs):
            if not self._threads:
                self._start(session, feed_generator)
            loss, should_stop = slim.learning.train_step(
                session, train_op, global_step, train_step_kwargs)
            if should_stop:
                self._stop(session)
            return loss, should_stop

        saver = tf.train.Saver(max_to_keep=max_checkpoints_to_keep)
        return slim.learning.train(
            train_op, log_dir, train_step_fn=train_step_fn, saver=saver, **kwargs)

    def evaluate(self, dataset, checkpoint_dir, log_dir, run_id=None, init_op=None, eval_op=None,
                 final_op=None, summary_op=None, variables_to_restore=None, eval_interval_secs=60,
                 max_num_evaluations=None):
        """`dataset` holds a column for each input variable."""
        if run_id is not None:
            checkpoint_dir = os.path.join(checkpoint_dir, run_id)
            log_dir = os.path.join(log_dir, run_id)
        num_rows = len(dataset[0])
        assert all(len(column) == num_rows for column in dataset)
        init_op = tf.no_op() if init_op is None else init_op
        init_op = tf.group(init_op, tf.local_variables_initializer())
        summary_op = tf.summary.merge_all() if summary_op is None else summary_op
        global_step = slim.get_or_create_global_step()
        saver = tf.train.Saver(variables_to_restore or slim.get_variables_to_restore())
        supervisor = tf.train.Supervisor(
            logdir=log_dir, summary_op=None, saver=None, global_step=None)
        value, num_evaluations = None, 0
        for path in slim.evaluation.checkpoints_iterator(checkpoint_dir, eval_interval_secs):
            with supervisor.managed_session(start_standard_services=False) as session:
                saver.restore(session, path)
                session.run(init_op)
                value = self._evaluate_once(session, dataset, num_rows, eval_op, final_op)
                summary, step = session.run([summary_op, global_step])
                supervisor.summary_writer.add_summary(summary, step)
                supervisor.summary_writer.flush()
            print("evaluated %s: %s" % (path, value))
            num_evaluations += 1
            if num_evaluations == max_num_evaluations:
                break
        return value

    def _evaluate_once(self, session, dataset, num_rows, eval_op, final_op):
        starts = range(0, num_rows, self._batch_size)
        self._start(session, (
            [column[i:i + self._batch_size] for column in dataset] for i in starts))
        for _ in starts:
            session.run(eval_op)
        for thread in self._threads:
            thread.join()
        self._threads = []
        return None if final_op is None else session.run(final_op)
