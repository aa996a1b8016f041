"""A model of one weight, whose training can be computed by hand."""

import glob
import os
import threading

import numpy as np

from deep_reid.compat import slim, tf
from deep_reid.queued_trainer import QueuedTrainer


class LinearModel:
    """A weight that moves by the mean of each batch; the loss is that mean."""

    def __init__(self, batch_size=4, **trainer_kwargs):
        self.placeholder = tf.placeholder(tf.float32, (None,))
        self.trainer = QueuedTrainer([self.placeholder], **trainer_kwargs)
        (values,) = self.trainer.get_input_vars(batch_size)
        self.weight = slim.model_variable("weight", (), initializer=tf.zeros_initializer())
        self.mean = tf.reduce_mean(values)
        loss = self.mean + 0.0 * self.weight
        tf.summary.scalar("fed", self.mean)
        tf.train.get_or_create_global_step()
        with tf.control_dependencies([self.weight.assign_add(self.mean)]):
            update = tf.train.get_global_step().assign_add(1)
        with tf.control_dependencies([update]):
            self.train_op = tf.identity(loss)

    def run(self, feed, log_dir, **kwargs):
        kwargs = {"run_id": "run", "save_interval_secs": 1000, **kwargs}
        return self.trainer.run(iter(feed), self.train_op, log_dir, **kwargs)


def ones(count):
    return ((np.ones(4, np.float32),) for _ in range(count))


def weight_in(checkpoint_path):
    return tf.train.load_checkpoint(checkpoint_path).get_tensor("weight")


def read_events(directory):
    """Return {tag: {step: value}} of the events in a directory."""
    values = {}
    for filename in glob.glob(os.path.join(directory, "events.*")):
        for event in tf.train.summary_iterator(filename):
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    values.setdefault(value.tag, {})[event.step] = value.simple_value
    return values


def feed_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("feed-")]
